//! The tool server that is called: `echo`, `note`, `sleep` and `big`, as cheap as rmcp lets a server be.
//!
//! The one that the tests use writes each call to the disk, which would be most of what is measured here.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, DiscoverRequestMethod, DiscoverResult,
    ErrorData, ListToolsResult, PaginatedRequestParams, ProtocolVersion, ServerCapabilities, ServerConfig, Tool,
    ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::transport::io::stdio_pipes;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{RoleServer, ServerHandler, ServiceExt, object};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::{Era, Error};

/// How long the text of `big` is, in bytes.
pub const BIG: usize = 1_000_000;

/// The server.
#[derive(Clone)]
pub struct Fixture {
    era: Era,
    big: Arc<str>,
}

impl Fixture {
    /// One that speaks no later era than this.
    pub fn new(era: Era) -> Self {
        // Lines and quotes, as in a log or a JSON file: a proxy has to escape them again.
        let line = "{\"level\":\"info\",\"message\":\"one of many lines that a tool may give back\"}\n";
        Self { era, big: line.repeat(BIG / line.len() + 1)[..BIG].into() }
    }
}

impl ServerHandler for Fixture {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(ProtocolVersion::known_up_to(&self.era.version()))
    }

    async fn discover(&self, _context: RequestContext<RoleServer>) -> Result<DiscoverResult, ErrorData> {
        if self.era == Era::Legacy {
            return Err(ErrorData::method_not_found::<DiscoverRequestMethod>());
        }
        Ok(DiscoverResult::from_server_info(self.supported_protocol_versions().into_owned(), self.get_info()))
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
            read_only(tool("big", "Gives a megabyte of text")),
        ]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        if request.name == "big" {
            return Ok(CallToolResult::success(vec![ContentBlock::text(&*self.big)]).into());
        }
        if request.name == "sleep" {
            let ms = arguments.get("ms").and_then(Value::as_u64).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        Ok(CallToolResult::structured(Value::Object(arguments)).into())
    }
}

/// Serves until the other side closes the pipe.
pub async fn serve_stdio(handler: impl ServerHandler) -> Result<(), Error> {
    handler.serve(stdio_pipes()).await?.waiting().await?;
    Ok(())
}

/// Serves on a free port, says which on standard error, and stops when standard input closes.
pub async fn serve_http(handler: impl ServerHandler + Clone) -> Result<(), Error> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    eprintln!("listening on http://{}/mcp", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let service = StreamableHttpService::new(
        move || Ok(handler.clone()),
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
