//! What one principal has is not there for another: to see, poll, answer, cancel, read or listen to.

use antiphon_tests::{Era, Host, Url};
use serde_json::{Value, json};

use crate::Guarded;

/// Ada's run that asks, as a task; her host, Eve's, and the task's id.
fn asked(guarded: &Guarded) -> (Host, Host, String) {
    let mut ada = guarded.host(&guarded.token("ada", ""), Era::Modern);
    let eve = guarded.host(&guarded.token("eve", ""), Era::Modern);
    let made = ada.call("confirm", json!({}));
    let task = made["result"]["taskId"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    assert_eq!(ada.poll(&task).unwrap()["status"], "input_required");
    (ada, eve, task)
}

#[test]
fn a_run_is_its_principals_alone() {
    let guarded = Guarded::start("");
    let (mut ada, mut eve, task) = asked(&guarded);
    let yes = json!({ "sure": { "action": "accept", "content": {} } });
    for (method, params) in [
        ("tasks/get", json!({ "taskId": task })),
        ("tasks/update", json!({ "taskId": task, "inputResponses": yes })),
        ("tasks/cancel", json!({ "taskId": task })),
    ] {
        let mine = eve.ask(method, params);
        let nobodys =
            eve.ask(method, json!({ "taskId": "00000000-0000-4000-8000-000000000000", "inputResponses": {} }));
        assert_eq!(mine["error"]["code"], -32602, "{method}: {mine}");
        // It looks as one that was never there.
        assert_eq!(mine["error"]["code"], nobodys["error"]["code"], "{method}: {nobodys}");
        assert!(!mine.to_string().contains("Sure?"), "{mine}");
    }
    for (tool, arguments) in [
        ("run_status", json!({ "run_id": task })),
        ("run_answer", json!({ "run_id": task, "key": "sure", "action": "accept" })),
        ("run_cancel", json!({ "run_id": task })),
    ] {
        let refused = eve.call(tool, arguments);
        assert_eq!(refused["result"]["isError"], true, "{tool}: {refused}");
        assert!(!refused.to_string().contains("Sure?"), "{tool}: {refused}");
    }
    let still = ada.ask("tasks/get", json!({ "taskId": task }));
    assert_eq!(still["result"]["status"], "input_required", "{still}");
    // The same principal with a newer token.
    let mut later = guarded.host(&guarded.token("ada", "more"), Era::Modern);
    let key = still["result"]["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    let ack = later.ask(
        "tasks/update",
        json!({ "taskId": task, "inputResponses": { key: { "action": "accept", "content": {} } } }),
    );
    assert!(ack["error"].is_null(), "{ack}");
    assert_eq!(later.poll(&task).unwrap()["status"], "completed");
    let owner = format!("jwt:{}#ada", guarded.authority.issuer);
    assert_eq!(guarded.scratch.runs()[0]["owner"], owner.as_str());
}

#[test]
fn a_key_of_ones_own_finds_no_run_of_others() {
    let guarded = Guarded::start("");
    let run = |user: &str| {
        let token = guarded.token(user, "");
        let mut params = json!({ "name": "run_start", "arguments": { "workflow": "confirm" } });
        params = antiphon_tests::call_params(params, &json!({}));
        params["_meta"]["antiphon/idempotency-key"] = json!("the same");
        let said = guarded.host(&token, Era::Modern).ask("tools/call", params);
        said["result"]["structuredContent"]["run"]["id"].as_str().unwrap_or_else(|| panic!("{said}")).to_owned()
    };
    let (ada, eve) = (run("ada"), run("eve"));
    assert_ne!(ada, eve);
    assert_eq!(run("ada"), ada);
}

#[test]
fn a_state_is_its_principals_alone() {
    let guarded = Guarded::start("");
    let connect = |user: &str| {
        Host::connect(&guarded.served.url, Some(&guarded.token(user, "")), Era::Modern, json!({ "elicitation": {} }))
    };
    let (mut ada, mut eve) = (connect("ada"), connect("eve"));
    for tool in ["confirm", "conf__test_input_required_result_request_state"] {
        let asked = ada.call(tool, json!({}));
        let result = &asked["result"];
        assert_eq!(result["resultType"], "input_required", "{asked}");
        let answers: Value = result["inputRequests"]
            .as_object()
            .unwrap()
            .keys()
            .map(|key| (key.clone(), json!({ "action": "accept", "content": { "ok": true } })))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let again =
            json!({ "name": tool, "arguments": {}, "inputResponses": answers, "requestState": result["requestState"] });
        let refused = eve.ask("tools/call", again.clone());
        assert_eq!(refused["error"]["code"], -32602, "{tool}: {refused}");
        let done = ada.ask("tools/call", again);
        assert!(done["error"].is_null(), "{tool}: {done}");
    }
}

#[test]
fn a_task_of_a_server_is_its_principals_alone() {
    let guarded = Guarded::start("");
    let mut ada = guarded.host(&guarded.token("ada", ""), Era::Modern);
    let mut eve = guarded.host(&guarded.token("eve", ""), Era::Modern);
    let made = ada.call("conf__slow_compute", json!({ "seconds": 60 }));
    let task = made["result"]["taskId"].as_str().unwrap_or_else(|| panic!("{made}"));
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let refused = eve.ask(method, json!({ "taskId": task, "inputResponses": {} }));
        assert_eq!(refused["error"]["code"], -32602, "{method}: {refused}");
    }
    assert_eq!(ada.ask("tasks/get", json!({ "taskId": task }))["result"]["status"], "working");
}

#[test]
fn a_session_is_its_principals_alone() {
    let guarded = Guarded::start("");
    let url = Url::parse(&guarded.served.url);
    let bearer = |user: &str| format!("Bearer {}", guarded.token(user, ""));
    let (ada, eve) = (bearer("ada"), bearer("eve"));
    let client = json!({ "name": "raw", "version": "0" });
    let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
    let message = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
    let opened = url.post(&[("authorization", &ada)], &message).response().unwrap();
    assert_eq!(opened.status, 200);
    let session = opened.header("mcp-session-id").unwrap().to_owned();
    opened.text();

    let within = |who: &str, method: &str, params: Value| {
        let headers = [("authorization", who), ("mcp-session-id", &session), ("mcp-protocol-version", "2025-11-25")];
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        url.post(&headers, &message).response().unwrap()
    };
    let watched = json!({ "uri": "test://watched-resource" });
    assert_eq!(within(&ada, "resources/subscribe", watched.clone()).status, 200);
    for (method, params) in [
        ("tools/list", json!({})),
        ("resources/subscribe", watched.clone()),
        ("resources/unsubscribe", watched),
        ("logging/setLevel", json!({ "level": "debug" })),
    ] {
        assert_eq!(within(&eve, method, params).status, 404, "{method}");
    }
    let headers = [("authorization", eve.as_str()), ("mcp-session-id", &session), ("accept", "text/event-stream")];
    for method in ["GET", "DELETE"] {
        assert_eq!(url.send(method, &headers, b"").response().unwrap().status, 404, "{method}");
    }
    let strange = [headers[0], ("mcp-session-id", "00000000-0000-4000-8000-000000000000"), headers[2]];
    assert_eq!(url.get(&strange).response().unwrap().status, 404, "it looks as if there were none");
    // It is still there, for her, and without a token for nobody.
    assert_eq!(within(&ada, "tools/list", json!({})).status, 200);
    assert_eq!(within("", "tools/list", json!({})).status, 401);
}
