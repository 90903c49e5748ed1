//! The HTTP endpoint on the loopback.

use antiphon_server::{HttpOptions, Token};
use futures::StreamExt;
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::support::{Fixture, LEGACY, MODERN, modern, tasks};

struct Web {
    fixture: Fixture,
    client: Client,
    url: String,
}

impl Web {
    async fn new(options: HttpOptions) -> Self {
        Self::serving(options).await.0
    }

    async fn serving(options: HttpOptions) -> (Self, JoinHandle<std::io::Result<()>>) {
        // The second of two tests in one process finds it installed.
        let _ = rustls_graviola::default_provider().install_default();
        let fixture = Fixture::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let server = fixture.server.clone();
        let serving = tokio::spawn(async move { server.serve_http(listener, options).await });
        (Self { fixture, client: Client::new(), url }, serving)
    }

    fn post(&self, body: &Value) -> RequestBuilder {
        self.client
            .post(&self.url)
            .header("accept", "application/json, text/event-stream")
            .header("content-type", "application/json")
            .body(body.to_string())
    }

    /// A modern request with the headers that it must have.
    fn modern(&self, method: &str, params: Value, capabilities: &Value) -> RequestBuilder {
        let name = params.get("name").or(params.get("taskId")).and_then(Value::as_str).unwrap_or_default().to_owned();
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": modern(params, capabilities) });
        let request = self.post(&body).header("mcp-protocol-version", MODERN).header("mcp-method", method);
        if name.is_empty() { request } else { request.header("mcp-name", name) }
    }

    async fn initialize(&self, capabilities: Value, token: Option<&str>) -> String {
        let client = json!({ "name": "raw", "version": "1" });
        let params = json!({ "protocolVersion": LEGACY, "capabilities": capabilities, "clientInfo": client });
        let mut request = self.post(&json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params }));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let session = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        response.bytes().await.unwrap();
        session
    }

    fn legacy(&self, session: &str, body: &Value) -> RequestBuilder {
        self.post(body).header("mcp-session-id", session).header("mcp-protocol-version", LEGACY)
    }
}

async fn json_of(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    let body = response.text().await.unwrap();
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

/// Messages of an event stream, one by one.
struct Events {
    stream: futures::stream::BoxStream<'static, reqwest::Result<axum::body::Bytes>>,
    text: String,
}

impl Events {
    fn new(response: Response) -> Self {
        Self { stream: response.bytes_stream().boxed(), text: String::new() }
    }

    async fn next(&mut self) -> Value {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let message =
                    event.lines().find_map(|line| line.strip_prefix("data:")).map(str::trim).map(str::to_owned);
                self.text = rest.to_owned();
                if let Some(message) = message.filter(|message| !message.is_empty()) {
                    return serde_json::from_str(&message).unwrap();
                }
            }
            let chunk = self.stream.next().await.expect("another event").unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test]
async fn a_modern_caller_is_served_statelessly_in_plain_json() {
    let web = Web::new(HttpOptions::default()).await;
    let call = json!({ "name": "echo", "arguments": { "text": "hi" } });
    let response = web.modern("tools/call", call, &json!({})).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(body["result"]["structuredContent"], json!({ "text": "hi" }));

    let (_, created) = json_of(web.modern("tools/call", json!({ "name": "slow" }), &tasks())).await;
    let id = created["result"]["taskId"].clone();
    web.fixture.engine.finish(&antiphon_engine::RunId(id.as_str().unwrap().into()), json!({ "built": true }));
    let (_, task) = json_of(web.modern("tasks/get", json!({ "taskId": id }), &tasks())).await;
    assert_eq!(task["result"]["result"]["structuredContent"], json!({ "built": true }));
}

#[tokio::test]
async fn statuses_are_the_protocols() {
    let web = Web::new(HttpOptions::default()).await;
    let (status, body) = json_of(web.modern("tasks/get", json!({ "taskId": "x" }), &json!({}))).await;
    assert_eq!((status, body["error"]["code"].as_i64()), (StatusCode::BAD_REQUEST, Some(-32021)));
    let (status, body) = json_of(web.modern("tools/call", json!({ "name": "nope" }), &json!({}))).await;
    assert_eq!((status, body["error"]["code"].as_i64()), (StatusCode::OK, Some(-32602)));
    let (status, body) = json_of(web.modern("antiphon/runs", json!({}), &json!({}))).await;
    assert_eq!((status, body["error"]["code"].as_i64()), (StatusCode::NOT_FOUND, Some(-32601)));
    let (status, _) = json_of(web.client.get(web.url.replace("/mcp", "/other"))).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_modern_caller_that_hangs_up_cancels_its_run() {
    let web = Web::new(HttpOptions::default()).await;
    let call = tokio::spawn(web.modern("tools/call", json!({ "name": "slow" }), &json!({})).send());
    web.fixture.engine.until(|engine| engine.count() == 1).await;
    call.abort();
    web.fixture.engine.until(|engine| !engine.cancel_reasons().is_empty()).await;
}

#[tokio::test]
async fn a_legacy_caller_is_asked_on_the_stream_of_its_call() {
    let web = Web::new(HttpOptions::default()).await;
    let session = web.initialize(json!({ "elicitation": {} }), None).await;
    let params = json!({ "name": "approve", "arguments": {} });
    let call = json!({ "jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": params });
    let mut events = Events::new(web.legacy(&session, &call).send().await.unwrap());
    let asked = events.next().await;
    assert_eq!(asked["method"], "elicitation/create");
    let answer = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "action": "accept", "content": {} } });
    assert_eq!(web.legacy(&session, &answer).send().await.unwrap().status(), StatusCode::ACCEPTED);
    let response = events.next().await;
    assert_eq!((&response["id"], &response["result"]["structuredContent"]["action"]), (&json!(5), &json!("accept")));
}

