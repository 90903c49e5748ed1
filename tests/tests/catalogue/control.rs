//! Allow, deny, rename, describe anew.

use antiphon_tests::{Era, text_of};
use serde_json::json;

use crate::{logged, names, project, said, stdio, tools};

#[test]
fn patterns_take_away_and_what_is_hidden_cannot_be_called() {
    let scratch = project("[serve]\nexpose = [\"tools.*\", \"!tools.s*\", \"!*.refund\"]\nprefix = false\n");
    let mut host = stdio(&scratch, Era::Modern);
    let listed = tools(&mut host);
    let names = names(&listed);
    assert!(names.contains(&"echo") && names.contains(&"charge"), "{names:?}");
    for hidden in ["set_kv", "sleep", "refund"] {
        assert!(!names.contains(&hidden), "{names:?}");
        assert_eq!(host.call(hidden, json!({}))["error"]["code"], -32602);
    }
    assert!(scratch.calls().is_empty(), "the server was not asked");
}

#[test]
fn annotations_choose() {
    let scratch = project("[serve]\nexpose = [\"tools.@read_only\", \"!tools.big\"]\nprefix = false\n");
    let mut host = stdio(&scratch, Era::Modern);
    // Also before anything was listed.
    assert_eq!(host.call("charge", json!({ "id": "1" }))["error"]["code"], -32602);
    assert_eq!(host.call("echo", json!({ "a": 1 }))["result"]["structuredContent"]["a"], 1);
    let listed = tools(&mut host);
    let names = names(&listed);
    assert!(names.contains(&"echo") && !names.contains(&"big"), "{names:?}");
    assert!(listed.iter().all(|tool| tool["annotations"]["readOnlyHint"] == true), "{listed:?}");
    assert_eq!(scratch.calls().iter().filter(|call| call["tool"] == "charge").count(), 0);

    let scratch = project("[serve]\nexpose = [\"tools.*\", \"!*.@destructive\"]\nprefix = false\n");
    let mut host = stdio(&scratch, Era::Legacy);
    let listed = tools(&mut host);
    let names = crate::names(&listed);
    // What says nothing of itself may destroy, by MCP's own defaults.
    assert!(names.contains(&"echo") && !names.contains(&"charge"), "{names:?}");
    assert_eq!(host.call("charge", json!({ "id": "1" }))["error"]["code"], -32602);
}

#[test]
fn a_server_marked_read_only_is_that_for_everybody() {
    let scratch = project("read_only = true\n[serve]\nexpose = [\"tools.*\"]\nprefix = false\n");
    scratch.file("pay.toml", "[steps.one]\ncall = \"tools.charge\"\nwith.id = \"1\"\n");
    scratch.file("look.toml", "[steps.one]\ncall = \"tools.echo\"\nwith.a = 1\n");
    let mut host = stdio(&scratch, Era::Modern);
    assert_eq!(host.call("charge", json!({ "id": "1" }))["error"]["code"], -32602);
    let listed = tools(&mut host);
    assert!(names(&listed).contains(&"echo") && !names(&listed).contains(&"charge"), "{listed:?}");
    let refused = host.call("pay", json!({}));
    assert_eq!(refused["result"]["isError"], true, "{refused}");
    assert!(text_of(&refused["result"]).contains("read_only"), "{refused}");
    assert_eq!(host.call("look", json!({}))["result"]["structuredContent"]["one"]["a"], 1);
    assert!(scratch.calls().iter().all(|call| call["tool"] != "charge"));
}

#[test]
fn tools_are_renamed_and_described_anew_and_nothing_else_of_them_changes() {
    let plain = project("[serve]\nexpose = [\"tools.*\"]\nprefix = false\n");
    let before = tools(&mut stdio(&plain, Era::Modern));
    let scratch = project(
        "[serve]\nexpose = [\"tools.*\"]\n[serve.tools.\"tools.echo\"]\nname = \"say.again\"\ndescription = \"Says it again\"\n\
         [serve.tools.\"tools.big\"]\ndescription = \"Much\"\n",
    );
    let mut host = stdio(&scratch, Era::Modern);
    let after = tools(&mut host);
    let find = |list: &[serde_json::Value], name: &str| list.iter().find(|tool| tool["name"] == name).cloned();
    let (mut echo, mut big) = (find(&before, "echo").unwrap(), find(&before, "big").unwrap());
    (echo["name"], echo["description"]) = (json!("say.again"), json!("Says it again"));
    (big["name"], big["description"]) = (json!("tools__big"), json!("Much"));
    assert_eq!(find(&after, "say.again"), Some(echo));
    assert_eq!(find(&after, "tools__big"), Some(big));
    assert_eq!(before.len(), after.len());
    assert_eq!(host.call("say.again", json!({ "a": 1 }))["result"]["structuredContent"]["a"], 1);
    assert_eq!(host.call("tools__echo", json!({ "a": 1 }))["error"]["code"], -32602, "the old name is gone");
}

#[test]
fn what_is_said_of_tools_that_are_not_there_is_told() {
    let scratch = project(
        "[serve]\nexpose = [\"tools.echo\", \"tools.ecco\", \"tools.b*\"]\n[serve.tools.\"tools.bag\"]\nname = \"again\"\n",
    );
    let mut host = logged(&scratch, Era::Modern);
    assert_eq!(names(&tools(&mut host)), ["tools__echo", "tools__big"]);
    said(&scratch, "`tools.ecco`");
    said(&scratch, "`tools.bag`");
}
