//! What the whole-system tests share: where the programs are, a scratch project, a raw MCP client.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

pub mod authority;
pub mod chance;
mod host;
mod http;
mod llama;
pub mod model;
mod project;
mod python;
mod served;
mod terminal;

use std::path::PathBuf;

use antiphon_kernel::Plan;
use antiphon_workflow::{Project, SourceFile, Sources};

pub use authority::Authority;
pub use host::{Era, Host, call_params, extension, text_of};
pub use http::{Response, Url};
pub use llama::Llama;
pub use model::Model;
pub use project::Scratch;
pub use python::{installed, python};
pub use served::Served;
pub use terminal::Terminal;

/// A program of this workspace, built beside the running test. `cargo test --workspace` builds them all first.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let folder = test.parent().and_then(|deps| deps.parent()).expect("tests run in target/PROFILE/deps");
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace` first", path.display());
    path
}

/// The repository's root.
pub fn repository() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().expect("tests/ is in the repository").to_owned()
}

/// The plan of a workflow file without errors.
pub fn plan(text: &str) -> Plan {
    let file = SourceFile { path: "test.toml".to_owned(), text: text.to_owned() };
    let read = |path: &str| Err(format!("{path}: tests have no files"));
    let checked = Project::load(&Sources { workflows: vec![file], configs: Vec::new(), read: &read });
    assert!(!checked.has_errors(), "{text}\n{:?}", checked.diagnostics);
    let workflow = checked.project.workflows.values().next().expect("one file, one workflow");
    (*workflow.plan).clone()
}
