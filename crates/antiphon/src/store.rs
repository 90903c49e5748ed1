//! Where a project's runs are kept.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::fault::Fault;

/// The files of one project's runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The engine's database.
    pub db: PathBuf,
    /// Held by the owner.
    pub lock: PathBuf,
    /// Where the owner listens, when the path is short enough for a socket.
    pub socket: PathBuf,
    /// The key that seals `requestState`.
    pub key: PathBuf,
    /// Which command lines may run.
    pub trusted: PathBuf,
    /// Which files the workflows of runs came from.
    pub sources: PathBuf,
    /// A folder of the logins to protected servers.
    pub logins: PathBuf,
}

impl Store {
    /// The store of the project in `folder`: under `$XDG_DATA_HOME/antiphon`, or around `db`.
    pub fn of(folder: &Path, db: Option<&Path>) -> Result<Self, Fault> {
        match db {
            Some(db) => Self::around(db),
            None => Ok(Self::under(&data_home()?, folder)),
        }
    }

    fn under(data: &Path, folder: &Path) -> Self {
        let dir = data.join("antiphon").join(format!("{}-{}", tidy_name(folder), short_hash(folder)));
        Self {
            db: dir.join("runs.db"),
            lock: dir.join("lock"),
            socket: dir.join("socket"),
            key: dir.join("state.key"),
            trusted: dir.join("trusted"),
            sources: dir.join("sources"),
            logins: dir.join("logins"),
        }
    }

    fn around(db: &Path) -> Result<Self, Fault> {
        let db =
            std::path::absolute(db).map_err(|e| Fault::usage(format!("--db {}: {e}", db.display()), "name a file"))?;
        if db.is_dir() || db.file_name().is_none() {
            return Err(Fault::usage(format!("--db {} is a folder", db.display()), "name a file in it"));
        }
        let beside = |suffix: &str| {
            let mut name = db.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        Ok(Self {
            lock: beside(".lock"),
            socket: beside(".socket"),
            key: beside(".key"),
            trusted: beside(".trusted"),
            sources: beside(".sources"),
            logins: beside(".logins"),
            db,
        })
    }

    /// Makes the folder, for this user alone.
    pub fn create(&self) -> Result<(), Fault> {
        let Some(dir) = self.db.parent() else { return Ok(()) };
        private_dir(dir).map_err(|e| {
            Fault::internal_with(
                format!("can't make {}: {e}", dir.display()),
                "set XDG_DATA_HOME to a folder that you may write, or name a database with --db",
            )
        })
    }

    /// A path that a socket can have (the system allows 107 bytes): beside the database, or else in the runtime folder.
    pub fn socket_path(&self) -> io::Result<PathBuf> {
        const MAX_SOCKET_PATH: usize = 107;
        if self.socket.as_os_str().len() <= MAX_SOCKET_PATH {
            return Ok(self.socket.clone());
        }
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let dir = runtime.join(format!("antiphon-{}", short_hash(&self.socket)));
        private_dir(&dir)?;
        Ok(dir.join("socket"))
    }
}

fn private_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn data_home() -> Result<PathBuf, Fault> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/share"))).ok_or_else(|| {
        Fault::usage("neither XDG_DATA_HOME nor HOME is set", "set one of them, or name a database with --db")
    })
}

/// The folder's name, fit for a file name.
fn tidy_name(folder: &Path) -> String {
    let name = folder.file_name().map_or_else(|| "root".into(), |name| name.to_string_lossy());
    name.chars().take(40).map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
}

/// Twelve hexadecimal digits of the canonical path's hash.
fn short_hash(path: &Path) -> String {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_database_of_ones_own_has_its_files_beside_it() {
        let store = Store::around(Path::new("/data/runs.db")).unwrap();
        assert_eq!(store.lock, Path::new("/data/runs.db.lock"));
        assert_eq!(store.socket, Path::new("/data/runs.db.socket"));
    }

    #[test]
    fn a_folder_is_known_by_its_canonical_path() {
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().join("my project");
        fs::create_dir(&project).unwrap();
        let direct = Store::under(Path::new("/data"), &project);
        assert_eq!(direct, Store::under(Path::new("/data"), &dir.path().join("./my project")));
        assert!(direct.db.to_string_lossy().contains("/antiphon/my_project-"), "{:?}", direct.db);
    }

    #[test]
    fn a_long_path_gets_a_short_socket() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(60)).join("e".repeat(60));
        let store = Store::around(&deep.join("runs.db")).unwrap();
        let socket = store.socket_path().unwrap();
        assert!(socket.as_os_str().len() <= 107, "{socket:?}");
        fs::remove_dir(socket.parent().unwrap()).unwrap();
    }
}
