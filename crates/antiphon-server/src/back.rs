//! The door for processes that were started as servers: models, and, as an MCP server at `/mcp`, what they were granted to call.
//!
//! Every request shows its token, so there are no sessions: whoever has lost the token has lost everything.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use http::StatusCode;
use http::header::WWW_AUTHENTICATE;
use http::request::Parts;
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, Implementation, JsonObject, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{RequestContext, RoleServer};
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, ServerHandler};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http::serve;
use crate::models::{ModelDoor, asker, router};
use crate::{MAX_MESSAGE_BYTES, outcome};

/// Where the MCP endpoint is.
const PATH: &str = "/mcp";

/// Whoever routes samples and calls, as the door sees it.
pub trait ToolDoor: ModelDoor {
    /// What the asker may call: objects of `name`, `description` and `input_schema`. The error is for people and models.
    fn tools(&self, asker: &Self::Asker) -> impl Future<Output = Result<Vec<Value>, String>> + Send;

    /// Calls a tool, for a `CallToolResult`. The error is for people and models; the future is dropped when the asker has gone.
    fn call(
        &self,
        asker: &Self::Asker,
        name: &str,
        arguments: JsonObject,
    ) -> impl Future<Output = Result<Value, String>> + Send;
}

/// Serves both endpoints on this listener, models below `/v1` and MCP at `/mcp`, until `stopping`.
///
/// # Errors
/// The listener's.
pub fn serve_back<D: ToolDoor>(
    listener: TcpListener,
    door: Arc<D>,
    stopping: CancellationToken,
) -> BoxFuture<'static, io::Result<()>> {
    // As a stream, a call that takes its time shows that it is still there.
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(false)
        .enforce_origin_validation()
        .with_max_request_body_bytes(MAX_MESSAGE_BYTES)
        .with_cancellation_token(stopping.child_token());
    let visited = Arc::clone(&door);
    let visit = move || Ok(Visit(Arc::clone(&visited)));
    let mcp = StreamableHttpService::new(visit, Arc::<NeverSessionManager>::default(), config);
    let gate = middleware::from_fn_with_state(Arc::clone(&door), pass::<D>);
    let app = router(door).merge(Router::new().route_service(PATH, mcp).layer(gate));
    serve(listener, app, stopping)
}

async fn pass<D: ToolDoor>(State(door): State<Arc<D>>, mut request: Request, next: Next) -> Response {
    let Some(asker) = asker(&*door, request.headers()) else {
        let why = "this endpoint wants `Authorization: Bearer TOKEN`, with a token of a server that is running";
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], why).into_response();
    };
    request.extensions_mut().insert(Arc::new(asker));
    next.run(request).await
}

/// One request.
struct Visit<D>(Arc<D>);

impl<D: ToolDoor> Visit<D> {
    fn asker(context: &RequestContext<RoleServer>) -> Result<Arc<D::Asker>, ErrorData> {
        let parts = context.extensions.get::<Parts>();
        let asker = parts.and_then(|parts| parts.extensions.get::<Arc<D::Asker>>()).cloned();
        asker.ok_or_else(|| ErrorData::internal_error("this request has no token", None))
    }
}

impl<D: ToolDoor> ServerHandler for Visit<D> {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("antiphon", env!("CARGO_PKG_VERSION")))
            .with_instructions("What you were granted to call, as a part of the call that you serve.")
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let asker = Self::asker(&context)?;
        let specs = self.0.tools(&asker).await.map_err(|why| ErrorData::internal_error(why, None))?;
        let mut list = ListToolsResult::with_all_items(specs.into_iter().filter_map(tool).collect());
        list.ttl_ms = Some(0);
        list.cache_scope = Some(CacheScope::Private);
        Ok(list)
    }

    async fn call_tool(
        &self,
        params: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let asker = Self::asker(&context)?;
        let arguments = params.arguments.unwrap_or_default();
        let result = match self.0.call(&asker, &params.name, arguments).await {
            Ok(mut result) => {
                let content = serde_json::from_value(result["content"].take());
                let content = content.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
                let structured = result.get_mut("structuredContent").map(Value::take);
                let mut told = CallToolResult::success(content);
                told.structured_content = structured;
                told
            }
            // Whoever asks is to read it: a model, most likely.
            Err(why) => outcome::failure(why),
        };
        Ok(result.into())
    }
}

fn tool(mut spec: Value) -> Option<Tool> {
    let name = spec["name"].as_str()?.to_owned();
    let description = spec["description"].as_str().unwrap_or_default().to_owned();
    match spec["input_schema"].take() {
        Value::Object(schema) => Some(Tool::new(name, description, Arc::new(schema))),
        _ => None,
    }
}
