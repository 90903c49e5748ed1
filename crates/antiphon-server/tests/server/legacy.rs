//! Legacy callers: asked on the way.

use serde_json::json;

use crate::support::{Fixture, tasks};

#[tokio::test]
async fn a_question_is_pushed_and_the_call_goes_on_with_its_answer() {
    let fixture = Fixture::new();
    let mut pipe = fixture.legacy_pipe(json!({ "elicitation": {} })).await;
    let call = pipe.begin("tools/call", json!({ "name": "approve", "arguments": {} })).await;
    let asked = pipe.pushed("elicitation/create").await;
    assert_eq!(asked["params"]["message"], "Deploy main?");
    assert!(fixture.engine.is_durable("run-1"), "nobody is shown a question that is not durable");
    pipe.send(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "action": "accept", "content": {} } })).await;
    let response = pipe.response(call).await;
    assert_eq!(response["result"]["structuredContent"]["action"], "accept");
}

#[tokio::test]
async fn the_callers_model_is_asked_by_a_pushed_request() {
    let fixture = Fixture::new();
    let mut pipe = fixture.legacy_pipe(json!({ "sampling": {} })).await;
    let call = pipe.begin("tools/call", json!({ "name": "sample", "arguments": {} })).await;
    let asked = pipe.pushed("sampling/createMessage").await;
    assert_eq!(asked["params"]["messages"][0]["content"]["text"], "Name a color");
    let said = json!({ "role": "assistant", "model": "m", "content": { "type": "text", "text": "teal" }, "stopReason": "endTurn" });
    pipe.send(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": said })).await;
    let response = pipe.response(call).await;
    assert_eq!(response["result"]["structuredContent"]["content"]["content"]["text"], "teal");
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_asked_for_again_but_not_for_ever() {
    let fixture = Fixture::new();
    let mut pipe = fixture.legacy_pipe(json!({ "elicitation": {} })).await;
    let call = pipe.begin("tools/call", json!({ "name": "pick", "arguments": {} })).await;
    for _ in 0..3 {
        let asked = pipe.pushed("elicitation/create").await;
        let green = json!({ "action": "accept", "content": { "color": "green" } });
        pipe.send(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": green })).await;
    }
    let result = pipe.response(call).await["result"].clone();
    assert_eq!(result["structuredContent"]["run"]["status"], "input_required");
}

#[tokio::test]
async fn a_person_who_rejects_declines_and_a_client_that_cannot_ask_gets_the_handle() {
    let fixture = Fixture::new();
    let mut pipe = fixture.legacy_pipe(json!({ "elicitation": {} })).await;
    for (code, expected) in [(-1, json!({ "action": "decline", "content": null })), (-32601, json!(null))] {
        let call = pipe.begin("tools/call", json!({ "name": "approve", "arguments": {} })).await;
        let asked = pipe.pushed("elicitation/create").await;
        let error = json!({ "code": code, "message": "no" });
        pipe.send(json!({ "jsonrpc": "2.0", "id": asked["id"], "error": error })).await;
        let result = pipe.response(call).await["result"].clone();
        if expected.is_null() {
            assert_eq!(result["structuredContent"]["run"]["needs"][0]["key"], "approve#1");
        } else {
            assert_eq!(result["structuredContent"], expected);
        }
    }
}

#[tokio::test]
async fn a_question_that_is_answered_elsewhere_is_withdrawn() {
    let fixture = Fixture::new();
    let mut pipe = fixture.legacy_pipe(json!({ "elicitation": {} })).await;
    let call = pipe.begin("tools/call", json!({ "name": "approve", "arguments": {} })).await;
    let asked = pipe.pushed("elicitation/create").await;
    fixture.engine.finish(&fixture.engine.only_run(), json!({ "done": "elsewhere" }));
    let withdrawn = pipe.pushed("notifications/cancelled").await;
    assert_eq!(withdrawn["params"]["requestId"], asked["id"]);
    assert_eq!(pipe.response(call).await["result"]["structuredContent"]["done"], "elsewhere");
}

#[tokio::test]
async fn progress_is_reported_to_who_gave_a_token() {
    let fixture = Fixture::new();
    let mut pipe = fixture.legacy_pipe(json!({})).await;
    let params = json!({ "name": "slow", "arguments": {}, "_meta": { "progressToken": "p" } });
    let call = pipe.begin("tools/call", params).await;
    let first = pipe.pushed("notifications/progress").await["params"].clone();
    assert_eq!(first, json!({ "progressToken": "p", "progress": 0.0, "total": 1.0, "message": "`ask` running" }));
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    let run = fixture.engine.only_run();
    fixture.engine.report(&run, 40.0, "compiling");
    let second = pipe.pushed("notifications/progress").await["params"].clone();
    assert_eq!(second["progress"], 0.4);
    assert_eq!(second["message"], "`build`: compiling");
    fixture.engine.finish(&run, json!({}));
    pipe.response(call).await;
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_means_nothing_and_a_notification_cancels() {
    let fixture = Fixture::new();
    let mut leaves = fixture.legacy_pipe(json!({})).await;
    leaves.begin("tools/call", json!({ "name": "slow", "arguments": {} })).await;
    fixture.engine.until(|engine| engine.count() == 1).await;
    leaves.close().await;
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    assert!(fixture.engine.cancel_reasons().is_empty());

    let mut cancels = fixture.legacy_pipe(json!({})).await;
    let call = cancels.begin("tools/call", json!({ "name": "slow", "arguments": {} })).await;
    fixture.engine.until(|engine| engine.count() == 2).await;
    cancels.notify("notifications/cancelled", json!({ "requestId": call })).await;
    fixture.engine.until(|engine| engine.cancel_reasons().len() == 1).await;
}

#[tokio::test]
async fn a_legacy_caller_never_gets_a_task_whatever_it_declares() {
    let fixture = Fixture::new();
    let mut pipe = fixture.legacy_pipe(tasks()).await;
    let call = pipe.begin("tools/call", json!({ "name": "approve", "arguments": {} })).await;
    let asked = pipe.pushed("elicitation/create").await;
    pipe.send(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "action": "cancel" } })).await;
    assert_eq!(pipe.response(call).await["result"]["structuredContent"]["action"], "cancel");
    let error = pipe.refused("tasks/get", json!({ "taskId": "run-1" })).await;
    assert_eq!(error["code"], -32601);
}
