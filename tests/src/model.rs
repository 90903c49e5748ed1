//! An OpenAI-compatible model server inside the test: it answers by a function of the test's, streams as they do, and records every
//! request. It does not think.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};

/// What the function makes of a request: the assistant's message.
type Answers = dyn Fn(&Value) -> Value + Send + Sync;

/// A scripted model; its server ends with the test's process.
pub struct Model {
    /// Its base URL.
    pub url: String,
    shared: Arc<Shared>,
}

struct Shared {
    answers: Box<Answers>,
    heard: Mutex<Vec<Value>>,
}

impl Model {
    /// Serves on a port of its own. The function is given the body of each request and yields the assistant's message:
    /// [`says`], or [`calls`].
    pub fn start(answers: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared { answers: Box::new(answers), heard: Mutex::default() });
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a listener");
        let url = format!("http://{}/v1", listener.local_addr().expect("a port"));
        let app = Router::new().route("/v1/chat/completions", post(complete)).with_state(shared.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                axum::serve(listener, app).await
            })
        });
        Self { url, shared }
    }

    /// Every request so far, in order.
    pub fn heard(&self) -> Vec<Value> {
        self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The model answers with a text.
pub fn says(text: &str) -> Value {
    json!({ "role": "assistant", "content": text })
}

/// The model calls tools: names and arguments.
pub fn calls(calls: &[(&str, Value)]) -> Value {
    let calls = calls.iter().enumerate().map(|(at, (name, arguments))| {
        json!({
            "id": format!("call-{name}-{at}"), "type": "function",
            "function": { "name": name, "arguments": arguments.to_string() },
        })
    });
    json!({ "role": "assistant", "content": null, "tool_calls": calls.collect::<Vec<_>>() })
}

/// The text of a request's system message.
pub fn system(request: &Value) -> &str {
    let first = &request["messages"][0];
    if first["role"] == "system" { first["content"].as_str().unwrap_or_default() } else { "" }
}

/// The text of a request's last message, whoever said it.
pub fn last(request: &Value) -> &str {
    let last = request["messages"].as_array().and_then(|messages| messages.last());
    last.and_then(|message| message["content"].as_str()).unwrap_or_default()
}

/// The texts of the results that a request tells, in order.
pub fn results(request: &Value) -> Vec<&str> {
    let messages = request["messages"].as_array().into_iter().flatten();
    let results = messages.filter(|message| message["role"] == "tool");
    results.map(|message| message["content"].as_str().unwrap_or_default()).collect()
}

/// The names of the tools that a request offers.
pub fn tools(request: &Value) -> Vec<&str> {
    let tools = request["tools"].as_array().into_iter().flatten();
    tools.filter_map(|tool| tool["function"]["name"].as_str()).collect()
}

async fn complete(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).expect("JSON");
    shared.heard.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
    // The function may wait for something: other requests are not to.
    let (answering, asked) = (shared.clone(), request.clone());
    let message = tokio::task::spawn_blocking(move || (answering.answers)(&asked)).await.expect("an answer");
    let finish = if message.get("tool_calls").is_some() { "tool_calls" } else { "stop" };
    let usage = json!({ "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 });
    let mut delta = message;
    for (index, call) in delta["tool_calls"].as_array_mut().into_iter().flatten().enumerate() {
        call["index"] = index.into();
    }
    let chunk = |choices: Value, usage: Value| {
        json!({
            "id": "scripted", "object": "chat.completion.chunk", "created": 0, "model": "scripted",
            "choices": choices, "usage": usage,
        })
    };
    assert_eq!(request["stream"], true, "answers are streamed");
    let events = [
        chunk(json!([{ "index": 0, "delta": delta, "finish_reason": null }]), Value::Null),
        chunk(json!([{ "index": 0, "delta": {}, "finish_reason": finish }]), Value::Null),
        chunk(json!([]), usage),
    ];
    let lines = events.into_iter().map(|event| format!("data: {event}\n\n")).chain(["data: [DONE]\n\n".to_owned()]);
    let body = Body::from_stream(futures::stream::iter(lines.map(Ok::<_, Infallible>)));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}
