//! Calls that ask, and calls that become tasks.

use std::collections::BTreeMap;

use crate::support::*;
use antiphon_client::{CallContext, Client, Consent, ErrorKind, Outcome, Session, TaskHandle};
use serde_json::{Value, json};

fn asking(mode: &str) -> Client {
    let mut config = fixture(mode);
    config.elicitation = Consent::Allow;
    Client::new(config)
}

fn red() -> Value {
    json!({ "action": "accept", "content": { "colour": "red" } })
}

async fn start(client: &Client, name: &str) -> TaskHandle {
    match call(client, name, json!({})).await.unwrap() {
        Outcome::Detached(task) => task,
        other => panic!("not a task: {other:?}"),
    }
}

#[tokio::test]
async fn a_modern_server_asks_in_its_result() {
    let client = asking("modern");
    let Outcome::NeedsInput { requests, state } = call(&client, "ask", json!({})).await.unwrap() else {
        panic!("it asked nothing")
    };
    assert_eq!(requests["colour"]["method"], "elicitation/create");
    assert_eq!(requests["colour"]["params"]["message"], "Which colour?");
    assert_eq!(state.as_deref(), Some("sealed-7"));
    let again = answered(tool("ask", json!({})), "colour", red(), state.as_deref());
    let outcome = client.call(again, &CallContext::detached()).await.unwrap();
    let heard: Value = serde_json::from_str(text(&outcome)).unwrap();
    assert_eq!(heard, json!({ "state": "sealed-7", "answers": { "colour": red() } }));
    client.shutdown().await;
}

#[tokio::test]
async fn a_legacy_server_asks_in_mid_call() {
    let client = asking("legacy");
    let (cx, questions) = answering("run-1");
    let outcome = client.call(tool("ask", json!({})), &cx).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(text(&outcome)).unwrap(), red());
    let questions = questions.lock().unwrap();
    let [(name, request)] = questions.as_slice() else { panic!("{questions:?}") };
    assert_eq!(name, "ask-1");
    assert_eq!(
        (&request["method"], &request["params"]["message"]),
        (&json!("elicitation/create"), &json!("Which colour?"))
    );
}

#[tokio::test]
async fn a_legacy_server_that_may_ask_has_a_process_for_each_run() {
    let client = asking("legacy");
    let mut pids = Vec::new();
    for run in ["run-1", "run-2", "run-1"] {
        let (cx, _) = answering(run);
        pids.push(text(&client.call(tool("pid", json!({})), &cx).await.unwrap()).to_owned());
    }
    assert_eq!(pids[0], pids[2]);
    assert_ne!(pids[0], pids[1]);
    client.release("run-1").await;
    let (cx, _) = answering("run-1");
    let after = client.call(tool("pid", json!({})), &cx).await.unwrap();
    assert_ne!(text(&after), pids[0]);
    client.shutdown().await;
}

#[tokio::test]
async fn questions_on_a_pipe_that_runs_share_belong_to_none() {
    let mut config = fixture("legacy");
    config.elicitation = Consent::Allow;
    config.session = Some(Session::Shared);
    let client = Client::new(config);
    let (one, asked) = answering("run-1");
    let (two, _) = answering("run-2");
    let outcome = tokio::select! {
        _ = client.call(tool("silent", json!({})), &two) => unreachable!(),
        outcome = async {
            echo(&client, "the silent call is under way").await;
            client.call(tool("ask", json!({})), &one).await
        } => outcome.unwrap(),
    };
    assert!(text(&outcome).contains("belongs to no call"), "{outcome:?}");
    assert!(asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nobody_is_asked_without_consent() {
    let legacy = client("legacy");
    let (cx, asked) = answering("run-1");
    let outcome = legacy.call(tool("ask", json!({})), &cx).await.unwrap();
    assert!(text(&outcome).contains("-32601"), "{outcome:?}");
    assert!(asked.lock().unwrap().is_empty());
    let modern = client("modern");
    let error = call(&modern, "ask", json!({})).await.unwrap_err();
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Denied, false));
    assert_eq!(error.to_string(), "server `fixture` asked a question without being granted `elicitation`");
    let error = call(&modern, "sample", json!({})).await.unwrap_err();
    assert_eq!(error.to_string(), "server `fixture` asked a model without being granted `sampling`");
}

