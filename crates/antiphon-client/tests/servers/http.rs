//! Servers over streamable HTTP: rmcp's own, of both eras, and one that misbehaves in raw HTTP.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once};

use antiphon_client::{CallContext, Client, Consent, Era, ErrorKind, Outcome, ServerConfig, Session, State, Transport};
use axum::extract::{Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorCode, ErrorData, GetTaskParams,
    GetTaskResult, ListToolsResult, PaginatedRequestParams, ProtocolVersion, ServerCapabilities,
    ServerConfig as ServerInfo,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{RoleServer, ServerHandler};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Barrier, Notify};

use crate::support::*;

/// How many calls must be under way at once for `gather` to answer any of them.
const CROWD: usize = 100;

#[derive(Clone)]
struct Good {
    versions: &'static [ProtocolVersion],
    crowd: Arc<Barrier>,
    abandoned: Arc<Notify>,
}

fn typed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

fn said(text: impl Into<String>) -> CallToolResponse {
    CallToolResult::success(vec![ContentBlock::text(text)]).into()
}

impl ServerHandler for Good {
    fn get_info(&self) -> ServerInfo {
        ServerInfo::new(ServerCapabilities::builder().enable_tools().enable_tasks().build())
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        self.versions.into()
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        typed(json!({
            "tools": [{
                "name": "routed",
                "inputSchema": {
                    "type": "object", "properties": { "region": { "type": "string", "x-mcp-header": "Region" } },
                },
            }],
        }))
    }

    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(call.arguments.unwrap_or_default());
        match call.name.as_ref() {
            "echo" => Ok(said(arguments["text"].as_str().unwrap_or_default())),
            "gather" => {
                self.crowd.wait().await;
                Ok(said("all here"))
            }
            "routed" => {
                let parts = context.extensions.get::<axum::http::request::Parts>();
                match parts.and_then(|parts| parts.headers.get("mcp-param-region")?.to_str().ok()) {
                    Some(region) => Ok(said(region)),
                    None => Err(ErrorData::new(ErrorCode::HEADER_MISMATCH, "Mcp-Param-Region is missing", None)),
                }
            }
            "abandon" => {
                context.ct.cancelled().await;
                self.abandoned.notify_one();
                Ok(said("too late"))
            }
            "ask" => {
                let request = json!({
                    "mode": "form", "message": "Which colour?",
                    "requestedSchema": { "type": "object", "properties": { "colour": { "type": "string" } } },
                });
                let answer = context.peer.create_elicitation(typed(request)?).await;
                Ok(said(format!("{:?}", answer.map(|answer| answer.content))))
            }
            "job" => typed::<rmcp::model::CreateTaskResult>(json!({
                "resultType": "task", "taskId": "t-1", "status": "working", "createdAt": "2026-01-01T00:00:00Z",
                "lastUpdatedAt": "2026-01-01T00:00:00Z", "ttlMs": null, "pollIntervalMs": 50,
            }))
            .map(Into::into),
            name => Err(ErrorData::invalid_params(format!("no tool {name}"), None)),
        }
    }

    async fn get_task(
        &self,
        params: GetTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        typed(json!({
            "resultType": "complete", "taskId": params.task_id, "status": "completed",
            "createdAt": "2026-01-01T00:00:00Z", "lastUpdatedAt": "2026-01-01T00:00:00Z", "ttlMs": null,
            "result": { "content": [{ "type": "text", "text": "job done" }] },
        }))
    }
}

/// Serves on loopback until the test ends; the URL.
async fn serve(app: axum::Router) -> String {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| rustls_graviola::default_provider().install_default().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

async fn good(versions: &'static [ProtocolVersion]) -> (ServerConfig, Good) {
    let server = Good { versions, crowd: Arc::new(Barrier::new(CROWD)), abandoned: Arc::new(Notify::new()) };
    let handler = server.clone();
    let service = StreamableHttpService::new(
        move || Ok(handler.clone()),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    (at(serve(axum::Router::new().nest_service("/mcp", service)).await), server)
}

fn at(url: String) -> ServerConfig {
    let mut config = fixture("");
    config.transport = Transport::Http { url, headers: Vec::new(), auth: None };
    config
}

const MODERN: &[ProtocolVersion] = &[ProtocolVersion::V_2026_07_28];
const LEGACY: &[ProtocolVersion] = &[ProtocolVersion::V_2025_06_18, ProtocolVersion::V_2025_11_25];

#[tokio::test]
async fn servers_of_both_eras() {
    for (versions, era) in [(MODERN, Era::Modern), (LEGACY, Era::Legacy)] {
        let (config, _) = good(versions).await;
        let client = Client::new(config);
        assert_eq!(echo(&client, "hello").await, "hello");
        assert!(matches!(client.state(), State::Ready(found) if found == era));
        let error = call(&client, "missing", json!({})).await.unwrap_err();
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::Rpc, false));
        assert_eq!(error.to_string(), "server `fixture` answered with error -32602: no tool missing");
        client.shutdown().await;
    }
}

