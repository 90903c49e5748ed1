//! The OpenAI-compatible endpoint, as OpenAI's clients use it.
#![expect(clippy::unwrap_used)]

mod door;
mod official;

use std::time::Duration;

use antiphon_models::{ModelError, ModelErrorKind, Role, SampleAnswer, Shape, StopReason, ToolCall, ToolChoice, Usage};
use antiphon_server::ModelRefusal;
use async_openai::error::OpenAIError;
use async_openai::types::chat::{
    ChatCompletionMessageToolCalls, CreateChatCompletionRequest, CreateChatCompletionResponse,
    CreateChatCompletionStreamResponse, FinishReason,
};
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use crate::door::{Door, TOKEN};

fn said(text: &str) -> SampleAnswer {
    SampleAnswer {
        output: text.into(),
        text: text.into(),
        model: "small-1".into(),
        usage: Usage { prompt_tokens: 7, completion_tokens: 3, estimated: false, waited_ms: 0 },
        ..SampleAnswer::default()
    }
}

fn called() -> SampleAnswer {
    let call = |id: &str, city: &str| {
        let arguments = json!({ "city": city }).as_object().unwrap().clone();
        ToolCall { id: id.into(), name: "weather".into(), arguments }
    };
    SampleAnswer {
        calls: vec![call("a", "Oslo"), call("b", "Rome")],
        stop: StopReason::ToolUse,
        output: Value::Null,
        ..said("")
    }
}

fn request(more: Value) -> CreateChatCompletionRequest {
    let mut request = json!({ "model": "small", "messages": [{ "role": "user", "content": "Hi" }] });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(request).unwrap()
}

fn weather() -> Value {
    let parameters = json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    json!([{ "type": "function", "function": { "name": "weather", "description": "Of a city", "parameters": parameters } }])
}

async fn ask(door: &Door, more: Value) -> Result<CreateChatCompletionResponse, OpenAIError> {
    door.client(TOKEN).chat().create(request(more)).await
}

