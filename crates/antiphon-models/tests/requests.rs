//! Requests as steps spell them, shapes, and the registry.
#![expect(clippy::unwrap_used)]

use antiphon_models::{DEFAULT_MAX_TOKENS, ModelErrorKind, Models, Reply, Role, SampleRequest, Shape, prompt};
use serde_json::{Value, json};

fn refused(request: Value) -> String {
    let error = SampleRequest::parse(&request).unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::InvalidRequest);
    error.message
}

#[test]
fn a_prompt_is_one_message() {
    let request = SampleRequest::parse(&json!({ "prompt": "Hi" })).unwrap();
    assert_eq!((request.messages[0].role, &*request.messages[0].text), (Role::User, "Hi"));
    assert_eq!((request.max_tokens, request.temperature), (DEFAULT_MAX_TOKENS, None));
    let request = SampleRequest::parse(&json!({ "prompt": { "a": 1 } })).unwrap();
    assert_eq!(request.messages[0].text, r#"{"a":1}"#);
}

#[test]
fn messages_may_be_text_or_mcp_content() {
    let request = SampleRequest::parse(&json!({ "messages": [
        { "role": "user", "content": "One" },
        { "role": "assistant", "content": { "type": "text", "text": "Two" } },
        { "role": "user", "content": [{ "type": "text", "text": "Three" }, "Four"] },
    ] }));
    let texts: Vec<_> = request.unwrap().messages.into_iter().map(|message| message.text).collect();
    assert_eq!(texts, ["One", "Two", "Three\nFour"]);
}

#[test]
fn a_wrong_request_is_told_by_its_key() {
    let user = |content: Value| json!({ "messages": [{ "role": "user", "content": content }] });
    for (request, message) in [
        (json!("Hi"), "a sample's request must be a map"),
        (json!({}), "a sample needs `prompt` or `messages`"),
        (json!({ "prompt": "a", "messages": [] }), "a sample has `prompt` or `messages`, not both"),
        (json!({ "prompt": null }), "`prompt` is null"),
        (json!({ "messages": [] }), "`messages` is empty"),
        (user(json!({ "type": "image", "data": "" })), "models are sent text; a message has image content"),
        (json!({ "prompt": "a", "choose": {} }), "`choose` needs at least one label"),
        (json!({ "prompt": "a", "choose": ["b"], "schema": {} }), "a sample has `choose` or `schema`, not both"),
        (json!({ "prompt": "a", "max_tokens": 0 }), "`max_tokens` must be a positive integer, not 0"),
        (json!({ "prompt": "a", "temperature": 3 }), "`temperature` must be between 0 and 2, not 3"),
        (
            json!({ "prompt": "a", "choose": ["b"], "examples": [{ "input": "x", "output": "c" }] }),
            "`examples[0].output` is not one of the labels `b`",
        ),
        (json!({ "prompt": "a", "examples": [{ "input": "x" }] }), "`examples[0]` needs `input` and `output`"),
    ] {
        assert_eq!(refused(request), message);
    }
    assert!(refused(json!({ "prompt": "a", "schema": { "type": 5 } })).starts_with("`schema` is not a JSON Schema: "));
}

fn shape(request: Value) -> Shape {
    let mut request = request;
    request["prompt"] = "?".into();
    SampleRequest::parse(&request).unwrap().shape
}

#[test]
fn a_label_is_found_where_models_put_it() {
    let shape = shape(json!({ "choose": ["bug", "not_a_bug"] }));
    for said in [
        r#"{"choice": "bug"}"#,
        "```json\n{\"choice\": \"bug\"}\n```",
        r#"Sure! {"choice": "bug"} it is, not {x}."#,
        r#""bug""#,
        "Bug.",
        "**bug**",
        "This is a bug, I think.",
        "<think>not_a_bug? No.</think>\n{\"choice\": \"bug\"}",
    ] {
        assert_eq!(shape.read(said), Ok("bug".into()), "{said}");
    }
    for said in ["", "neither", "a bug or not_a_bug", r#"{"choice": "feature"}"#, "<think>bug"] {
        assert_eq!(shape.read(said), Err("is not one of the labels `bug`, `not_a_bug`".into()), "{said}");
    }
}

#[test]
fn a_value_is_found_where_models_put_it() {
    let shape = shape(json!({ "schema": {
        "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"],
    } }));
    for said in [r#"{"n": 1}"#, "Here:\n```\n{\"n\": 1}\n```\nDone.", r#"[0] {"m": 2} {"n": 1}"#, r#"{ {"n": 1}"#] {
        assert_eq!(shape.read(said), Ok(json!({ "n": 1 })), "{said}");
    }
    assert_eq!(shape.read("one"), Err("is not JSON".into()));
    let why = shape.read(r#"{"n": "1"}"#).unwrap_err();
    assert_eq!(why, r#"does not conform to the schema: at /n: "1" is not of type "integer""#);
}

#[test]
fn a_missing_model_is_told_with_the_choices() {
    let error = Models::default().get("local").err().unwrap();
    assert_eq!(error.kind, ModelErrorKind::Unavailable);
    assert_eq!(
        error.message,
        "this build has no embedded model, so `local` must be declared; none is declared. Declare it as [models.local] with \
         `base_url` and `model` of any OpenAI-compatible server (such as http://127.0.0.1:11434/v1), or sample from `caller`"
    );
    let error = Models::default().get("triage/fast").err().unwrap();
    assert!(error.message.contains("no model is named `triage/fast`"), "{error}");
    assert!(error.message.contains("[models.fast]"), "{error}");
}

fn with_tool(mut request: Value) -> SampleRequest {
    request["tools"] = json!([{ "name": "read", "input_schema": { "type": "object" } }]);
    SampleRequest::parse(&request).unwrap()
}

#[test]
fn where_a_call_could_be_an_answer_is_told_apart_by_its_key() {
    let request = with_tool(json!({ "prompt": "?" }));
    for (said, answer) in [
        (r#"{"answer": "a \"b\"\n"}"#, "a \"b\"\n"),
        ("```json\n{\n  \"answer\": \"fine\"\n}\n```", "fine"),
        ("Just words.", "Just words."),
        // Cut at the most tokens, even inside an escape, or by a stop text.
        (r#"{"answer": "half a sen"#, "half a sen"),
        (r#"{"answer": "tab\u00"#, "tab"),
        (r#"{"answer": ""}"#, ""),
        // Not the protocol, but an answer.
        (r#"{"answer": 5}"#, r#"{"answer": 5}"#),
    ] {
        let reply = request.read(said).unwrap();
        assert_eq!(reply, Reply::Output(answer.into()), "{said}");
        assert_eq!(request.words(said.to_owned(), &answer.into()), answer);
    }
    let call = request.read(r#"{"tool": "read", "arguments": {}}"#).unwrap();
    assert!(matches!(&call, Reply::Calls(calls) if calls[0].name == "read"), "{call:?}");
    // Without tools there is no protocol.
    let plain = SampleRequest::text("?");
    assert_eq!(plain.read(r#"{"answer": "x"}"#).unwrap(), Reply::Output(r#"{"answer": "x"}"#.into()));
}

#[test]
fn small_models_are_told_again_at_the_end() {
    let last = |request: &SampleRequest| prompt::in_words(request).pop().unwrap().text;
    let choose = json!({ "prompt": "Too long.", "choose": { "cut": "shorter", "keep": "" } });
    let told = last(&SampleRequest::parse(&choose).unwrap());
    assert!(told.starts_with("Too long.\n\nChoose the one label that fits best:\n- cut: shorter\n- keep\n"), "{told}");
    let many: Vec<String> = (0..200).map(|n| format!("label-{n}")).collect();
    let many = SampleRequest::parse(&json!({ "prompt": "Which?", "choose": many })).unwrap();
    assert_eq!(last(&many), "Which?", "once is enough");

    let read = json!([
        { "role": "user", "content": "What is in a?" },
        { "role": "assistant", "tool_calls": [{ "id": "1", "name": "read", "arguments": { "path": "a", "n": [1, 2] } }] },
        { "role": "tool", "id": "1", "name": "read", "content": "pears" },
    ]);
    let request = with_tool(json!({ "messages": read }));
    let messages = prompt::in_words(&request);
    let [.., called, told] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!(called.text, r#"{"tool": "read", "arguments": {"path": "a", "n": [1, 2]}}"#, "as it was asked to");
    assert_eq!(told.text, "The tool `read` answered:\npears\n\nNow you know more. Answer, if you can: What is in a?");
}
