//! The router as the engine sees it, with a real server on loopback.
#![expect(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, Once};

use antiphon_engine::{CallContext, CallFailure, CallOutcome, Effects, Owner, RunId, RunInfo};
use antiphon_kernel::{Action, Answer, CallSpec, EffectClass, Entry, ErrorKind, Record, ValueRef, What};
use antiphon_models::{Model, ModelError, ModelErrorKind, Models, SampleAnswer, SampleContext, SampleRequest, Usage};
use antiphon_router::{Consent, Router, ServerConfig, State, Transport};
use async_trait::async_trait;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A modern server in a few lines of raw HTTP.
async fn answer(body: String) -> Response {
    let message: Value = serde_json::from_str(&body).unwrap();
    let params = &message["params"];
    let result = match message["method"].as_str().unwrap_or_default() {
        "server/discover" => json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "ttlMs": 0, "cacheScope": "private",
            "capabilities": { "tools": {}, "extensions": { "io.modelcontextprotocol/tasks": {} } },
        }),
        "tools/list" => {
            let tool = |name: &str, hints: Value| json!({ "name": name, "inputSchema": { "type": "object" }, "annotations": hints });
            json!({
                "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
                "tools": [
                    tool("search", json!({ "readOnlyHint": true })),
                    tool("store", json!({ "idempotentHint": true })),
                    tool("send_mail", json!({})),
                    tool("drop_table", json!({})),
                ],
            })
        }
        "tools/call" => match params["name"].as_str().unwrap_or_default() {
            "search" => json!({
                "resultType": "complete", "content": [{ "type": "text", "text": "two hits" }],
                "structuredContent": { "hits": 2, "echo": params["arguments"] },
            }),
            "store" => json!({
                "resultType": "complete", "isError": true,
                "content": [{ "type": "text", "text": "the disk is full" }],
            }),
            _ if params["inputResponses"].is_object() => {
                let heard = json!([
                    params["inputResponses"],
                    params["requestState"],
                    params["_meta"]["antiphon/idempotency-key"]
                ]);
                json!({ "resultType": "complete", "content": [{ "type": "text", "text": heard.to_string() }] })
            }
            _ => json!({
                "resultType": "input_required", "requestState": "sealed",
                "inputRequests": { "sure": { "method": "elicitation/create", "params": { "message": "Sure?" } } },
            }),
        },
        "resources/read" => json!({
            "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
            "contents": [{ "uri": params["uri"], "text": "a note" }],
        }),
        _ => return StatusCode::ACCEPTED.into_response(),
    };
    let body = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }).to_string();
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn server(name: &str) -> ServerConfig {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| rustls_graviola::default_provider().install_default().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
    ServerConfig::new(name, Transport::Http { url, headers: Vec::new(), auth: None })
}

fn broken(name: &str) -> ServerConfig {
    let command = "no-such-command".into();
    ServerConfig::new(name, Transport::Stdio { command, args: Vec::new(), env: Vec::new(), cwd: None })
}

async fn router() -> Router {
    let router = Router::new();
    let mut good = server("good").await;
    good.elicitation = Consent::Allow;
    good.allow = Some(vec!["s*".into()]);
    router.set_server("good", good);
    router.set_server("ship/ci", broken("ship/ci"));
    router
}

fn run() -> RunInfo {
    RunInfo { id: RunId("run-1".into()), owner: Owner::local(), workflow: "ship".into() }
}

fn spec(what: What) -> CallSpec {
    CallSpec {
        what,
        args: ValueRef::inline(Value::Null),
        path: "start".into(),
        attempt: 1,
        key: "start".into(),
        declared: None,
        deadline: None,
        route: Vec::new(),
        tools: None,
        allowance: None,
    }
}

/// Arguments that do not matter.
fn nothing() -> Arc<Value> {
    Arc::new(json!({}))
}

fn tool(server: &str, tool: &str) -> CallSpec {
    spec(What::Tool { server: server.into(), tool: tool.into() })
}

fn context() -> CallContext {
    CallContext {
        idempotency_key: "k-1".into(),
        cancelled: CancellationToken::new(),
        progress: Box::new(|_| {}),
        ask: Box::new(|_, _, _| Box::pin(async { Answer { action: Action::Cancel, content: None } })),
    }
}

async fn go(router: &Router, call: &CallSpec, args: Value, entry: Entry) -> CallOutcome {
    router.run(&run(), call, Arc::new(args), entry, context()).await
}

