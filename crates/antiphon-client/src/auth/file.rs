//! The file of a login: readable by this user alone, written whole, by one process at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use rmcp::transport::auth::{AuthError, CredentialStore, StoredCredentials};
use serde::{Deserialize, Serialize};

/// How long another process may be busy with the same login.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where a login is kept.
#[derive(Clone)]
pub(super) struct LoginFile {
    path: PathBuf,
    /// Whom the login is for. A file that says another address is none: its tokens are nobody else's business.
    url: String,
    /// Of a client that registered itself.
    client_secret: Option<String>,
}

/// What is in it.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    url: String,
    pub(super) client_secret: Option<String>,
    pub(super) credentials: StoredCredentials,
}

/// The state of a file: it changes when the file does.
pub(super) type Stamp = (SystemTime, u64);

impl LoginFile {
    pub(super) fn new(path: PathBuf, url: String) -> Self {
        Self { path, url, client_secret: None }
    }

    /// The same, for a client with this secret.
    pub(super) fn with_secret(&self, client_secret: Option<String>) -> Self {
        Self { client_secret, ..self.clone() }
    }

    /// Its state; `None` if there is no file.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        let about = fs::metadata(&self.path).ok()?;
        Some((about.modified().ok()?, about.len()))
    }

    /// Waits for who else reads or writes it. The lock ends with what is returned, or with the process.
    pub(super) async fn lock(&self) -> io::Result<File> {
        if let Some(folder) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let path = self.path.with_extension("lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let locked = async {
            loop {
                match file.try_lock() {
                    Ok(()) => return Ok(()),
                    Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK_EVERY).await,
                    Err(TryLockError::Error(error)) => return Err(error),
                }
            }
        };
        let busy = |_| io::Error::new(io::ErrorKind::TimedOut, "another process is busy with it");
        tokio::time::timeout(PATIENCE, locked).await.map_err(busy)??;
        Ok(file)
    }

    /// What is kept of this server.
    pub(super) fn load(&self) -> Result<Option<Kept>, AuthError> {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unusable(&error)),
        };
        let kept: Kept = serde_json::from_slice(&text).map_err(|error| self.unusable(&error.into()))?;
        Ok(Some(kept).filter(|kept| kept.url == self.url))
    }

    /// Whole or not at all: a crash must not leave half a login.
    fn write(&self, credentials: StoredCredentials) -> io::Result<()> {
        let kept = Kept { url: self.url.clone(), client_secret: self.client_secret.clone(), credentials };
        let draft = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&serde_json::to_vec(&kept)?)?;
        file.sync_all()?;
        fs::rename(draft, &self.path)
    }

    /// `false` if there was none.
    pub(super) fn remove(&self) -> io::Result<bool> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn unusable(&self, error: &io::Error) -> AuthError {
        AuthError::CredentialStoreError(format!("{}: {error}", self.path.display()))
    }
}

/// For rmcp. Whoever calls it holds the lock.
#[async_trait]
impl CredentialStore for LoginFile {
    async fn load(&self) -> Result<Option<StoredCredentials>, AuthError> {
        Ok(Self::load(self)?.map(|kept| kept.credentials))
    }

    async fn save(&self, credentials: StoredCredentials) -> Result<(), AuthError> {
        self.write(credentials).map_err(|error| self.unusable(&error))
    }

    async fn clear(&self) -> Result<(), AuthError> {
        self.remove().map(drop).map_err(|error| self.unusable(&error))
    }

    /// What was refused once is not tried again.
    async fn on_refresh_token_rejected(&self, credentials: &StoredCredentials) -> Result<(), AuthError> {
        let over = StoredCredentials::new(credentials.client_id.clone(), None, Vec::new(), None);
        self.save(over.with_issuer(credentials.issuer.clone())).await
    }
}
