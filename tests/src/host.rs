//! A scripted raw MCP client, in either era, over a child's stdio or over HTTP. It hides nothing.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Hangup, Url};

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// The protocol version of each era.
const LEGACY: &str = "2025-11-25";
const MODERN: &str = "2026-07-28";

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
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": { "name": "raw", "version": "0" },
        "io.modelcontextprotocol/clientCapabilities": capabilities,
    });
    params
}

/// A host: what it says, and what it hears, in order.
pub struct Host {
    wire: Wire,
    lines: Receiver<Value>,
    era: Era,
    capabilities: Value,
    next_id: u64,
    /// What was heard and not yet asked for, in order.
    pub inbox: VecDeque<Value>,
}

/// How a host reaches its server.
enum Wire {
    Pipe { child: Child, stdin: Option<ChildStdin> },
    Web(Web),
}

/// An HTTP endpoint, and what a client keeps of it.
struct Web {
    url: Url,
    token: Option<String>,
    session: Option<String>,
    heard: Sender<Value>,
    /// Requests under way.
    open: BTreeMap<u64, Hangup>,
}

impl Host {
    /// Starts a server and, in the legacy era, shakes hands. Its stderr is ours, unless the command says otherwise.
    pub fn start(command: &mut Command, era: Era, capabilities: Value) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the server starts");
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
        Self::over(Wire::Pipe { child, stdin }, lines, era, capabilities)
    }

    /// Connects to a server over HTTP and, in the legacy era, opens a session.
    pub fn connect(url: &str, token: Option<&str>, era: Era, capabilities: Value) -> Self {
        let (heard, lines) = channel();
        let token = token.map(str::to_owned);
        let web = Web { url: Url::parse(url), token, session: None, heard, open: BTreeMap::new() };
        Self::over(Wire::Web(web), lines, era, capabilities)
    }

    fn over(wire: Wire, lines: Receiver<Value>, era: Era, capabilities: Value) -> Self {
        let mut host = Self { wire, lines, era, capabilities, next_id: 0, inbox: VecDeque::new() };
        if era == Era::Legacy {
            host.initialize();
        }
        host
    }

    /// The legacy handshake; from here on this is a legacy host.
    pub fn initialize(&mut self) {
        self.era = Era::Legacy;
        let params = json!({
            "protocolVersion": LEGACY,
            "clientInfo": { "name": "raw", "version": "0" },
            "capabilities": self.capabilities,
        });
        let answer = self.ask("initialize", params);
        assert_eq!(answer["result"]["protocolVersion"], LEGACY, "{answer}");
        self.notify("notifications/initialized", json!({}));
    }

    /// The process id of the server that this host started.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    fn child(&self) -> &Child {
        match &self.wire {
            Wire::Pipe { child, .. } => child,
            Wire::Web(_) => panic!("this host has no server of its own"),
        }
    }

    /// Sends a message; `false` when the server is gone.
    pub fn send(&mut self, message: &Value) -> bool {
        match &mut self.wire {
            Wire::Pipe { stdin: Some(stdin), .. } => writeln!(stdin, "{message}").and_then(|()| stdin.flush()).is_ok(),
            Wire::Pipe { stdin: None, .. } => false,
            Wire::Web(web) => web.send(message, self.era),
        }
    }

    /// Sends a notification.
    pub fn notify(&mut self, method: &str, params: Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    /// Answers a request of the server's.
    pub fn reply(&mut self, request: &Value, result: Value) {
        self.send(&json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }));
    }

    /// Answers a server's request with an error.
    pub fn refuse(&mut self, request: &Value, code: i32, message: &str) {
        let error = json!({ "code": code, "message": message });
        self.send(&json!({ "jsonrpc": "2.0", "id": request["id"], "error": error }));
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

    /// Sends a call of a tool and returns its id.
    pub fn post_call(&mut self, tool: &str, arguments: Value) -> u64 {
        self.post("tools/call", json!({ "name": tool, "arguments": arguments }))
    }

    /// Opens the stream on which a legacy session over HTTP hears what answers no request.
    pub fn open_stream(&mut self) {
        let Wire::Web(web) = &self.wire else { panic!("a pipe is one stream") };
        let session = web.session.as_deref().expect("a session");
        let authorization = web.token.as_ref().map(|token| format!("Bearer {token}"));
        let mut headers =
            vec![("mcp-session-id", session), ("mcp-protocol-version", LEGACY), ("accept", "text/event-stream")];
        headers.extend(authorization.as_deref().map(|token| ("authorization", token)));
        let response = web.url.get(&headers).response().expect("an answer");
        assert_eq!(response.status, 200, "no stream");
        let heard = web.heard.clone();
        // If nobody listens any more, the test is over.
        std::thread::spawn(move || response.messages(|message| drop(heard.send(message))));
    }

    /// Gives up a request, in the way of its era and transport.
    pub fn give_up(&mut self, id: u64) {
        match (&self.wire, self.era) {
            (Wire::Web(web), Era::Modern) => web.open[&id].now(),
            _ => self.notify("notifications/cancelled", json!({ "requestId": id })),
        }
    }

    /// The next message, or `None` when the server is gone.
    pub fn hear(&mut self) -> Option<Value> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the server said nothing for {PATIENCE:?}"),
        }
    }

    /// The response to a request; what else comes meanwhile stays in the inbox.
    pub fn response(&mut self, id: u64) -> Option<Value> {
        self.find(|message| message.get("method").is_none() && message["id"] == id)
    }

    /// The next request or notification of this method; what else comes meanwhile stays in the inbox.
    pub fn pushed(&mut self, method: &str) -> Value {
        self.find(|message| message["method"] == method).expect("the server is there")
    }

    fn find(&mut self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        if let Some(place) = self.inbox.iter().position(&wanted) {
            return self.inbox.remove(place);
        }
        loop {
            let message = self.hear()?;
            if wanted(&message) {
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
        let Wire::Pipe { child, .. } = &mut self.wire else { panic!("this host has no server of its own") };
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
    }

    /// Closes the pipe and waits for the server to stop by itself.
    pub fn close(mut self) -> Option<i32> {
        let Wire::Pipe { child, stdin } = &mut self.wire else { panic!("this host has no server of its own") };
        stdin.take();
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = child.try_wait().expect("it is ours") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not stop when its pipe is closed");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        match &mut self.wire {
            Wire::Pipe { child, .. } => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Wire::Web(web) => web.open.values().for_each(Hangup::now),
        }
    }
}

