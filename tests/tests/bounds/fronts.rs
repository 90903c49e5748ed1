//! An edge that is denied is denied wherever somebody tries it: from a workflow, an agent, the command line, a host, another process;
//! and so is what a server asks of models in the middle of such a call.

use antiphon_tests::model::{calls, results, says};
use antiphon_tests::{Era, Host, Model, Scratch, text_of};
use serde_json::json;

use crate::{DONE, FAILED, model, run};

/// `tools` may be called for `echo`, `sample_me` and `slow_task`, and may not ask models.
fn project(url: &str) -> Scratch {
    let scratch = Scratch::new();
    scratch.file(
        "antiphon.toml",
        &format!(
            "[servers.tools]\ncommand = \"${{FIXTURE}}\"\nargs = [\"--log\", \"${{LOG}}\"]\n\
             allow = [\"echo\", \"sample_me\", \"slow_task\"]\n\
             [serve]\nexpose = [\"tools.echo\", \"tools.charge\"]\n{}\
             [agents.clerk]\ninstructions = \"You are the clerk.\"\nmodel = \"m\"\ngrants = [\"tools.*\"]\n",
            model("m", url)
        ),
    );
    scratch
}

/// The tools of the fixture that were reached.
fn reached(scratch: &Scratch) -> Vec<String> {
    let calls = scratch.calls().into_iter().filter(|call| call["event"] == "begin");
    calls.map(|call| call["tool"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_tool_that_is_not_allowed_is_reached_by_nobody() {
    // It insists until it is told by whoever reaches the server.
    let thinks = Model::start(|request| match results(request).iter().find(|told| told.contains("`allow`")) {
        None => calls(&[("tools__charge", json!({ "id": "a" })), ("tools__echo", json!({ "id": "b" }))]),
        Some(told) => says(told),
    });
    let there = project(&thinks.url);

    // A step.
    there.file("charge.toml", "[steps.it]\ncall = \"tools.charge\"\nwith.id = \"a\"\n");
    let (code, _, told) = run(&there, "charge");
    assert!(code != DONE && told.contains("AP0402"), "{told}");
    std::fs::remove_file(there.path().join("charge.toml")).unwrap();

    // The command line.
    let (code, _, told) = there.run_with_db(&["call", "tools.charge", "--trust", "--input", "id=a"]);
    assert!(code != DONE && told.contains("has no tool `charge`"), "{told}");

    // An agent, whose grants are wider.
    let (code, out, told) = there.run_with_db(&["ask", "clerk", "Charge me", "--trust"]);
    assert_eq!(code, DONE, "{told}");
    assert!(out.contains("not covered by `allow` of server `tools`"), "{out}");
    assert!(!thinks.heard()[0]["tools"].to_string().contains("charge"), "its model was not told of it");

    // A host, and another process.
    for era in [Era::Legacy, Era::Modern] {
        let mut host = Host::start(&mut there.with_db(&["serve", ".", "--trust"]), era, json!({}));
        let listed = host.ask("tools/list", json!({})).to_string();
        assert!(!listed.contains("charge"), "{listed}");
        let refused = host.call("tools__charge", json!({ "id": "a" }));
        assert!(refused["error"]["message"].as_str().unwrap().contains("no tool `tools__charge`"), "{refused}");
    }
    let here = Scratch::new();
    here.file("antiphon.toml", &format!("[servers.there]\n{}", there.as_server()));
    here.file("go.toml", "[steps.it]\ncall = \"there.tools__charge\"\nwith.id = \"a\"\n");
    let (code, _, told) = run(&here, "go");
    assert_eq!(code, FAILED, "{told}");
    assert!(told.contains("has no tool `tools__charge`"), "{told}");

    assert_eq!(reached(&there), ["echo"], "of the agent's two calls");
}

#[test]
fn a_server_that_may_not_ask_models_does_not_whoever_calls_it() {
    let thinks = Model::start(|request| match results(request).as_slice() {
        [] => calls(&[("tools__sample_me", json!({ "prompt": "colour?" }))]),
        results => says(&results.join(" | ")),
    });
    let there = project(&thinks.url);
    there.file("ask.toml", "[steps.it]\ncall = \"tools.sample_me\"\neffects = \"read_only\"\n");
    let denied = |told: &str| assert!(told.contains("sampl"), "{told}");

    let (code, _, told) = there.run_with_db(&["call", "tools.sample_me", "--trust"]);
    assert_ne!(code, DONE, "{told}");
    denied(&told);

    let (code, out, told) = there.run_with_db(&["ask", "clerk", "Go", "--trust"]);
    assert_eq!(code, DONE, "{told}");
    denied(&out);

    // Whatever the host itself could do: the edge is not its own.
    for era in [Era::Legacy, Era::Modern] {
        let mut host = Host::start(&mut there.with_db(&["serve", ".", "--trust"]), era, json!({ "sampling": {} }));
        let ended = host.call("ask", json!({}))["result"].clone();
        assert_eq!(ended["isError"], true, "{ended}");
        denied(&text_of(&ended));
    }

    // Across two processes: the other one grants what this one denies.
    let here = Scratch::new();
    let granted = "sampling = { consent = \"allow\", models = [\"m\"] }\n";
    here.file("antiphon.toml", &format!("[servers.there]\n{}{granted}{}", there.as_server(), model("m", &thinks.url)));
    here.file("go.toml", "[steps.it]\ncall = \"there.ask\"\neffects = \"read_only\"\n");
    let (code, _, told) = run(&here, "go");
    assert_eq!(code, FAILED, "{told}");
    denied(&told);
    assert_eq!(thinks.heard().len(), 2, "the agent's own two turns");
}
