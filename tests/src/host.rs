//! A scripted raw MCP client: JSON lines over a child's stdio, in either era. It hides nothing.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which protocol a host speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Era {
    /// 2025-11-25.
    Legacy,
    /// 2026-07-28.
    Modern,
}

/// `extensions` of a client that knows tasks.
pub fn extension() -> Value {
    json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } })
}

/// The text of a tool result.
pub fn text_of(result: &Value) -> String {
    result["content"].as_array().into_iter().flatten().filter_map(|block| block["text"].as_str()).collect()
}

/// `params` of a modern request, with the capabilities that this request declares.
pub fn call_params(mut params: Value, capabilities: &Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "raw", "version": "0" },
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    });
    params
}

/// A host and its server process.
pub struct Host {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    era: Era,
    capabilities: Value,
    next_id: u64,
    /// Requests and notifications that the server sent, in order.
    pub inbox: VecDeque<Value>,
}

impl Host {
    /// Starts a server and, in the legacy era, shakes hands.
    pub fn start(command: &mut Command, era: Era, capabilities: Value) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the server starts");
        let (send, lines) = channel();
        let stdout = child.stdout.take().expect("piped");
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                let value = serde_json::from_str(&line).unwrap_or_else(|_| json!({ "garbage": line }));
                if send.send(value).is_err() {
                    break;
                }
            }
        });
        let stdin = child.stdin.take();
        let mut host = Self { child, stdin, lines, era, capabilities, next_id: 0, inbox: VecDeque::new() };
        if era == Era::Legacy {
            let params = json!({
                "protocolVersion": "2025-11-25",
                "clientInfo": { "name": "raw", "version": "0" },
                "capabilities": host.capabilities,
            });
            let answer = host.ask("initialize", params);
            assert_eq!(answer["result"]["protocolVersion"], "2025-11-25", "{answer}");
            host.notify("notifications/initialized", json!({}));
        }
        host
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line; `false` when the server is gone.
    pub fn send(&mut self, message: &Value) -> bool {
        let Some(stdin) = &mut self.stdin else { return false };
        writeln!(stdin, "{message}").and_then(|()| stdin.flush()).is_ok()
    }

    /// Sends a notification.
    pub fn notify(&mut self, method: &str, params: Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    /// Sends a request and returns its id.
    pub fn post(&mut self, method: &str, params: Value) -> u64 {
        self.next_id += 1;
        let params = match self.era {
            Era::Modern if params.get("_meta").is_none() => call_params(params, &self.capabilities),
            _ => params,
        };
        let id = self.next_id;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        id
    }

    /// The next message, or `None` when the server is gone.
    pub fn next(&mut self) -> Option<Value> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the server said nothing for {PATIENCE:?}"),
        }
    }

    /// The response to a request; what comes before it goes to the inbox.
    pub fn response(&mut self, id: u64) -> Option<Value> {
        loop {
            let message = self.next()?;
            if message.get("method").is_none() && message["id"] == json!(id) {
                return Some(message);
            }
            self.inbox.push_back(message);
        }
    }

    /// Sends a request and waits for its response.
    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.post(method, params);
        self.response(id).expect("the server is there")
    }

    /// Calls a tool.
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.ask("tools/call", json!({ "name": tool, "arguments": arguments }))
    }

    /// Polls a task until it is over (or wants input); the last `tasks/get` result.
    pub fn poll(&mut self, task: &str) -> Option<Value> {
        let begun = Instant::now();
        loop {
            let id = self.post("tasks/get", json!({ "taskId": task }));
            let answer = self.response(id)?;
            assert!(answer.get("error").is_none(), "the task is gone: {answer}");
            if answer["result"]["status"] != "working" {
                return Some(answer["result"].clone());
            }
            assert!(begun.elapsed() < PATIENCE, "the task does not end: {answer}");
            let pause = answer["result"]["pollIntervalMs"].as_u64().unwrap_or(50);
            std::thread::sleep(Duration::from_millis(pause.min(50)));
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }

    /// Closes the pipe and waits for the server to stop by itself.
    pub fn close(mut self) -> Option<i32> {
        self.stdin.take();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not stop when its pipe is closed");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
