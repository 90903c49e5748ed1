//! State that survives a kill: one JSON file for each thing.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// A directory of JSON files.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    lock: Mutex<()>,
}

impl Store {
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self { dir, lock: Mutex::new(()) })
    }

    /// What is stored under a name.
    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.path(kind, name)).ok()?).ok()
    }

    /// Replaces what is stored under a name by what `change` makes of it; what it returns is durable.
    pub fn update(&self, kind: &str, name: &str, change: impl FnOnce(Option<Value>) -> Value) -> io::Result<Value> {
        let _one_at_a_time = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(kind, name);
        let value = change(self.get(kind, name));
        let draft = path.with_extension("draft");
        let mut file = File::create(&draft)?;
        file.write_all(value.to_string().as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(&self.dir)?.sync_all()?;
        Ok(value)
    }

    /// Counts one more; the new count is durable.
    pub fn count(&self, kind: &str, name: &str) -> io::Result<u64> {
        let one_more = |count: Option<Value>| (count.and_then(|count| count.as_u64()).unwrap_or(0) + 1).into();
        Ok(self.update(kind, name, one_more)?.as_u64().unwrap_or(0))
    }

    /// Names come from callers: only harmless characters make it into a file's name.
    fn path(&self, kind: &str, name: &str) -> PathBuf {
        let safe: String = name
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
                other => format!("_{other:02x}"),
            })
            .collect();
        self.dir.join(format!("{kind}.{safe}.json"))
    }
}

/// Where the state of a server with this log is.
pub fn beside(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".state");
    name.into()
}
