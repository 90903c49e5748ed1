//! The owner's socket: for this user alone.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// A listening socket; its file goes when this goes.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    user: u32,
}

impl Socket {
    /// Listens at `path`. Only the holder of the lock may do so: a file left by an owner that died is replaced.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned(), user: fs::metadata(path)?.uid() })
    }

    /// The next connection of this user; others are dropped.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            if stream.peer_cred()?.uid() == self.user {
                return Ok(stream);
            }
            tracing::warn!("refused a connection from another user");
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Nothing to be done about a file that is gone already.
        let _gone = fs::remove_file(&self.path);
    }
}

/// Connects to the socket at `path`, if it is held by the user who owns `witness` (the lock file).
pub async fn connect(path: &Path, witness: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path).await?;
    if stream.peer_cred()?.uid() != fs::metadata(witness)?.uid() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the socket belongs to another user"));
    }
    Ok(stream)
}
