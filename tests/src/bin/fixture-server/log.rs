//! The log of calls: what really happened, whatever anybody else remembers.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// Appends a JSON line for each begin and end, and flushes it to the disk. Several servers may share a file.
#[derive(Debug)]
pub struct CallLog {
    file: File,
    calls: AtomicU64,
}

/// One call's place in the log.
pub struct Call {
    id: String,
    tool: String,
    key: Option<String>,
}

impl CallLog {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().create(true).append(true).open(path)?, calls: AtomicU64::new(0) })
    }

    /// Logs that a call begins. `key` is its idempotency key.
    pub fn begin(&self, tool: &str, arguments: &Value, key: Option<&str>) -> io::Result<Call> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let call =
            Call { id: format!("{}-{number}", std::process::id()), tool: tool.to_owned(), key: key.map(str::to_owned) };
        self.write(&json!({
            "event": "begin", "call": call.id, "tool": call.tool, "arguments": arguments, "key": call.key,
            "pid": std::process::id(), "at": now(),
        }))?;
        Ok(call)
    }

    /// Logs that it ended; `outcome` is `ok`, `tool_error`, `rpc_error`, `input_required`, `task` or `cancelled`.
    pub fn end(&self, call: &Call, outcome: &str) -> io::Result<()> {
        self.write(&json!({
            "event": "end", "call": call.id, "tool": call.tool, "outcome": outcome, "key": call.key,
            "pid": std::process::id(), "at": now(),
        }))
    }

    /// One write of a whole line: lines of servers that share the file don't mix.
    fn write(&self, line: &Value) -> io::Result<()> {
        (&self.file).write_all(format!("{line}\n").as_bytes())?;
        self.file.sync_data()
    }
}

/// Milliseconds since the Unix epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
