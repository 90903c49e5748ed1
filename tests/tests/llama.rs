//! A real llama.cpp server, with a real model: what the OpenAI path promises, seen.
//!
//! The server is `ANTIPHON_LLAMA_SERVER`, or `llama-server` on the path, or what `.ci/llama-server` built; the model is the default one
//! in the cache of `antiphon model`. Where either is missing the tests say so and pass.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use antiphon_models::{
    Model, ModelConfig, ModelErrorKind, OpenAiModel, Progress, SampleAnswer, SampleContext, SampleRequest, StopReason,
};
use antiphon_tests::{Llama, Scratch};
use serde_json::{Value, json};

fn model(llama: &Llama) -> OpenAiModel {
    // A second one changes nothing.
    let _ = rustls_graviola::default_provider().install_default();
    OpenAiModel::new(ModelConfig::new("llama", &llama.url, "coder")).unwrap()
}

async fn ask(model: &OpenAiModel, mut request: Value) -> SampleAnswer {
    request["temperature"] = json!(0);
    let answer = model.sample(&SampleRequest::parse(&request).unwrap(), &SampleContext::default()).await.unwrap();
    assert!(!answer.usage.estimated && answer.usage.prompt_tokens > 0, "{answer:?}");
    assert_eq!(answer.model, "local", "the name that the server gives itself");
    answer
}

#[tokio::test]
async fn text_is_streamed_and_ends_where_it_should() {
    let Some(llama) = Llama::start().await else { return };
    let model = model(&llama);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&heard);
    let progress = Progress::to(move |tokens| listener.lock().unwrap().push(tokens));
    let context = SampleContext { progress, ..SampleContext::default() };
    let mut request = SampleRequest::text("Count from one to ten in words, separated by commas.");
    request.temperature = Some(0.0);
    request.max_tokens = 40;
    let answer = model.sample(&request, &context).await.unwrap();
    assert!(answer.text.to_lowercase().contains("one, two, three"), "{}", answer.text);
    let heard = heard.lock().unwrap().clone();
    assert!(heard.len() > 5 && heard.is_sorted(), "{heard:?}");

    request.stop = vec!["five".into(), "Five".into()];
    let stopped = model.sample(&request, &context).await.unwrap();
    assert!(stopped.text.to_lowercase().trim_end().ends_with("four,"), "{}", stopped.text);
    request.stop.clear();
    request.max_tokens = 3;
    assert_eq!(model.sample(&request, &context).await.unwrap().stop, StopReason::MaxTokens);
}

#[tokio::test]
async fn shapes_are_kept() {
    let Some(llama) = Llama::start().await else { return };
    let model = model(&llama);
    let person = json!({
        "type": "object",
        "properties": { "name": { "type": "string" }, "age": { "type": "integer" } },
        "required": ["name", "age"],
        "additionalProperties": false,
    });
    let prompt = "Extract the person: Ada Lovelace died when she was 36 years old.";
    let answer = ask(&model, json!({ "prompt": prompt, "schema": person })).await;
    assert_eq!(answer.output, json!({ "name": "Ada Lovelace", "age": 36 }));

    let labels =
        json!({ "billing": "invoices, payments, refunds", "bug": "something fails or crashes", "praise": "thanks" });
    let examples = json!([{ "input": "Why was I charged twice?", "output": "billing" }]);
    let question = "The window closes when I press save.";
    let answer = ask(&model, json!({ "prompt": question, "choose": labels, "examples": examples })).await;
    assert_eq!(answer.output, "bug");
}

#[tokio::test]
async fn tools_are_called_and_their_results_used() {
    let Some(llama) = Llama::start().await else { return };
    let model = model(&llama);
    let argument =
        |name: &str| json!({ "type": "object", "properties": { name: { "type": "string" } }, "required": [name] });
    let tools = json!([
        { "name": "get_weather", "description": "The weather in a city, now", "input_schema": argument("city") },
        { "name": "calculate", "description": "Computes an arithmetic expression", "input_schema": argument("expression") },
    ]);
    let question = json!({ "role": "user", "content": "What is the weather in Oslo right now?" });
    for choice in ["auto", "required"] {
        let request = json!({ "messages": [question], "tools": tools, "tool_choice": choice });
        let answer = ask(&model, request).await;
        let calls = answer.calls.iter().map(|call| (call.name.as_str(), &call.arguments["city"])).collect::<Vec<_>>();
        assert_eq!(calls, [("get_weather", &json!("Oslo"))], "{choice}: {answer:?}");
        assert_eq!((answer.output, answer.stop), (Value::Null, StopReason::ToolUse));

        let result =
            json!({ "role": "tool", "id": answer.calls[0].id, "name": "get_weather", "content": "snow, -4 degrees" });
        let called = json!({ "role": "assistant", "tool_calls": answer.calls });
        let answer = ask(&model, json!({ "messages": [question, called, result], "tools": tools })).await;
        assert!(answer.calls.is_empty() && answer.text.to_lowercase().contains("snow"), "{choice}: {answer:?}");
    }
}

#[tokio::test]
async fn a_cancelled_sample_frees_its_slot() {
    let Some(llama) = Llama::start().await else { return };
    let model = model(&llama);
    let context = SampleContext::default();
    let cancel = context.cancelled.clone();
    // At the first token, which is long before the last one.
    let context = SampleContext { progress: Progress::to(move |_| cancel.cancel()), ..context };
    let mut request = SampleRequest::text("Write a very long story about a lighthouse.");
    request.max_tokens = 3_000;
    let error = model.sample(&request, &context).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Cancelled);
    assert!(error.usage.estimated && error.usage.total() > 0, "{:?}", error.usage);
    // All of it would take minutes.
    tokio::time::timeout(Duration::from_secs(60), llama.idle()).await.expect("the slot is free again");
    let answer = ask(&model, json!({ "prompt": "Say hello.", "max_tokens": 10 })).await;
    assert!(!answer.text.is_empty());
}

#[tokio::test]
async fn an_overflow_says_what_to_do() {
    let Some(llama) = Llama::start().await else { return };
    let request = SampleRequest::text("word ".repeat(20_000));
    let error = model(&llama).sample(&request, &SampleContext::default()).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Model);
    let (start, end) =
        ("tokens does not fit its context of", "tokens: shorten it, or name a model with a longer context");
    assert!(error.message.contains(start) && error.message.contains(end), "{error}");
}

#[tokio::test]
async fn a_dead_server_gives_way_to_the_next_model() {
    let Some(llama) = Llama::start().await else { return };
    let scratch = Scratch::new();
    let dead = "[models.dead]\nbase_url = \"http://127.0.0.1:9/v1\"\nmodel = \"none\"\n";
    scratch.file("antiphon.toml", &format!("{dead}[models.llama]\nbase_url = \"{}\"\nmodel = \"coder\"\n", llama.url));
    scratch.file(
        "greet.toml",
        "[steps.hello]\nsample = [\"dead\", \"llama\"]\nprompt = \"Say hello.\"\nmax_tokens = 10\n\
         [output]\nby = \"{{ steps.hello.model }}\"\n",
    );
    let run = move || scratch.run_with_db(&["run", "greet.toml", "--trust", "--json"]);
    let (code, out, err) = tokio::task::spawn_blocking(run).await.unwrap();
    assert_eq!(code, 0, "{err}");
    assert!(out.contains(r#""by":"local""#) || out.contains(r#""by": "local""#), "{out}");
}
