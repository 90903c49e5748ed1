//! What a server asks of models, on the terms of its policy.
#![expect(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use antiphon_engine::{CallContext, CallOutcome, Effects, Owner, ROUTE, RouteKey, RunId, RunInfo};
use antiphon_kernel::{Action, Answer, CallSpec, Entry, ErrorKind, Hop, ValueRef, What};
use antiphon_models::{Model, ModelError, ModelErrorKind, Models, SampleAnswer, SampleContext, SampleRequest, Usage};
use antiphon_router::{Consent, Router, SamplingPolicy, ServerConfig, Transport};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Says how long it was allowed to answer, or fails.
struct Scripted {
    able: bool,
    asked: Arc<Mutex<u32>>,
}

#[async_trait]
impl Model for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    async fn sample(&self, request: &SampleRequest, _: &SampleContext) -> Result<SampleAnswer, ModelError> {
        *self.asked.lock().unwrap() += 1;
        let usage = Usage { prompt_tokens: 10, completion_tokens: 5, estimated: false, waited_ms: 0 };
        if !self.able {
            let error = ModelError::new(ModelErrorKind::Unavailable, "it is away");
            return Err(ModelError { usage, ..error });
        }
        let text = format!("at most {}", request.max_tokens);
        Ok(SampleAnswer { output: json!(text), text, model: "scripted-1b".into(), usage, ..SampleAnswer::default() })
    }
}

fn router(consent: Consent, names: &[&str], able: bool) -> (Router, Arc<Mutex<u32>>) {
    let router = Router::new();
    let asked = Arc::new(Mutex::new(0));
    let mut models = Models::default();
    models.insert("m", Arc::new(Scripted { able, asked: Arc::clone(&asked) }));
    router.set_models(models);
    router.set_route_key(RouteKey::new(b"here"));
    let transport = Transport::Stdio { command: "none".into(), args: Vec::new(), env: Vec::new(), cwd: None };
    let models = names.iter().map(|name| (*name).to_owned()).collect();
    let policy = SamplingPolicy { consent, models, ..SamplingPolicy::default() };
    router.set_asking_server("s", ServerConfig::new("s", transport), policy, Vec::new());
    (router, asked)
}

async fn go(router: &Router, params: Value, entry: Entry) -> CallOutcome {
    let call = CallSpec {
        what: What::Sampling { server: "s".into(), max_tokens: 40, no_caller: false },
        args: ValueRef::inline(Value::Null),
        path: "it?ask-1".into(),
        attempt: 1,
        key: "it#1?ask-1".into(),
        declared: None,
        deadline: None,
        route: vec![Hop { workflow: "flow".into(), ..Hop::default() }],
        tools: None,
        allowance: None,
    };
    let run = RunInfo { id: RunId("run-1".into()), owner: Owner::local(), workflow: "flow".into() };
    let context = CallContext {
        idempotency_key: "k".into(),
        cancelled: CancellationToken::new(),
        progress: Box::new(|_| {}),
        ask: Box::new(|_, _, _| Box::pin(async { Answer { action: Action::Cancel, content: None } })),
    };
    router.run(&run, &call, Arc::new(params), entry, context).await
}

fn params() -> Value {
    json!({ "messages": [{ "role": "user", "content": { "type": "text", "text": "Hi" } }], "maxTokens": 5000 })
}

fn answered(answer: Answer, state: Option<Value>) -> Entry {
    Entry::Answers {
        answers: BTreeMap::from([("caller".to_owned(), answer)]),
        sampled: BTreeSet::from(["caller".to_owned()]),
        state: state.map(ValueRef::inline),
        round: 1,
    }
}

#[tokio::test]
async fn a_model_answers_within_the_cap_and_the_way_and_the_choice_are_told() {
    let (router, _) = router(Consent::Allow, &["m"], true);
    let CallOutcome::Done { record, usage } = go(&router, params(), Entry::Fresh).await else { panic!("no answer") };
    assert_eq!(record.output["content"], json!({ "type": "text", "text": "at most 40" }));
    assert_eq!((&record.output["role"], &record.output["model"]), (&json!("assistant"), &json!("scripted-1b")));
    assert_eq!(record.output["_meta"][ROUTE][0]["workflow"], "flow");
    assert_eq!(record.route.unwrap()["order"], json!(["m"]));
    assert_eq!(usage.unwrap().tokens, 15);
}

#[tokio::test]
async fn without_consent_nobody_is_asked() {
    for (consent, names) in [(Consent::Deny, &["m"][..]), (Consent::Allow, &[][..])] {
        let (router, asked) = router(consent, names, true);
        let CallOutcome::Failed(failure) = go(&router, params(), Entry::Fresh).await else { panic!("an answer") };
        assert_eq!(failure.kind, ErrorKind::Denied);
        assert_eq!(*asked.lock().unwrap(), 0);
    }
}

#[tokio::test]
async fn the_caller_is_asked_when_its_turn_comes_and_what_was_wasted_counts() {
    let (router, _) = router(Consent::Allow, &["m", "caller"], false);
    let CallOutcome::NeedsInput { requests, state, .. } = go(&router, params(), Entry::Fresh).await else {
        panic!("the caller was not asked")
    };
    assert_eq!(requests["caller"]["method"], "sampling/createMessage");
    assert_eq!(requests["caller"]["params"]["maxTokens"], 40, "the caller keeps to the cap, too");
    let said = json!({
        "role": "assistant", "model": "host", "content": { "type": "text", "text": "hello" }, "stopReason": "endTurn",
        "_meta": { "theirs": 1 },
    });
    let yes = Answer { action: Action::Accept, content: Some(said) };
    let CallOutcome::Done { record, .. } = go(&router, params(), answered(yes, state.clone())).await else {
        panic!("no answer")
    };
    assert_eq!(record.output["content"]["text"], "hello");
    assert_eq!(record.output["_meta"].get("theirs"), None, "what is not part of the answer stays here");
    let no = Answer { action: Action::Decline, content: None };
    let CallOutcome::FailedAfter(failure, wasted) = go(&router, params(), answered(no, state)).await else {
        panic!("an answer")
    };
    assert_eq!((failure.kind, wasted.tokens), (ErrorKind::Denied, 15));
}

#[tokio::test]
async fn what_is_no_request_is_refused_before_anybody_is_asked() {
    let (router, asked) = router(Consent::Allow, &["m"], true);
    for bad in [json!({}), json!({ "messages": [{ "role": "user", "content": { "type": "image", "data": "" } }] })] {
        assert!(matches!(go(&router, bad, Entry::Fresh).await, CallOutcome::Failed(_)));
    }
    assert_eq!(*asked.lock().unwrap(), 0);
}
