//! The contestant: what somebody would write with rmcp alone, and its three traps avoided (Nagle, no pool, 16 calls in flight).

use std::path::Path;

use futures::future::try_join_all;
use rmcp::RoleClient;
use rmcp::model::{CallToolRequestParams, CallToolResponse, ProtocolVersion};
use rmcp::service::{ClientLifecycleMode, RunningService, serve_client_with_lifecycle};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::Error;

/// A connection to the fixture.
pub struct Hand(RunningService<RoleClient, ()>);

impl Hand {
    /// To a child process.
    pub async fn stdio(program: &Path) -> Result<Self, Error> {
        let mut command = Command::new(program);
        command.arg("fixture");
        Ok(Self(serve_client_with_lifecycle((), TokioChildProcess::new(command)?, modern()).await?))
    }

    /// To a URL.
    pub async fn http(url: &str) -> Result<Self, Error> {
        let client = reqwest::Client::builder().tcp_nodelay(true).pool_max_idle_per_host(256).build()?;
        let config = StreamableHttpClientTransportConfig::with_uri(url).max_concurrent_requests(256);
        let transport = StreamableHttpClientTransport::with_client(client, config);
        Ok(Self(serve_client_with_lifecycle((), transport, modern()).await?))
    }

    /// One call; its structured content.
    pub async fn call(&self, tool: &'static str, arguments: Value) -> Result<Value, Error> {
        let Value::Object(arguments) = arguments else { return Err("arguments are an object".into()) };
        match self.0.call_tool_once(CallToolRequestParams::new(tool).with_arguments(arguments)).await? {
            CallToolResponse::Complete(result) => Ok(result.structured_content.unwrap_or_default()),
            other => Err(format!("not a result: {other:?}").into()),
        }
    }

    /// Calls one after another, each with the output of the one before.
    pub async fn chain(&self, tool: &'static str, steps: usize, value: &str) -> Result<(), Error> {
        let mut value = json!(value);
        for _ in 0..steps {
            value = self.call(tool, json!({ "value": value })).await?["value"].take();
        }
        Ok(())
    }

    /// Calls at the same time.
    pub async fn fan_out(&self, calls: u64, ms: u64) -> Result<(), Error> {
        try_join_all((0..calls).map(|item| self.call("sleep", json!({ "ms": ms, "value": item })))).await?;
        Ok(())
    }
}

fn modern() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
}
