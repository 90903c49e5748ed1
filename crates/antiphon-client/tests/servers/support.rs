//! What the tests share.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use antiphon_client::{
    Call, CallContext, Client, ClientError, Input, Limits, Outcome, Progress, ServerConfig, Transport, What,
};
use serde_json::{Map, Value, json};

/// The fixture server, misbehaving in this way.
pub fn fixture(mode: &str) -> ServerConfig {
    let transport = Transport::Stdio {
        command: env!("CARGO_BIN_EXE_antiphon-client-fixture").into(),
        args: vec![mode.into()],
        env: vec![("FIXTURE_TOKEN".into(), "s3cr3t-t0ken".into())],
        cwd: None,
    };
    let mut config = ServerConfig::new("fixture", transport);
    config.timeout = Duration::from_secs(20);
    config.limits = Limits { start: Duration::from_secs(20), probe: Duration::from_millis(300), ..Limits::default() };
    config
}

pub fn client(mode: &str) -> Client {
    Client::new(fixture(mode))
}

pub fn tool(name: &str, arguments: Value) -> Call {
    let Value::Object(arguments) = arguments else { panic!("arguments are a map") };
    Call { what: What::Tool { name: name.into(), arguments }, meta: Map::new(), input: None }
}

pub fn answered(mut call: Call, key: &str, answer: Value, state: Option<&str>) -> Call {
    call.input = Some(Input { responses: [(key.to_owned(), answer)].into(), state: state.map(str::to_owned) });
    call
}

pub async fn call(client: &Client, name: &str, arguments: Value) -> Result<Outcome, ClientError> {
    client.call(tool(name, arguments), &CallContext::detached()).await
}

/// The text of the one block of a result.
pub fn text(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Done(result) => result["content"][0]["text"].as_str().unwrap_or_default(),
        other => panic!("not done: {other:?}"),
    }
}

pub async fn echo(client: &Client, said: &str) -> String {
    match call(client, "echo", json!({ "text": said })).await {
        Ok(outcome) => text(&outcome).to_owned(),
        Err(error) => panic!("{error}"),
    }
}

/// What was seen, in order.
pub type Seen<T> = Arc<Mutex<Vec<T>>>;

/// A context that keeps the progress that it is told.
pub fn watched() -> (CallContext, Seen<Progress>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    let mut cx = CallContext::detached();
    cx.progress = Arc::new(move |progress| keep.lock().map(|mut seen| seen.push(progress)).unwrap_or_default());
    (cx, seen)
}

/// A context whose questions are all answered with `red`, and that keeps them.
pub fn answering(run: &str) -> (CallContext, Seen<(String, Value)>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    let mut cx = CallContext::detached();
    cx.run = Some(run.into());
    cx.ask = Arc::new(move |name, request| {
        keep.lock().map(|mut seen| seen.push((name, request))).unwrap_or_default();
        Box::pin(async { Ok(json!({ "action": "accept", "content": { "colour": "red" } })) })
    });
    (cx, seen)
}