fn record(outcome: CallOutcome) -> Record {
    match outcome {
        CallOutcome::Done { record, .. } => record,
        other => panic!("not done: {other:?}"),
    }
}

fn failure(outcome: CallOutcome) -> CallFailure {
    match outcome {
        CallOutcome::Failed(failure) | CallOutcome::FailedAfter(failure, _) => failure,
        other => panic!("not failed: {other:?}"),
    }
}

#[tokio::test]
async fn effect_classes_come_from_annotations_unless_the_file_says_otherwise() {
    let router = router().await;
    let class = async |call: CallSpec| router.prepare(&run(), &call, nothing()).await.unwrap().class;
    assert_eq!(class(tool("good", "search")).await, EffectClass::ReadOnly);
    assert_eq!(class(tool("good", "store")).await, EffectClass::Idempotent);
    assert_eq!(class(tool("good", "send_mail")).await, EffectClass::AtMostOnce);
    assert_eq!(class(spec(What::Read { server: "good".into() })).await, EffectClass::ReadOnly);
    assert_eq!(class(spec(What::Sample { models: vec!["fast".into()] })).await, EffectClass::Idempotent);
    let declared = CallSpec { declared: Some(EffectClass::Idempotent), ..tool("good", "send_mail") };
    let prepared = router.prepare(&run(), &declared, nothing()).await.unwrap();
    assert_eq!((prepared.class, prepared.fingerprint.unwrap().len()), (EffectClass::Idempotent, 64));
}

#[tokio::test]
async fn what_can_not_be_called_says_why_before_anything_is_sent() {
    let router = router().await;
    for (call, kind, message) in [
        (tool("good", "serch"), ErrorKind::Rpc, "server `good` is up, but has no tool `serch`; did you mean `search`?"),
        (
            tool("good", "drop_table"),
            ErrorKind::Denied,
            "the tool `drop_table` is not covered by `allow` of server `good`",
        ),
        (tool("god", "search"), ErrorKind::Unavailable, "no server is named `god`; did you mean `good`?"),
        (
            tool("ship/ci", "build"),
            ErrorKind::Unavailable,
            "server `ship/ci` did not start: there is no command `no-such-command` on the PATH; is it installed?",
        ),
    ] {
        let failure = router.prepare(&run(), &call, nothing()).await.unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str(), failure.in_doubt), (kind, message, false));
    }
    let denied = failure(go(&router, &tool("good", "drop_table"), json!({}), Entry::Fresh).await);
    assert_eq!(denied.kind, ErrorKind::Denied);
}

#[tokio::test]
async fn a_call_leaves_a_record() {
    let router = router().await;
    let found = record(go(&router, &tool("good", "search"), json!({ "q": "x" }), Entry::Fresh).await);
    assert_eq!(found.output, json!({ "hits": 2, "echo": { "q": "x" } }));
    assert_eq!(found.text.as_deref(), Some("two hits"));
    let read = spec(What::Read { server: "good".into() });
    assert_eq!(record(go(&router, &read, json!({ "uri": "test://note" }), Entry::Fresh).await).output, "a note");
    let failed = failure(go(&router, &tool("good", "store"), json!({}), Entry::Fresh).await);
    assert_eq!((failed.kind, failed.message.as_str()), (ErrorKind::Tool, "the disk is full"));
    assert!(!failed.in_doubt);
}

#[tokio::test]
async fn a_call_that_asks_is_made_again_with_the_answers() {
    let router = router().await;
    let call = tool("good", "send_mail");
    let CallOutcome::NeedsInput { requests, state, .. } = go(&router, &call, json!({}), Entry::Fresh).await else {
        panic!("it asked nothing")
    };
    assert_eq!(requests["sure"]["params"]["message"], "Sure?");
    let yes = Answer { action: Action::Accept, content: Some(json!({ "ok": true })) };
    let answers = BTreeMap::from([("sure".to_owned(), yes)]);
    let again = Entry::Answers { answers, sampled: BTreeSet::new(), state: state.map(ValueRef::inline), round: 1 };
    let heard = record(go(&router, &call, json!({}), again).await).output;
    let heard: Value = serde_json::from_str(heard.as_str().unwrap()).unwrap();
    assert_eq!(heard, json!([{ "sure": { "action": "accept", "content": { "ok": true } } }, "sealed", "k-1"]));
}

