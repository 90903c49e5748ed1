//! What bounds a sample: time, overload, context, stop texts; and what it took when it was cut short.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use antiphon_models::{Model, ModelConfig, ModelErrorKind, Price, Progress, SampleContext, SampleRequest, StopReason};
use serde_json::json;
use tokio::time::Instant;

use crate::canned::{Canned, Server};
use crate::{ask, configured, model};

#[tokio::test]
async fn overload_is_waited_out_a_few_times() {
    let busy = || Canned::json(429, json!({ "error": { "message": "busy" } })).with_header("retry-after", "0");
    let server = Server::start([busy(), busy(), Canned::stream("at last")]).await;
    assert_eq!(ask(&model(&server), json!({ "prompt": "?" })).await.unwrap().output, "at last");

    let server = Server::start([busy(), busy(), busy(), Canned::stream("too late")]).await;
    let error = ask(&model(&server), json!({ "prompt": "?" })).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Unavailable);
    assert!(error.message.ends_with("429 Too Many Requests: busy"), "{error}");
    assert_eq!(server.requests(), 3);
}

#[tokio::test]
async fn a_long_wait_or_an_exhausted_quota_is_not_waited_for() {
    for canned in [
        Canned::json(503, json!({})).with_header("retry-after", "3600"),
        Canned::json(429, json!({ "error": { "message": "You exceeded your current quota" } })),
    ] {
        let server = Server::start([canned]).await;
        let error = ask(&model(&server), json!({ "prompt": "?" })).await.unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::Unavailable, "{error}");
        assert_eq!(server.requests(), 1);
    }
}

#[tokio::test]
async fn a_dead_server_is_unavailable() {
    let config = { Server::start([]).await.config() };
    let error = ask(&configured(config), json!({ "prompt": "?" })).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Unavailable);
    assert!(error.message.contains("it can't be reached: Connection refused"), "{error}");
}

#[tokio::test]
async fn silence_is_a_timeout() {
    let server = Server::start([Canned::hang()]).await;
    let model = configured(ModelConfig { timeout: Duration::from_millis(50), ..server.config() });
    let error = ask(&model, json!({ "prompt": "?" })).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Timeout);
    assert!(error.message.ends_with("silent for 0.05 s"), "{error}");
}

#[tokio::test]
async fn a_deadline_ends_it() {
    let server = Server::start([Canned::hang()]).await;
    let deadline = Some(Instant::now() + Duration::from_millis(50));
    let context = SampleContext { deadline, ..SampleContext::default() };
    let error = model(&server).sample(&SampleRequest::text("?"), &context).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Timeout);
}

#[tokio::test]
async fn cancelling_stops_the_server_too() {
    let server = Server::start([Canned::endless()]).await;
    let model = model(&server);
    let context = SampleContext::default();
    let (request, cancel) = (SampleRequest::text("?"), context.cancelled.clone());
    let (answer, ()) = tokio::join!(model.sample(&request, &context), async {
        server.streaming().await;
        cancel.cancel();
    });
    assert_eq!(answer.unwrap_err().kind, ModelErrorKind::Cancelled);
    server.disconnected().await;
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_not_sent() {
    let server = Server::start([]).await;
    let model = configured(ModelConfig { max_context: Some(2_000), ..server.config() });
    let error = ask(&model, json!({ "prompt": "x".repeat(8_000), "max_tokens": 100 })).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Model);
    assert!(
        error.message.contains("(about 2000 tokens) and max_tokens = 100 exceed its max_context of 2000"),
        "{error}"
    );
    assert_eq!(server.requests(), 0);
}

#[tokio::test]
async fn a_wait_beyond_the_deadline_is_not_begun() {
    let busy = Canned::json(429, json!({})).with_header("retry-after", "15");
    let server = Server::start([busy, Canned::stream("late")]).await;
    let model = model(&server);
    let deadline = Some(Instant::now() + Duration::from_secs(10));
    let context = SampleContext { deadline, ..SampleContext::default() };
    let error = model.sample(&SampleRequest::text("?"), &context).await.unwrap_err();
    assert_eq!((error.kind, server.requests()), (ModelErrorKind::Unavailable, 1));
    assert!(!model.healthy(), "others come first for a while");

    let config = ModelConfig { requests_per_minute: 1.try_into().ok(), ..server.config() };
    let model = configured(config);
    model.sample(&SampleRequest::text("?"), &context).await.unwrap();
    let error = model.sample(&SampleRequest::text("?"), &context).await.unwrap_err();
    assert_eq!((error.kind, server.requests()), (ModelErrorKind::Unavailable, 2));
    assert!(error.message.contains("its requests_per_minute are used up for"), "{error}");
}

