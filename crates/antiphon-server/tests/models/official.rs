//! OpenAI's own client for Python, configured as a child process is: by its environment.
#![expect(clippy::print_stderr, reason = "a skipped test says so")]

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::door::{Door, TOKEN};
use crate::{called, said};

/// The interpreter that has the client, or `None` with a message. In CI its absence is a failure.
async fn python() -> Option<PathBuf> {
    let python = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/clients/bin/python"));
    let mut import = Command::new(&python);
    let imported = import.args(["-c", "import openai"]).stderr(Stdio::null()).status().await;
    if imported.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    assert!(std::env::var_os("CI").is_none(), "the openai package is missing: run .ci/clients");
    eprintln!("skipped: the openai package is missing; .ci/clients installs it");
    None
}

#[tokio::test]
async fn the_official_client_is_served() {
    let Some(python) = python().await else { return };
    let door = Door::start([Ok(said("Hello")), Ok(said("Hello again")), Ok(called())]).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/models/client.py");
    let mut client = Command::new(python);
    client.arg(script).env("OPENAI_BASE_URL", door.url("")).env("OPENAI_API_KEY", TOKEN).stdin(Stdio::null());
    let output = client.env("NO_PROXY", "127.0.0.1").kill_on_drop(true).output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{errors}"));
    assert_eq!(
        report,
        json!({
            "models": ["small"],
            "whole": { "text": "Hello", "tokens": 10 },
            "streamed": "Hello again",
            "calls": [["weather", "{\"city\":\"Oslo\"}"], ["weather", "{\"city\":\"Rome\"}"]],
            "refused": "invalid_request",
        })
    );
}
