//! Requests and answers as MCP spells them.
#![expect(clippy::unwrap_used)]

use antiphon_models::{
    Message, ModelErrorKind, Preferences, SampleAnswer, SampleRequest, StopReason, ToolCall, ToolChoice, ToolResult,
    Traits, mcp,
};
use serde_json::{Value, json};

fn params() -> Value {
    json!({
        "messages": [
            { "role": "user", "content": { "type": "text", "text": "Rain in Oslo?" } },
            { "role": "assistant", "content": [
                { "type": "text", "text": "Let me see." },
                { "type": "tool_use", "id": "a", "name": "weather", "input": { "city": "Oslo" } },
                { "type": "tool_use", "id": "b", "name": "clock", "input": {} },
            ] },
            { "role": "user", "content": [
                { "type": "tool_result", "toolUseId": "a", "content": [{ "type": "text", "text": "rain" }], "isError": false },
                { "type": "tool_result", "toolUseId": "b", "content": [{ "type": "text", "text": "it stopped" }], "isError": true },
            ] },
        ],
        "maxTokens": 50,
        "systemPrompt": "Be brief.",
        "temperature": 0.5,
        "stopSequences": ["END"],
        "modelPreferences": { "hints": [{ "name": "qwen" }], "speedPriority": 1.0 },
        "tools": [
            { "name": "weather", "inputSchema": { "type": "object" }, "description": "The weather" },
            { "name": "clock", "inputSchema": { "type": "object" } },
        ],
        "toolChoice": { "mode": "auto" },
    })
}

#[test]
fn a_request_is_the_same_there_and_back() {
    let (request, preferences) = mcp::request(&params()).unwrap();
    assert_eq!(request.system.as_deref(), Some("Be brief."));
    assert_eq!(
        (request.max_tokens, request.temperature, request.stop.as_slice()),
        (50, Some(0.5), &["END".to_owned()][..])
    );
    assert_eq!(request.messages[1].text, "Let me see.");
    assert_eq!(request.messages[1].calls[0].arguments["city"], "Oslo");
    assert_eq!(
        request.messages[2],
        Message::results(vec![
            ToolResult { id: "a".into(), name: "weather".into(), text: "rain".into(), is_error: false },
            ToolResult { id: "b".into(), name: "clock".into(), text: "it stopped".into(), is_error: true },
        ])
    );
    assert_eq!(mcp::params(&request, &preferences, true), params());
}

#[test]
fn a_caller_without_tools_has_them_explained() {
    let (request, _) = mcp::request(&params()).unwrap();
    let sent = mcp::params(&request, &Preferences::default(), false);
    assert_eq!((sent.get("tools"), sent.get("modelPreferences")), (None, None));
    let system = sent["systemPrompt"].as_str().unwrap();
    assert!(system.starts_with("Be brief.\n\nYou can call these tools:\n- weather: The weather\n"), "{system}");
    let said = &sent["messages"][1]["content"]["text"];
    assert_eq!(
        said,
        "Let me see.\n{\"tool\": \"weather\", \"arguments\": {\"city\": \"Oslo\"}}\n{\"tool\": \"clock\", \"arguments\": {}}"
    );
    let told = &sent["messages"][2]["content"]["text"];
    let results = "The tool `weather` answered:\nrain\nThe tool `clock` failed:\nit stopped";
    assert_eq!(told, &format!("{results}\n\nNow you know more. Answer, if you can: Rain in Oslo?"));

    let result = json!({ "content": { "type": "text", "text": "```{\"tool\": \"clock\", \"arguments\": {}}```" } });
    let answer = mcp::answer(&request, &result).unwrap();
    assert_eq!((answer.calls[0].name.as_str(), answer.stop), ("clock", StopReason::ToolUse));
}

