//! The command line's side of the owner's socket: JSON-RPC, one request at a time.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::{Mutex, mpsc};

use super::relay::{Link, lines};
use super::verbs::Verb;
use crate::exit::Exit;
use crate::fault::Fault;

/// A connection to the owner.
pub struct Client {
    wire: Mutex<Wire>,
    next_id: AtomicU64,
}

struct Wire {
    replies: mpsc::Receiver<Vec<u8>>,
    writer: Box<dyn tokio::io::AsyncWrite + Send + Unpin>,
}

/// Why a request has no reply.
pub enum NoReply {
    /// The connection is gone: another owner may answer.
    Lost,
    /// The owner refuses.
    Refused(Fault),
}

impl Client {
    /// A client on this connection.
    pub fn new(stream: UnixStream) -> Self {
        let link = Link::over(stream);
        let wire = Wire { replies: lines(link.reader), writer: link.writer };
        Self { wire: Mutex::new(wire), next_id: AtomicU64::new(1) }
    }

    /// Asks. Dropping the future is safe: the reply is ignored when it comes.
    pub async fn ask<V: Verb>(&self, verb: &V) -> Result<V::Reply, NoReply> {
        let params = serde_json::to_value(verb).map_err(|e| refused(&e.to_string()))?;
        let reply = self.request(V::METHOD, params).await?;
        serde_json::from_value(reply).map_err(|e| refused(&format!("the owner's reply can't be read: {e}")))
    }

    async fn request(&self, method: &str, mut params: Value) -> Result<Value, NoReply> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        // Every request of this MCP era says who sends it; there is no handshake.
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": { "name": "antiphon", "version": env!("CARGO_PKG_VERSION") },
        });
        let mut line = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string();
        line.push('\n');

        let mut wire = self.wire.lock().await;
        wire.writer.write_all(line.as_bytes()).await.map_err(|_| NoReply::Lost)?;
        wire.writer.flush().await.map_err(|_| NoReply::Lost)?;
        loop {
            let line = wire.replies.recv().await.ok_or(NoReply::Lost)?;
            let Ok(mut message) = serde_json::from_slice::<Value>(&line) else { continue };
            // Others answer a request that was given up.
            if message["id"] != id {
                continue;
            }
            if let Some(error) = message.get("error") {
                return Err(NoReply::Refused(fault_of(error)));
            }
            return Ok(message["result"].take());
        }
    }
}

fn refused(what: &str) -> NoReply {
    NoReply::Refused(Fault::internal(what))
}

/// The owner's error, as if it had happened here.
pub(super) fn fault_of(error: &Value) -> Fault {
    let message = error["message"].as_str().unwrap_or("the owner refused without saying why");
    let report = match error["data"]["help"].as_str() {
        Some(help) => miette::miette!(help = help.to_owned(), "{message}"),
        None => miette::miette!("{message}"),
    };
    let exit = Exit::TABLE.into_iter().map(|(exit, _)| exit).find(|exit| error["data"]["exit"] == *exit as u8);
    let exit = exit.unwrap_or(match error["code"].as_i64() {
        // The request itself is wrong: it is too long, say.
        Some(-32600 | -32602) => Exit::Usage,
        _ => Exit::Internal,
    });
    Fault::new(exit, report)
}
