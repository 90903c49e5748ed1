//! An agent whose model is whoever called: its tools go along, in both eras, and calls come back.

use antiphon_tests::{Era, Host, Scratch, text_of};
use serde_json::{Value, json};

use crate::model;

fn project(agent_model: &str) -> Scratch {
    let scratch = Scratch::new();
    scratch.file(
        "antiphon.toml",
        &format!(
            "[servers.tools]\ncommand = \"${{FIXTURE}}\"\nargs = [\"--log\", \"${{LOG}}\"]\n{}\
             [agents.clerk]\ninstructions = \"You are the clerk.\"\nmodel = {agent_model}\ngrants = [\"tools.echo\"]\n",
            model("down", "http://127.0.0.1:9/v1")
        ),
    );
    scratch
}

fn host(scratch: &Scratch, era: Era, capabilities: Value) -> Host {
    Host::start(&mut scratch.with_db(&["serve", ".", "--trust"]), era, capabilities)
}

fn said(content: Value, stop: &str) -> Value {
    json!({ "role": "assistant", "model": "host-1", "content": content, "stopReason": stop })
}

fn text(text: &str) -> Value {
    said(json!({ "type": "text", "text": text }), "endTurn")
}

/// The host's model calls the tool, then tells what came of it.
fn answer(params: &Value) -> Value {
    let messages = params["messages"].as_array().unwrap();
    if messages.len() == 1 {
        let tool = &params["tools"][0];
        assert_eq!(tool["name"], "tools__echo", "{params}");
        assert!(tool["inputSchema"].is_object() && tool["description"] == "Gives its arguments back", "{params}");
        assert_eq!(params["systemPrompt"], "You are the clerk.");
        let call = json!({ "type": "tool_use", "id": "c1", "name": "tools__echo", "input": { "word": "hello" } });
        return said(call, "toolUse");
    }
    let [_, called, result] = messages.as_slice() else { panic!("{params}") };
    assert_eq!((&called["role"], &called["content"]["type"]), (&json!("assistant"), &json!("tool_use")), "{params}");
    assert_eq!(result["content"]["toolUseId"], called["content"]["id"], "{params}");
    text(&format!("It said {}", result["content"]["content"][0]["text"].as_str().unwrap()))
}

const WANTED: &str = r#"It said {"word":"hello"}"#;

#[test]
fn the_callers_model_is_given_the_tools_of_servers_and_its_calls_are_made() {
    for agent_model in ["\"caller\"", "[\"down\", \"caller\"]"] {
        let scratch = project(agent_model);
        let prompt = json!({ "prompt": "Find out" });

        let mut legacy = host(&scratch, Era::Legacy, json!({ "sampling": { "tools": {} } }));
        let call = legacy.post_call("ask_clerk", prompt.clone());
        for _ in 0..2 {
            let asked = legacy.pushed("sampling/createMessage");
            let answer = answer(&asked["params"]);
            legacy.reply(&asked, answer);
        }
        let ended = legacy.response(call).unwrap()["result"].clone();
        assert_eq!(text_of(&ended), WANTED, "{agent_model}: {ended}");
        drop(legacy);

        let mut modern = host(&scratch, Era::Modern, json!({ "sampling": { "tools": {} } }));
        let mut result = modern.call("ask_clerk", prompt.clone())["result"].clone();
        for _ in 0..2 {
            assert_eq!(result["resultType"], "input_required", "{agent_model}: {result}");
            let (key, asked) = result["inputRequests"].as_object().unwrap().iter().next().unwrap();
            let retry = json!({
                "name": "ask_clerk", "arguments": prompt, "requestState": result["requestState"],
                "inputResponses": { key: answer(&asked["params"]) },
            });
            result = modern.ask("tools/call", retry)["result"].clone();
        }
        assert_eq!(text_of(&result), WANTED, "{agent_model}: {result}");
        assert_eq!(scratch.calls().iter().filter(|call| call["event"] == "begin").count(), 2);
    }
}

#[test]
fn to_a_model_that_takes_no_tools_they_are_explained() {
    let scratch = project("\"caller\"");
    let mut host = host(&scratch, Era::Legacy, json!({ "sampling": {} }));
    let call = host.post_call("ask_clerk", json!({ "prompt": "Find out" }));
    let asked = host.pushed("sampling/createMessage");
    assert!(asked["params"].get("tools").is_none(), "{asked}");
    assert!(asked["params"]["systemPrompt"].as_str().unwrap().contains("tools__echo"), "{asked}");
    host.reply(&asked, text(r#"{"tool": "tools__echo", "arguments": {"word": "hello"}}"#));
    let asked = host.pushed("sampling/createMessage");
    assert!(asked["params"]["messages"].to_string().contains("hello"), "{asked}");
    host.reply(&asked, text("It said hello"));
    assert_eq!(text_of(&host.response(call).unwrap()["result"]), "It said hello");
}

#[test]
fn whoever_cannot_sample_is_not_asked() {
    for agent_model in ["\"caller\"", "[\"down\", \"caller\"]"] {
        let scratch = project(agent_model);
        for era in [Era::Legacy, Era::Modern] {
            let ended = host(&scratch, era, json!({})).call("ask_clerk", json!({ "prompt": "Hi" }))["result"].clone();
            assert_eq!(ended["isError"], true, "{agent_model}, {era:?}: {ended}");
            assert!(text_of(&ended).contains("can't sample"), "{agent_model}, {era:?}: {ended}");
        }
    }
}

#[test]
fn a_servers_tools_are_explained_to_a_caller_that_takes_none() {
    let Some(python) = antiphon_tests::python() else { return };
    let scratch = Scratch::new();
    let thinker = antiphon_tests::repository().join("tests/clients/thinker.py");
    scratch.file(
        "antiphon.toml",
        &format!(
            "[servers.push]\ncommand = {:?}\nargs = [{:?}, {:?}, \"legacy\"]\n\
             sampling = {{ consent = \"allow\", models = [\"caller\"] }}\n",
            python,
            thinker,
            scratch.log()
        ),
    );
    scratch
        .file("go.toml", "[steps.it]\ncall = \"push.reckon\"\nwith.words = \"How long?\"\neffects = \"read_only\"\n");
    let mut host = host(&scratch, Era::Legacy, json!({ "sampling": {} }));
    let call = host.post_call("go", json!({}));
    let asked = host.pushed("sampling/createMessage");
    assert!(asked["params"].get("tools").is_none() && asked.to_string().contains("count"), "{asked}");
    host.reply(&asked, text(r#"{"tool": "count", "arguments": {"word": "antiphon"}}"#));
    let asked = host.pushed("sampling/createMessage");
    host.reply(&asked, text("It has 8 letters."));
    let ended = host.response(call).unwrap()["result"].clone();
    assert!(text_of(&ended).contains("It has 8 letters."), "{ended}");
}
