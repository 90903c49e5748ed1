//! Several processes share one project's runs.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::json;

use crate::support::{ASKS, Host, Project, WAITS, owner};

#[test]
fn hosts_and_a_terminal_share_the_runs() {
    let project = Project::new(&[("ask.toml", ASKS)]);
    let mut first = Host::start(&project);
    let mut second = Host::start(&project);
    assert_eq!(owner(&project.data()), Some(first.child.id().into()));
    let mode = |name: &str| fs::metadata(project.data().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("lock"), mode("socket"), mode("state.key")), (0o600, 0o600, 0o600));

    for (host, name) in [(&mut first, "one"), (&mut second, "two")] {
        host.call(1, "ask", json!({ "name": name }));
        let asked = host.hear_until(|message| message["method"] == "elicitation/create");
        assert_eq!(asked["params"]["message"], format!("Sure, {name}?"));
    }
    let listed = project.runs();
    assert_eq!(listed.len(), 2, "{listed:?}");

    // The terminal answers what the second host was asked.
    let id = listed[0]["id"].as_str().unwrap();
    project.antiphon(&["answer", id, "--accept"]).expect(0);
    project.antiphon(&["answer", id, "--field", "colour=red"]).expect(0);
    let answer = second.hear_until(|message| message["id"] == 1 && message.get("result").is_some());
    assert_eq!(answer["result"]["structuredContent"]["text"], "two likes red");
}

#[test]
fn when_the_owner_dies_another_goes_on() {
    let project = Project::new(&[("ask.toml", ASKS)]);
    let mut first = Host::start(&project);
    let mut second = Host::start(&project);
    second.call(1, "ask", json!({ "name": "Ann" }));
    let asked = second.hear_until(|message| message["method"] == "elicitation/create");

    first.kill();
    let again = second.hear_until(|message| message["method"] == "elicitation/create");
    assert_eq!(owner(&project.data()), Some(second.child.id().into()));
    assert_eq!(again["params"]["message"], asked["params"]["message"]);
    assert_ne!(again["id"], asked["id"], "an answer to the dead owner must not reach the living one");
    assert_eq!(project.runs().len(), 1, "the call was repeated, the run was not");

    second.say(json!({ "jsonrpc": "2.0", "id": again["id"], "result": { "action": "accept", "content": {} } }));
    let asked = second.hear_until(|message| message["method"] == "elicitation/create");
    let content = json!({ "colour": "blue" });
    second.say(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "action": "accept", "content": content } }));
    let answer = second.hear_until(|message| message["id"] == 1 && message.get("result").is_some());
    assert_eq!(answer["result"]["structuredContent"]["text"], "Ann likes blue");
}

#[test]
fn a_terminal_goes_on_with_its_run_when_the_owner_dies() {
    let project = Project::new(&[("wait.toml", WAITS)]);
    let mut host = Host::start(&project);
    let child = project.command(&["run", "wait.toml"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while project.runs().is_empty() {}
    host.kill();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let output: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output["end"], "rested");
    assert_eq!(project.runs().len(), 1);
}

#[test]
fn another_version_is_told_to_keep_away() {
    let project = Project::new(&[("ask.toml", ASKS)]);
    project.antiphon(&["run", "ask.toml"]).expect(3);
    let mut lock = File::options().write(true).truncate(true).open(project.data().join("lock")).unwrap();
    lock.lock().unwrap();
    lock.write_all(br#"{ "pid": 7, "version": "99.0.0", "socket": "/nowhere" }"#).unwrap();
    let done = project.antiphon(&["runs"]).expect(70);
    assert!(done.stderr.contains("process 7") && done.stderr.contains("99.0.0"), "{}", done.stderr);
}

#[test]
fn a_broken_workflow_does_not_hide_the_others() {
    let project = Project::new(&[("ask.toml", ASKS), ("bad.toml", "[steps.a]\nsett = 1\n")]);
    let mut host = Host::start(&project);
    host.say(json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }));
    let listed = host.hear_until(|message| message["id"] == 1);
    let names: Vec<&str> =
        listed["result"]["tools"].as_array().unwrap().iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert!(names.contains(&"ask") && !names.contains(&"bad"), "{names:?}");
}

#[test]
fn edits_are_served_without_a_restart() {
    let project = Project::new(&[("ask.toml", ASKS)]);
    let mut hosts = [Host::start(&project), Host::start(&project)];
    project.write("more.toml", "[steps.a]\nset = 1\n");
    for host in &mut hosts {
        let mut id = 0;
        host.hear_eventually(|host| {
            id += 1;
            host.say(json!({ "jsonrpc": "2.0", "id": id, "method": "tools/list" }));
            let listed = host.hear_until(|message| message["id"] == id);
            listed["result"]["tools"].as_array().unwrap().iter().any(|tool| tool["name"] == "more")
        });
    }
}

#[test]
fn a_terminal_lends_its_variables_to_the_owner() {
    let text = "[servers.x]\nurl = \"http://127.0.0.1:1/${AP_LENT}\"\n[steps.a]\ncall = \"x.y\"\n";
    let project = Project::new(&[("a.toml", text), ("ask.toml", ASKS)]);
    let _host = Host::start(&project);
    project.antiphon(&["run", "a.toml"]).expect(2);
    // The server is not there, but now it is known where.
    let output = project.command(&["run", "a.toml"]).env("AP_LENT", "mcp").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("unavailable"), "{stderr}");
}