#[tokio::test]
async fn a_model_that_answers_is_healthy_again() {
    let overloaded = json!({ "error": { "message": "overloaded", "code": 529 } });
    let broken = Canned::raw("text/event-stream", &format!("data: {overloaded}\n\n"));
    let server = Server::start([broken, Canned::stream("ok")]).await;
    let model = model(&server);
    let error = ask(&model, json!({ "prompt": "?" })).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Unavailable, "{error}");
    assert!(!model.healthy());
    ask(&model, json!({ "prompt": "?" })).await.unwrap();
    assert!(model.healthy());
}

#[tokio::test]
async fn a_model_that_is_not_there_comes_after_others() {
    let config = { Server::start([]).await.config() };
    let model = configured(config);
    assert!(model.healthy() && model.traits().local);
    ask(&model, json!({ "prompt": "?" })).await.unwrap_err();
    assert!(!model.healthy());
    assert!(!configured(ModelConfig::new("far", "http://127.0.0.1.example/v1", "m")).traits().local);
}

#[tokio::test]
async fn an_overflow_says_what_to_do() {
    let llama = json!({ "error": {
        "code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error",
        "n_prompt_tokens": 9000, "n_ctx": 4096,
    } });
    let openai =
        json!({ "error": { "code": "context_length_exceeded", "message": "maximum context length is 8192 tokens" } });
    for (refusal, message) in [
        (
            llama,
            "the prompt of 9000 tokens does not fit its context of 4096 tokens: shorten it, or name a model with a longer",
        ),
        (
            openai,
            "the prompt does not fit its context: shorten it, or name a model with a longer context. It said: maximum",
        ),
    ] {
        let server = Server::start([Canned::json(400, refusal)]).await;
        let error = ask(&model(&server), json!({ "prompt": "?" })).await.unwrap_err();
        assert_eq!((error.kind, error.usage.total()), (ModelErrorKind::Model, 0));
        assert!(error.message.contains(message), "{error}");
    }
}

#[tokio::test]
async fn progress_is_told_and_a_cancelled_sample_has_its_price() {
    let server = Server::start([Canned::stream("one two three"), Canned::endless()]).await;
    let price = Some(Price { input: 1.0, output: 1.0 });
    let model = configured(ModelConfig { price, ..server.config() });
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&heard);
    let progress = Progress::to(move |tokens| listener.lock().unwrap().push(tokens));
    let context = SampleContext { progress, ..SampleContext::default() };
    model.sample(&SampleRequest::text("?"), &context).await.unwrap();
    let heard = heard.lock().unwrap().clone();
    assert!(heard.is_sorted() && heard.last().is_some_and(|tokens| *tokens >= 3), "{heard:?}");

    let (begun, cancel) = (Arc::new(tokio::sync::Notify::new()), SampleContext::default());
    let listener = Arc::clone(&begun);
    let context = SampleContext { progress: Progress::to(move |_| listener.notify_one()), ..cancel.clone() };
    let request = SampleRequest::text("12345678");
    let (answer, ()) = tokio::join!(model.sample(&request, &context), async {
        begun.notified().await;
        cancel.cancelled.cancel();
    });
    let error = answer.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Cancelled);
    assert_eq!((error.usage.prompt_tokens, error.usage.completion_tokens, error.usage.estimated), (2, 1, true));
    assert!((error.cost_usd - 3e-6).abs() < 1e-12);
}

#[tokio::test]
async fn an_answer_ends_before_a_stop_text() {
    let stop = json!(["1", "2", "3", "4", "END", "ENDING"]);
    let server = Server::start([Canned::stream("so be it. EN D END more"), Canned::cut("half of")]).await;
    let model = model(&server);
    let answer = ask(&model, json!({ "prompt": "?", "stop": stop })).await.unwrap();
    assert_eq!((answer.output, answer.stop), (json!("so be it. EN D"), StopReason::StopSequence));
    assert_eq!(server.last()["stop"], json!(["1", "2", "3", "4"]), "servers take four; the rest is looked for here");
    assert_eq!(ask(&model, json!({ "prompt": "?" })).await.unwrap().stop, StopReason::MaxTokens);
}
