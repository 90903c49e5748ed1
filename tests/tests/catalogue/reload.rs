//! Files change while a host looks.

use std::time::{Duration, Instant};

use antiphon_tests::{Era, Host, text_of};
use serde_json::json;

use crate::{EVERYWHERE, configure, listed, listen, logged, names, project, said, seat, tools};

const TOLD: [&str; 3] =
    ["notifications/tools/list_changed", "notifications/prompts/list_changed", "notifications/resources/list_changed"];

fn echo(word: &str) -> String {
    format!("description = \"Says {word}\"\n[steps.one]\ncall = \"tools.echo\"\nwith.word = \"{word}\"\n")
}

fn all_lists() -> serde_json::Value {
    json!({ "toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true })
}

#[test]
fn workflows_are_edited_added_and_removed() {
    for (wire, era) in EVERYWHERE {
        let scratch = project("");
        scratch.file("first.toml", &echo("one"));
        let host = &mut seat(&scratch, wire, era).host;
        listen(host, era, all_lists());
        let about = |host: &mut Host, name: &str| {
            tools(host).iter().find(|tool| tool["name"] == name).map(|tool| tool["description"].clone())
        };
        assert_eq!(about(host, "first"), Some(json!("Says one")));

        scratch.file("first.toml", &echo("two"));
        host.pushed(TOLD[0]);
        host.pushed(TOLD[1]);
        assert_eq!(about(host, "first"), Some(json!("Says two")), "{wire:?} {era:?}");
        assert_eq!(host.call("first", json!({}))["result"]["structuredContent"]["one"]["word"], "two");

        scratch.file("second.toml", &echo("more"));
        host.pushed(TOLD[0]);
        host.pushed(TOLD[1]);
        let prompts = listed(host, "prompts/list", "prompts");
        assert_eq!(names(&prompts), ["first", "second"]);

        std::fs::remove_file(scratch.path().join("first.toml")).unwrap();
        host.pushed(TOLD[0]);
        assert_eq!(about(host, "first"), None);
        assert_eq!(host.call("first", json!({}))["error"]["code"], -32602);
        // Also the last one.
        std::fs::remove_file(scratch.path().join("second.toml")).unwrap();
        host.pushed(TOLD[0]);
        assert_eq!(about(host, "second"), None);
    }
}

#[test]
fn what_is_passed_through_changes_with_the_projects_file() {
    for (wire, era) in EVERYWHERE {
        let scratch = project("[serve]\nexpose = [\"tools.echo\"]\n");
        let host = &mut seat(&scratch, wire, era).host;
        listen(host, era, all_lists());
        assert_eq!(names(&tools(host)), ["tools__echo"]);
        configure(&scratch, "[serve]\nexpose = [\"tools.e*\"]\nprefix = false\n");
        host.pushed(TOLD[0]);
        assert_eq!(names(&tools(host)), ["echo", "elicit_name"], "{wire:?} {era:?}");
        assert_eq!(host.call("echo", json!({ "a": 1 }))["result"]["structuredContent"]["a"], 1);
        // Its own changes are still heard of after that: nothing else is left to hear.
        configure(&scratch, "[serve]\nexpose = [\"tools.echo\"]\nprefix = \"x-\"\n");
        host.pushed(TOLD[0]);
        assert_eq!(names(&tools(host)), ["x-echo"]);
    }
}

#[test]
fn a_broken_file_keeps_its_last_good_state_and_says_so() {
    let scratch = project("[serve]\nexpose = [\"tools.echo\"]\n");
    scratch.file("first.toml", &echo("one"));
    scratch.file("second.toml", &echo("other"));
    let mut host = logged(&scratch, Era::Modern);
    assert!(names(&tools(&mut host)).contains(&"first"));

    scratch.file("first.toml", "[steps.one]\ncall = \"tools.echo\nwith.word = \"half\"\n");
    said(&scratch, "first.toml:2");
    assert_eq!(host.call("first", json!({}))["result"]["structuredContent"]["one"]["word"], "one");
    // The others go on changing.
    scratch.file("second.toml", &echo("new"));
    let begun = Instant::now();
    while host.call("second", json!({}))["result"]["structuredContent"]["one"]["word"] != "new" {
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
    assert_eq!(host.call("first", json!({}))["result"]["structuredContent"]["one"]["word"], "one");

    // A project's file without servers would break everything: all stays.
    scratch.file("antiphon.toml", "[servers.tools\ncommand = \"x\"\n");
    said(&scratch, "antiphon.toml:1");
    assert_eq!(host.call("tools__echo", json!({ "a": 1 }))["result"]["structuredContent"]["a"], 1);
    configure(&scratch, "[serve]\nexpose = [\"tools.echo\"]\n");
    scratch.file("first.toml", &echo("mended"));
    let begun = Instant::now();
    while host.call("first", json!({}))["result"]["structuredContent"]["one"]["word"] != "mended" {
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}

#[test]
fn a_run_under_way_goes_on_as_it_began() {
    let scratch = project("");
    let gate = scratch.path().join("open");
    let flow = |word: &str| {
        format!(
            "[steps.wait]\ncall = \"tools.gate\"\nwith.path = {gate:?}\nwith.value = 1\n\
             [steps.say]\nneeds = [\"wait\"]\ncall = \"tools.echo\"\nwith.word = \"{word}\"\n"
        )
    };
    scratch.file("slow.toml", &flow("before"));
    let mut host = crate::stdio(&scratch, Era::Modern);
    listen(&mut host, Era::Modern, all_lists());
    let started = host.call("run_start", json!({ "workflow": "slow", "input": {} }));
    let id =
        started["result"]["structuredContent"]["run"]["id"].as_str().unwrap_or_else(|| panic!("{started}")).to_owned();
    scratch.file("slow.toml", &format!("description = \"Newer\"\n{}", flow("after")));
    host.pushed(TOLD[0]);
    std::fs::write(&gate, "").unwrap();
    let ended = host.call("run_status", json!({ "run_id": id, "wait_seconds": 30 }));
    assert_eq!(ended["result"]["structuredContent"]["run"]["output"]["say"]["word"], "before", "{ended}");
    let newer = host.call("slow", json!({}));
    assert_eq!(newer["result"]["structuredContent"]["say"]["word"], "after", "{}", text_of(&newer["result"]));
}
