//! Runs on the command line, one process at a time.

use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{ASKS, Project, WAITS, owner};

#[test]
fn the_output_is_json_on_stdout() {
    let project = Project::new(&[(
        "sum.toml",
        "[input]\na = { type = \"integer\" }\n[steps.sum]\nset = \"{{ input.a + 1 }}\"\n",
    )]);
    let done = project.antiphon(&["run", "sum.toml", "-i", "a=2"]).expect(0);
    assert_eq!(done.json(), json!({ "sum": 3 }));
    assert_eq!(done.stderr, "");
    let done = project.antiphon(&["call", "sum", "-i", "a=2", "--json"]).expect(0);
    assert_eq!(done.stdout, "{\"sum\":3}\n");
}

#[test]
fn a_failed_run_says_why() {
    let project = Project::new(&[("bad.toml", "[steps.a]\nset = 1\nexpect = \"output == 2\"\n")]);
    let done = project.antiphon(&["run", "bad.toml"]).expect(1);
    assert_eq!(done.stdout, "");
    assert!(done.stderr.contains("the run failed: `a`") && done.stderr.contains("antiphon show"), "{}", done.stderr);
}

#[test]
fn a_run_that_asks_is_answered_by_other_commands() {
    let project = Project::new(&[("ask.toml", ASKS)]);
    let done = project.antiphon(&["run", "ask.toml", "-i", "name=Bob"]).expect(3);
    assert!(done.stderr.contains("Sure, Bob?"), "{}", done.stderr);
    let run = &project.runs()[0];
    let id = run["id"].as_str().unwrap();
    assert!(done.stderr.contains(&format!("antiphon answer {} --accept", &id[..8])), "{}", done.stderr);

    // Looking at it sets nothing going.
    assert_eq!(project.antiphon(&["show", id, "--json"]).expect(0).json()["view"]["status"], "input_required");
    project.antiphon(&["watch", id]).expect(6);

    project.antiphon(&["answer", &id[..6], "--accept"]).expect(3);
    let wrong = project.antiphon(&["answer", id, "--field", "colour=green"]).expect(2);
    assert!(wrong.stderr.contains("green"), "{}", wrong.stderr);
    let done = project.antiphon(&["answer", id, "colour", "--field", "colour=red"]).expect(0);
    assert_eq!(done.json(), json!({ "text": "Bob likes red" }));
    project.antiphon(&["answer", id, "--accept"]).expect(2);
    assert_eq!(project.runs()[0]["status"], "succeeded");
}

#[test]
fn a_run_that_asks_can_be_cancelled() {
    let project = Project::new(&[("ask.toml", ASKS)]);
    project.antiphon(&["run", "ask.toml"]).expect(3);
    let id = project.runs()[0]["id"].as_str().unwrap().to_owned();
    project.antiphon(&["cancel", &id, "--reason", "enough"]).expect(0);
    assert_eq!(project.runs()[0]["status"], "cancelled");
    let done = project.antiphon(&["resume", &id]).expect(5);
    assert!(done.stderr.contains("enough"), "{}", done.stderr);
}

#[test]
fn an_interrupted_run_is_paused_and_goes_on_later() {
    let project = Project::new(&[("wait.toml", WAITS)]);
    let child = project.command(&["run", "wait.toml"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = std::time::Instant::now();
    while !project.folder().parent().unwrap().join("data/antiphon").exists() || owner(&project.data()).is_none() {
        assert!(begun.elapsed().as_secs() < 20, "the run does not start");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    while project.runs().is_empty() {
        assert!(begun.elapsed().as_secs() < 20, "the run is not there");
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let id = project.runs()[0]["id"].as_str().unwrap().to_owned();
    assert!(stderr.contains(&format!("paused: antiphon resume {}", &id[..8])), "{stderr}");
    assert_eq!(project.antiphon(&["resume", &id]).expect(0).json()["end"], "rested");
}

#[test]
fn commands_of_files_are_not_started_unseen() {
    let text = "[servers.x]\ncommand = \"touch\"\nargs = [\"touched\"]\n[steps.a]\ncall = \"x.y\"\n";
    let project = Project::new(&[("a.toml", text)]);
    for args in [&["run", "a.toml"][..], &["serve"], &["tools"], &["call", "a"]] {
        let done = project.antiphon(args).expect(2);
        assert!(done.stderr.contains("touch touched") && done.stderr.contains("--trust"), "{args:?}: {}", done.stderr);
    }
    assert!(!project.folder().join("touched").exists());
    // It is no MCP server; that it was started is what counts. From now on nobody has to be asked.
    project.antiphon(&["run", "a.toml", "--trust"]).expect(1);
    assert!(project.folder().join("touched").exists());
    project.antiphon(&["run", "a.toml"]).expect(1);
}

#[test]
fn missing_variables_are_named_at_once() {
    let text = "[servers.x]\nurl = \"http://127.0.0.1:1/${AP_NO_1}\"\nheaders = { A = \"${AP_NO_2}\" }\n[steps.a]\ncall = \"x.y\"\n";
    let project = Project::new(&[("a.toml", text)]);
    let done = project.antiphon(&["run", "a.toml"]).expect(2);
    assert!(done.stderr.contains("AP_NO_1 (for a/x), AP_NO_2 (for a/x)"), "{}", done.stderr);
}

#[test]
fn a_database_of_ones_own_has_its_runs() {
    let project = Project::new(&[("ask.toml", ASKS)]);
    let done = project.antiphon(&["run", "ask.toml", "--db", "own.db"]).expect(3);
    assert!(done.stderr.contains("--db own.db"), "hints lead back: {}", done.stderr);
    let listed = project.antiphon(&["runs", "--db", "own.db"]).expect(0);
    assert_eq!(listed.stdout.lines().count(), 1);
    assert!(project.runs().is_empty());
}
