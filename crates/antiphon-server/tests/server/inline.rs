//! What every caller gets: lists, inline results, errors, and calls that can be repeated.

use antiphon_server::{Catalog, CatalogError, TaskPolicy};
use serde_json::{Value, json};

use crate::support::{Fixture, exposed, modern, tasks, text};

#[tokio::test]
async fn the_tools_are_the_workflows_and_the_servers_own_in_a_fixed_order() {
    let fixture = Fixture::new();
    let mut pipe = fixture.pipe();
    let list = pipe.request("tools/list", modern(json!({}), &json!({}))).await;
    let names: Vec<&str> =
        list["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "approve",
            "broken",
            "doubt",
            "echo",
            "list",
            "pick",
            "sample",
            "slow",
            "visit",
            "run_answer",
            "run_cancel",
            "run_start",
            "run_status",
        ]
    );
    assert_eq!(list["cacheScope"], "private");
    let echo = &list["tools"][3];
    assert_eq!(echo["annotations"]["readOnlyHint"], true);
    assert_eq!(echo["inputSchema"]["properties"]["text"]["type"], "string");
    assert_eq!(echo["outputSchema"]["type"], "object");
    assert_eq!(echo["outputSchema"]["anyOf"][0]["required"], json!(["text"]));
    assert_eq!(echo["outputSchema"]["anyOf"][1]["required"], json!(["run"]));
    assert!(list["tools"][0].get("outputSchema").is_none());
}

#[test]
fn names_are_taken_once() {
    let task = TaskPolicy::default();
    assert_eq!(
        Catalog::new([exposed("a", task), exposed("a", task)]).unwrap_err(),
        CatalogError::Duplicate("a".to_owned())
    );
    assert_eq!(Catalog::new([exposed("run_start", task)]).unwrap_err(), CatalogError::Reserved("run_start".to_owned()));
}