#[tokio::test]
async fn one_bad_server_hides_no_other() {
    let router = router().await;
    let catalogue = router.catalogue().await;
    let [good, bad] = catalogue.as_slice() else { panic!("{catalogue:?}") };
    let names: Vec<_> = good.tools.as_ref().unwrap().tools().map(|tool| tool.name.as_str()).collect();
    assert_eq!((good.name.as_str(), names), ("good", vec!["search", "send_mail", "store"]));
    assert!(matches!(good.state, State::Ready(_)));
    assert_eq!(bad.name, "ship/ci");
    assert!(bad.tools.as_ref().unwrap_err().to_string().contains("no command"));
    assert!(matches!(bad.state, State::Failed(_)));
    assert!(matches!(router.health().as_slice(), [(_, State::Ready(_)), (_, State::Failed(_))]));
}

#[tokio::test]
async fn servers_are_bound_late() {
    let router = Router::new();
    let call = tool("ci", "search");
    router.set_server("ci", broken("ci"));
    assert!(router.prepare(&run(), &call, nothing()).await.is_err());
    router.set_server("ci", server("ci").await);
    assert!(router.prepare(&run(), &call, nothing()).await.is_ok());
    router.retain_servers(&["other".to_owned()].into());
    assert_eq!(
        router.prepare(&run(), &call, nothing()).await.unwrap_err().message,
        "no server is named `ci`; none is configured"
    );
}

struct Scripted {
    name: &'static str,
    answer: Result<&'static str, ModelErrorKind>,
    asked: Arc<Mutex<Vec<&'static str>>>,
}

#[async_trait]
impl Model for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    async fn sample(&self, _request: &SampleRequest, _context: &SampleContext) -> Result<SampleAnswer, ModelError> {
        self.asked.lock().unwrap().push(self.name);
        let text = self.answer.map_err(|kind| ModelError::new(kind, format!("{} can't", self.name)))?;
        Ok(SampleAnswer {
            output: json!(text),
            text: text.into(),
            model: format!("{}-7b", self.name),
            usage: Usage { prompt_tokens: 10, completion_tokens: 5, estimated: false, waited_ms: 1_200 },
            cost_usd: 0.25,
            ..SampleAnswer::default()
        })
    }
}

#[tokio::test]
async fn samples_fall_back_along_the_list() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let mut models = Models::default();
    for (name, answer) in [
        ("away", Err(ModelErrorKind::Unavailable)),
        ("odd", Err(ModelErrorKind::InvalidOutput)),
        ("strict", Err(ModelErrorKind::InvalidRequest)),
        ("good", Ok("hello")),
    ] {
        models.insert(name, Arc::new(Scripted { name, answer, asked: Arc::clone(&asked) }));
    }
    let router = Router::new();
    router.set_models(models);
    let sample = async |names: &[&str]| {
        let what = What::Sample { models: names.iter().map(|name| (*name).to_owned()).collect() };
        go(&router, &spec(what), json!({ "prompt": "Hi" }), Entry::Fresh).await
    };
    let CallOutcome::Done { record, usage } = sample(&["away", "nobody", "odd", "good"]).await else {
        panic!("no answer")
    };
    assert_eq!((record.output, record.model.as_deref()), (json!("hello"), Some("good-7b")));
    assert_eq!(record.text, None);
    let usage = usage.unwrap();
    assert_eq!((usage.tokens, usage.cost_usd, usage.waited_ms), (15, 0.25, 1_200));
    assert_eq!(record.usage.as_ref().unwrap()["waited_ms"], 1_200, "as a step's `.usage` shows it");
    assert_eq!(*asked.lock().unwrap(), ["away", "odd", "good"]);

    let failed = failure(sample(&["odd", "away"]).await);
    assert_eq!(failed.kind, ErrorKind::Unavailable);
    assert_eq!(failed.message, "no model answered: `odd`: odd can't; `away`: away can't");
    // A request that is wrong is not taken round.
    assert_eq!(failure(sample(&["strict", "good"]).await).kind, ErrorKind::Template);
    assert_eq!(asked.lock().unwrap().last(), Some(&"strict"));
    let what = What::Sample { models: vec!["good".into()] };
    let shapeless = failure(go(&router, &spec(what), json!("not a request"), Entry::Fresh).await);
    assert_eq!(shapeless.kind, ErrorKind::Template);
}
