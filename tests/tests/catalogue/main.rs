//! What a host sees of a project: which tools, under which names; what changes while it looks; its runs and prompts.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod compact;
mod control;
mod prompts;
mod reload;
mod runs;
mod tokens;

use std::fs::File;
use std::time::{Duration, Instant};

use antiphon_tests::{Era, Host, Scratch, Served};
use serde_json::{Value, json};

/// A project whose server `tools` is the fixture server, with these tables beside it.
fn project(tables: &str) -> Scratch {
    let scratch = Scratch::new();
    configure(&scratch, tables);
    scratch
}

fn configure(scratch: &Scratch, tables: &str) {
    let tools = "[servers.tools]\ncommand = \"${FIXTURE}\"\nargs = [\"--log\", \"${LOG}\"]\n";
    scratch.file("antiphon.toml", &format!("{tools}{tables}"));
}

/// A host and what serves it, over each transport.
struct Seat {
    host: Host,
    _served: Option<Served>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wire {
    Stdio,
    Http,
}

fn seat(scratch: &Scratch, wire: Wire, era: Era) -> Seat {
    match wire {
        Wire::Stdio => Seat { host: stdio(scratch, era), _served: None },
        Wire::Http => {
            // Somebody: who has no name has no list of runs.
            let mut command = scratch.with_db(&["serve", ".", "--trust", "--token", "ann=ANN"]);
            let served = Served::start(command.env("ANN", "ann's secret"));
            let mut host = Host::connect(&served.url, Some("ann's secret"), era, json!({}));
            if era == Era::Legacy {
                host.open_stream();
            }
            Seat { host, _served: Some(served) }
        }
    }
}

fn stdio(scratch: &Scratch, era: Era) -> Host {
    Host::start(&mut scratch.with_db(&["serve", ".", "--trust"]), era, json!({}))
}

const EVERYWHERE: [(Wire, Era); 4] =
    [(Wire::Stdio, Era::Legacy), (Wire::Stdio, Era::Modern), (Wire::Http, Era::Legacy), (Wire::Http, Era::Modern)];

/// All of a list, page by page.
fn listed(host: &mut Host, method: &str, field: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut params = json!({});
    loop {
        let answer = host.ask(method, params);
        let page = answer["result"][field].as_array().unwrap_or_else(|| panic!("{answer}"));
        all.extend(page.iter().cloned());
        let Some(next) = answer["result"].get("nextCursor") else { return all };
        params = json!({ "cursor": next });
    }
}

fn names(list: &[Value]) -> Vec<&str> {
    list.iter().filter_map(|one| one["name"].as_str()).collect()
}

fn tools(host: &mut Host) -> Vec<Value> {
    listed(host, "tools/list", "tools")
}

/// What a modern host asks to be told of; a legacy one is told anyway.
fn listen(host: &mut Host, era: Era, wanted: Value) {
    if era == Era::Modern {
        host.post("subscriptions/listen", json!({ "notifications": wanted }));
        host.pushed("notifications/subscriptions/acknowledged");
    }
}

/// A host of a server whose stderr is kept in a file.
fn logged(scratch: &Scratch, era: Era) -> Host {
    let log = File::create(scratch.path().join("stderr")).unwrap();
    Host::start(scratch.with_db(&["serve", ".", "--trust"]).stderr(log), era, json!({}))
}

/// Waits until that server has said this.
fn said(scratch: &Scratch, wanted: &str) {
    let begun = Instant::now();
    loop {
        let text = std::fs::read_to_string(scratch.path().join("stderr")).unwrap();
        if text.contains(wanted) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "`{wanted}` is not said: {text}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
