//! Which files the workflows of runs came from: a run that goes on in another process needs its servers again.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde_json::json;

/// Workflows' names with their files, kept beside the database: a JSON pair a line, the last one of a name counts.
#[derive(Debug)]
pub struct Sources {
    path: PathBuf,
    known: Mutex<BTreeMap<String, PathBuf>>,
}

impl Sources {
    /// Reads what is known. Lines that can't be read (a crash may cut the last one short) are passed over.
    pub fn at(path: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            text => text?,
        };
        let known = text.lines().filter_map(|line| serde_json::from_str::<(String, PathBuf)>(line).ok()).collect();
        Ok(Self { path: path.to_owned(), known: Mutex::new(known) })
    }

    /// The file (or folder) of a workflow.
    pub fn get(&self, workflow: &str) -> Option<PathBuf> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(workflow).cloned()
    }

    /// Remembers one.
    pub fn remember(&self, workflow: &str, source: &Path) -> io::Result<()> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(workflow).is_some_and(|known| known == source) {
            return Ok(());
        }
        // A newline first: it ends a line that a crash cut short.
        let line = format!("\n{}", json!([workflow, source]));
        OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?.write_all(line.as_bytes())?;
        known.insert(workflow.to_owned(), source.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_last_file_of_a_name_counts_and_a_cut_line_costs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sources");
        let sources = Sources::at(&path).unwrap();
        sources.remember("ship", Path::new("/old/ship.toml")).unwrap();
        sources.remember("ship", Path::new("/new/ship.toml")).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"\n[\"mail\",\"/ma").unwrap();
        sources.remember("chat", Path::new("/chat.toml")).unwrap();

        let again = Sources::at(&path).unwrap();
        assert_eq!(again.get("ship").unwrap(), Path::new("/new/ship.toml"));
        assert_eq!(again.get("chat").unwrap(), Path::new("/chat.toml"));
        assert_eq!(again.get("mail"), None);
    }
}
