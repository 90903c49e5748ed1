//! Modern callers that know tasks.

use std::time::Duration;

use antiphon_server::{TaskMode, TaskPolicy};
use serde_json::{Value, json};

use crate::support::{Fixture, MODERN, modern, tasks, text};

#[tokio::test]
async fn a_call_that_takes_long_becomes_a_task_and_is_polled_to_its_end() {
    let fixture = Fixture::new();
    let mut pipe = fixture.pipe();
    let handle = pipe.call("slow", json!({}), &tasks()).await;
    assert_eq!(handle["resultType"], "task");
    assert_eq!(handle["status"], "working");
    assert_eq!(handle["ttlMs"], Value::Null, "a live run never expires");
    assert_eq!(handle["createdAt"], "2023-11-14T22:13:20.000Z");
    assert!(handle["pollIntervalMs"].as_u64().unwrap() <= 5_000);
    let id = handle["taskId"].as_str().unwrap();
    assert!(fixture.engine.is_durable(id), "the id left only after its record was durable");

    let task = pipe.task("get", id).await;
    assert_eq!(task["resultType"], "complete");
    assert_eq!(task["status"], "working");
    assert_eq!(task["statusMessage"], "0 of 1 steps ended; `ask` running");

    fixture.engine.finish(&fixture.engine.only_run(), json!({ "built": true }));
    let task = pipe.task("get", id).await;
    assert_eq!(task["status"], "completed");
    assert_eq!(task["result"]["structuredContent"], json!({ "built": true }));
    assert_eq!(task["ttlMs"], 5_000 + 24 * 3_600_000, "counted from the creation, kept from the end");
}

#[tokio::test]
async fn a_call_that_ends_soon_is_answered_inline() {
    let fixture = Fixture::with(TaskPolicy::default());
    let mut pipe = fixture.pipe();
    let result = pipe.call("echo", json!({ "text": "hi" }), &tasks()).await;
    assert_eq!(result["resultType"], "complete");
    assert_eq!(result["structuredContent"], json!({ "text": "hi" }));
    assert!(!fixture.engine.is_durable("run-1"), "nobody has seen its id, so nothing waited for the disk");
}

