//! A server that gives canned answers, in order, and keeps what it was asked.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use antiphon_models::ModelConfig;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

/// An answer to come.
pub struct Canned {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Kind,
}

enum Kind {
    Text(String),
    Hang,
    Endless,
}

impl Canned {
    pub fn raw(content_type: &str, body: &str) -> Self {
        let headers = vec![("content-type", content_type.to_owned())];
        Self { status: 200, headers, body: Kind::Text(body.to_owned()) }
    }

    pub fn json(status: u16, body: Value) -> Self {
        Self { status, ..Self::raw("application/json", &body.to_string()) }
    }

    /// A text, in pieces, and what it took: 100 tokens in, 10 out.
    pub fn stream(text: &str) -> Self {
        Self::ended(text, "stop")
    }

    /// The same, when `max_tokens` ended it.
    pub fn cut(text: &str) -> Self {
        Self::ended(text, "length")
    }

    fn ended(text: &str, finish: &str) -> Self {
        let pieces = text.split_inclusive(' ').map(|piece| json!({ "content": piece }));
        Self::deltas(pieces, finish)
    }

    /// These pieces, one an event.
    pub fn deltas(deltas: impl IntoIterator<Item = Value>, finish: &str) -> Self {
        let end = json!({ "delta": {}, "finish_reason": finish });
        let mut body: String = deltas
            .into_iter()
            .map(|delta| json!({ "delta": delta }))
            .chain([end])
            .map(|choice| format!("data: {}\n\n", json!({ "model": "canned-1", "choices": [choice] })))
            .collect();
        let usage = json!({ "prompt_tokens": 100, "completion_tokens": 10 });
        body.push_str(&format!("data: {}\n\ndata: [DONE]\n\n", json!({ "choices": [], "usage": usage })));
        Self::raw("text/event-stream", &body)
    }

    /// No answer at all.
    pub fn hang() -> Self {
        Self { body: Kind::Hang, ..Self::raw("", "") }
    }

    /// An answer that begins and does not end.
    pub fn endless() -> Self {
        Self { body: Kind::Endless, ..Self::raw("text/event-stream", "") }
    }

    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// What was asked.
#[derive(Clone)]
pub struct Asked {
    pub body: Value,
    pub authorization: Option<String>,
}

#[derive(Clone, Default)]
struct Shared {
    answers: Arc<Mutex<VecDeque<Canned>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    streaming: Arc<Notify>,
    disconnected: CancellationToken,
}

/// A server on the loopback; it stops when dropped.
pub struct Server {
    url: String,
    shared: Shared,
    _stop: DropGuard,
}

impl Server {
    pub async fn start(answers: impl IntoIterator<Item = Canned>) -> Self {
        let shared = Shared { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Shared::default() };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/", listener.local_addr().unwrap());
        let app = Router::new().route("/v1/chat/completions", post(answer)).with_state(shared.clone());
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(async { axum::serve(listener, app).await }));
        Self { url, shared, _stop: stop.drop_guard() }
    }

    pub fn config(&self) -> ModelConfig {
        ModelConfig::new("fast", &self.url, "canned")
    }

    pub fn requests(&self) -> usize {
        self.shared.asked.lock().unwrap().len()
    }

    pub fn request(&self, index: usize) -> Asked {
        self.shared.asked.lock().unwrap()[index].clone()
    }

    /// The last request's body.
    pub fn last(&self) -> Value {
        self.request(self.requests() - 1).body
    }

    /// Returns when an endless answer has begun.
    pub async fn streaming(&self) {
        self.shared.streaming.notified().await;
    }

    /// Returns when the reader of an endless answer has gone.
    pub async fn disconnected(&self) {
        self.shared.disconnected.cancelled().await;
    }
}

async fn answer(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let authorization = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    shared.asked.lock().unwrap().push(Asked { body: serde_json::from_slice(&body).unwrap(), authorization });
    let canned = shared.answers.lock().unwrap().pop_front();
    let Some(canned) = canned else { return StatusCode::IM_A_TEAPOT.into_response() };
    let body = match canned.body {
        Kind::Text(text) => Body::from(text),
        Kind::Hang => std::future::pending().await,
        Kind::Endless => {
            shared.streaming.notify_one();
            let first = r#"data: {"choices":[{"delta":{"content":"and "}}]}"#;
            let guard = shared.disconnected.drop_guard();
            let rest = futures::stream::once(async move {
                let _dropped_with_the_stream = guard;
                std::future::pending().await
            });
            let first = futures::stream::iter([Ok::<_, Infallible>(format!("{first}\n\n"))]);
            Body::from_stream(first.chain(rest))
        }
    };
    let mut response = Response::builder().status(canned.status);
    for (name, value) in canned.headers {
        response = response.header(name, value);
    }
    response.body(body).unwrap()
}
