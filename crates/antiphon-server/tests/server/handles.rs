//! Callers that know nothing: a handle as a normal result, and the `run_*` tools.

use serde_json::{Value, json};

use crate::support::{Fixture, text};

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_returns_a_handle_in_either_era() {
    let fixture = Fixture::new();
    let mut legacy = fixture.legacy_pipe(json!({})).await;
    let mut modern = fixture.pipe();
    let began = tokio::time::Instant::now();
    let first = legacy.legacy_call("slow", json!({})).await;
    assert_eq!(began.elapsed().as_secs(), 45);
    let second = modern.call("slow", json!({}), &json!({})).await;
    for (result, id) in [(first, "run-1"), (second, "run-2")] {
        let run = &result["structuredContent"]["run"];
        assert_eq!(*run, json!({ "id": id, "workflow": "slow", "status": "working", "needs": [] }));
        assert!(text(&result).contains("Follow it with `run_status`"));
        assert!(fixture.engine.is_durable(id));
    }
}

#[tokio::test]
async fn who_cannot_be_asked_is_told_where_to_answer() {
    let fixture = Fixture::new();
    let mut pipe = fixture.legacy_pipe(json!({})).await;
    let human = pipe.legacy_call("approve", json!({})).await;
    assert_eq!(
        human["structuredContent"]["run"]["needs"],
        json!([{
            "key": "approve#1",
            "step": "ask",
            "question": "Deploy main?",
            "answer_with": "a person, in a terminal: antiphon answer run-1",
            "schema": { "type": "object", "properties": {} },
        }])
    );
    let anyone = pipe.legacy_call("pick", json!({})).await;
    assert_eq!(anyone["structuredContent"]["run"]["needs"][0]["answer_with"], "run_answer");
    let doubt = pipe.legacy_call("doubt", json!({})).await;
    assert_eq!(
        doubt["structuredContent"]["run"]["needs"][0]["answer_with"], "a person, in a terminal: antiphon answer run-3",
        "a doubt is never a model's to decide"
    );
}

#[tokio::test]
async fn a_run_is_started_looked_at_answered_and_cancelled_by_tools() {
    let fixture = Fixture::new();
    let mut pipe = fixture.legacy_pipe(json!({})).await;
    let run = |result: &Value| result["structuredContent"]["run"].clone();

    let started = run(&pipe.legacy_call("run_start", json!({ "workflow": "pick", "input": {} })).await);
    assert_eq!(started["status"], "input_required");
    assert!(fixture.engine.is_durable("run-1"));
    let unfit = json!({ "run_id": "run-1", "key": "pick#1", "content": { "color": "green" } });
    let refused = pipe.legacy_call("run_answer", unfit).await;
    assert_eq!(refused["isError"], true);
    assert!(text(&refused).contains("`color` must be red or blue"));
    let fit = json!({ "run_id": "run-1", "key": "pick#1", "content": { "color": "red" } });
    let answered = run(&pipe.legacy_call("run_answer", fit).await);
    assert_eq!((&answered["status"], &answered["output"]), (&json!("succeeded"), &json!({ "color": "red" })));
    assert_eq!(run(&pipe.legacy_call("run_status", json!({ "run_id": "run-1" })).await), answered);

    pipe.legacy_call("run_start", json!({ "workflow": "slow" })).await;
    let cancelled = run(&pipe.legacy_call("run_cancel", json!({ "run_id": "run-2", "reason": "enough" })).await);
    assert_eq!(cancelled["status"], "cancelled");
    assert_eq!(cancelled["message"], "`slow` was cancelled: enough");
}

#[tokio::test(start_paused = true)]
async fn run_status_waits_for_the_end() {
    let fixture = Fixture::new();
    let mut pipe = fixture.legacy_pipe(json!({})).await;
    pipe.legacy_call("run_start", json!({ "workflow": "slow" })).await;
    let waiting = json!({ "name": "run_status", "arguments": { "run_id": "run-1", "wait_seconds": 30 } });
    let call = pipe.begin("tools/call", waiting).await;
    fixture.engine.finish(&fixture.engine.only_run(), json!({ "ok": true }));
    assert_eq!(pipe.response(call).await["result"]["structuredContent"]["run"]["output"], json!({ "ok": true }));
}

#[tokio::test]
async fn a_models_tool_call_never_answers_for_a_person() {
    let fixture = Fixture::new();
    let mut pipe = fixture.legacy_pipe(json!({})).await;
    for (workflow, id, key) in [("approve", "run-1", "approve#1"), ("doubt", "run-2", "doubt#1")] {
        pipe.legacy_call("run_start", json!({ "workflow": workflow })).await;
        let refused = pipe.legacy_call("run_answer", json!({ "run_id": id, "key": key })).await;
        assert_eq!(refused["isError"], true);
        assert!(text(&refused).contains(&format!("antiphon answer {id}")), "{refused}");
    }
}

#[tokio::test]
async fn mistakes_are_results_that_say_what_to_do() {
    let fixture = Fixture::new();
    let mut pipe = fixture.legacy_pipe(json!({})).await;
    pipe.legacy_call("run_start", json!({ "workflow": "slow" })).await;
    for (tool, arguments, says) in [
        ("run_status", json!({ "run_id": "nope" }), "no run nope"),
        ("run_status", json!({ "id": "run-1" }), "unknown field `id`"),
        ("run_answer", json!({ "run_id": "run-1", "key": "x" }), "no open question `x`"),
        ("run_start", json!({ "workflow": "nope" }), "no workflow `nope`"),
        ("run_start", json!({ "workflow": "echo", "input": {} }), "`text` must be a string"),
    ] {
        let result = pipe.legacy_call(tool, arguments).await;
        assert_eq!(result["isError"], true, "{tool}");
        assert!(text(&result).contains(says), "{tool}: {}", text(&result));
    }
    let mut theirs = fixture.pipe_of("token:eve", None);
    theirs.initialize(json!({})).await;
    let result = theirs.legacy_call("run_cancel", json!({ "run_id": "run-1" })).await;
    assert_eq!(text(&result), "no run run-1: it never existed, or its record has expired");
}
