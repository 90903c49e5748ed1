//! The contestants: a client and a proxy as somebody would write them with rmcp alone, its three traps avoided (Nagle, no pool,
//! 16 calls in flight).

use std::sync::Arc;

use futures::future::try_join_all;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, ErrorData, ListToolsResult, PaginatedRequestParams, ServerCapabilities,
    ServerConfig,
};
use rmcp::service::{ClientLifecycleMode, RequestContext, RunningService, ServiceError, serve_client_with_lifecycle};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{RoleClient, RoleServer, ServerHandler};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{Era, Error};

/// A connection to the fixture.
pub struct Hand(RunningService<RoleClient, ()>);

impl Hand {
    /// To a child process.
    pub async fn stdio(command: Command, era: Era) -> Result<Self, Error> {
        Ok(Self(serve_client_with_lifecycle((), TokioChildProcess::new(command)?, greeting(era)).await?))
    }

    /// To a URL.
    pub async fn http(url: &str, era: Era) -> Result<Self, Error> {
        let client = reqwest::Client::builder().tcp_nodelay(true).pool_max_idle_per_host(256).build()?;
        let config = StreamableHttpClientTransportConfig::with_uri(url).max_concurrent_requests(256);
        let transport = StreamableHttpClientTransport::with_client(client, config);
        Ok(Self(serve_client_with_lifecycle((), transport, greeting(era)).await?))
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

fn greeting(era: Era) -> ClientLifecycleMode {
    match era {
        Era::Legacy => ClientLifecycleMode::Initialize,
        Era::Modern => ClientLifecycleMode::Discover { preferred_versions: vec![era.version()] },
    }
}

/// A proxy of one server: everybody's calls go over one connection.
#[derive(Clone)]
pub struct Proxy(Arc<Hand>);

impl Proxy {
    /// In front of what this leads to.
    pub fn new(server: Hand) -> Self {
        Self(Arc::new(server))
    }
}

impl ServerHandler for Proxy {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        self.0.0.list_tools(request).await.map_err(passed)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.0.0.call_tool_once(request).await.map_err(passed)
    }
}

fn passed(error: ServiceError) -> ErrorData {
    match error {
        ServiceError::McpError(error) => error,
        error => ErrorData::internal_error(error.to_string(), None),
    }
}
