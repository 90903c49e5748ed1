//! An OpenAI-compatible model server that follows a script. It does not think, and its answers say so.
//!
//! `model-server SCRIPT [--port PORT] [--log FILE]` prints its base URL on stdout, answers `POST /v1/chat/completions` and
//! `GET /v1/models`, logs each request as a JSON line, and stops by itself after `--lifetime` seconds. The script is a JSON
//! list of rules; the first whose `when` is in the last user message applies, and is used up after `times` requests:
//! ```json
//! [{ "when": "overloaded", "times": 2, "status": 429, "retry_after": 0 },
//!  { "when": "colour", "say": "{\"choice\": \"blue\"}" },
//!  { "say": "anything", "wait_ms": 50, "chunk_ms": 10, "garbage": false }]
//! ```

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Parser;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};

/// What the server calls its model.
const MODEL: &str = "scripted";

#[derive(Parser)]
struct Args {
    /// A file with the rules.
    script: PathBuf,
    /// A port of the loopback; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Append each request here.
    #[arg(long)]
    log: Option<PathBuf>,
    /// Stop after so many seconds.
    #[arg(long, default_value_t = 900)]
    lifetime: u64,
}

#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rule {
    /// Applies if this is in the last user message.
    when: String,
    /// How many requests it answers.
    times: u64,
    /// The HTTP status.
    status: u16,
    /// `Retry-After`, in seconds.
    retry_after: Option<u64>,
    /// The answer; without one, a sentence that says that it is scripted.
    say: Option<String>,
    /// Pause before the answer.
    wait_ms: u64,
    /// Pause before each word of a streamed answer.
    chunk_ms: u64,
    /// Answer with what is not JSON.
    garbage: bool,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            when: String::new(),
            times: u64::MAX,
            status: 200,
            retry_after: None,
            say: None,
            wait_ms: 0,
            chunk_ms: 0,
            garbage: false,
        }
    }
}

#[derive(Clone)]
struct Script {
    rules: Arc<Mutex<Vec<Rule>>>,
    log: Option<Arc<File>>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("model-server: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let rules = serde_json::from_slice(&std::fs::read(&args.script)?)?;
    let log = args.log.map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose()?;
    let script = Script { rules: Arc::new(Mutex::new(rules)), log: log.map(Arc::new) };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", args.port)).await?;
    announce(listener.local_addr()?);
    let app =
        Router::new().route("/v1/chat/completions", post(complete)).route("/v1/models", get(models)).with_state(script);
    tokio::select! {
        served = async { axum::serve(listener, app).await } => served?,
        () = tokio::time::sleep(Duration::from_secs(args.lifetime)) => {}
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "whoever started the server waits for this line")]
fn announce(address: std::net::SocketAddr) {
    println!("http://{address}/v1");
}

async fn models() -> Response {
    reply(StatusCode::OK, &json!({ "object": "list", "data": [{ "id": MODEL, "object": "model" }] }))
}

async fn complete(State(script): State<Script>, body: Bytes) -> Response {
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return refuse(StatusCode::BAD_REQUEST, "the body is not JSON");
    };
    if script.write(&request).is_err() {
        return refuse(StatusCode::INTERNAL_SERVER_ERROR, "the log can't be written");
    }
    let asked = last_user_message(&request);
    let Some(rule) = script.take(&asked) else {
        return refuse(StatusCode::BAD_REQUEST, "the script has no answer to that");
    };
    tokio::time::sleep(Duration::from_millis(rule.wait_ms)).await;
    let status = StatusCode::from_u16(rule.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if !status.is_success() {
        let mut response = refuse(status, "as scripted");
        if let Some(seconds) = rule.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        return response;
    }
    if rule.garbage {
        return (status, [(header::CONTENT_TYPE, "text/html")], "<html>not what you think</html>").into_response();
    }
    let said = rule.say.clone().unwrap_or_else(|| format!("A scripted answer to {} characters.", asked.len()));
    if request["stream"] == true { stream(&rule, &request, &said) } else { reply(status, &whole(&request, &said)) }
}

impl Script {
    /// The rule for a message, one use of it spent.
    fn take(&self, asked: &str) -> Option<Rule> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let rule = rules.iter_mut().find(|rule| rule.times > 0 && asked.contains(&rule.when))?;
        rule.times -= 1;
        Some(rule.clone())
    }

    fn write(&self, request: &Value) -> std::io::Result<()> {
        match &self.log {
            Some(log) => (&**log).write_all(format!("{request}\n").as_bytes()),
            None => Ok(()),
        }
    }
}

fn last_user_message(request: &Value) -> String {
    let mut messages = request["messages"].as_array().into_iter().flatten();
    let last = messages.rfind(|message| message["role"] == "user");
    last.and_then(|message| message["content"].as_str()).unwrap_or_default().to_owned()
}

/// Words for tokens.
fn usage(request: &Value, said: &str) -> Value {
    let messages = request["messages"].as_array().into_iter().flatten();
    let words = |text: &str| text.split_whitespace().count();
    let prompt: usize = messages.map(|message| words(message["content"].as_str().unwrap_or_default())).sum();
    json!({ "prompt_tokens": prompt, "completion_tokens": words(said), "total_tokens": prompt + words(said) })
}

fn whole(request: &Value, said: &str) -> Value {
    json!({
        "id": "scripted", "object": "chat.completion", "created": 0, "model": MODEL,
        "choices": [{
            "index": 0, "message": { "role": "assistant", "content": said }, "finish_reason": "stop",
        }],
        "usage": usage(request, said),
    })
}

/// The answer word by word, as server-sent events.
fn stream(rule: &Rule, request: &Value, said: &str) -> Response {
    let chunk = |delta: Value, finish: Value| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
        json!({ "id": "scripted", "object": "chat.completion.chunk", "created": 0, "model": MODEL, "choices": [choice] })
    };
    let mut events: Vec<Value> =
        said.split_inclusive(' ').map(|word| chunk(json!({ "content": word }), Value::Null)).collect();
    events.push(chunk(json!({}), "stop".into()));
    if request["stream_options"]["include_usage"] == true {
        events.push(json!({ "id": "scripted", "model": MODEL, "choices": [], "usage": usage(request, said) }));
    }
    let pause = Duration::from_millis(rule.chunk_ms);
    let lines = events.into_iter().map(|event| format!("data: {event}\n\n")).chain(["data: [DONE]\n\n".to_owned()]);
    let body = futures::stream::iter(lines).then(move |line| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, std::convert::Infallible>(line)
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(body)).into_response()
}

/// An integer `code`, as llama.cpp's server has it and OpenAI's has not.
fn refuse(status: StatusCode, message: &str) -> Response {
    reply(status, &json!({ "error": { "code": status.as_u16(), "message": message, "type": "scripted" } }))
}

fn reply(status: StatusCode, value: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}
