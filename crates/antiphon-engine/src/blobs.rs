//! Large values: kept once, under the hash of their JSON.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use antiphon_kernel::{ValueRef, expr};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::api::EngineError;
use crate::journal::{Journal, Reader};

/// The longest JSON, in bytes, that travels inside events.
const INLINE: usize = 16 * 1024;
/// How much JSON of recent blobs stays in memory, in bytes.
const RECENT: usize = 8 << 20;

/// A value as it goes into the journal: its hash and its JSON.
pub(crate) type Blob = (Arc<str>, String);

/// Makes and fetches blobs.
#[derive(Default)]
pub(crate) struct Blobs {
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    values: HashMap<Arc<str>, Arc<Value>>,
    order: VecDeque<(Arc<str>, usize)>,
    bytes: usize,
}

impl Blobs {
    /// The reference that stands for a value, and the blob that has to be recorded with it, if it is large.
    pub(crate) fn split(&self, value: Arc<Value>) -> (ValueRef, Option<Blob>) {
        if is_small(&value) {
            return (ValueRef::Inline(value), None);
        }
        let json = value.to_string();
        let sha256: Arc<str> = hex_sha256(&[json.as_bytes()]).into();
        let reference = ValueRef::Blob { sha256: Arc::clone(&sha256), bytes: json.len() as u64 };
        self.remember(Arc::clone(&sha256), value, json.len());
        (reference, Some((sha256, json)))
    }

    /// The value with this hash, if it is in memory still.
    pub(crate) fn recent(&self, sha256: &Arc<str>) -> Option<Arc<Value>> {
        self.lock().values.get(sha256).cloned()
    }

    /// The value with this hash. What is on a tape must have been handed over.
    pub(crate) async fn fetch(
        &self,
        sha256: &Arc<str>,
        journal: &Journal,
        reader: &Reader,
    ) -> Result<Arc<Value>, EngineError> {
        if let Some(value) = self.recent(sha256) {
            return Ok(value);
        }
        // It may still be queued.
        journal.committed(&journal.newest()).await?;
        let json = reader.blob(Arc::clone(sha256)).await?;
        let json = json.ok_or_else(|| EngineError::Storage(format!("the value {sha256} is not in the database")))?;
        let value = Arc::new(serde_json::from_str(&json).map_err(|error| {
            EngineError::Storage(format!("the value {sha256} in the database is no JSON: {error}"))
        })?);
        self.remember(Arc::clone(sha256), Arc::clone(&value), json.len());
        Ok(value)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, sha256: Arc<str>, value: Arc<Value>, bytes: usize) {
        let mut recent = self.lock();
        if bytes > RECENT || recent.values.insert(Arc::clone(&sha256), value).is_some() {
            return;
        }
        recent.order.push_back((sha256, bytes));
        recent.bytes += bytes;
        while recent.bytes > RECENT
            && let Some((oldest, bytes)) = recent.order.pop_front()
        {
            recent.values.remove(&oldest);
            recent.bytes -= bytes;
        }
    }
}

/// Blobs at hand, for the evaluation of expressions.
#[derive(Default)]
pub(crate) struct Fetched(pub HashMap<Arc<str>, Arc<Value>>);

impl expr::Values for Fetched {
    fn get(&self, sha256: &str) -> Option<Arc<Value>> {
        self.0.get(sha256).cloned()
    }
}

/// Lower-case hexadecimal SHA-256 of the parts in a row.
pub(crate) fn hex_sha256(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    format!("{:x}", hash.finalize())
}

/// Whether the value's JSON is short enough; gives up counting as soon as it is not.
fn is_small(value: &Value) -> bool {
    struct Room(usize);
    impl io::Write for Room {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) if text.len() > INLINE => false,
        _ => serde_json::to_writer(Room(INLINE), value).is_ok(),
    }
}