#[tokio::test]
async fn an_output_is_structured_and_also_text() {
    let fixture = Fixture::new();
    let mut pipe = fixture.pipe();
    let result = pipe.call("echo", json!({ "text": "hi" }), &json!({})).await;
    assert_eq!(result["structuredContent"], json!({ "text": "hi" }));
    assert_eq!(text(&result), r#"{"text":"hi"}"#);
    assert_eq!(result["isError"], false);
    assert_eq!(pipe.call("list", json!({}), &json!({})).await["structuredContent"], json!([1, 2]));

    let mut pipe = fixture.legacy_pipe(json!({})).await;
    let result = pipe.legacy_call("list", json!({})).await;
    assert_eq!(result["structuredContent"], json!({ "output": [1, 2] }), "legacy structured content is an object");
    assert!(result.get("resultType").is_none());
}

#[tokio::test]
async fn what_the_model_can_mend_is_a_result_and_what_it_cannot_an_error() {
    let fixture = Fixture::new();
    let mut pipe = fixture.pipe();
    let result = pipe.call("echo", json!({ "text": 1 }), &tasks()).await;
    assert_eq!(result["isError"], true);
    assert_eq!(text(&result), "the input does not fit `echo`: `text` must be a string");

    let unknown = pipe.refused("tools/call", modern(json!({ "name": "nope" }), &json!({}))).await;
    assert_eq!(unknown, json!({ "code": -32602, "message": "no tool `nope`; tools/list names them" }));
    let malformed = pipe.refused("tools/call", modern(json!({ "name": "echo", "arguments": [] }), &json!({}))).await;
    assert_eq!(malformed["code"], -32602);
    assert_eq!(pipe.refused("no/such", modern(json!({}), &json!({}))).await["code"], -32601);
}

#[tokio::test]
async fn a_failed_run_that_ends_inline_is_durable_before_its_id_is_shown() {
    let fixture = Fixture::new();
    let mut pipe = fixture.pipe();
    let result = pipe.call("broken", json!({}), &json!({})).await;
    assert_eq!(result["isError"], true);
    assert!(text(&result).ends_with("antiphon show run-1"));
    assert!(fixture.engine.is_durable("run-1"));
}

fn keyed(tool: &str, arguments: Value, key: Value) -> Value {
    let params = json!({ "name": tool, "arguments": arguments, "_meta": { "antiphon/idempotency-key": key } });
    modern(params, &tasks())
}

#[tokio::test]
async fn the_same_key_gives_the_same_run() {
    let fixture = Fixture::new();
    let mut pipe = fixture.pipe();
    let first = pipe.request("tools/call", keyed("slow", json!({}), json!("k"))).await;
    let second = pipe.request("tools/call", keyed("slow", json!({}), json!("k"))).await;
    assert_eq!(first["taskId"], second["taskId"]);
    assert_eq!(fixture.engine.count(), 1);

    let reused = pipe.request("tools/call", keyed("slow", json!({ "text": "other" }), json!("k"))).await;
    assert_eq!(reused["isError"], true);
    assert_eq!(text(&reused), "the idempotency key was already used for another workflow or input");
    assert_eq!(pipe.refused("tools/call", keyed("slow", json!({}), json!(7))).await["code"], -32602);
    // Another owner's key is another key.
    let mut theirs = fixture.pipe_of("token:eve", None);
    let other = theirs.request("tools/call", keyed("slow", json!({}), json!("k"))).await;
    assert_ne!(first["taskId"], other["taskId"]);
}

#[tokio::test]
async fn a_modern_caller_that_leaves_before_it_has_a_handle_cancels_the_run() {
    let fixture = Fixture::new();
    let mut pipe = fixture.pipe();
    let id = pipe.begin("tools/call", modern(json!({ "name": "slow" }), &json!({}))).await;
    fixture.engine.until(|engine| engine.count() == 1).await;
    pipe.notify("notifications/cancelled", json!({ "requestId": id })).await;
    fixture.engine.until(|engine| !engine.cancel_reasons().is_empty()).await;
    assert_eq!(fixture.engine.cancel_reasons(), ["the caller cancelled the call"]);
}

#[tokio::test(start_paused = true)]
async fn a_modern_pipe_that_closes_cancels_what_nobody_can_come_back_to() {
    let fixture = Fixture::new();
    let mut pipe = fixture.pipe();
    pipe.begin("tools/call", modern(json!({ "name": "slow" }), &json!({}))).await;
    fixture.engine.until(|engine| engine.count() == 1).await;
    // With a key of its own, the caller can come back.
    let params = json!({ "name": "slow", "_meta": { "antiphon/idempotency-key": "k" } });
    pipe.begin("tools/call", modern(params, &json!({}))).await;
    // And a task is out of the connection's hands.
    pipe.call("slow", json!({}), &tasks()).await;
    assert_eq!(fixture.engine.count(), 3);
    pipe.close().await;
    fixture.engine.until(|engine| !engine.cancel_reasons().is_empty()).await;
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    assert_eq!(fixture.engine.cancel_reasons().len(), 1);
}

#[tokio::test]
async fn a_server_that_stops_cancels_nothing() {
    let fixture = Fixture::new();
    let mut pipe = fixture.pipe();
    let id = pipe.begin("tools/call", modern(json!({ "name": "slow" }), &json!({}))).await;
    fixture.engine.until(|engine| engine.count() == 1).await;
    fixture.server.stop();
    assert_eq!(pipe.response(id).await["error"]["code"], -32603);
    assert!(fixture.engine.cancel_reasons().is_empty());
}

#[tokio::test]
async fn a_line_that_is_too_long_or_unreadable_is_refused_and_the_pipe_goes_on() {
    let fixture = Fixture::new();
    let mut pipe = fixture.pipe();
    let long = "x".repeat(20 * 1024 * 1024);
    // The id comes last, as some clients write it.
    let line = json!({ "method": "tools/call", "params": { "name": "echo", "arguments": { "text": long } }, "id": 77 });
    pipe.send_line(line.to_string().as_bytes()).await;
    let refused = pipe.receive(|message| message["id"] == 77).await;
    assert_eq!(refused["error"]["code"], -32600);
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("at most 4194304 are taken: pass large data by a file's path or a URL"), "{message}");

    pipe.send_line(b"{ not json").await;
    assert_eq!(pipe.receive(|message| message["error"]["code"] == -32700).await["id"], Value::Null);
    for not_a_request in ["[]", "[{}]", "42", "null", "\"text\""] {
        pipe.send_line(not_a_request.as_bytes()).await;
        assert_eq!(pipe.receive(|message| message["error"]["code"] == -32600).await["id"], Value::Null);
    }
    pipe.send(json!({ "jsonrpc": "2.0", "id": 78, "method": 7 })).await;
    assert_eq!(pipe.receive(|message| message["id"] == 78).await["error"]["code"], -32600);
    // Whoever sends half a surrogate pair (as Python does), or a tower of lists, waits for an answer too.
    for argument in ["\"\\ud800\"".to_owned(), "[".repeat(1_000) + &"]".repeat(1_000)] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":79,"method":"tools/call","params":{{"name":{argument}}}}}"#);
        pipe.send_line(line.as_bytes()).await;
        assert_eq!(pipe.receive(|message| message["id"] == 79).await["error"]["code"], -32700);
    }
    let wrong = modern(json!({ "name": "echo", "arguments": [1] }), &json!({}));
    let message = pipe.refused("tools/call", wrong).await["message"].to_string();
    assert!(message.contains("`arguments` an object"), "{message}");
    assert_eq!(pipe.call("echo", json!({ "text": "hi" }), &json!({})).await["structuredContent"]["text"], "hi");
}
