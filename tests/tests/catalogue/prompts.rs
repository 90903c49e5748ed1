//! Workflows as prompts.

use antiphon_tests::Era;
use serde_json::{Value, json};

use crate::{EVERYWHERE, listed, names, project, seat, stdio};

const SHIP: &str = "description = \"Ships it\"\n[input]\nref = { type = \"string\", default = \"main\" }\n\
    count = { type = \"integer\", description = \"How many\" }\n\
    where = { type = \"string\", enum = [\"prod\", \"preview\", \"test\"] }\n\
    [steps.one]\ncall = \"tools.echo\"\nwith.ref = \"{{ input.ref }}\"\nwith.count = \"{{ input.count }}\"\n\
    with.where = \"{{ input.where }}\"\n";

fn prompt(host: &mut antiphon_tests::Host, arguments: Value) -> Value {
    host.ask("prompts/get", json!({ "name": "ship", "arguments": arguments }))
}

#[test]
fn a_workflow_is_a_prompt_that_asks_for_its_tool() {
    let scratch = project("");
    scratch.file("ship.toml", SHIP);
    for (wire, era) in EVERYWHERE {
        let host = &mut seat(&scratch, wire, era).host;
        let prompts = listed(host, "prompts/list", "prompts");
        assert_eq!(names(&prompts), ["ship"], "{wire:?} {era:?}");
        assert_eq!(prompts[0]["description"], "Ships it");
        let arguments = prompts[0]["arguments"].as_array().unwrap();
        let required = |name: &str| arguments.iter().find(|one| one["name"] == name).unwrap()["required"].clone();
        assert_eq!((required("count"), required("where"), required("ref")), (json!(true), json!(true), json!(false)));

        let got = prompt(host, json!({ "count": "3", "where": "prod", "ref": "" }));
        let text = got["result"]["messages"][0]["content"]["text"].as_str().unwrap_or_else(|| panic!("{got}"));
        assert!(text.contains("`ship`"), "{text}");
        let written = text.split_once("```json\n").unwrap().1.split_once("\n```").unwrap().0;
        let input: Value = serde_json::from_str(written).unwrap();
        assert_eq!(input, json!({ "count": 3, "where": "prod" }));
        // What the prompt asks for is what the tool takes.
        let called = host.call("ship", input);
        assert_eq!(called["result"]["structuredContent"]["one"]["count"], 3, "{called}");

        for wrong in [
            json!({}),
            json!({ "count": "three", "where": "prod" }),
            json!({ "count": "3", "where": "prod", "x": "1" }),
        ] {
            assert_eq!(prompt(host, wrong)["error"]["code"], -32602);
        }
        let complete =
            json!({ "ref": { "type": "ref/prompt", "name": "ship" }, "argument": { "name": "where", "value": "pr" } });
        let completed = host.ask("completion/complete", complete);
        assert_eq!(completed["result"]["completion"]["values"], json!(["prod", "preview"]), "{completed}");
    }
}

#[test]
fn prompts_of_servers_stand_beside_them_and_a_workflow_comes_first() {
    let scratch =
        project("[servers.conf]\ncommand = \"${CONFORMANCE}\"\n[serve]\nexpose = [\"conf.*\"]\nprefix = false\n");
    scratch.file("ship.toml", SHIP);
    scratch.file("test_simple_prompt.toml", "[steps.one]\ncall = \"tools.echo\"\nwith.a = 1\n");
    let mut host = stdio(&scratch, Era::Modern);
    let prompts = listed(&mut host, "prompts/list", "prompts");
    let names = names(&prompts);
    assert_eq!(names[..2], ["ship", "test_simple_prompt"]);
    assert!(names.contains(&"test_prompt_with_arguments"), "{names:?}");
    assert_eq!(names.iter().filter(|name| **name == "test_simple_prompt").count(), 1);
    let own = host.ask("prompts/get", json!({ "name": "test_simple_prompt" }));
    assert!(own["result"]["messages"][0]["content"]["text"].as_str().unwrap().starts_with("Call the tool"), "{own}");
    let theirs = host
        .ask("prompts/get", json!({ "name": "test_prompt_with_arguments", "arguments": { "arg1": "a", "arg2": "b" } }));
    assert!(theirs["result"]["messages"].is_array(), "{theirs}");
}

#[test]
fn they_can_be_left_out() {
    let scratch = project("[serve]\nprompts = false\nruns = false\n");
    scratch.file("ship.toml", SHIP);
    let mut host = stdio(&scratch, Era::Modern);
    let discovered = host.ask("server/discover", json!({}));
    let capabilities = discovered["result"]["capabilities"].as_object().unwrap();
    assert!(!capabilities.contains_key("resources") && !capabilities.contains_key("prompts"), "{discovered}");
    assert_eq!(host.ask("resources/read", json!({ "uri": "antiphon://runs" }))["error"]["code"], -32601);
}