#[tokio::test]
async fn a_task_is_followed_to_its_end() {
    let client = client("modern");
    let task = start(&client, "job").await;
    assert_eq!(task, TaskHandle { task_id: "job".into(), poll_interval_ms: Some(50) });
    let (cx, progress) = watched();
    let outcome = client.attach(&task, BTreeMap::new(), &cx).await.unwrap();
    assert_eq!(text(&outcome), "job done");
    let messages: Vec<_> = progress.lock().unwrap().iter().filter_map(|report| report.message.clone()).collect();
    assert_eq!(messages, ["poll 1", "poll 2"]);
    client.shutdown().await;
}

#[tokio::test]
async fn a_task_is_found_again_by_its_handle_alone() {
    let recorded = serde_json::to_value(start(&client("modern"), "job").await).unwrap();
    let task: TaskHandle = serde_json::from_value(recorded).unwrap();
    let outcome = client("modern").attach(&task, BTreeMap::new(), &CallContext::detached()).await.unwrap();
    assert_eq!(text(&outcome), "job done");
}

#[tokio::test]
async fn a_task_asks_and_is_answered() {
    let client = asking("modern");
    let task = start(&client, "job_asks").await;
    let cx = CallContext::detached();
    let Outcome::NeedsInput { requests, state } = client.attach(&task, BTreeMap::new(), &cx).await.unwrap() else {
        panic!("it asked nothing")
    };
    assert!(requests.keys().eq(["colour"]) && state.is_none());
    let outcome = client.attach(&task, [("colour".to_owned(), red())].into(), &cx).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(text(&outcome)).unwrap(), red());
    client.shutdown().await;
}

#[tokio::test]
async fn a_task_fails() {
    let client = client("modern");
    let task = start(&client, "job_fails").await;
    let error = client.attach(&task, BTreeMap::new(), &CallContext::detached()).await.unwrap_err();
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Rpc, false));
    assert_eq!(error.to_string(), "server `fixture` failed its task with error -32050: ran out of paint");
    client.shutdown().await;
}

#[tokio::test]
async fn a_task_that_the_server_has_forgotten_is_in_doubt() {
    let client = client("modern");
    let task = TaskHandle { task_id: "of-last-week".into(), poll_interval_ms: None };
    let error = client.attach(&task, BTreeMap::new(), &CallContext::detached()).await.unwrap_err();
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Rpc, true));
    assert!(error.to_string().contains("does not tell what became of its task"), "{error}");
    client.shutdown().await;
}

#[tokio::test]
async fn cancelling_reaches_the_task() {
    let client = client("modern");
    let task = start(&client, "job_forever").await;
    let (mut cx, _) = watched();
    let cancel = cx.cancelled.clone();
    // The first sign of life is the time to cancel.
    cx.progress = std::sync::Arc::new(move |_| cancel.cancel());
    let error = client.attach(&task, BTreeMap::new(), &cx).await.unwrap_err();
    assert!(!error.in_doubt);
    assert_eq!(error.to_string(), "server `fixture` cancelled its task: as you wish");
    client.shutdown().await;
}

#[tokio::test]
async fn a_task_outlives_the_connection() {
    let client = client("modern");
    let task = start(&client, "job").await;
    let _ = call(&client, "die", json!({})).await.unwrap_err();
    let outcome = client.attach(&task, BTreeMap::new(), &CallContext::detached()).await.unwrap();
    assert_eq!(text(&outcome), "job done");
    client.shutdown().await;
}
