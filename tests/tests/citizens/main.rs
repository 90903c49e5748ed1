//! Servers that everybody knows, behind one Antiphon, for clients that everybody uses: what a new user would try first.
//!
//! The servers: npm's everything, filesystem and memory, one on FastMCP, one on each version of the TypeScript SDK, one that is reached
//! by HTTP alone, one behind OAuth. `.ci/clients` installs them; where they are missing the tests say so and pass, except in CI.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod servers;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use antiphon_tests::repository;
use serde_json::{Value, json};

use servers::Town;

/// Something a user does, and what is to be seen.
struct Visit {
    does: Value,
    sees: fn(&Value) -> bool,
}

fn visit(does: Value, sees: fn(&Value) -> bool) -> Visit {
    Visit { does, sees }
}

/// What is done by each client: at least a tool of each server, and what else the server is known for.
fn visits(town: &Town) -> Vec<Visit> {
    let note = town.folder().join("notes/a.txt").display().to_string();
    let mut visits = vec![
        visit(json!(["tools"]), |tools| {
            let has = |name: &str| tools.as_array().unwrap().iter().any(|tool| tool == name);
            ["everything__echo", "files__read_text_file", "memory__read_graph", "remote__get-sum", "guarded__greet"]
                .into_iter()
                .all(has)
        }),
        visit(json!(["call", "everything__echo", { "message": "hi" }]), |seen| seen[0] == json!(["Echo: hi"])),
        visit(json!(["call", "everything__trigger-long-running-operation", { "duration": 0.1, "steps": 2 }]), |seen| {
            seen[0][0].as_str().unwrap().contains("completed") && progress(seen) == [1.0, 2.0]
        }),
        visit(json!(["prompt", "everything__simple-prompt", {}]), |seen| {
            seen.as_str().unwrap().contains("simple prompt")
        }),
        visit(json!(["read", "demo://resource/static/document/features.md"]), |seen| {
            seen.as_str().unwrap().starts_with("# Everything Server")
        }),
        visit(json!(["call", "files__read_text_file", { "path": note }]), |seen| seen[1]["content"] == "remember"),
        visit(
            json!(["call", "memory__create_entities", {
                "entities": [{ "name": "Ada", "entityType": "person", "observations": ["counts"] }],
            }]),
            |seen| seen[1]["entities"].is_array(),
        ),
        visit(json!(["call", "memory__read_graph", {}]), |seen| seen[1]["entities"][0]["name"] == "Ada"),
        visit(json!(["call", "remote__get-sum", { "a": 2, "b": 3 }]), |seen| {
            seen[0][0].as_str().unwrap().contains('5')
        }),
        visit(json!(["read", "hello://motto"]), |seen| seen == "festina lente"),
    ];
    for server in ["fast", "v1", "v2", "guarded"] {
        let greet = json!(["call", format!("{server}__greet"), { "name": "Bo" }]);
        visits.push(visit(greet, |seen| seen[1] == json!({ "greeting": "hello Bo" })));
        let count = json!(["call", format!("{server}__count"), { "to": 3 }]);
        visits.push(visit(count, |seen| seen[0] == json!(["counted to 3"]) && progress(seen).len() == 3));
        let welcome = json!(["prompt", format!("{server}__welcome"), { "name": "Bo" }]);
        visits.push(visit(welcome, |seen| seen == "Welcome Bo in one sentence."));
    }
    // One pushes its question, the other comes back with it: the client sees no difference.
    for server in ["v1", "v2"] {
        visits.push(visit(json!(["call", format!("{server}__ask"), {}]), |seen| seen[0] == json!(["accept: Ada"])));
    }
    visits
}

fn progress(seen: &Value) -> Vec<f64> {
    seen[2].as_array().unwrap().iter().filter_map(Value::as_f64).collect()
}

fn client(name: &str) -> PathBuf {
    repository().join("tests/clients").join(name)
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("the client starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    out.into_owned()
}

/// Three clients, one after the other, see the same.
#[test]
fn clients_meet_servers() {
    let Some(town) = Town::build() else { return };
    let visits = visits(&town);
    let all = Value::Array(visits.iter().map(|visit| visit.does.clone()).collect()).to_string();
    let python = |which: &str| {
        let mut command = Command::new(&town.python);
        command.arg(client("visit.py")).arg(which);
        command
    };
    let mut node = Command::new(&town.node);
    node.arg(client("visit.mjs"));
    for (name, mut command) in [("mcp", python("mcp")), ("fastmcp", python("fastmcp")), ("typescript", node)] {
        let out = run(command.arg(&town.url).arg(&all));
        let seen: Vec<Value> = serde_json::from_str(out.trim().lines().last().unwrap_or_default()).expect(&out);
        assert_eq!(seen.len(), visits.len(), "{name}");
        for (visit, seen) in visits.iter().zip(&seen) {
            assert!((visit.sees)(seen), "{name} does {} and sees {seen}", visit.does);
        }
    }
    inspector(&town);
}

/// The Inspector's command line does one thing at a time, and can't be asked.
fn inspector(town: &Town) {
    let inspect = |rest: &[&str]| -> Value {
        let mut command = Command::new(&town.node);
        command
            .arg(client("node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"))
            .args(["--cli", &town.url])
            .args(rest)
            .env("HOME", town.folder());
        let out = run(&mut command);
        serde_json::from_str(&out).expect(&out)
    };
    let greeted = |server: &str, era: &str| {
        let tool = format!("{server}__greet");
        let call = ["--protocol-era", era, "--method", "tools/call", "--tool-name", &tool, "--tool-arg", "name=Bo"];
        assert_eq!(inspect(&call)["structuredContent"], json!({ "greeting": "hello Bo" }), "{server} {era}");
    };
    greeted("v1", "modern");
    greeted("v2", "legacy");
    greeted("guarded", "modern");
    let read = inspect(&["--method", "resources/read", "--uri", "hello://motto"]);
    assert_eq!(read["contents"][0]["text"], "festina lente", "{read}");
    let prompt = ["--method", "prompts/get", "--prompt-name", "fast__welcome", "--prompt-args", "name=Bo"];
    assert_eq!(inspect(&prompt)["messages"][0]["content"]["text"], "Welcome Bo in one sentence.");
}
