//! A host of `antiphon serve`, or of any MCP server over stdio: raw JSON lines, many requests at a time.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::{Era, Error};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server process and the pipe to it. It ends with the host.
pub struct Host {
    child: Child,
    stdin: tokio::sync::Mutex<ChildStdin>,
    waiting: Waiting,
    last_id: AtomicU64,
    era: Era,
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;

impl Host {
    /// Starts a server. In the era of 2026-07-28 there is no handshake.
    pub fn start(mut command: Command) -> Result<Self, Error> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stdin = child.stdin.take().ok_or("no pipe to the server")?;
        let stdout = child.stdout.take().ok_or("no pipe from the server")?;
        let waiting = Waiting::default();
        tokio::spawn({
            let waiting = Arc::clone(&waiting);
            async move {
                let mut lines = BufReader::new(stdout).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
                    let reply = message["id"].as_u64().and_then(|id| lock(&waiting).remove(&id));
                    if let Some(reply) = reply {
                        let _ = reply.send(message);
                    }
                }
                lock(&waiting).clear();
            }
        });
        Ok(Self { child, stdin: stdin.into(), waiting, last_id: AtomicU64::new(0), era: Era::Modern })
    }

    /// The same, with the handshake of the era before.
    pub async fn legacy(command: Command) -> Result<Self, Error> {
        let host = Self { era: Era::Legacy, ..Self::start(command)? };
        host.ask("initialize", hello()).await?;
        let done = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        host.stdin.lock().await.write_all(format!("{done}\n").as_bytes()).await?;
        Ok(host)
    }

    /// A request, with every capability that a measured server may make use of; its result.
    pub async fn ask(&self, method: &str, mut params: Value) -> Result<Value, Error> {
        if self.era == Era::Modern {
            params["_meta"] = meta();
        }
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (reply, answer) = oneshot::channel();
        lock(&self.waiting).insert(id, reply);
        let line = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.stdin.lock().await.write_all(format!("{line}\n").as_bytes()).await?;
        let mut answer = timeout(PATIENCE, answer).await??;
        if answer["result"]["isError"] == true || answer["error"].is_object() {
            return Err(format!("{method} failed: {answer}").into());
        }
        Ok(answer["result"].take())
    }

    /// Calls a tool.
    pub async fn call(&self, tool: &str, arguments: Value) -> Result<Value, Error> {
        self.ask("tools/call", json!({ "name": tool, "arguments": arguments })).await
    }

    /// The server's process id.
    pub fn pid(&self) -> Result<u32, Error> {
        Ok(self.child.id().ok_or("the server is gone")?)
    }

    /// The server's resident memory and the most that it ever was, in MB.
    pub fn memory(&self) -> Result<(f64, f64), Error> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).map(|kb| kb / 1024.0)
        };
        Ok((field("VmRSS").ok_or("no VmRSS")?, field("VmHWM").ok_or("no VmHWM")?))
    }

    /// Closes the pipe and waits until the server has gone by itself.
    pub async fn close(self) -> Result<(), Error> {
        let Self { mut child, stdin, .. } = self;
        drop(stdin);
        timeout(PATIENCE, child.wait()).await??;
        Ok(())
    }
}

/// `params` of `initialize`.
pub fn hello() -> Value {
    json!({
        "protocolVersion": Era::Legacy.version(),
        "clientInfo": { "name": "antiphon-benches", "version": "0" },
        "capabilities": {},
    })
}

/// What a modern request says of itself.
pub fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": Era::Modern.version(),
        "io.modelcontextprotocol/clientInfo": { "name": "antiphon-benches", "version": "0" },
        "io.modelcontextprotocol/clientCapabilities": {
            "elicitation": {},
            "extensions": { "io.modelcontextprotocol/tasks": {} },
        },
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
