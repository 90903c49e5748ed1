//! A host that answers what it is asked, over a way to the conformance server.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use antiphon_tests::{Era, Host, Scratch, Served, call_params, program};
use serde_json::{Map, Value, json};

/// How a server is spoken to, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Stdio,
    Http,
}

/// A host, and what keeps its server there.
pub struct Way {
    pub host: Host,
    era: Era,
    capabilities: Value,
    _scratch: Option<Scratch>,
    _served: Vec<Served>,
    _upstream: Option<Upstream>,
}

/// Everything that a host of these tests can answer.
pub fn able() -> Value {
    json!({ "elicitation": { "form": {}, "url": {} }, "sampling": {}, "roots": {} })
}

/// The same, for a host that knows tasks.
pub fn able_with_tasks() -> Value {
    let mut able = able();
    able["extensions"] = json!({ "io.modelcontextprotocol/tasks": {} });
    able
}

/// The conformance server over HTTP.
pub struct Upstream {
    child: Child,
    url: String,
}

impl Upstream {
    fn start(legacy: bool) -> Self {
        let mut command = Command::new(program("conformance-server"));
        command.args(["--http", "0", "--lifetime", "120"]).args(legacy.then_some("--legacy"));
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut url = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut url).expect("it says where it is");
        Self { child, url: url.trim().to_owned() }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Straight to the server.
pub fn direct(legacy: bool, era: Era, capabilities: Value) -> Way {
    let mut command = Command::new(program("conformance-server"));
    command.args(legacy.then_some("--legacy"));
    let host = Host::start(&mut command, era, capabilities.clone());
    Way { host, era, capabilities, _scratch: None, _served: Vec::new(), _upstream: None }
}

/// A project that passes the server through as `serve` says, and the server, where it is not started by Antiphon.
pub fn project(legacy: bool, upstream: Wire, serve: &str) -> (Scratch, Option<Upstream>) {
    let scratch = Scratch::new();
    let args = if legacy { "args = [\"--legacy\"]\n" } else { "" };
    let (server, upstream) = match upstream {
        Wire::Stdio => (format!("command = \"${{CONFORMANCE}}\"\n{args}"), None),
        Wire::Http => {
            let upstream = Upstream::start(legacy);
            (format!("url = \"{}\"\n", upstream.url), Some(upstream))
        }
    };
    scratch.file("antiphon.toml", &format!("[servers.conf]\n{server}\n{serve}"));
    (scratch, upstream)
}

/// Through Antiphon.
pub fn through(legacy: bool, upstream: Wire, front: Wire, era: Era, capabilities: Value) -> Way {
    let serve = "[serve]\nexpose = [\"conf.*\"]\nprefix = false\n";
    let (scratch, kept) = project(legacy, upstream, serve);
    let mut command = scratch.with_db(&["serve", ".", "--trust"]);
    let (host, served) = match front {
        Wire::Stdio => (Host::start(&mut command, era, capabilities.clone()), Vec::new()),
        Wire::Http => {
            let served = Served::start(&mut command);
            (Host::connect(&served.url, None, era, capabilities.clone()), vec![served])
        }
    };
    Way { host, era, capabilities, _scratch: Some(scratch), _served: served, _upstream: kept }
}

/// What the host answers to a question.
fn answer(method: &str, params: &Value) -> Value {
    match method {
        "sampling/createMessage" => json!({
            "role": "assistant", "model": "none", "stopReason": "endTurn",
            "content": { "type": "text", "text": format!("heard {}", params["messages"][0]["content"]["text"]) },
        }),
        "roots/list" => json!({ "roots": [{ "uri": "file:///work", "name": "work" }] }),
        "elicitation/create" => {
            let mut content = Map::new();
            let fields = params["requestedSchema"]["properties"].as_object().cloned().unwrap_or_default();
            for (name, schema) in fields {
                let value = match schema["type"].as_str() {
                    Some("boolean") => json!(true),
                    Some("integer" | "number") => json!(7),
                    Some("array") => json!([]),
                    _ => schema["enum"][0].as_str().map_or_else(|| json!(format!("the {name}")), |first| json!(first)),
                };
                content.insert(name, value);
            }
            json!({ "action": "accept", "content": content })
        }
        other => panic!("asked by {other}"),
    }
}

impl Way {
    /// Makes a request and answers what is asked on the way, pushed or in rounds: its result or error, and what was said before.
    pub fn talk(&mut self, method: &str, params: Value) -> Value {
        let mut rounds = 0;
        let mut params = params;
        let mut heard = Vec::new();
        loop {
            let (answered, mut said) = self.round(method, &params);
            heard.append(&mut said);
            if answered["result"]["resultType"] != "input_required" {
                let mut transcript = json!({ "heard": heard });
                for key in ["result", "error"] {
                    if let Some(part) = answered.get(key) {
                        transcript[key] = part.clone();
                    }
                }
                return transcript;
            }
            rounds += 1;
            assert!(rounds < 10, "it never ends: {answered}");
            let result = &answered["result"];
            params["inputResponses"] = json!({});
            for (key, request) in result["inputRequests"].as_object().into_iter().flatten() {
                let method = request["method"].as_str().unwrap();
                heard.push(json!({ "asked": method }));
                params["inputResponses"][key] = answer(method, &request["params"]);
            }
            params.as_object_mut().unwrap().remove("requestState");
            if let Some(state) = result.get("requestState") {
                params["requestState"] = state.clone();
            }
        }
    }

    fn round(&mut self, method: &str, params: &Value) -> (Value, Vec<Value>) {
        let extra = params.get("_meta").cloned();
        let mut params = params.clone();
        if self.era == Era::Modern {
            params = call_params(params, &self.capabilities);
            for (key, value) in extra.iter().flat_map(|extra| extra.as_object().unwrap()) {
                params["_meta"][key] = value.clone();
            }
        }
        let id = self.host.post(method, params);
        let mut heard = Vec::new();
        loop {
            let message = self.host.inbox.pop_front().or_else(|| self.host.hear()).expect("the server is there");
            match message["method"].as_str() {
                None if message["id"] == id => return (message, heard),
                None => {}
                Some(method) if message.get("id").is_some() => {
                    heard.push(json!({ "asked": method }));
                    let answer = answer(method, &message["params"]);
                    self.host.reply(&message, answer);
                }
                Some("notifications/progress") => {
                    heard.push(json!({ "progress": message["params"]["progress"], "of": message["params"]["total"] }));
                }
                Some("notifications/message") => heard.push(json!({ "log": message["params"]["data"] })),
                Some(_) => {}
            }
        }
    }

    /// Calls a tool.
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.talk("tools/call", json!({ "name": tool, "arguments": arguments }))
    }
}
