//! The tool server that is called: `echo`, `note` and `sleep`, as cheap as rmcp lets a server be.
//!
//! The one that the tests use writes each call to the disk, which would be most of what is measured here.

use std::time::Duration;

use axum::serve::ListenerExt;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ErrorData, ListToolsResult, PaginatedRequestParams,
    ServerCapabilities, ServerConfig, Tool, ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::transport::io::stdio_pipes;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{RoleServer, ServerHandler, ServiceExt, object};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::Error;

#[derive(Clone)]
struct Fixture;

impl ServerHandler for Fixture {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tool = |name: &'static str, about: &'static str| Tool::new(name, about, object!({ "type": "object" }));
        let read_only = |tool: Tool| tool.annotate(ToolAnnotations::new().read_only(true));
        Ok(ListToolsResult::with_all_items(vec![
            read_only(tool("echo", "Gives its arguments back")),
            read_only(tool("sleep", "Waits `ms`, then gives its arguments back")),
            tool("note", "Gives its arguments back, and does not say what else it does"),
        ]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        if request.name == "sleep" {
            let ms = arguments.get("ms").and_then(Value::as_u64).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        Ok(CallToolResult::structured(Value::Object(arguments)).into())
    }
}

/// Serves until the other side closes the pipe.
pub async fn serve_stdio() -> Result<(), Error> {
    Fixture.serve(stdio_pipes()).await?.waiting().await?;
    Ok(())
}

/// Serves on a free port, says which on standard output, and stops when standard input closes.
#[expect(clippy::print_stdout, reason = "whoever has started it reads the URL there")]
pub async fn serve_http() -> Result<(), Error> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("http://{}/mcp", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let service = StreamableHttpService::new(
        || Ok(Fixture),
        LocalSessionManager::default().into(),
        StreamableHttpServerConfig::default(),
    );
    let app = axum::Router::new().nest_service("/mcp", service);
    let mut nothing = Vec::new();
    tokio::select! {
        served = async { axum::serve(listener, app).await } => served?,
        _ = async { tokio::io::stdin().read_to_end(&mut nothing).await } => {}
    }
    Ok(())
}