#[tokio::test]
async fn a_hundred_calls_are_under_way_at_once() {
    for versions in [MODERN, LEGACY] {
        let (config, _) = good(versions).await;
        let client = Client::new(config);
        let calls = (0..CROWD).map(|_| call(&client, "gather", json!({})));
        for outcome in futures::future::join_all(calls).await {
            assert_eq!(text(&outcome.unwrap()), "all here");
        }
        client.shutdown().await;
    }
}

#[tokio::test]
async fn annotated_arguments_are_mirrored_in_headers() {
    for listed in [true, false] {
        let (config, _) = good(MODERN).await;
        let client = Client::new(config);
        if listed {
            client.tools(&CallContext::detached()).await.unwrap();
        }
        // A run that goes on after a crash calls without having seen the list: the server's refusal makes up for it.
        let outcome = call(&client, "routed", json!({ "region": "eu-1" })).await.unwrap();
        assert_eq!(text(&outcome), "eu-1");
        let error = call(&client, "routed", json!({})).await.unwrap_err();
        assert_eq!((error.kind, error.in_doubt, error.code()), (ErrorKind::Rpc, false, Some(-32020)));
        client.shutdown().await;
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled_at_the_server() {
    for versions in [MODERN, LEGACY] {
        let (config, server) = good(versions).await;
        let client = Client::new(config);
        echo(&client, "up").await;
        tokio::select! {
            _ = call(&client, "abandon", json!({})) => unreachable!(),
            _ = async {
                for _ in 0..20 {
                    echo(&client, "meanwhile").await;
                }
            } => {}
        }
        server.abandoned.notified().await;
        client.shutdown().await;
    }
}

#[tokio::test]
async fn a_pushed_question_finds_its_call_by_its_stream() {
    let (mut config, _) = good(LEGACY).await;
    config.elicitation = Consent::Allow;
    config.session = Some(Session::Shared);
    let client = Client::new(config);
    let (one, asked) = answering("run-1");
    let (two, not_asked) = answering("run-2");
    let outcome = tokio::select! {
        _ = client.call(tool("abandon", json!({})), &two) => unreachable!(),
        outcome = async {
            echo(&client, "the other call is under way").await;
            client.call(tool("ask", json!({})), &one).await
        } => outcome.unwrap(),
    };
    assert!(text(&outcome).contains("red"), "{outcome:?}");
    assert_eq!((asked.lock().unwrap().len(), not_asked.lock().unwrap().len()), (1, 0));
}

#[tokio::test]
async fn a_task_is_polled_with_the_headers_that_its_server_demands() {
    let (config, _) = good(MODERN).await;
    let client = Client::new(config);
    let Outcome::Detached(task) = call(&client, "job", json!({})).await.unwrap() else { panic!("not a task") };
    let outcome = client.attach(&task, BTreeMap::new(), &CallContext::detached()).await.unwrap();
    assert_eq!(text(&outcome), "job done");
    client.shutdown().await;
}

#[tokio::test]
async fn nobody_listens() {
    let url = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/mcp", listener.local_addr().unwrap())
    };
    serve(axum::Router::new()).await;
    let error = call(&Client::new(at(url)), "echo", json!({})).await.unwrap_err();
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Unavailable, false));
    assert!(error.to_string().starts_with("server `fixture` did not start: it can't be reached:"), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn addresses_that_make_no_sense() {
    serve(axum::Router::new()).await;
    for (url, account) in [("not a url", "which is not one"), ("ftp://localhost/mcp", "only http and https")] {
        let error = call(&Client::new(at(url.into())), "echo", json!({})).await.unwrap_err();
        assert!(error.to_string().contains(account), "{error}");
    }
}

/// A legacy server in raw HTTP. What a tool does is what its name says.
#[derive(Default)]
struct Bad {
    sessions: AtomicU32,
    deliveries: AtomicU32,
}

async fn misbehave(Shared(bad): Shared<Arc<Bad>>, request: Request) -> Response {
    if request.headers().get("x-key").is_none_or(|key| key != "s3cr3t-t0ken") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let session = request.headers().get("mcp-session-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let current = bad.sessions.load(Ordering::SeqCst);
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
    let Ok(message) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    };
    let json = |body: String| ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    let events = |body: String| ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response();
    let result = |result: Value| json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }).to_string();
    let answer = result(json!({ "content": [{ "type": "text", "text": format!("session {current}") }] }));
    match message["method"].as_str().unwrap_or_default() {
        "server/discover" => StatusCode::BAD_REQUEST.into_response(),
        "initialize" => {
            let id = bad.sessions.fetch_add(1, Ordering::SeqCst) + 1;
            let mut response = json(result(json!({
                "protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": { "name": "bad", "version": "1" },
            })));
            response.headers_mut().insert("mcp-session-id", id.into());
            response
        }
        "tools/call" if session != Some(current) => StatusCode::NOT_FOUND.into_response(),
        "tools/call" => match message["params"]["name"].as_str().unwrap_or_default() {
            "fine" => json(answer),
            "expire" => {
                bad.sessions.fetch_add(1, Ordering::SeqCst);
                json(answer)
            }
            "html" => ([(header::CONTENT_TYPE, "text/html")], "<h1>Welcome</h1>").into_response(),
            "cut" => json(answer[..answer.len() / 2].to_owned()),
            "cut_event" => events(format!("data: {}\n\n", &answer[..answer.len() / 2])),
            "huge" => json(result(json!({ "content": [{ "type": "text", "text": "x".repeat(17 << 20) }] }))),
            "huge_event" => events(format!("data: {}\n\n", "x".repeat(17 << 20))),
            "no_event" => events(": nothing more to say\n\n".into()),
            "overload" => StatusCode::TOO_MANY_REQUESTS.into_response(),
            "crash" => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            "forbid" => StatusCode::FORBIDDEN.into_response(),
            "count" => {
                bad.deliveries.fetch_add(1, Ordering::SeqCst);
                events(String::new())
            }
            _ => StatusCode::NOT_IMPLEMENTED.into_response(),
        },
        _ => StatusCode::ACCEPTED.into_response(),
    }
}