#[tokio::test]
async fn foreign_hosts_and_origins_are_refused() {
    let web = Web::new(HttpOptions::default()).await;
    let list = || web.modern("tools/list", json!({}), &json!({}));
    let origin = |origin: &str| list().header("origin", origin);
    assert_eq!(json_of(origin("https://evil.example")).await.0, StatusCode::FORBIDDEN);
    assert_eq!(json_of(origin("null")).await.0, StatusCode::FORBIDDEN);
    assert_eq!(json_of(origin("http://localhost:5173")).await.0, StatusCode::OK);
    assert_eq!(json_of(list().header("host", "evil.example")).await.0, StatusCode::FORBIDDEN);
    assert_eq!(json_of(list()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn tokens_are_owners() {
    let tokens = vec![Token::new("ci", "s3cret"), Token::new("eve", "other")];
    let web = Web::new(HttpOptions { tokens, ..HttpOptions::default() }).await;
    let start = || web.modern("tools/call", json!({ "name": "slow" }), &tasks());
    for refused in [start(), start().bearer_auth("wrong")] {
        let response = refused.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
    }
    let (_, created) = json_of(start().bearer_auth("s3cret")).await;
    let get = || web.modern("tasks/get", json!({ "taskId": created["result"]["taskId"] }), &tasks());
    assert_eq!(json_of(get().bearer_auth("s3cret")).await.1["result"]["status"], "working");
    assert_eq!(json_of(get().bearer_auth("other")).await.1["error"]["code"], -32602);
}

#[tokio::test]
async fn a_session_is_its_owners() {
    let tokens = vec![Token::new("ci", "s3cret"), Token::new("eve", "other")];
    let web = Web::new(HttpOptions { tokens, ..HttpOptions::default() }).await;
    let session = web.initialize(json!({}), Some("s3cret")).await;
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    let status_of = async |token: &str| web.legacy(&session, &ping).bearer_auth(token).send().await.unwrap().status();
    assert_eq!(status_of("other").await, StatusCode::NOT_FOUND);
    assert_eq!(status_of("s3cret").await, StatusCode::OK);
}

#[tokio::test]
async fn a_forgotten_task_name_is_read_from_the_body_unless_strict() {
    for (strict, expected) in [(false, StatusCode::OK), (true, StatusCode::BAD_REQUEST)] {
        let web = Web::new(HttpOptions { strict, ..HttpOptions::default() }).await;
        let (_, created) = json_of(web.modern("tools/call", json!({ "name": "slow" }), &tasks())).await;
        let params = modern(json!({ "taskId": created["result"]["taskId"] }), &tasks());
        let body = json!({ "jsonrpc": "2.0", "id": 2, "method": "tasks/get", "params": params });
        let request = web.post(&body).header("mcp-protocol-version", MODERN).header("mcp-method", "tasks/get");
        assert_eq!(request.send().await.unwrap().status(), expected, "strict: {strict}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_gets_a_readable_refusal() {
    let web = Web::new(HttpOptions::default()).await;
    let long = "x".repeat(20 * 1024 * 1024);
    let call = json!({ "name": "echo", "arguments": { "text": long } });
    let (status, body) = json_of(web.modern("tools/call", call, &json!({}))).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("at most 4194304 are taken"), "{message}");
    let (status, _) = json_of(web.modern("tools/list", json!({}), &json!({}))).await;
    assert_eq!(status, StatusCode::OK, "and the server goes on");
}

#[tokio::test]
async fn a_body_that_is_no_message_is_refused_as_json_rpc_does_it() {
    let web = Web::new(HttpOptions::default()).await;
    for (body, id, code) in [
        ("", Value::Null, -32700),
        ("{ not json", Value::Null, -32700),
        (r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"\ud800"}}"#, json!(5), -32700),
        ("[]", Value::Null, -32600),
        ("42", Value::Null, -32600),
        (r#"{"id":3}"#, Value::Null, -32600),
        (r#"{"jsonrpc":"2.0","id":6,"method":"tools/call","params":[]}"#, json!(6), -32600),
    ] {
        let (status, answer) = json_of(web.post(&json!({})).body(body)).await;
        assert_eq!((status, &answer["id"], &answer["error"]["code"]), (StatusCode::BAD_REQUEST, &id, &json!(code)));
    }
    let (status, _) = json_of(web.modern("tools/list", json!({}), &json!({}))).await;
    assert_eq!(status, StatusCode::OK, "and the server goes on");
}

#[tokio::test]
async fn stopping_ends_what_is_open_and_cancels_nothing() {
    let (web, serving) = Web::serving(HttpOptions::default()).await;
    web.initialize(json!({}), None).await;
    let call = tokio::spawn(web.modern("tools/call", json!({ "name": "slow" }), &json!({})).send());
    web.fixture.engine.until(|engine| engine.count() == 1).await;
    web.fixture.server.stop();
    serving.await.unwrap().unwrap();
    assert!(!call.await.unwrap().unwrap().status().is_success());
    assert!(web.fixture.engine.cancel_reasons().is_empty());
}
