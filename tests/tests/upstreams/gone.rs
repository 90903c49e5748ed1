//! Servers that are not there: any more, yet, or at all.

use std::fs::File;
use std::process::Stdio;

use antiphon_tests::Era;
use serde_json::json;

use crate::world::{
    ERAS, Web, beside, blames_bad, eventually, free_port, good_is_well, host, listen, logged, misbehaving, tools,
};

#[test]
fn one_that_dies_comes_back_when_it_is_needed() {
    for era in ERAS {
        let scratch = beside(&misbehaving("exit-on-call"));
        let mut host = host(&scratch, era);
        for _ in 0..3 {
            let listed = tools(&mut host);
            assert!(listed.contains("bad__look") && listed.contains("good__echo"), "{era:?}: {listed:?}");
            blames_bad(&host.call("bad__look", json!({})));
            good_is_well(&mut host);
        }
    }
}

#[test]
fn one_that_comes_later_is_told_of() {
    for era in ERAS {
        let port = free_port();
        let scratch = beside(&format!("url = \"http://127.0.0.1:{port}/mcp\"\n"));
        let mut host = host(&scratch, era);
        listen(&mut host, era);
        let listed = tools(&mut host);
        assert!(listed.contains("good__echo") && !listed.contains("bad__echo"), "{era:?}: {listed:?}");
        blames_bad(&host.call("bad__echo", json!({})));
        let _web = Web::start(&scratch, port, era == Era::Legacy);
        host.pushed("notifications/tools/list_changed");
        assert!(tools(&mut host).contains("bad__echo"), "{era:?}");
        let said = host.call("bad__echo", json!({ "value": 1 }));
        assert_eq!(said["result"]["structuredContent"], json!({ "value": 1 }), "{said}");
    }
}

#[test]
fn one_that_is_not_there_at_all_is_warned_of_once() {
    let scratch = beside("command = \"no-such-server-anywhere\"\n");
    let ask = |id: u64, method: &str| {
        let params = antiphon_tests::call_params(json!({}), &json!({}));
        json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
    };
    let said: String = (1..=6)
        .map(|id| ask(id, if id % 2 == 0 { "tools/list" } else { "prompts/list" }))
        .map(|ask| format!("{ask}\n"))
        .collect();
    let script = scratch.file("requests.jsonl", &said);
    let mut command = scratch.with_db(&["serve", ".", "--trust"]);
    let output = command.stdin(Stdio::from(File::open(script).unwrap())).output().unwrap();
    let warnings = String::from_utf8_lossy(&output.stderr);
    assert_eq!(warnings.matches("no-such-server-anywhere").count(), 1, "{warnings}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).matches("good__echo").count(), 3, "{warnings}");
}

/// The new process knows nothing of the session: it answers 404, has done nothing, and is asked again with a new one.
#[test]
fn one_that_starts_again_on_its_port_is_found_there() {
    for legacy in [true, false] {
        for era in ERAS {
            let port = free_port();
            let scratch = beside(&format!("url = \"http://127.0.0.1:{port}/mcp\"\n"));
            let mut web = Web::start(&scratch, port, legacy);
            let mut host = host(&scratch, era);
            for round in 1..=3 {
                let said = host.call("bad__charge", json!({ "id": "x" }));
                assert_eq!(said["result"]["structuredContent"]["charges"], round, "{era:?} {legacy}: {said}");
                web.kill();
                if round == 2 {
                    blames_bad(&host.call("bad__charge", json!({ "id": "x" })));
                    good_is_well(&mut host);
                }
                web = Web::start(&scratch, port, legacy);
            }
            assert_eq!(logged(&scratch, "begin", "charge", None), 3, "{era:?} {legacy}");
        }
    }
}

#[test]
fn a_call_that_was_under_way_is_not_made_again() {
    for legacy in [true, false] {
        for era in ERAS {
            let port = free_port();
            let scratch = beside(&format!("url = \"http://127.0.0.1:{port}/mcp\"\ntimeout = \"10s\"\n"));
            let web = Web::start(&scratch, port, legacy);
            let mut host = host(&scratch, era);
            let call = host.post_call("bad__charge", json!({ "id": "x", "ms": 60_000 }));
            eventually("the call begins", || logged(&scratch, "begin", "charge", None) == 1);
            web.kill();
            let _web = Web::start(&scratch, port, legacy);
            blames_bad(&host.response(call).unwrap());
            let said = host.call("bad__echo", json!({ "value": 1 }));
            assert_eq!(said["result"]["structuredContent"], json!({ "value": 1 }), "{era:?} {legacy}: {said}");
            assert_eq!(logged(&scratch, "begin", "charge", None), 1, "{era:?} {legacy}");
        }
    }
}

#[test]
fn one_that_writes_other_things_to_its_output_is_understood() {
    for era in ERAS {
        let scratch = beside(&misbehaving("garbage-on-stdout"));
        let mut host = host(&scratch, era);
        assert!(tools(&mut host).contains("bad__look"));
        assert_eq!(antiphon_tests::text_of(&host.call("bad__look", json!({}))["result"]), "done");
        good_is_well(&mut host);
    }
}

#[test]
fn results_that_are_none_are_blamed_on_their_server() {
    for mode in ["invalid-json-result", "wrong-shape", "huge-result"] {
        let scratch = beside(&misbehaving(mode));
        let mut host = host(&scratch, Era::Modern);
        blames_bad(&host.call("bad__look", json!({})));
        good_is_well(&mut host);
    }
}
