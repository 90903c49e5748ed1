//! A caller that gives up: the server hears of it, in whichever way each side knows.

use antiphon_tests::{Era, Host, Served};
use serde_json::json;

use crate::world::{ERAS, Web, beside, eventually, free_port, logged};

/// Every way to the server and to the caller.
fn gives_up(era: Era, over_http: bool) {
    for server_legacy in [true, false] {
        for server_over_http in [true, false] {
            let what = format!(
                "{era:?} caller (HTTP: {over_http}), legacy server: {server_legacy} (HTTP: {server_over_http})"
            );
            let port = free_port();
            let legacy = if server_legacy { ", \"--legacy\"" } else { "" };
            let scratch = beside(&match server_over_http {
                true => format!("url = \"http://127.0.0.1:{port}/mcp\"\n"),
                false => format!("command = \"${{FIXTURE}}\"\nargs = [\"--log\", \"${{LOG}}\"{legacy}]\n"),
            });
            let _web = server_over_http.then(|| Web::start(&scratch, port, server_legacy));
            let mut command = scratch.with_db(&["serve", ".", "--trust"]);
            let able = json!({ "elicitation": {} });
            let (mut host, _served) = match over_http {
                true => {
                    let served = Served::start(&mut command);
                    (Host::connect(&served.url, None, era, able), Some(served))
                }
                false => (Host::start(&mut command, era, able), None),
            };
            let call = host.post_call("bad__gate", json!({ "path": scratch.path().join("never") }));
            eventually(&format!("the call begins: {what}"), || logged(&scratch, "begin", "gate", None) == 1);
            host.give_up(call);
            eventually(&format!("it is cancelled: {what}"), || logged(&scratch, "end", "gate", Some("cancelled")) == 1);
            let said = host.call("bad__echo", json!({ "value": 1 }));
            assert_eq!(said["result"]["structuredContent"], json!({ "value": 1 }), "{what}: {said}");
        }
    }
}

#[test]
fn over_a_pipe() {
    for era in ERAS {
        gives_up(era, false);
    }
}

#[test]
fn over_http() {
    for era in ERAS {
        gives_up(era, true);
    }
}
