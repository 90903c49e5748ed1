//! Answers: text, labels, values; what a server may do to them.

use std::process::Command;

use antiphon_models::{ModelConfig, ModelErrorKind, OpenAiModel, Price};
use serde_json::{Value, json};

use crate::canned::{Canned, Server};
use crate::{ask, configured, model};

fn colour() -> Value {
    json!({ "prompt": "The sky?", "choose": { "blue": "like water", "red": "like fire" } })
}

fn score() -> Value {
    let schema = json!({
        "type": "object", "properties": { "score": { "type": "integer", "maximum": 10 } }, "required": ["score"],
    });
    json!({ "prompt": "Grade it", "schema": schema })
}

#[tokio::test]
async fn text_is_streamed_counted_and_priced() {
    let server = Server::start([Canned::stream("Hello, world")]).await;
    let price = Some(Price { input: 2.0, output: 10.0 });
    let model = configured(ModelConfig { price, ..server.config() });
    let answer = ask(&model, json!({ "prompt": "Hi", "system": "Be brief", "max_tokens": 7 })).await.unwrap();
    assert_eq!(answer.output, "Hello, world");
    assert_eq!(answer.model, "canned-1");
    assert_eq!((answer.usage.prompt_tokens, answer.usage.completion_tokens), (100, 10));
    assert!((answer.cost_usd - 0.0003).abs() < 1e-12, "{}", answer.cost_usd);
    assert_eq!(
        server.request(0).body,
        json!({
            "model": "canned",
            "messages": [{ "role": "system", "content": "Be brief" }, { "role": "user", "content": "Hi" }],
            "stream": true, "max_tokens": 7, "stream_options": { "include_usage": true },
        })
    );
}