#[tokio::test]
async fn a_task_is_made_at_once_if_it_needs_input() {
    let fixture = Fixture::with(TaskPolicy { inline_wait: Duration::from_secs(600), ..TaskPolicy::default() });
    let mut pipe = fixture.pipe();
    let handle = pipe.call("approve", json!({}), &tasks()).await;
    assert_eq!(handle["status"], "input_required");
    let id = handle["taskId"].as_str().unwrap();

    let task = pipe.task("get", id).await;
    let asked = &task["inputRequests"]["approve#1"];
    assert_eq!(asked["method"], "elicitation/create");
    assert_eq!(asked["params"]["message"], "Deploy main?");

    let answers = json!({ "unknown": { "action": "accept" }, "approve#1": { "action": "accept", "content": {} } });
    let update = modern(json!({ "taskId": id, "inputResponses": answers }), &tasks());
    assert_eq!(pipe.request("tasks/update", update.clone()).await, json!({ "resultType": "complete" }));
    assert_eq!(pipe.task("get", id).await["status"], "completed");
    // Once more, as after a lost answer: ignored.
    assert_eq!(pipe.request("tasks/update", update).await, json!({ "resultType": "complete" }));
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_refused_with_the_reason_and_the_question_stays() {
    let fixture = Fixture::new();
    let mut pipe = fixture.pipe();
    let id = pipe.call("pick", json!({}), &tasks()).await["taskId"].as_str().unwrap().to_owned();
    let update = |content: Value| {
        let answers = json!({ "pick#1": { "action": "accept", "content": content } });
        modern(json!({ "taskId": id, "inputResponses": answers }), &tasks())
    };
    let error = pipe.refused("tasks/update", update(json!({ "color": "green" }))).await;
    assert_eq!(error["code"], -32602);
    assert_eq!(error["message"], "these answers do not fit: `pick#1`: `color` must be red or blue");
    assert_eq!(pipe.task("get", &id).await["status"], "input_required");
    pipe.request("tasks/update", update(json!({ "color": "red" }))).await;
    assert_eq!(pipe.task("get", &id).await["result"]["structuredContent"], json!({ "color": "red" }));
}

#[tokio::test]
async fn a_question_that_the_caller_cannot_answer_is_not_put_to_it() {
    let fixture = Fixture::new();
    let mut pipe = fixture.pipe();
    let no_forms = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
    let handle = pipe.call("approve", json!({}), &no_forms).await;
    assert_eq!(handle["status"], "working");
    let message = handle["statusMessage"].as_str().unwrap();
    assert!(message.starts_with("waits for a person: antiphon answer run-1"), "{message}");
}

#[tokio::test]
async fn a_task_is_cancelled() {
    let fixture = Fixture::new();
    let mut pipe = fixture.pipe();
    let id = pipe.call("slow", json!({}), &tasks()).await["taskId"].as_str().unwrap().to_owned();
    assert_eq!(pipe.task("cancel", &id).await, json!({ "resultType": "complete" }));
    let task = pipe.task("get", &id).await;
    assert_eq!(task["status"], "cancelled");
    assert!(task.get("result").is_none());
    // Again, and nothing happens.
    assert_eq!(pipe.task("cancel", &id).await, json!({ "resultType": "complete" }));
}

#[tokio::test]
async fn a_failed_run_is_a_completed_task_whose_result_is_an_error() {
    let fixture = Fixture::with_mode(TaskMode::Always);
    let mut pipe = fixture.pipe();
    let handle = pipe.call("broken", json!({}), &tasks()).await;
    assert_eq!(handle["resultType"], "task");
    assert_eq!(handle["status"], "completed");
    let task = pipe.task("get", handle["taskId"].as_str().unwrap()).await;
    assert_eq!(task["status"], "completed");
    assert_eq!(task["result"]["isError"], true);
    assert_eq!(
        text(&task["result"]),
        "step `deploy` of `broken` failed (timeout): no answer in 30 s\n\
         These calls may have happened; their outcome is unknown:\n- deploy: ci.deploy\n\
         This was not undone:\n- start: no such build\n\
         To look closer: antiphon show run-1"
    );
}

#[tokio::test]
async fn the_capability_counts_for_the_request_that_repeats_it_alone() {
    let fixture = Fixture::with(TaskPolicy { inline_wait: Duration::ZERO, ..TaskPolicy::default() });
    let mut pipe = fixture.pipe();
    let id = pipe.call("slow", json!({}), &tasks()).await["taskId"].as_str().unwrap().to_owned();

    let error = pipe.refused("tasks/get", modern(json!({ "taskId": id }), &json!({}))).await;
    assert_eq!(error["code"], -32021);
    // A question, so that the call does not wait for 45 seconds.
    let result = pipe.call("approve", json!({}), &json!({})).await;
    assert_eq!(result["resultType"], "complete", "no task without the capability: {result}");
    assert_eq!(result["structuredContent"]["run"]["status"], "input_required");
}

#[tokio::test]
async fn another_owners_task_looks_as_if_there_were_none() {
    let fixture = Fixture::new();
    let mut mine = fixture.pipe();
    let mut theirs = fixture.pipe_of("token:eve", None);
    let id = mine.call("slow", json!({}), &tasks()).await["taskId"].as_str().unwrap().to_owned();
    for (method, id) in [("tasks/get", id.as_str()), ("tasks/cancel", &id), ("tasks/get", "no-such-run")] {
        let error = theirs.refused(method, modern(json!({ "taskId": id }), &tasks())).await;
        assert_eq!(error["code"], -32602, "{method}");
        assert_eq!(error["message"], format!("no run {id}: it never existed, or its record has expired"));
    }
    let update = modern(json!({ "taskId": id, "inputResponses": {} }), &tasks());
    assert_eq!(theirs.refused("tasks/update", update).await["code"], -32602);
    assert_eq!(mine.task("get", &id).await["status"], "working");
}

#[tokio::test]
async fn discover_names_the_extension_and_initialize_may_follow_it() {
    let fixture = Fixture::new();
    let mut pipe = fixture.pipe();
    let discovered = pipe.request("server/discover", modern(json!({}), &json!({}))).await;
    assert!(discovered["supportedVersions"].as_array().unwrap().contains(&json!(MODERN)));
    assert_eq!(discovered["capabilities"]["extensions"], json!({ "io.modelcontextprotocol/tasks": {} }));
    assert!(discovered["instructions"].as_str().unwrap().contains("`echo` (Does echo)"));

    let initialized = pipe.initialize(json!({})).await;
    assert_eq!(initialized["serverInfo"]["name"], "antiphon");
    assert_eq!(pipe.legacy_call("echo", json!({ "text": "hi" })).await["structuredContent"]["text"], "hi");
    // And a modern request on that very pipe is served as one.
    assert_eq!(pipe.call("slow", json!({}), &tasks()).await["resultType"], "task");
}