#[test]
fn what_is_wrong_with_a_request_is_told() {
    let with = |key: &str, value: Value| {
        let mut params = params();
        params[key] = value;
        params
    };
    let said = |role: &str, content: Value| with("messages", json!([{ "role": role, "content": content }]));
    for (params, message) in [
        (json!({}), "`messages` must be a list"),
        (with("messages", json!([])), "`messages` is empty"),
        (said("system", json!([])), "each of `messages` needs the role `user` or `assistant`"),
        (
            said("user", json!({ "type": "image", "data": "", "mimeType": "image/png" })),
            "unsupported modality: models are sent text, not image",
        ),
        (
            said("user", json!({ "type": "tool_use", "id": "a", "name": "x", "input": {} })),
            "`tool_use` content is in a message of the wrong role",
        ),
        (
            said("user", json!({ "type": "tool_result", "toolUseId": "z", "content": [] })),
            "no `tool_use` before the `tool_result` has the id \"z\"",
        ),
        (
            said("assistant", json!({ "type": "tool_use", "id": "a", "name": "x", "input": {} })),
            "the tool result of the call \"a\" is missing",
        ),
        (with("maxTokens", json!(0)), "`maxTokens` must be a positive integer, not 0"),
        (with("temperature", json!(-1)), "`temperature` must be between 0 and 2, not -1"),
        (with("tools", json!([{ "name": "x" }])), "the tool `x` needs an object as `inputSchema`"),
        (
            with("toolChoice", json!({ "mode": "tool" })),
            "the `mode` of `toolChoice` must be `auto`, `required` or `none`, not \"tool\"",
        ),
    ] {
        let error = mcp::request(&params).unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (ModelErrorKind::InvalidRequest, message));
    }
    let mixed = with("messages", {
        let mut messages = params()["messages"].clone();
        messages[2]["content"].as_array_mut().unwrap().push(json!({ "type": "text", "text": "and?" }));
        messages
    });
    assert_eq!(mcp::request(&mixed).unwrap_err().message, "tool results are mixed with other content");
}

#[test]
fn an_answer_becomes_a_result_and_a_result_an_answer() {
    let call = ToolCall { id: "c".into(), name: "clock".into(), arguments: serde_json::Map::new() };
    let answer = SampleAnswer {
        text: "One moment.".into(),
        calls: vec![call.clone()],
        model: "qwen".into(),
        stop: StopReason::ToolUse,
        ..SampleAnswer::default()
    };
    let result = mcp::result(&answer);
    assert_eq!(
        result,
        json!({
            "role": "assistant", "model": "qwen", "stopReason": "toolUse",
            "content": [
                { "type": "text", "text": "One moment." },
                { "type": "tool_use", "id": "c", "name": "clock", "input": {} },
            ],
        })
    );
    let (request, _) = mcp::request(&params()).unwrap();
    let back = mcp::answer(&request, &result).unwrap();
    assert_eq!((back.calls, back.text.as_str(), back.model.as_str()), (vec![call], "One moment.", "qwen"));
    assert!(back.usage.estimated && back.usage.prompt_tokens > 0);

    let text = |text: &str, stop: &str| json!({ "role": "assistant", "content": { "type": "text", "text": text }, "model": "m", "stopReason": stop });
    let ended = |stop: &str| mcp::answer(&SampleRequest::text("?"), &text("ok", stop)).unwrap();
    assert_eq!(mcp::result(&ended("endTurn")), text("ok", "endTurn"));
    assert_eq!(ended("refusal").stop, StopReason::Other("refusal".into()));
    assert_eq!(mcp::result(&ended("refusal"))["stopReason"], "refusal", "what is unknown passes through");

    let choose = SampleRequest::parse(&json!({ "prompt": "?", "choose": ["a", "b"] })).unwrap();
    assert_eq!(mcp::answer(&choose, &text("A.", "endTurn")).unwrap().output, "a");
    for (result, message) in [
        (text("c", "endTurn"), "the answer is not one of the labels `a`, `b`"),
        (json!("a"), "it must be a CreateMessageResult: an object with `content`"),
        (json!({ "content": { "type": "audio" } }), "unsupported modality: models are sent text, not audio"),
    ] {
        let error = mcp::answer(&choose, &result).unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (ModelErrorKind::InvalidOutput, message));
    }
}

#[test]
fn required_tools_must_be_there() {
    let mut params = params();
    params["toolChoice"] = json!({ "mode": "required" });
    assert_eq!(mcp::request(&params).unwrap().0.tool_choice, ToolChoice::Required);
    params["tools"] = Value::Null;
    assert_eq!(mcp::request(&params).unwrap_err().message, "`toolChoice` is `required`, but there are no `tools`");
}

#[test]
fn priorities_weigh_traits() {
    let prefer = |value: Value| serde_json::from_value::<Preferences>(value).unwrap();
    let cheap = Traits { cost: 0.0, intelligence: 0.2, ..Traits::default() };
    let clever = Traits { cost: 1.0, intelligence: 0.9, ..Traits::default() };
    let cost = prefer(json!({ "costPriority": 0.9, "intelligencePriority": 0.1 }));
    assert!(cost.weigh(&cheap) > cost.weigh(&clever));
    let intelligence = prefer(json!({ "costPriority": 0.1, "intelligencePriority": 1 }));
    assert!(intelligence.weigh(&clever) > intelligence.weigh(&cheap));
    assert_eq!(prefer(json!({})).weigh(&clever), prefer(json!({})).weigh(&cheap));
}