#[tokio::test]
async fn labels_go_with_their_meanings_and_examples() {
    let server = Server::start([Canned::stream(r#"{"choice": "blue"}"#)]).await;
    let mut request = colour();
    request["examples"] = json!([{ "input": "Embers?", "output": "red" }]);
    let answer = ask(&model(&server), request).await.unwrap();
    assert_eq!(answer.output, "blue");
    let sent = server.request(0).body;
    let messages = &sent["messages"];
    assert!(messages[0]["content"].as_str().unwrap().contains("- blue: like water\n- red: like fire"), "{messages}");
    assert_eq!(messages[1], json!({ "role": "user", "content": "Embers?" }));
    assert_eq!(messages[2], json!({ "role": "assistant", "content": r#"{"choice": "red"}"# }));
    let constraint = &sent["response_format"]["json_schema"];
    assert_eq!(constraint["schema"]["properties"]["choice"]["enum"], json!(["blue", "red"]));
    assert_eq!(constraint["strict"], true);
}

#[tokio::test]
async fn a_wrong_shape_is_repaired_once() {
    let server =
        Server::start([Canned::stream(r#"{"score": 11}"#), Canned::stream("```json\n{\"score\": 9}\n```")]).await;
    let answer = ask(&model(&server), score()).await.unwrap();
    assert_eq!(answer.output, json!({ "score": 9 }));
    assert_eq!(answer.usage.total(), 220);
    let sent = server.request(1).body;
    let [.., said, complaint] = sent["messages"].as_array().unwrap().as_slice() else { panic!("{sent}") };
    assert_eq!(said["content"], r#"{"score": 11}"#);
    let complaint = complaint["content"].as_str().unwrap();
    assert!(complaint.contains("at /score: 11 is greater than the maximum of 10"), "{complaint}");
}

#[tokio::test]
async fn a_shape_that_stays_wrong_is_an_error_that_shows_it() {
    let server = Server::start([Canned::stream("Ten!"), Canned::stream("Ten, I said.")]).await;
    let error = ask(&model(&server), score()).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::InvalidOutput);
    assert!(error.message.ends_with(r#"its answer is not JSON. It said: "Ten, I said.""#), "{error}");
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn an_answer_that_was_cut_is_not_asked_for_again() {
    let server = Server::start([Canned::cut(r#"{"sco"#)]).await;
    let error = ask(&model(&server), score()).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::InvalidOutput);
    assert!(error.message.contains("(cut at max_tokens = 1024)"), "{error}");
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn what_a_server_does_not_take_is_left_out_from_then_on() {
    let refusal = json!({ "error": { "code": 400, "message": "Unknown field response_format" } });
    let server =
        Server::start([Canned::json(400, refusal), Canned::stream("blue"), Canned::stream("It is red.")]).await;
    let model = model(&server);
    assert_eq!(ask(&model, colour()).await.unwrap().output, "blue");
    assert_eq!(ask(&model, colour()).await.unwrap().output, "red");
    assert!(server.request(0).body.get("response_format").is_some());
    assert!(server.request(1).body.get("response_format").is_none());
    assert!(server.request(2).body.get("response_format").is_none());
}

#[tokio::test]
async fn newer_models_want_max_completion_tokens() {
    let message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.";
    let server =
        Server::start([Canned::json(400, json!({ "error": { "message": message } })), Canned::stream("ok")]).await;
    ask(&model(&server), json!({ "prompt": "?", "max_tokens": 5 })).await.unwrap();
    let sent = server.request(1).body;
    assert_eq!((&sent["max_completion_tokens"], sent.get("max_tokens")), (&json!(5), None));
}

#[tokio::test]
async fn a_refusal_is_told_in_the_servers_words_without_the_key() {
    let refusal = json!({ "error": { "code": 401, "message": "Incorrect API key: sk-secret" } });
    let server = Server::start([Canned::json(401, refusal)]).await;
    let model = configured(ModelConfig { api_key: Some("sk-secret".into()), ..server.config() });
    let error = ask(&model, json!({ "prompt": "?" })).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Model);
    assert!(error.message.ends_with("401 Unauthorized: Incorrect API key: [secret]"), "{error}");
    assert_eq!(server.request(0).authorization.as_deref(), Some("Bearer sk-secret"));
    assert!(!format!("{model:?}").contains("sk-secret"));
}

#[tokio::test]
async fn headers_go_along_and_are_secret_too() {
    let refusal = json!({ "error": { "message": "team t-secret is unknown" } });
    let server = Server::start([Canned::json(403, refusal)]).await;
    let headers = vec![("authorization".to_owned(), "t-secret".into())];
    let error =
        ask(&configured(ModelConfig { headers, ..server.config() }), json!({ "prompt": "?" })).await.unwrap_err();
    assert!(error.message.ends_with("team [secret] is unknown"), "{error}");
    assert_eq!(server.request(0).authorization.as_deref(), Some("t-secret"));

    let headers = vec![("no header".to_owned(), "x".into())];
    let error = OpenAiModel::new(ModelConfig { headers, ..server.config() }).unwrap_err();
    assert_eq!(error.message, "model `fast`: `no header` can't be a header's name");
}

#[tokio::test]
async fn without_a_key_none_is_sent() {
    let server = Server::start([Canned::stream("hi")]).await;
    ask(&model(&server), json!({ "prompt": "?" })).await.unwrap();
    assert_eq!(server.request(0).authorization, None);
}

#[test]
fn the_environments_key_and_url_are_not_used() {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "answers::without_a_key_none_is_sent"])
        .env("OPENAI_API_KEY", "sk-leak")
        .env("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}

#[tokio::test]
async fn servers_may_differ_in_what_is_not_the_text() {
    let whole = json!({
        "choices": [{ "message": { "content": "Hi" }, "finish_reason": "" }], "timings": { "prompt_ms": 1.5 },
    });
    let pretty = serde_json::to_string_pretty(&whole).unwrap();
    let odd = concat!(
        "data: {\"choices\":null,\"model\":\"\"}\n\n",
        "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null},\"finish_reason\":\"\"}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}],\"usage\":null}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3}}\n\n",
    );
    let server = Server::start([Canned::raw("application/json", &pretty), Canned::raw("text/event-stream", odd)]).await;
    let model = model(&server);
    let whole = ask(&model, json!({ "prompt": "12345678" })).await.unwrap();
    assert_eq!((whole.output, &*whole.model), (json!("Hi"), "canned"));
    assert_eq!((whole.usage.prompt_tokens, whole.usage.estimated), (2, true));
    let odd = ask(&model, json!({ "prompt": "?" })).await.unwrap();
    assert_eq!((odd.output, odd.usage.prompt_tokens, odd.usage.estimated), (json!("Hi"), 3, false));
}

#[tokio::test]
async fn what_is_no_answer_is_an_error() {
    let broken = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\ndata: {\"error\":{\"message\":\"out of memory\"}}\n\n";
    for (kind, body, message) in [
        ("text/html", "<html></html>", "it answered without a choice"),
        ("application/json", "<html>", "it does not speak the protocol"),
        ("application/json", "{}", "it answered without a choice"),
        ("text/event-stream", "data: nonsense\n\n", r#""nonsense""#),
        ("text/event-stream", broken, "it broke off: out of memory"),
    ] {
        let server = Server::start([Canned::raw(kind, body)]).await;
        let error = ask(&model(&server), json!({ "prompt": "?" })).await.unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::Model, "{body}");
        assert!(error.message.contains(message), "{error}");
    }
}

#[test]
fn a_base_url_must_be_one() {
    for url in ["", "localhost:1234", "ftp://x/"] {
        let error = OpenAiModel::new(ModelConfig::new("fast", url, "m")).unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::InvalidRequest);
        assert!(error.message.starts_with("model `fast`: `base_url`"), "{error}");
    }
}