impl Web {
    /// Posts a message; what is said in answer is heard as it comes.
    fn send(&mut self, message: &Value, era: Era) -> bool {
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let method = text("/method");
        let params = match method.as_str() {
            "resources/read" => text("/params/uri"),
            _ => [text("/params/name"), text("/params/taskId")].concat(),
        };
        let authorization = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let mut headers = Vec::new();
        headers.extend(authorization.as_deref().map(|token| ("authorization", token)));
        match era {
            Era::Modern => {
                headers.extend([("mcp-protocol-version", MODERN), ("mcp-method", &method)]);
                headers.extend((!params.is_empty()).then_some(("mcp-name", params.as_str())));
            }
            Era::Legacy if method != "initialize" => {
                headers.push(("mcp-protocol-version", LEGACY));
                headers.extend(self.session.as_deref().map(|session| ("mcp-session-id", session)));
            }
            Era::Legacy => {}
        }
        let exchange = self.url.post(&headers, message);
        if method == "initialize" {
            let response = exchange.response().expect("an answer");
            self.session = response.header("mcp-session-id").map(str::to_owned);
            response.messages(|message| self.heard.send(message).expect("the host listens"));
            return true;
        }
        let Some(id) = message["id"].as_u64().filter(|_| !method.is_empty()) else {
            // Nothing but an acknowledgement: whoever goes on relies on it.
            let response = exchange.response().expect("an answer");
            let status = response.status;
            assert_eq!(status, 202, "{message}: {}", response.text());
            return true;
        };
        self.open.insert(id, exchange.hangup());
        let heard = self.heard.clone();
        std::thread::spawn(move || {
            let Ok(response) = exchange.response() else { return };
            let status = response.status;
            let mut answered = false;
            response.messages(|message| {
                answered |= message["id"] == id;
                // If nobody listens any more, the test is over.
                let _ = heard.send(message);
            });
            if !answered && status != 200 {
                let _ = heard.send(json!({ "id": id, "http": status }));
            }
        });
        true
    }
}
