//! The server as a client sees it: a child process, driven over its pipes.
#![expect(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use rmcp::ServiceExt;
use rmcp::model::{CallToolRequestParams, ReadResourceRequestParams, ResourceContents};
use rmcp::service::{RoleClient, RunningService};
use rmcp::transport::TokioChildProcess;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

type Client = RunningService<RoleClient, ()>;

/// A directory with a text file, a binary one, a link to the outside, and things that are skipped.
fn sample_tree() -> TempDir {
    let dir = TempDir::with_prefix("files").unwrap();
    let root = dir.path().join("root");
    for (path, contents) in [
        ("root/notes.md", "one TODO\ntwo words\n"),
        ("root/src/main.rs", "fn main() {\n    // TODO: all\n}\n"),
        ("root/src/my file.txt", "spaced"),
        ("root/logo.png", "\u{89}PNG\0"),
        ("root/.git/config", "token = TODO"),
        ("root/target/out.rs", "TODO"),
        ("secret.txt", "TODO"),
    ] {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    std::os::unix::fs::symlink(dir.path().join("secret.txt"), root.join("link.txt")).unwrap();
    std::os::unix::fs::symlink(dir.path(), root.join("up")).unwrap();
    dir
}

async fn connect(root: &Path) -> Client {
    let mut command = Command::new(env!("CARGO_BIN_EXE_antiphon-file-server"));
    command.arg(root);
    ().serve(TokioChildProcess::new(command).unwrap()).await.unwrap()
}

/// Calls a tool; its structured content, or its error text.
async fn call(client: &Client, tool: &'static str, args: Value) -> Result<Value, String> {
    let params = CallToolRequestParams::new(tool).with_arguments(args.as_object().unwrap().clone());
    let result = client.call_tool(params).await.unwrap();
    match result.is_error {
        Some(true) => Err(result.content[0].as_text().unwrap().text.clone()),
        _ => Ok(result.structured_content.unwrap()),
    }
}

#[tokio::test]
async fn tools_are_read_only_and_have_output_schemas() {
    let dir = sample_tree();
    let client = connect(dir.path()).await;
    let tools = client.list_all_tools().await.unwrap();
    let names: Vec<_> = tools.iter().map(|tool| &*tool.name).collect();
    assert_eq!(names, ["count", "list_files", "read_text_file", "search"]);
    for tool in &tools {
        assert_eq!(tool.annotations.as_ref().unwrap().read_only_hint, Some(true), "{}", tool.name);
        assert!(tool.output_schema.is_some(), "{}", tool.name);
    }
}

#[tokio::test]
async fn listing_skips_what_is_not_source_and_counts_what_it_does_not_name() {
    let dir = sample_tree();
    let client = connect(&dir.path().join("root")).await;
    let listing = call(&client, "list_files", json!({ "max": 2 })).await.unwrap();
    assert_eq!(
        listing,
        json!({
            "files": [
                { "path": "notes.md", "bytes": 19, "lines": 2 },
                { "path": "src/main.rs", "bytes": 31, "lines": 3 },
            ],
            "total_files": 3, "total_bytes": 56, "total_lines": 6, "truncated": true,
        })
    );
    let rust = call(&client, "list_files", json!({ "glob": "**/*.rs" })).await.unwrap();
    assert_eq!(rust["total_files"], 1);
}

#[tokio::test]
async fn search_shows_lines_and_counts_the_rest() {
    let dir = sample_tree();
    let client = connect(&dir.path().join("root")).await;
    let found = call(&client, "search", json!({ "pattern": "TODO", "max": 1 })).await.unwrap();
    assert_eq!(
        found,
        json!({
            "matches": [{ "path": "notes.md", "line": 1, "text": "one TODO" }],
            "total": 2, "files": 3, "truncated": true,
        })
    );
    let nowhere = call(&client, "search", json!({ "pattern": "TODO", "glob": "lib/**" })).await.unwrap();
    assert_eq!(nowhere, json!({ "matches": [], "total": 0, "files": 0, "truncated": false }));
    let why = call(&client, "search", json!({ "pattern": "(" })).await.unwrap_err();
    assert!(why.contains("unclosed group"), "{why}");
}

#[tokio::test]
async fn reading_and_counting() {
    let dir = sample_tree();
    let client = connect(&dir.path().join("root")).await;
    let counted = call(&client, "count", json!({ "path": "./src/../notes.md" })).await.unwrap();
    assert_eq!(counted, json!({ "path": "notes.md", "lines": 2, "words": 4, "bytes": 19 }));
    let read = call(&client, "read_text_file", json!({ "path": "notes.md", "max_bytes": 3 })).await.unwrap();
    assert_eq!(read, json!({ "path": "notes.md", "text": "one", "bytes": 19, "truncated": true }));
    let resource = client.read_resource(ReadResourceRequestParams::new("file:///src/my%20file.txt")).await.unwrap();
    assert!(
        matches!(&resource.contents[..], [ResourceContents::TextResourceContents { text, .. }] if text == "spaced")
    );
}

#[tokio::test]
async fn nothing_outside_of_the_root_is_read() {
    let dir = sample_tree();
    let client = connect(&dir.path().join("root")).await;
    for path in [
        "../secret.txt",
        "link.txt",
        "up/secret.txt",
        "/etc/hostname",
        "../none",
        ".git/config",
        "logo.png",
        "src",
        "none",
    ] {
        let why = call(&client, "read_text_file", json!({ "path": path })).await.unwrap_err();
        assert!(why.starts_with(path), "{why}");
        assert!(
            client.read_resource(ReadResourceRequestParams::new(format!("file:///{path}"))).await.is_err(),
            "{path}"
        );
    }
}
