//! A project with a server that is well, `good`, and one that is not, `bad`.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use antiphon_tests::{Era, Host, Scratch, program};
use serde_json::{Value, json};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

pub const ERAS: [Era; 2] = [Era::Legacy, Era::Modern];

/// A project that passes through `good`, and `bad` with these keys of its table.
pub fn beside(bad: &str) -> Scratch {
    let scratch = Scratch::new();
    let good = "[servers.good]\ncommand = \"${FIXTURE}\"\nargs = [\"--log\", \"${LOG}\"]\n";
    scratch.file("antiphon.toml", &format!("{good}[servers.bad]\n{bad}\n[serve]\nexpose = [\"*.*\"]\n"));
    scratch
}

/// The keys of a server that misbehaves so.
pub fn misbehaving(mode: &str) -> String {
    format!("command = \"${{MISBEHAVING}}\"\nargs = [\"{mode}\"]\n")
}

/// A host over stdio.
pub fn host(scratch: &Scratch, era: Era) -> Host {
    Host::start(&mut scratch.with_db(&["serve", ".", "--trust"]), era, json!({}))
}

/// The names of all tools that are listed, page by page.
pub fn tools(host: &mut Host) -> BTreeSet<String> {
    let (mut names, mut page) = (BTreeSet::new(), json!({}));
    loop {
        let listed = host.ask("tools/list", page);
        let tools = listed["result"]["tools"].as_array().unwrap_or_else(|| panic!("{listed}"));
        names.extend(tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()));
        let Some(next) = listed["result"].get("nextCursor") else { return names };
        page = json!({ "cursor": next });
    }
}

/// The server that is well answers.
pub fn good_is_well(host: &mut Host) {
    let said = host.call("good__echo", json!({ "value": 7 }));
    assert_eq!(said["result"]["structuredContent"], json!({ "value": 7 }), "{said}");
}

/// The message of an error that names `bad`.
pub fn blames_bad(answer: &Value) -> String {
    let message = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert!(message.contains("`bad`"), "{answer}");
    message.to_owned()
}

/// Has the caller told that tools change.
pub fn listen(host: &mut Host, era: Era) {
    if era == Era::Modern {
        host.post("subscriptions/listen", json!({ "notifications": { "toolsListChanged": true } }));
        host.pushed("notifications/subscriptions/acknowledged");
    }
}

/// Waits for something that nothing tells of.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it never came: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// How often calls of this tool have got so far (`begin`, `end`), with this outcome if they have one.
pub fn logged(scratch: &Scratch, event: &str, tool: &str, outcome: Option<&str>) -> usize {
    let calls = scratch.calls();
    let is_it = |call: &&Value| call["event"] == event && call["tool"] == tool && call["outcome"].as_str() == outcome;
    calls.iter().filter(is_it).count()
}

/// A port of the loopback that nobody listens on, and that the system gives to nobody by itself.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 500).unwrap() * 20;
    loop {
        let port = 20_000 + (first + TAKEN.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The fixture server over HTTP.
pub struct Web(Child);

impl Web {
    /// Starts it, and waits until it listens.
    pub fn start(scratch: &Scratch, port: u16, legacy: bool) -> Self {
        let mut command = Command::new(program("fixture-server"));
        command.arg("--log").arg(scratch.log()).args(["--lifetime", "120", "--http", &port.to_string()]);
        let mut child = command.args(legacy.then_some("--legacy")).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut url).unwrap();
        assert!(url.contains(&port.to_string()), "{url}");
        Self(child)
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.end();
    }
}
