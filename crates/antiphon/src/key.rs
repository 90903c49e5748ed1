//! The key that seals what callers carry for us.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::fault::Fault;

const KEY_BYTES: usize = 32;

/// The key at `path`; made when there is none. Call it with the owner's lock held.
pub fn load(path: &Path) -> Result<Vec<u8>, Fault> {
    let unusable = |e: io::Error| Fault::internal(format!("can't use {}: {e}", path.display()));
    match fs::read(path) {
        Ok(key) if key.len() == KEY_BYTES => Ok(key),
        Ok(_) => Err(Fault::internal_with(
            format!("{} is not a key of {KEY_BYTES} bytes", path.display()),
            "delete it: questions that callers hold right now must then be answered with `antiphon answer`",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path).map_err(unusable),
        Err(error) => Err(unusable(error)),
    }
}

fn make(path: &Path) -> io::Result<Vec<u8>> {
    let mut key = vec![0; KEY_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    // Whole or not at all: a crash must not leave half a key.
    let draft = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(draft, path)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_stays_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.key");
        let key = load(&path).unwrap();
        assert_eq!(load(&path).unwrap(), key);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, b"short").unwrap();
        assert!(load(&path).unwrap_err().message().contains("not a key"));
    }
}