async fn bad() -> (ServerConfig, Arc<Bad>) {
    let bad = Arc::new(Bad::default());
    let app = axum::Router::new().fallback(misbehave).with_state(Arc::clone(&bad));
    let mut config = at(serve(app).await);
    if let Transport::Http { headers, .. } = &mut config.transport {
        headers.push(("X-Key".into(), "s3cr3t-t0ken".into()));
    }
    (config, bad)
}

#[tokio::test]
async fn an_expired_session_is_made_anew() {
    let (config, _) = bad().await;
    let client = Client::new(config);
    assert_eq!(text(&call(&client, "fine", json!({})).await.unwrap()), "session 1");
    call(&client, "expire", json!({})).await.unwrap();
    assert_eq!(text(&call(&client, "fine", json!({})).await.unwrap()), "session 3");
}

#[tokio::test]
async fn what_bad_answers_mean() {
    let (config, _) = bad().await;
    let client = Client::new(config);
    use ErrorKind::{Denied, InvalidOutput, Unavailable};
    for (name, kind, in_doubt) in [
        ("html", InvalidOutput, true),
        ("cut", InvalidOutput, true),
        ("cut_event", InvalidOutput, true),
        ("huge", InvalidOutput, true),
        ("huge_event", InvalidOutput, true),
        ("no_event", Unavailable, true),
        ("crash", Unavailable, true),
        ("overload", Unavailable, false),
        ("forbid", Denied, false),
    ] {
        let error = call(&client, name, json!({})).await.unwrap_err();
        assert_eq!((error.kind, error.in_doubt), (kind, in_doubt), "{name}: {error}");
        assert!(error.to_string().len() < 1_000, "{name}");
        assert!(call(&client, "fine", json!({})).await.is_ok(), "after {name}");
    }
}

#[tokio::test]
async fn a_lost_answer_is_not_asked_for_by_calling_again() {
    let (config, server) = bad().await;
    let client = Client::new(config);
    let error = call(&client, "count", json!({})).await.unwrap_err();
    assert!(error.in_doubt);
    assert_eq!(server.deliveries.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn wrong_credentials_are_named_and_not_shown() {
    let (mut config, _) = bad().await;
    if let Transport::Http { headers, .. } = &mut config.transport {
        *headers = vec![("X-Key".into(), "wr0ng-t0ken".into())];
    }
    let error = call(&Client::new(config), "fine", json!({})).await.unwrap_err();
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Denied, false));
    assert!(error.to_string().contains("check its `headers`") && !error.to_string().contains("wr0ng"), "{error}");
}
