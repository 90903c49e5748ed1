//! The lock that makes one process the owner of a project's runs.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Held by the owner for as long as it lives; the system frees it however the process ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// Who holds the lock, as written in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process.
    pub pid: u32,
    /// Its version of antiphon.
    pub version: String,
    /// Where it listens. Recorded because a socket's path may be too long to stand beside the database.
    pub socket: PathBuf,
}

impl Lock {
    /// Takes the lock, unless somebody holds it.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                // Whoever reads this must not take the last owner for this one.
                file.set_len(0)?;
                Ok(Some(Self { file }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Says who holds it. Call it when the socket listens: a reader connects as soon as it finds this.
    pub fn announce(&mut self, holder: &Holder) -> io::Result<()> {
        let text = serde_json::to_vec(holder)?;
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&text)
    }
}

/// The holder, if there is one and it listens already.
pub fn holder(path: &Path) -> io::Result<Option<Holder>> {
    let mut text = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(64 * 1024).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Empty or half-written: it is about to be there.
    Ok(serde_json::from_slice(&text).ok())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn one_holder_at_a_time_and_its_name_is_readable() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert_eq!(holder(&path).unwrap(), None);

        let mut lock = Lock::take(&path).unwrap().unwrap();
        assert_eq!(holder(&path).unwrap(), None, "held, but not listening yet");
        let me = Holder { pid: 7, version: "1.2.3".into(), socket: "/run/x".into() };
        lock.announce(&me).unwrap();
        assert_eq!(holder(&path).unwrap(), Some(me));
        assert!(Lock::take(&path).unwrap().is_none());

        drop(lock);
        assert!(Lock::take(&path).unwrap().is_some());
        assert_eq!(holder(&path).unwrap(), None, "the last owner's name is gone");
    }
}
