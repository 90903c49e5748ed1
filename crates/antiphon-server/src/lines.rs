//! JSON-RPC messages as lines, over any pair of streams.
//!
//! rmcp has such a transport, but drops what is too long or unreadable in silence, and the sender waits for ever. This one answers.

use std::io;
use std::sync::Arc;

use rmcp::model::{ClientJsonRpcMessage, ErrorCode, RequestId, ServerJsonRpcMessage};
use rmcp::service::RoleServer;
use rmcp::transport::Transport;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::Mutex;

use crate::MAX_MESSAGE_BYTES;

/// A longer line is read so far, to find the id that the refusal must carry.
const MAX_READ_BYTES: usize = 64 * 1024 * 1024;

/// A capacity that is kept from one line to the next.
const KEPT_CAPACITY: usize = 1024 * 1024;

/// What lines are read from.
pub(crate) type Reader = Box<dyn AsyncRead + Send + Unpin>;
/// What lines are written to.
pub(crate) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// The server's end of a pipe. One type for every kind of pipe: each more would be another copy of all of rmcp to compile.
pub(crate) struct Lines {
    reader: BufReader<Reader>,
    /// The line so far. `receive` may be dropped at any await and called again, so nothing lives in its frame alone.
    line: Vec<u8>,
    /// Bytes of the line that were not kept.
    lost: usize,
    /// `None` once closed.
    writer: Arc<Mutex<Option<Writer>>>,
}

impl Lines {
    pub(crate) fn new(reader: Reader, writer: Writer) -> Self {
        Self {
            reader: BufReader::with_capacity(64 * 1024, reader),
            line: Vec::new(),
            lost: 0,
            writer: Arc::new(Mutex::new(Some(writer))),
        }
    }

    /// Completes `line` with the next line; `false` at the end.
    async fn read_line(&mut self) -> io::Result<bool> {
        loop {
            let available = self.reader.fill_buf().await?;
            if available.is_empty() {
                return Ok(false);
            }
            let newline = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..newline.unwrap_or(available.len())];
            if self.lost == 0 && self.line.len() + part.len() <= MAX_READ_BYTES {
                self.line.extend_from_slice(part);
            } else {
                self.lost += part.len();
            }
            let used = part.len() + usize::from(newline.is_some());
            self.reader.consume(used);
            if newline.is_some() {
                return Ok(true);
            }
        }
    }

    fn clear(&mut self) {
        self.line.clear();
        self.line.shrink_to(KEPT_CAPACITY);
        self.lost = 0;
    }
}

impl Transport<RoleServer> for Lines {
    type Error = io::Error;

    fn send(&mut self, message: ServerJsonRpcMessage) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let writer = self.writer.clone();
        async move { write(&writer, serde_json::to_vec(&message)?).await }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            match self.read_line().await {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    tracing::debug!(%error, "the connection broke");
                    return None;
                }
            }
            let parsed = parse(&self.line, self.lost);
            self.clear();
            match parsed {
                Ok(message) => return Some(message),
                Err(None) => {}
                Err(Some(refusal)) => {
                    // In a task of its own, so that a dropped `receive` never leaves half a line behind.
                    let writer = self.writer.clone();
                    tokio::spawn(async move {
                        if let Err(error) = write(&writer, refusal.to_string().into_bytes()).await {
                            tracing::debug!(%error, "a refusal did not reach the caller");
                        }
                    });
                }
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        match self.writer.lock().await.take() {
            Some(mut writer) => writer.shutdown().await,
            None => Ok(()),
        }
    }
}

async fn write(writer: &Mutex<Option<Writer>>, mut line: Vec<u8>) -> io::Result<()> {
    line.push(b'\n');
    match &mut *writer.lock().await {
        Some(writer) => {
            writer.write_all(&line).await?;
            writer.flush().await
        }
        None => Err(io::ErrorKind::NotConnected.into()),
    }
}

/// The message; else what to answer, if anything.
fn parse(line: &[u8], lost: usize) -> Result<ClientJsonRpcMessage, Option<Value>> {
    let line = line.trim_ascii();
    if line.is_empty() && lost == 0 {
        return Err(None);
    }
    let length = line.len() + lost;
    if length > MAX_MESSAGE_BYTES {
        return Err(Some(refusal(id_of(line), ErrorCode::INVALID_REQUEST, &too_long(length))));
    }
    serde_json::from_slice(line).map_err(|problem| {
        let answer = unreadable(line);
        if answer.is_none() {
            tracing::debug!(%problem, "ignoring a message that is not MCP's");
        }
        answer
    })
}

/// What to answer to something that is no message of MCP's. `None`: nobody waits for an answer to a notification or a response.
pub(crate) fn unreadable(text: &[u8]) -> Option<Value> {
    let invalid = |id| {
        let what =
            "this is not a JSON-RPC request: `jsonrpc` is \"2.0\", `id` a string or an integer, `params` an object";
        Some(refusal(id, ErrorCode::INVALID_REQUEST, what))
    };
    match serde_json::from_slice::<Value>(text) {
        // Nesting that is too deep, and half a surrogate pair, hide no id.
        Err(error) => Some(refusal(id_of(text), ErrorCode::PARSE_ERROR, &format!("this is not JSON: {error}"))),
        Ok(Value::Array(_)) => {
            let what = "batches are not taken: send the messages one by one";
            Some(refusal(None, ErrorCode::INVALID_REQUEST, what))
        }
        Ok(Value::Object(fields)) if !fields.contains_key("method") || !fields.contains_key("id") => None,
        Ok(Value::Object(_)) => invalid(id_of(text)),
        Ok(_) => invalid(None),
    }
}

/// Why a message is refused for its length.
pub(crate) fn too_long(length: usize) -> String {
    format!(
        "this message has {length} bytes, and at most {MAX_MESSAGE_BYTES} are taken: pass large data by a file's path or a URL"
    )
}

fn id_of(line: &[u8]) -> Option<RequestId> {
    #[derive(Deserialize)]
    struct Envelope {
        id: Option<RequestId>,
    }
    serde_json::from_slice::<Envelope>(line).ok()?.id
}

/// A JSON-RPC error response.
pub(crate) fn refusal(id: Option<RequestId>, code: ErrorCode, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
}
