//! Callers and servers of different eras: a caller gets what a server of its own era would say, asked in its own way.

use antiphon_tests::{Era, text_of};
use serde_json::{Value, json};

use crate::talk::{Way, Wire, able, direct, through};

/// Tools that both eras of the server have, and that ask.
fn asking() -> [(&'static str, Value); 5] {
    [
        ("test_sampling", json!({ "prompt": "Say" })),
        ("test_elicitation", json!({ "message": "Who?" })),
        ("test_elicitation_sep1034_defaults", json!({})),
        ("test_elicitation_sep1330_enums", json!({})),
        ("test_list_roots", json!({})),
    ]
}

fn crossed(server_legacy: bool, upstream: Wire, front: Wire) {
    let era = if server_legacy { Era::Modern } else { Era::Legacy };
    let what = format!("{era:?} caller over {front:?}, other server over {upstream:?}");
    let mut expected = direct(era == Era::Legacy, era, able());
    let mut found = through(server_legacy, upstream, front, era, able());
    for (tool, arguments) in asking() {
        let (expected, found) = (expected.call(tool, arguments.clone()), found.call(tool, arguments));
        assert_eq!(found, expected, "{what}: {tool}");
    }
    for (tool, arguments) in [
        ("test_simple_text", json!({})),
        ("test_multiple_content_types", json!({})),
        ("test_error_handling", json!({})),
        ("rpc_error", json!({})),
        ("greet", json!({ "name": "Ada" })),
    ] {
        assert_eq!(found.call(tool, arguments.clone()), expected.call(tool, arguments), "{what}: {tool}");
    }
    let progress = json!({ "name": "test_tool_with_progress", "arguments": {}, "_meta": { "progressToken": "p" } });
    assert_eq!(
        found.talk("tools/call", progress.clone())["heard"],
        expected.talk("tools/call", progress)["heard"],
        "{what}"
    );
    // Over HTTP, a legacy server sends them on a stream of the session, which this host does not open.
    if front == Wire::Stdio || era == Era::Modern {
        logs(&mut found, era, &what);
    }
}

/// Each era asks for log messages in its own way.
fn logs(way: &mut Way, era: Era, what: &str) {
    let mut params = json!({ "name": "test_tool_with_logging", "arguments": {} });
    match era {
        Era::Legacy => drop(way.talk("logging/setLevel", json!({ "level": "info" }))),
        Era::Modern => params["_meta"] = json!({ "io.modelcontextprotocol/logLevel": "info" }),
    }
    let heard = way.talk("tools/call", params)["heard"].clone();
    assert_eq!(heard.as_array().unwrap().len(), 3, "{what}: {heard}");
}

#[test]
fn a_modern_caller_of_a_legacy_server_over_a_pipe() {
    crossed(true, Wire::Stdio, Wire::Stdio);
}

#[test]
fn a_modern_caller_of_a_legacy_server_over_http() {
    crossed(true, Wire::Http, Wire::Http);
}

#[test]
fn a_legacy_caller_of_a_modern_server_over_a_pipe() {
    crossed(false, Wire::Stdio, Wire::Stdio);
}

#[test]
fn a_legacy_caller_of_a_modern_server_over_http() {
    crossed(false, Wire::Http, Wire::Http);
}

#[test]
fn rounds_of_a_modern_server_are_pushed_to_a_legacy_caller() {
    let mut way = through(false, Wire::Stdio, Wire::Stdio, Era::Legacy, able());
    let said = way.call("test_input_required_result_multi_round", json!({}));
    assert_eq!(text_of(&said["result"]), "the name likes the color", "{said}");
    let asked = json!([{ "asked": "elicitation/create" }, { "asked": "elicitation/create" }]);
    assert_eq!(said["heard"], asked);
    let said = way.call("test_input_required_result_multiple_inputs", json!({}));
    assert_eq!(text_of(&said["result"]), "the name: state-ok", "{said}");
    assert_eq!(said["heard"].as_array().unwrap().len(), 3);
}

#[test]
fn a_caller_is_asked_for_nothing_that_it_has_not_declared() {
    for (server_legacy, era) in [(false, Era::Modern), (true, Era::Modern), (false, Era::Legacy), (true, Era::Legacy)] {
        let mut way = through(server_legacy, Wire::Stdio, Wire::Stdio, era, json!({}));
        let said = way.call("test_input_required_result_capabilities", json!({}));
        if !server_legacy {
            assert_eq!(text_of(&said["result"]), "there is nothing to ask you", "{era:?}: {said}");
        }
        let said = way.call("test_missing_capability", json!({}));
        assert_eq!(said["error"]["code"], -32021, "{era:?} {server_legacy}: {said}");
        let said = way.call("test_sampling", json!({ "prompt": "Say" }));
        let refused = said["error"].is_object() || said["result"]["isError"] == true;
        assert!(refused, "{era:?} {server_legacy}: {said}");
        assert_eq!(said["heard"], json!([]));
    }
}

#[test]
fn a_state_is_good_for_its_request_alone() {
    let mut way = through(false, Wire::Stdio, Wire::Stdio, Era::Modern, able());
    let ask = json!({ "name": "test_input_required_result_request_state", "arguments": {} });
    let asked = way.host.ask("tools/call", ask.clone());
    let state = asked["result"]["requestState"].as_str().unwrap().to_owned();
    let mut retried = ask;
    retried["inputResponses"] = json!({ "confirm": { "action": "accept", "content": { "ok": true } } });
    for (name, state) in [
        ("test_input_required_result_request_state", format!("{state}x")),
        ("test_input_required_result_tampered_state", state.clone()),
    ] {
        let mut retried = retried.clone();
        (retried["name"], retried["requestState"]) = (name.into(), state.into());
        let refused = way.host.ask("tools/call", retried);
        assert_eq!(refused["error"]["code"], -32602, "{refused}");
    }
    retried["requestState"] = state.into();
    let done = way.host.ask("tools/call", retried);
    assert_eq!(text_of(&done["result"]), "state-ok", "{done}");
}

#[test]
fn an_error_that_sends_people_to_a_url_is_a_round_to_a_modern_caller() {
    let mut way = through(true, Wire::Stdio, Wire::Stdio, Era::Modern, able());
    let call = json!({ "name": "sign_in_first", "arguments": {} });
    let asked = way.host.ask("tools/call", call.clone());
    let request = &asked["result"]["inputRequests"]["url-0"];
    assert_eq!(request["params"]["url"], "https://example.com/in", "{asked}");
    let mut retried = call.clone();
    retried["requestState"] = asked["result"]["requestState"].clone();
    retried["inputResponses"] = json!({ "url-0": { "action": "decline" } });
    let declined = way.host.ask("tools/call", retried.clone());
    assert_eq!(declined["error"]["code"], -32600, "{declined}");
    retried["inputResponses"] = json!({ "url-0": { "action": "accept" } });
    assert_eq!(text_of(&way.host.ask("tools/call", retried)["result"]), "signed in");

    // A legacy caller knows the error; one that can't be sent anywhere is told what it lacks.
    let mut way = through(true, Wire::Stdio, Wire::Stdio, Era::Legacy, able());
    assert_eq!(way.host.ask("tools/call", call.clone())["error"]["code"], -32042);
    let mut way = through(true, Wire::Stdio, Wire::Stdio, Era::Modern, json!({ "elicitation": { "form": {} } }));
    assert_eq!(way.host.ask("tools/call", call)["error"]["code"], -32021);
}
