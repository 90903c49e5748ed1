//! Tools: as servers tell calls apart, and in words where they do not.

use antiphon_models::{ModelErrorKind, Reply, SampleRequest, StopReason, ToolCall};
use serde_json::{Value, json};

use crate::canned::{Canned, Server};
use crate::{ask, model};

/// A question beside which there are two tools; `more` is added.
fn request(more: Value) -> Value {
    let city = json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"] });
    let mut request = json!({
        "prompt": "Rain in Oslo?",
        "tools": [
            { "name": "weather.now", "description": "The weather of a city", "input_schema": city },
            { "name": "clock", "input_schema": { "type": "object" } },
        ],
    });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

fn call(id: &str, name: &str, arguments: Value) -> ToolCall {
    ToolCall { id: id.into(), name: name.into(), arguments: arguments.as_object().unwrap().clone() }
}

fn delta(index: u32, id: &str, name: &str, arguments: &str) -> Value {
    json!({ "tool_calls": [{ "index": index, "id": id, "function": { "name": name, "arguments": arguments } }] })
}

#[tokio::test]
async fn calls_come_in_pieces_and_in_parallel() {
    let server = Server::start([Canned::deltas(
        [
            json!({ "role": "assistant", "content": null }),
            delta(0, "a", "weather_now", ""),
            delta(0, "", "", "{\"city\""),
            delta(1, "b", "clock", ""),
            delta(0, "", "", ": \"Oslo\"}"),
        ],
        "tool_calls",
    )])
    .await;
    let answer = ask(&model(&server), request(json!({}))).await.unwrap();
    assert_eq!(answer.calls, [call("a", "weather.now", json!({ "city": "Oslo" })), call("b", "clock", json!({}))]);
    assert_eq!((answer.output, answer.stop), (Value::Null, StopReason::ToolUse));

    let sent = server.last();
    assert_eq!(sent["tools"][0]["function"]["name"], "weather_now", "a name that every server takes");
    assert_eq!(sent["tools"][0]["function"]["parameters"]["required"], json!(["city"]));
    assert_eq!(
        sent["tools"][1],
        json!({
            "type": "function", "function": { "name": "clock", "parameters": { "type": "object" } },
        })
    );
    assert_eq!(sent.get("tool_choice"), None);
}

#[tokio::test]
async fn servers_may_differ_in_how_they_spell_calls() {
    let whole = |calls: Value| json!({ "choices": [{ "message": { "tool_calls": calls }, "finish_reason": "stop" }] });
    let clock = |id: Value, arguments: Value| json!({ "index": 0, "id": id, "function": { "name": "clock", "arguments": arguments } });
    for (spelled, ids) in [
        // An object in place of its text, and no id.
        (json!([{ "function": { "name": "clock", "arguments": { "at": 1 } } }]), vec!["call_1"]),
        // Every call has the index 0, or none.
        (json!([clock("x".into(), json!("{\"at\": 1}")), clock("y".into(), json!("{\"at\": 1}"))]), vec!["x", "y"]),
        (
            json!([{ "id": "x", "function": { "name": "clock", "arguments": "{\"at\":1}" } },
                { "id": "y", "function": { "name": "clock", "arguments": "{\"at\":1}" } }]),
            vec!["x", "y"],
        ),
    ] {
        let server = Server::start([Canned::json(200, whole(spelled))]).await;
        let answer = ask(&model(&server), request(json!({}))).await.unwrap();
        let expected: Vec<_> = ids.into_iter().map(|id| call(id, "clock", json!({ "at": 1 }))).collect();
        assert_eq!((answer.calls, answer.stop), (expected, StopReason::ToolUse));
    }
}

#[tokio::test]
async fn a_conversation_with_calls_and_results_goes_along() {
    let server = Server::start([Canned::stream("Yes, take a coat.")]).await;
    let mut request = request(json!({ "messages": [
        { "role": "user", "content": "Rain in Oslo?" },
        { "role": "assistant", "content": "Let me see.", "tool_calls": [
            { "id": "a", "name": "weather.now", "arguments": { "city": "Oslo" } },
            { "id": "b", "name": "clock", "arguments": {} },
        ] },
        { "role": "tool", "id": "a", "name": "weather.now", "content": { "rain": true } },
        { "role": "tool", "id": "b", "name": "clock", "content": "it stopped", "is_error": true },
    ] }));
    request.as_object_mut().unwrap().remove("prompt");
    let answer = ask(&model(&server), request).await.unwrap();
    assert_eq!((answer.output, answer.calls), (json!("Yes, take a coat."), vec![]));
    assert_eq!(
        server.last()["messages"],
        json!([
            { "role": "user", "content": "Rain in Oslo?" },
            { "role": "assistant", "content": "Let me see.", "tool_calls": [
                { "id": "a", "type": "function", "function": { "name": "weather_now", "arguments": "{\"city\":\"Oslo\"}" } },
                { "id": "b", "type": "function", "function": { "name": "clock", "arguments": "{}" } },
            ] },
            { "role": "tool", "tool_call_id": "a", "content": "{\"rain\":true}" },
            { "role": "tool", "tool_call_id": "b", "content": "Error: it stopped" },
        ])
    );
}

#[tokio::test]
async fn wrong_arguments_are_repaired_once() {
    let wrong = || Canned::deltas([delta(0, "a", "weather_now", "{\"town\": \"Oslo\"}")], "tool_calls");
    let right = Canned::deltas([delta(0, "b", "weather_now", "{\"city\": \"Oslo\"}")], "tool_calls");
    let server = Server::start([wrong(), right]).await;
    let answer = ask(&model(&server), request(json!({}))).await.unwrap();
    assert_eq!(answer.calls, [call("b", "weather.now", json!({ "city": "Oslo" }))]);
    assert_eq!(answer.usage.total(), 220);
    let sent = server.last();
    let [.., said, told] = sent["messages"].as_array().unwrap().as_slice() else { panic!("{sent}") };
    assert_eq!((&said["tool_calls"][0]["id"], &told["tool_call_id"]), (&json!("a"), &json!("a")));
    let why = r#"calls `weather.now` with arguments that do not conform: "city" is a required property"#;
    assert!(told["content"].as_str().unwrap().contains(why), "{told}");

    let server = Server::start([wrong(), wrong()]).await;
    let answer = ask(&model(&server), request(json!({}))).await.unwrap();
    assert_eq!(
        answer.calls,
        [call("a", "weather.now", json!({ "town": "Oslo" }))],
        "whoever runs the tool says why not"
    );
    assert_eq!((answer.usage.total(), server.requests()), (220, 2));

    // In words as well; but a tool that is not there is nobody's.
    let said = |name: &str| Canned::stream(&format!(r#"{{"tool": "{name}", "arguments": {{"town": "Oslo"}}}}"#));
    let server = Server::start([said("weather.now"), said("weather.now"), said("hammer"), said("hammer")]).await;
    let model = model(&server);
    assert_eq!(ask(&model, request(json!({}))).await.unwrap().calls[0].name, "weather.now");
    let error = ask(&model, request(json!({}))).await.unwrap_err();
    assert_eq!(
        (error.kind, error.usage.total()),
        (ModelErrorKind::InvalidOutput, 220),
        "what it took is told all the same"
    );
    assert!(error.message.contains("its answer calls `hammer`, which is none of the tools"), "{error}");
}

#[tokio::test]
async fn a_server_that_refuses_tools_has_them_explained() {
    let refusals = [
        (400, json!({ "error": { "message": "this model does not support tools" } })),
        (500, json!({ "error": { "code": 500, "message": "tools param requires --jinja flag" } })),
    ];
    for (status, refusal) in refusals {
        let said = "```json\n{\"tool\": \"weather.now\", \"arguments\": {\"city\": \"Oslo\"}}\n```";
        let answered = r#"{"answer": "No."}"#;
        let server =
            Server::start([Canned::json(status, refusal), Canned::stream(said), Canned::stream(answered)]).await;
        let model = model(&server);
        let answer = ask(&model, request(json!({}))).await.unwrap();
        assert_eq!(answer.calls, [call("call_1", "weather.now", json!({ "city": "Oslo" }))]);
        let sent = server.last();
        assert_eq!(sent.get("tools"), None);
        let arms = &sent["response_format"]["json_schema"]["schema"]["anyOf"];
        assert_eq!(arms[2]["required"], json!(["answer"]), "it may also answer: {arms}");
        let system = sent["messages"][0]["content"].as_str().unwrap();
        assert!(
            system.contains("- weather.now: The weather of a city\n  Schema of its arguments: {\"type\""),
            "{system}"
        );
        // From then on at once.
        let answer = ask(&model, request(json!({}))).await.unwrap();
        assert_eq!((answer.output, &*answer.text), (json!("No."), "No."), "without the protocol around it");
        assert_eq!(server.requests(), 3);
    }
}

#[tokio::test]
async fn a_server_that_leaves_calls_in_the_text_has_tools_explained_from_then_on() {
    let said = r#"<tool_call>{"name": "weather_now", "arguments": {"city": "Oslo"}}</tool_call>"#;
    let bare = r#"{"name": "weather.now", "arguments": {"city": "Oslo"}}"#;
    for said in [said, bare] {
        let server = Server::start([Canned::stream(said), Canned::stream("No.")]).await;
        let model = model(&server);
        let answer = ask(&model, request(json!({}))).await.unwrap();
        assert_eq!(answer.calls, [call("call_1", "weather.now", json!({ "city": "Oslo" }))], "{said}");
        assert_eq!(answer.text, "", "the call is not told twice");
        ask(&model, request(json!({}))).await.unwrap();
        assert!(server.request(0).body.get("tools").is_some());
        assert!(server.request(1).body.get("tools").is_none());
    }
}

#[tokio::test]
async fn a_required_call_is_insisted_on() {
    let call_it = r#"{"tool": "clock", "arguments": {}}"#;
    let server = Server::start([Canned::stream("I don't know."), Canned::stream(call_it)]).await;
    let answer = ask(&model(&server), request(json!({ "tool_choice": "required" }))).await.unwrap();
    assert_eq!(answer.calls, [call("call_1", "clock", json!({}))]);
    assert_eq!(server.request(0).body["tool_choice"], "required");
    let sent = server.last();
    let arms = sent["response_format"]["json_schema"]["schema"]["anyOf"].as_array().unwrap();
    assert_eq!(arms[0]["properties"]["tool"]["enum"], json!(["weather.now"]));
    assert_eq!(arms.len(), 2);
    assert_eq!(sent["response_format"]["json_schema"]["strict"], false);
    let told = sent["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap();
    assert!(told.contains("calls none of the tools `weather.now`, `clock`"), "{told}");

    let server = Server::start([Canned::stream("No."), Canned::stream("No!")]).await;
    let error = ask(&model(&server), request(json!({ "tool_choice": "required" }))).await.unwrap_err();
    assert!(
        error.message.ends_with(r#"its answer calls none of the tools `weather.now`, `clock`. It said: "No!""#),
        "{error}"
    );
}

#[tokio::test]
async fn a_shape_waits_until_no_tool_is_called() {
    let choose = json!({ "choose": ["rain", "sun"] });
    let first = Canned::deltas([delta(0, "a", "clock", "{}")], "tool_calls");
    let server = Server::start([first, Canned::stream("Hm."), Canned::stream(r#"{"choice":"rain"}"#)]).await;
    let model = model(&server);
    assert_eq!(ask(&model, request(choose.clone())).await.unwrap().calls.len(), 1);
    let sent = server.last();
    assert_eq!(sent.get("response_format"), None, "it would rule calls out");
    assert!(sent["messages"][0]["content"].as_str().unwrap().starts_with("When you call no tool: Choose"), "{sent}");
    // An answer that is wrong is asked for again, and then constrained.
    assert_eq!(ask(&model, request(choose)).await.unwrap().output, "rain");
    let sent = server.last();
    assert_eq!(
        (&sent["tool_choice"], &sent["response_format"]["json_schema"]["strict"]),
        (&json!("none"), &json!(true))
    );
}

#[tokio::test]
async fn without_a_choice_none_is_called() {
    let server = Server::start([Canned::stream("No.")]).await;
    let answer = ask(&model(&server), request(json!({ "tool_choice": "none" }))).await.unwrap();
    assert_eq!(answer.output, "No.");
    assert_eq!(server.last()["tool_choice"], "none");
}

#[test]
fn a_call_is_found_where_models_put_it() {
    let request = SampleRequest::parse(&request(json!({}))).unwrap();
    let oslo = [call("call_1", "weather.now", json!({ "city": "Oslo" }))];
    for said in [
        r#"{"tool": "weather.now", "arguments": {"city": "Oslo"}}"#,
        "I'll look.\n```json\n{\"tool\": \"weather.now\", \"arguments\": {\"city\": \"Oslo\"}}\n```",
        r#"<think>{"tool": "clock"}</think>[{"tool": "weather.now", "arguments": {"city": "Oslo"}}]"#,
        r#"{"name": "weather.now", "parameters": {"city": "Oslo"}}"#,
        r#"{"type": "function", "function": {"name": "weather.now", "arguments": "{\"city\": \"Oslo\"}"}}"#,
    ] {
        assert_eq!(request.read(said), Ok(Reply::Calls(oslo.to_vec())), "{said}");
    }
    let both = r#"{"tool": "clock"} {"tool": "clock", "arguments": {}}"#;
    let clock = |id| call(id, "clock", json!({}));
    assert_eq!(request.read(both), Ok(Reply::Calls(vec![clock("call_1"), clock("call_2")])));
    // What is none is an answer.
    for said in
        ["The clock says ten.", r#"{"name": "clock"}"#, r#"{"name": "Ada", "arguments": {}}"#, r#"{"tool": "hammer"}"#]
    {
        assert_eq!(request.read(said), Ok(Reply::Output(said.into())), "{said}");
    }
    for (said, why) in [
        (r#"{"tool": "hammer", "arguments": {}}"#, "calls `hammer`, which is none of the tools `weather.now`, `clock`"),
        (r#"{"tool": "clock", "arguments": 5}"#, "calls `clock` with arguments that are not a JSON object"),
    ] {
        assert_eq!(request.read(said), Err(why.into()));
    }
}

#[test]
fn tools_are_read_strictly() {
    let refused = |more: Value| {
        let error = SampleRequest::parse(&request(more)).unwrap_err();
        assert_eq!(error.kind, ModelErrorKind::InvalidRequest);
        error.message
    };
    for (more, message) in [
        (json!({ "tools": {} }), "`tools` must be a list"),
        (
            json!({ "tools": [{ "server": "s", "tool": "t", "name": "t" }] }),
            "`tools[0]` needs `name` and `input_schema`: missing field `input_schema`",
        ),
        (json!({ "tools": [{ "name": "t", "input_schema": 5 }] }), "`tools[0]` needs an object as `input_schema`"),
        (
            json!({ "tools": [{ "name": "t", "input_schema": {} }, { "name": "t", "input_schema": {} }] }),
            "`tools[1]` needs a `name` of its own",
        ),
        (json!({ "tool_choice": "any" }), "`tool_choice` must be `auto`, `required` or `none`, not \"any\""),
        (json!({ "tools": [], "tool_choice": "required" }), "`tool_choice` is `required`, but there are no `tools`"),
        (json!({ "stop": 5 }), "`stop` must be a list of texts"),
        (json!({ "stop": [""] }), "`stop` has an empty text, which would end every answer"),
    ] {
        assert_eq!(refused(more), message);
    }
    let conversation = |last: Value| {
        let messages = json!([{ "role": "user", "content": "Hi" }, last]);
        SampleRequest::parse(&json!({ "messages": messages })).unwrap_err().message
    };
    assert_eq!(
        conversation(json!({ "role": "tool", "id": "a", "content": "x" })),
        "a message of the role `tool` needs `name`, a string"
    );
    assert_eq!(
        conversation(json!({ "role": "user", "content": "x", "tool_calls": [] })),
        "only messages of the role `assistant` have `tool_calls`"
    );
    assert_eq!(
        conversation(json!({ "role": "assistant", "content": "x" })),
        "the last of `messages` must have the role `user` or `tool`"
    );
}
