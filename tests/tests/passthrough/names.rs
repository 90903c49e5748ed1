//! What is passed through, and under which names.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use antiphon_tests::{Era, Host, Scratch, text_of};
use serde_json::{Value, json};

use crate::talk::{Wire, able, project, through};

fn names(host: &mut Host) -> BTreeSet<String> {
    let listed = host.ask("tools/list", json!({}));
    let tools = listed["result"]["tools"].as_array().cloned().unwrap_or_default();
    tools.iter().filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect()
}

fn serve(scratch: &Scratch) -> Host {
    Host::start(&mut scratch.with_db(&["serve", ".", "--trust"]), Era::Modern, json!({}))
}

#[test]
fn names_begin_with_the_servers_own_unless_told_otherwise() {
    for (prefix, expected) in [("", "conf__greet"), ("prefix = true", "conf__greet"), ("prefix = \"x-\"", "x-greet")] {
        let serve_table = format!("[serve]\nexpose = [\"conf.gr*\", \"conf.echo\"]\n{prefix}\n");
        let (scratch, _upstream) = project(false, Wire::Stdio, &serve_table);
        let mut host = serve(&scratch);
        let echo = expected.replace("greet", "echo");
        assert_eq!(names(&mut host), BTreeSet::from([expected.to_owned(), echo]));
        assert_eq!(text_of(&host.call(expected, json!({ "name": "Ada" }))["result"]), "Hello, Ada!");
        for other in ["greet", "conf__big", "x-big"] {
            let refused = host.call(other, json!({}));
            assert_eq!(refused["error"]["code"], -32602, "{refused}");
        }
        // Less than all of a server has no resources.
        let read = host.ask("resources/read", json!({ "uri": "test://static-text" }));
        assert_eq!(read["error"]["code"], -32602, "{read}");
    }
}

#[test]
fn without_expose_there_are_workflows_alone() {
    let (scratch, _upstream) = project(false, Wire::Stdio, "[serve]\nruns = false\nprompts = false\n");
    scratch.file("hello.toml", "[steps.one]\ncall = \"conf.greet\"\nwith.name = \"you\"\n");
    let mut host = serve(&scratch);
    let own = ["hello", "run_answer", "run_cancel", "run_start", "run_status"];
    assert_eq!(names(&mut host), own.map(str::to_owned).into());
    let discovered = host.ask("server/discover", json!({}));
    let capabilities = discovered["result"]["capabilities"].as_object().unwrap();
    assert!(!capabilities.contains_key("resources") && !capabilities.contains_key("prompts"), "{discovered}");
    assert_eq!(host.call("conf__greet", json!({}))["error"]["code"], -32602);
}

#[test]
fn workflows_stand_beside_what_is_passed_through() {
    let (scratch, _upstream) = project(false, Wire::Stdio, "[serve]\nexpose = [\"conf.greet\"]\n");
    scratch.file("hello.toml", "[steps.one]\ncall = \"conf.greet\"\nwith.name = \"you\"\n");
    let mut host = serve(&scratch);
    let names = names(&mut host);
    assert!(names.contains("hello") && names.contains("conf__greet") && names.contains("run_status"), "{names:?}");
    assert_eq!(text_of(&host.call("conf__greet", json!({ "name": "Ada" }))["result"]), "Hello, Ada!");
}

#[test]
fn two_servers_with_the_same_resources_can_be_told_apart() {
    let scratch = Scratch::new();
    scratch.file(
        "antiphon.toml",
        "[servers.one]\ncommand = \"${CONFORMANCE}\"\n[servers.two]\ncommand = \"${CONFORMANCE}\"\nargs = [\"--legacy\"]\n\
         [servers.dead]\ncommand = \"false\"\n[serve]\nexpose = [\"*.*\"]\n",
    );
    let mut host = serve(&scratch);
    let listed = host.ask("resources/list", json!({}));
    let uris: Vec<&str> =
        listed["result"]["resources"].as_array().unwrap().iter().filter_map(|r| r["uri"].as_str()).collect();
    assert!(uris.contains(&"test://static-text") && uris.contains(&"two+test://static-text"), "{uris:?}");
    for uri in ["test://static-text", "two+test://static-text"] {
        let read = host.ask("resources/read", json!({ "uri": uri }));
        assert!(read["result"]["contents"][0]["text"].is_string(), "{uri}: {read}");
        assert_eq!(read["result"]["contents"][0]["uri"], uri);
    }
    for tool in ["one__greet", "two__greet"] {
        assert_eq!(text_of(&host.call(tool, json!({ "name": "Ada" }))["result"]), "Hello, Ada!");
    }
    // The dead one is named, and holds up nobody.
    let refused = host.call("dead__anything", json!({}));
    assert!(refused["error"]["message"].as_str().unwrap().contains("`dead`"), "{refused}");
}

fn changed(host: &mut Host, method: &str) -> Value {
    host.pushed(method)["params"].clone()
}

#[test]
fn changes_are_told() {
    for server_legacy in [false, true] {
        let mut legacy = through(server_legacy, Wire::Stdio, Wire::Stdio, Era::Legacy, able());
        legacy.host.ask("resources/subscribe", json!({ "uri": "test://watched-resource" }));
        touched(&mut legacy.host);
        assert_eq!(changed(&mut legacy.host, "notifications/resources/updated")["uri"], "test://watched-resource");
        legacy.host.call("test_trigger_tool_change", json!({}));
        changed(&mut legacy.host, "notifications/tools/list_changed");

        let mut modern = through(server_legacy, Wire::Stdio, Wire::Stdio, Era::Modern, json!({}));
        let wanted = json!({ "toolsListChanged": true, "resourceSubscriptions": ["test://watched-resource"] });
        modern.host.post("subscriptions/listen", json!({ "notifications": wanted }));
        changed(&mut modern.host, "notifications/subscriptions/acknowledged");
        touched(&mut modern.host);
        changed(&mut modern.host, "notifications/resources/updated");
        modern.host.call("test_trigger_tool_change", json!({}));
        changed(&mut modern.host, "notifications/tools/list_changed");
    }
}

/// Touches the resource until that is told: the acknowledgement comes before the server has been asked.
fn touched(host: &mut Host) {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        host.call("touch", json!({ "uri": "test://watched-resource" }));
        if host.inbox.iter().any(|message| message["method"] == "notifications/resources/updated") {
            return;
        }
    }
}
