//! The agent as a client sees it that is not Antiphon. What it does in a run is tested with its workflow, `crew`.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::TokioChildProcess;
use serde_json::json;
use tokio::process::Command;

#[tokio::test]
async fn it_says_what_it_needs() {
    let command = Command::new(env!("CARGO_BIN_EXE_antiphon-agent-example"));
    let client = ().serve(TokioChildProcess::new(command).unwrap()).await.unwrap();
    let arguments = json!({ "path": "README.md", "language": "French" });
    let call = CallToolRequestParams::new("translate").with_arguments(arguments.as_object().unwrap().clone());
    let result = client.call_tool(call).await.unwrap();
    assert_eq!(result.is_error, Some(true));
    let text = &result.content[0].as_text().unwrap().text;
    assert!(text.contains("ANTIPHON_MCP_TOKEN is not set"), "{text}");
    client.cancel().await.unwrap();
}
