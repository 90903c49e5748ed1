//! A server over the scripted engine, and a client that speaks raw JSON over a pipe.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use antiphon_engine::Owner;
use antiphon_server::{Catalog, Control, Exposed, Server, ServerOptions, TaskMode, TaskPolicy};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};
use tokio::time::timeout;

use crate::engine::Scripted;

pub const MODERN: &str = "2026-07-28";
pub const LEGACY: &str = "2025-11-25";

/// Longer than anything here takes, also on a paused clock.
const PATIENCE: Duration = Duration::from_secs(60);

const WORKFLOWS: [&str; 9] = ["approve", "broken", "doubt", "echo", "list", "pick", "sample", "slow", "visit"];

pub struct Fixture {
    pub engine: Arc<Scripted>,
    pub server: Server,
}

impl Fixture {
    /// Calls become tasks as soon as they have to wait for anything.
    pub fn new() -> Self {
        Self::with(TaskPolicy { inline_wait: Duration::ZERO, ..TaskPolicy::default() })
    }

    pub fn with_mode(mode: TaskMode) -> Self {
        Self::with(TaskPolicy { mode, ..TaskPolicy::default() })
    }

    pub fn with(task: TaskPolicy) -> Self {
        let engine = Scripted::new();
        let catalog = Catalog::new(WORKFLOWS.map(|name| exposed(name, task))).unwrap();
        let server = Server::new(engine.clone(), catalog, ServerOptions::new([7; 32]));
        Self { engine, server }
    }

    /// A pipe that belongs to `local`.
    pub fn pipe(&self) -> Pipe {
        self.pipe_of("local", None)
    }

    pub fn pipe_of(&self, owner: &str, control: Option<Arc<dyn Control>>) -> Pipe {
        Pipe::to(&self.server, Owner(owner.into()), control)
    }

    pub async fn legacy_pipe(&self, capabilities: Value) -> Pipe {
        let mut pipe = self.pipe();
        pipe.initialize(capabilities).await;
        pipe
    }
}

pub fn exposed(name: &str, task: TaskPolicy) -> Exposed {
    Exposed {
        name: name.to_owned(),
        agent: None,
        description: format!("Does {name}\nand nothing else"),
        title: None,
        input_schema: json!({ "type": "object", "properties": { "text": { "type": "string" } } }),
        output_schema: (name == "echo")
            .then(|| json!({ "type": "object", "properties": { "text": { "type": "string" } }, "required": ["text"] })),
        plan: Scripted::plan(name),
        read_only: name == "echo",
        task,
    }
}

/// The `_meta` of a modern request.
pub fn meta(capabilities: &Value) -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": capabilities,
        "io.modelcontextprotocol/clientInfo": { "name": "raw", "version": "1" },
    })
}

/// The parameters with the `_meta` of a modern request.
pub fn modern(mut params: Value, capabilities: &Value) -> Value {
    let mut merged = meta(capabilities);
    if let Some(extra) = params.get("_meta").and_then(Value::as_object) {
        for (key, value) in extra {
            merged[key] = value.clone();
        }
    }
    params["_meta"] = merged;
    params
}

/// Declares tasks, and forms.
pub fn tasks() -> Value {
    json!({ "extensions": { "io.modelcontextprotocol/tasks": {} }, "elicitation": {} })
}

/// A raw JSON-RPC client on one end of a pipe.
pub struct Pipe {
    reader: BufReader<ReadHalf<DuplexStream>>,
    writer: WriteHalf<DuplexStream>,
    /// What came while something else was awaited.
    aside: VecDeque<Value>,
    next_id: i64,
}

impl Pipe {
    pub fn to(server: &Server, owner: Owner, control: Option<Arc<dyn Control>>) -> Self {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let server = server.clone();
        tokio::spawn(async move { server.serve_stream(theirs, owner, control).await });
        let (reader, writer) = tokio::io::split(ours);
        Self { reader: BufReader::new(reader), writer, aside: VecDeque::new(), next_id: 0 }
    }

    pub async fn send(&mut self, message: Value) {
        self.send_line(message.to_string().as_bytes()).await;
    }

    pub async fn send_line(&mut self, line: &[u8]) {
        self.writer.write_all(line).await.unwrap();
        self.writer.write_all(b"\n").await.unwrap();
    }

    /// Sends a request without waiting; its id.
    pub async fn begin(&mut self, method: &str, params: Value) -> i64 {
        self.next_id += 1;
        self.send(json!({ "jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params })).await;
        self.next_id
    }

    pub async fn notify(&mut self, method: &str, params: Value) {
        self.send(json!({ "jsonrpc": "2.0", "method": method, "params": params })).await;
    }

    /// The next message of which this holds.
    pub async fn receive(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(index) = self.aside.iter().position(&wanted) {
            return self.aside.remove(index).unwrap();
        }
        loop {
            let mut line = String::new();
            let read = timeout(PATIENCE, self.reader.read_line(&mut line)).await.expect("a message in time").unwrap();
            assert!(read > 0, "the server hung up");
            let message: Value = serde_json::from_str(&line).expect("JSON");
            if wanted(&message) {
                return message;
            }
            self.aside.push_back(message);
        }
    }

    /// The response to the request of this id.
    pub async fn response(&mut self, id: i64) -> Value {
        self.receive(|message| message["id"] == id && message.get("method").is_none()).await
    }

    /// The server's next request or notification of this method.
    pub async fn pushed(&mut self, method: &str) -> Value {
        self.receive(|message| message["method"] == method).await
    }

    /// The result of a request; panics on an error.
    pub async fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params).await;
        let response = self.response(id).await;
        assert!(response.get("error").is_none(), "{method}: {response}");
        response["result"].clone()
    }

    /// The error of a request; panics on a result.
    pub async fn refused(&mut self, method: &str, params: Value) -> Value {
        let id = self.begin(method, params).await;
        let response = self.response(id).await;
        assert!(response.get("result").is_none(), "{method}: {response}");
        response["error"].clone()
    }

    pub async fn initialize(&mut self, capabilities: Value) -> Value {
        let client = json!({ "name": "raw", "version": "1" });
        let params = json!({ "protocolVersion": LEGACY, "capabilities": capabilities, "clientInfo": client });
        let result = self.request("initialize", params).await;
        self.notify("notifications/initialized", json!({})).await;
        result
    }

    /// A modern `tools/call`.
    pub async fn call(&mut self, tool: &str, arguments: Value, capabilities: &Value) -> Value {
        self.request("tools/call", modern(json!({ "name": tool, "arguments": arguments }), capabilities)).await
    }

    /// A legacy `tools/call`.
    pub async fn legacy_call(&mut self, tool: &str, arguments: Value) -> Value {
        self.request("tools/call", json!({ "name": tool, "arguments": arguments })).await
    }

    /// A modern `tasks/…` request.
    pub async fn task(&mut self, verb: &str, id: &str) -> Value {
        self.request(&format!("tasks/{verb}"), modern(json!({ "taskId": id }), &tasks())).await
    }

    /// Hangs up.
    pub async fn close(mut self) {
        self.writer.shutdown().await.unwrap();
    }
}

/// The text of a tool's result.
pub fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().expect("text")
}
