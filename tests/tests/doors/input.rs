//! `--input`: what does not fit is refused before anything is started.

use std::fs;
use std::process::Stdio;

use antiphon_tests::{Era, Host, Scratch};
use serde_json::json;

use crate::{DONE, FAILED, GOOD, Seen, USAGE, run, runs};

const WORKFLOW: &str = r#"
[input]
name = { type = "string" }
count = { type = "integer", default = 1, maximum = 10 }
tags = { type = "array", items = { type = "string" }, default = [] }
[steps.a]
set = "{{ input.name | length + input.count }}"
"#;

#[test]
fn what_does_not_fit_is_named_and_nothing_starts() {
    let scratch = Scratch::new();
    scratch.file("w.toml", WORKFLOW);
    fs::create_dir(scratch.path().join("folder.json")).unwrap();
    fs::write(scratch.path().join("latin.json"), b"{\"name\": \"caf\xe9\"}").unwrap();
    for (name, text) in [("half.json", r#"{"name": 1"#), ("list.json", "[1]"), ("type.json", r#"{"name":1}"#)] {
        scratch.file(name, text);
    }
    for (input, says) in [
        (&["count=many"][..], &["count=many", "integer"][..]),
        (&["name=x", "count=11"], &["`/count`", "11 is greater than the maximum of 10"]),
        (&["name=x", "tags=[1]"], &["`/tags/0`", "is not of type \"string\""]),
        (&["name=x", "tags=x"], &["tags=x", "array", "as JSON"]),
        (&["name=x", "colour=red"], &["there is no input `colour`", "name, count, tags"]),
        (&[], &["\"name\" is a required property", "--input key=value"]),
        (&["name"], &["--input name: neither key=value, nor @file.json, nor -"]),
        (&["@missing.json"], &["can't read missing.json"]),
        (&["@folder.json"], &["can't read folder.json"]),
        (&["@latin.json"], &["can't read latin.json"]),
        (&["@half.json"], &["half.json is not JSON", "line 1"]),
        (&["@list.json"], &["list.json is not a JSON object"]),
        (&["@type.json"], &["`/name`", "is not of type \"string\""]),
        // Standard input is empty here.
        (&["-"], &["standard input is not JSON"]),
    ] {
        let mut args = vec!["run", "w.toml"];
        args.extend(input.iter().flat_map(|input| ["--input", input]));
        run(&scratch, &args).fails(USAGE, says);
    }
    assert_eq!(runs(&scratch), [json!(null); 0]);
}

/// An answer of `antiphon answer` that does not fit leaves the question open.
#[test]
fn so_is_an_answer() {
    let scratch = Scratch::new();
    scratch
        .file("ask.toml", "[steps.a]\nelicit = \"How many?\"\nfields.count = { type = \"integer\", maximum = 10 }\n");
    run(&scratch, &["run", "ask.toml"]).fails(crate::NEEDS_INPUT, &["How many?"]);
    let id = crate::only_run(&scratch);
    for (args, says) in [
        (&["--field", "count=many"][..], "count"),
        (&["--field", "count=11"], "11"),
        (&["--field", "count=7", "--field", "colour=red"], "no field `colour`"),
        (&["--retry"], ""),
        (&["nothing", "--accept"], "nothing"),
    ] {
        run(&scratch, &[&["answer", &id][..], args].concat()).fails(USAGE, &[says]);
    }
    assert_eq!(runs(&scratch)[0]["status"], "input_required");
    assert_eq!(run(&scratch, &["answer", &id, "--field", "count=7"]).succeeds(), json!({ "a": { "count": 7 } }));
    run(&scratch, &["answer", &id, "--field", "count=7"]).fails(USAGE, &[]);
}

#[test]
fn twenty_megabytes_are_taken_from_a_file_but_not_passed_to_another_process() {
    let scratch = Scratch::new();
    scratch.file("w.toml", WORKFLOW);
    scratch.file("ask.toml", "[steps.a]\nelicit = \"Sure?\"\n");
    scratch.file("big.json", &json!({ "name": "x".repeat(20_000_000) }).to_string());
    let big = ["run", "w.toml", "--input", "@big.json"];
    assert_eq!(run(&scratch, &big).succeeds(), json!({ "a": 20_000_001 }));

    let mut host = Host::start(&mut scratch.with_db(&["serve", "."]), Era::Modern, json!({}));
    host.ask("tools/list", json!({}));
    run(&scratch, &big).fails(USAGE, &["at most 4194304 are taken", "by a file's path or a URL"]);
    // The owner has heard nothing but noise, and goes on.
    assert_eq!(run(&scratch, &["run", "w.toml", "--input", "name=x"]).succeeds(), json!({ "a": 2 }));
    assert_eq!(host.call("w", json!({ "name": "xy" }))["result"]["structuredContent"], json!({ "a": 3 }));
}

/// What goes to a server and comes back, larger than what is kept in memory; and larger than what an expression may yield.
#[test]
fn large_values_go_through_a_step_and_larger_ones_are_refused() {
    let scratch = Scratch::new();
    scratch.file("antiphon.toml", GOOD);
    scratch.file(
        "echo.toml",
        "[input]\ntext = { type = \"string\" }\n[steps.a]\ncall = \"good.echo\"\nwith.text = \"{{ input.text }}\"\n\
         [output]\nlength = \"{{ steps.a.output.text | length }}\"\n",
    );
    let input = |bytes| scratch.file("input.json", &json!({ "text": "x".repeat(bytes) }).to_string());
    let echo = ["run", "echo.toml", "--trust", "--input", "@input.json"];
    input(6_000_000);
    assert_eq!(run(&scratch, &echo).succeeds(), json!({ "length": 6_000_000 }));
    input(20_000_000);
    run(&scratch, &echo).fails(FAILED, &["`a`", "larger than 16 MiB"]);
    assert_eq!(runs(&scratch).len(), 2);
}

#[test]
fn what_the_caller_pipes_in_may_be_anything() {
    let scratch = Scratch::new();
    scratch.file("w.toml", WORKFLOW);
    let mut child = scratch
        .with_db(&["run", "w.toml", "--input", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"\x00\xff{}").unwrap();
    Seen::from(child.wait_with_output().unwrap()).fails(USAGE, &["can't read standard input"]);
    assert_eq!(run(&scratch, &["runs"]).code, DONE);
}