/// The `code` and message of an error.
async fn refused(door: &Door, more: Value) -> (String, String) {
    match ask(door, more).await.unwrap_err() {
        OpenAIError::ApiError(error) => {
            let error = error.api_error;
            (error.code.unwrap(), error.message)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_question_is_answered_and_counted() {
    let door = Door::start([Ok(said("Hello"))]).await;
    let answer = ask(
        &door,
        json!({
            "messages": [
                { "role": "system", "content": "Be brief." },
                { "role": "developer", "content": [{ "type": "text", "text": "Be kind." }] },
                { "role": "user", "content": [{ "type": "text", "text": "Hi" }] },
            ],
            "max_completion_tokens": 9, "temperature": 0.5, "stop": ["END"],
        }),
    )
    .await
    .unwrap();
    let choice = &answer.choices[0];
    assert_eq!((choice.message.content.as_deref(), choice.finish_reason), (Some("Hello"), Some(FinishReason::Stop)));
    let usage = answer.usage.unwrap();
    assert_eq!((answer.model.as_str(), usage.prompt_tokens, usage.total_tokens), ("small-1", 7, 10));

    let (asker, request, preferences) = door.asked();
    assert_eq!(asker, "run-1");
    assert_eq!((request.system.as_deref(), request.messages.len()), (Some("Be brief.\n\nBe kind."), 1));
    assert_eq!((request.messages[0].role, request.messages[0].text.as_str()), (Role::User, "Hi"));
    assert_eq!((request.max_tokens, request.temperature, request.stop), (9, Some(0.5), vec!["END".to_owned()]));
    assert_eq!(preferences.hints[0].name.as_deref(), Some("small"));
}

#[tokio::test]
async fn tools_go_there_and_back() {
    let door = Door::start([Ok(called()), Ok(said("Coat."))]).await;
    let answer = ask(&door, json!({ "tools": weather(), "tool_choice": "required" })).await.unwrap();
    assert_eq!(answer.choices[0].finish_reason, Some(FinishReason::ToolCalls));
    let calls = answer.choices[0].message.tool_calls.clone().unwrap();
    let ChatCompletionMessageToolCalls::Function(call) = &calls[1] else { panic!("{calls:?}") };
    assert_eq!((call.id.as_str(), call.function.arguments.as_str()), ("b", r#"{"city":"Rome"}"#));
    let (_, request, _) = door.asked();
    assert_eq!((request.tool_choice, request.tools[0].name.as_str()), (ToolChoice::Required, "weather"));
    assert_eq!(request.tools[0].input_schema["properties"]["city"]["type"], "string");

    let result = |id: &str, content: &str| json!({ "role": "tool", "tool_call_id": id, "content": content });
    let messages = json!([
        { "role": "user", "content": "Hi" }, { "role": "assistant", "tool_calls": calls }, result("a", "rain"), result("b", "sun"),
    ]);
    ask(&door, json!({ "tools": weather(), "messages": messages })).await.unwrap();
    let (_, request, _) = door.asked();
    assert_eq!(request.messages[1].calls, called().calls);
    let results: Vec<_> =
        request.messages[2].results.iter().map(|result| (result.name.as_str(), result.text.as_str())).collect();
    assert_eq!(results, [("weather", "rain"), ("weather", "sun")]);
}

#[tokio::test]
async fn a_tool_that_is_named_is_the_only_one() {
    let door = Door::start([Ok(called())]).await;
    let mut tools = weather();
    tools.as_array_mut().unwrap().push(json!({ "type": "function", "function": { "name": "clock" } }));
    let named = json!({ "type": "function", "function": { "name": "weather" } });
    let answer =
        ask(&door, json!({ "tools": tools, "tool_choice": named, "parallel_tool_calls": false })).await.unwrap();
    assert_eq!(answer.choices[0].message.tool_calls.as_ref().unwrap().len(), 1);
    let (_, request, _) = door.asked();
    assert_eq!((request.tools.len(), request.tool_choice), (1, ToolChoice::Required));
}

#[tokio::test]
async fn a_schema_is_a_shape() {
    let spoken = SampleAnswer { output: json!({ "n": 1 }), ..said("Sure: {\"n\": 1}") };
    let door = Door::start([Ok(spoken)]).await;
    let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } } });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": schema } });
    let answer = ask(&door, json!({ "response_format": format })).await.unwrap();
    assert_eq!(answer.choices[0].message.content.as_deref(), Some(r#"{"n":1}"#));
    let (_, request, _) = door.asked();
    assert!(matches!(request.shape, Shape::Schema { schema: asked, .. } if asked == schema));
}

#[tokio::test]
async fn an_answer_may_be_a_stream() {
    let door = Door::start([Ok(said("Hello")), Ok(called())]).await;
    let stream = async |more: Value| -> Vec<CreateChatCompletionStreamResponse> {
        let mut request = request(more);
        request.stream = Some(true);
        let events = door.client(TOKEN).chat().create_stream(request).await.unwrap();
        events.try_collect().await.unwrap()
    };
    let chunks = stream(json!({ "stream_options": { "include_usage": true } })).await;
    let text: String =
        chunks.iter().flat_map(|chunk| &chunk.choices).filter_map(|choice| choice.delta.content.clone()).collect();
    assert_eq!(text, "Hello");
    let [.., end, usage] = chunks.as_slice() else { panic!("{chunks:?}") };
    assert_eq!(end.choices[0].finish_reason, Some(FinishReason::Stop));
    assert_eq!(usage.usage.as_ref().unwrap().total_tokens, 10);

    let chunks = stream(json!({ "tools": weather() })).await;
    let calls =
        chunks.iter().flat_map(|chunk| &chunk.choices).find_map(|choice| choice.delta.tool_calls.clone()).unwrap();
    assert_eq!((calls.len(), calls[1].index, calls[1].id.as_deref()), (2, 1, Some("b")));
    assert!(chunks.iter().all(|chunk| chunk.usage.is_none()));
}

#[tokio::test]
async fn errors_are_those_that_clients_know() {
    let failed = |kind, message: &str| Err(ModelRefusal::Model(ModelError::new(kind, message)));
    let door = Door::start([
        Err(ModelRefusal::Denied("the budget of 100 tokens is used up".into())),
        failed(ModelErrorKind::Unavailable, "model `small` can't be reached"),
        failed(ModelErrorKind::InvalidOutput, "its answer is not JSON"),
    ])
    .await;
    let told = |code: &str, message: &str| (code.to_owned(), message.to_owned());
    assert_eq!(refused(&door, json!({})).await, told("denied", "the budget of 100 tokens is used up"));
    // A failure that comes before the answer has its status, also where a stream was wanted.
    let response =
        door.post(TOKEN, &json!({ "messages": [{ "role": "user", "content": "Hi" }], "stream": true })).await;
    assert_eq!((response.status().as_u16(), response.headers()["x-should-retry"].to_str().unwrap()), (503, "false"));
    assert_eq!(response.json::<Value>().await.unwrap()["error"]["message"], "model `small` can't be reached");
    assert_eq!(refused(&door, json!({})).await, told("invalid_output", "its answer is not JSON"));
}

#[tokio::test]
async fn what_can_t_be_asked_is_told() {
    let door = Door::start([]).await;
    let image = json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,AA" } });
    for (more, message) in [
        (
            json!({ "messages": [{ "role": "user", "content": [image] }] }),
            "unsupported modality: models are sent text, not image_url",
        ),
        (json!({ "messages": [{ "role": "system", "content": "x" }] }), "`messages` has nothing to answer"),
        (
            json!({ "messages": [{ "role": "tool", "tool_call_id": "z", "content": "x" }] }),
            "no call before the message of the role `tool` has the id \"z\"",
        ),
        (json!({ "n": 2 }), "`n` must be 1"),
        (json!({ "logprobs": true }), "`logprobs` are not known here"),
        (json!({ "max_tokens": 0 }), "`max_tokens` must be positive"),
        (json!({ "temperature": 3.0 }), "`temperature` must be between 0 and 2"),
        (json!({ "tool_choice": "required" }), "`tool_choice` wants a call, but there is no such tool"),
    ] {
        assert_eq!(refused(&door, more).await, ("invalid_request".to_owned(), message.to_owned()));
    }
    let response = door.post(TOKEN, &json!({ "messages": "Hi" })).await;
    assert_eq!(response.status().as_u16(), 400);
    let message = response.json::<Value>().await.unwrap()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("the body: invalid type: string \"Hi\", expected a sequence"), "{message}");
    let long = json!({ "messages": [{ "role": "user", "content": "x".repeat(5 << 20) }] });
    assert_eq!(door.post(TOKEN, &long).await.status().as_u16(), 413);
    assert_eq!(door.samples(), 0);
}

#[tokio::test]
async fn only_whoever_has_a_token_is_let_in() {
    let door = Door::start([Ok(said("Hello"))]).await;
    let error = door.client("guessed").chat().create(request(json!({}))).await.unwrap_err();
    assert!(error.to_string().contains("invalid_api_key"), "{error}");
    assert_eq!(door.post("", &json!({})).await.status().as_u16(), 401);
    // The address of a page that a browser was lured to.
    for (host, status) in
        [("evil.example", 403), ("evil.example:80", 403), ("localhost:9", 200), ("127.0.0.1", 200), ("[::1]:9", 200)]
    {
        let request = reqwest::Client::builder().no_proxy().build().unwrap().get(door.url("/models"));
        let response = request.header("host", host).bearer_auth(TOKEN).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{host}");
    }
    assert_eq!(door.samples(), 0);
}

#[tokio::test]
async fn models_are_listed_and_other_places_named() {
    let door = Door::start([]).await;
    let get = async |path: &str| -> Value {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        client.get(door.url(path)).bearer_auth(TOKEN).send().await.unwrap().json().await.unwrap()
    };
    assert_eq!(get("/models").await["data"][0]["id"], "small");
    let message = get("/responses").await["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(
        message,
        "there is no GET /v1/responses here: POST /v1/chat/completions and GET /v1/models are all that there is"
    );
}

#[tokio::test(start_paused = true)]
async fn a_long_wait_is_filled_with_comments() {
    let door = Door::start([Ok(said("Hello")), Err(ModelRefusal::Denied("too late".into()))]).await;
    for end in ["data: [DONE]\n\n", "\"code\":\"denied\"}}\n\n"] {
        door.hold();
        let response =
            door.post(TOKEN, &json!({ "messages": [{ "role": "user", "content": "Hi" }], "stream": true })).await;
        assert_eq!(response.status().as_u16(), 200);
        let mut bytes = response.bytes_stream();
        assert_eq!(bytes.next().await.unwrap().unwrap(), ": still thinking\n\n");
        door.release();
        let rest: Vec<u8> =
            bytes.try_fold(Vec::new(), async |all, more| Ok([all, more.to_vec()].concat())).await.unwrap();
        let rest = String::from_utf8(rest).unwrap();
        assert!(rest.ends_with(end), "{rest}");
    }
}

#[tokio::test]
async fn who_goes_away_takes_the_sample_along() {
    let door = Door::start([Ok(said("Hello")), Ok(said("Hello"))]).await;
    for stream in [false, true] {
        door.hold();
        let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "stream": stream });
        tokio::select! {
            _ = door.post(TOKEN, &body) => panic!("nobody answered"),
            () = door.sampling() => {}
        }
        tokio::time::timeout(Duration::from_secs(30), door.dropped()).await.unwrap();
    }
}
