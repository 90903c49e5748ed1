//! Files that are no workflows, named to `check`, `run` and `serve`, or lying among good ones.

use std::fs;

use antiphon_tests::{Era, Host, Scratch};
use serde_json::json;

use crate::{DONE, FAILED, INTERNAL, Seen, USAGE};

/// What is wrong with a file, its bytes, and what is said about it.
const BROKEN: &[(&str, &[u8], &[&str])] = &[
    ("syntax", b"[steps.a\nset = 1\n", &["AP0102", "syntax.toml:1", "a header is `[steps.NAME]`"]),
    ("types", b"[steps.a]\nset = 1\n[steps.b]\nset = 2\nneeds = \"a\"\n", &["AP0103", "types.toml:5"]),
    ("key", b"[steps.a]\nset = 1\ntimeot = \"1s\"\n", &["AP0101", "key.toml:3", "did you mean `timeout`?"]),
    ("verb", b"[steps.a]\ncal = \"x.y\"\n", &["AP0106", "verb.toml:2", "did you mean `call`?"]),
    ("latin", b"#:schema workflow\n[steps.a]\nset = \"caf\xe9\"\n", &["AP0110", "latin.toml", "line 3 is not UTF-8"]),
    ("utf16", b"\xff\xfe[\0s\0t\0e\0p\0s\0", &["AP0110", "utf16.toml", "line 1 is not UTF-8"]),
    ("zeros", b"[steps.a]\nset = \"\0\"\n", &["AP0102", "zeros.toml:2"]),
    ("empty", b"", &["AP0105", "empty.toml", "add `[steps.NAME]`"]),
];

#[test]
fn a_broken_file_is_refused_by_every_verb() {
    let scratch = Scratch::new();
    for (name, bytes, says) in BROKEN {
        let file = format!("{name}.toml");
        fs::write(scratch.path().join(&file), bytes).unwrap();
        Seen::of(&mut scratch.antiphon(&["check", &file])).fails(USAGE, says);
        for verb in ["run", "serve"] {
            Seen::of(&mut scratch.with_db(&[verb, &file])).fails(USAGE, says);
        }
    }
    assert!(!scratch.database().exists(), "nothing was started");
}

#[test]
fn so_is_what_is_no_file() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path().join("folder.toml")).unwrap();
    for (path, says) in [("missing.toml", "can't open missing.toml"), ("folder.toml", "folder.toml")] {
        Seen::of(&mut scratch.antiphon(&["check", path])).fails(USAGE, &[says, "help:"]);
        for verb in ["run", "serve"] {
            Seen::of(&mut scratch.with_db(&[verb, path])).fails(USAGE, &[says, "help:"]);
        }
    }
}

#[test]
fn nesting_without_end_is_an_error_and_no_more() {
    let scratch = Scratch::new();
    let tower = |open: &str, close: &str| open.repeat(50_000) + &close.repeat(50_000);
    for value in [tower("[", "]"), tower("{a=", "}"), format!("\"{{{{ {} }}}}\"", tower("(", ")"))] {
        scratch.file("deep.toml", &format!("[steps.a]\nset = {value}\n"));
        Seen::of(&mut scratch.antiphon(&["check", "deep.toml"])).fails(USAGE, &["deep.toml:2"]);
    }
}

#[test]
fn broken_files_hide_no_good_one() {
    let scratch = Scratch::new();
    for (name, bytes, _) in BROKEN {
        fs::write(scratch.path().join(format!("{name}.toml")), bytes).unwrap();
    }
    scratch.file("good.toml", "[steps.a]\nset = 1\n");
    // What does not look like a workflow is none of ours.
    let mut says = vec!["1 sound workflow"];
    says.extend(BROKEN.iter().filter(|(name, ..)| !matches!(*name, "utf16" | "empty")).map(|(.., says)| says[1]));
    Seen::of(&mut scratch.antiphon(&["check"])).fails(USAGE, &says);

    assert_eq!(Seen::of(&mut scratch.with_db(&["run", "good.toml"])).succeeds(), json!({ "a": 1 }));
    let mut host = Host::start(&mut scratch.with_db(&["serve", "."]), Era::Modern, json!({}));
    assert_eq!(host.call("good", json!({}))["result"]["structuredContent"], json!({ "a": 1 }));
}

#[test]
fn a_broken_project_file_is_named() {
    let scratch = Scratch::new();
    scratch.file("good.toml", "[steps.a]\nset = 1\n");
    for (text, says) in [
        (&b"[servers.x\n"[..], &["AP0102", "antiphon.toml:1"][..]),
        (b"[servers.x]\ncomand = \"x\"\n", &["antiphon.toml:2", "did you mean `command`?"]),
        (b"# caf\xe9\n", &["can't read antiphon.toml", "line 1 is not UTF-8"]),
    ] {
        fs::write(scratch.path().join("antiphon.toml"), text).unwrap();
        Seen::of(&mut scratch.antiphon(&["check"])).fails(USAGE, says);
    }
}

#[test]
fn commands_are_not_started_unseen_and_a_typing_error_in_one_is_told() {
    let scratch = Scratch::new();
    scratch.file("list.toml", "[servers.files]\ncommand = \"no-such-server\"\n[steps.a]\ncall = \"files.list\"\n");
    let seen = Seen::of(&mut scratch.with_db(&["run", "list.toml"]));
    seen.fails(USAGE, &["`list/files` in list.toml: no-such-server", "--trust"]);
    let seen = Seen::of(&mut scratch.with_db(&["run", "list.toml", "--trust"]));
    seen.fails(FAILED, &["there is no command `no-such-server`", "`a`", "(unavailable)"]);
}

#[test]
fn missing_variables_are_named_all_at_once() {
    let scratch = Scratch::new();
    scratch.file(
        "a.toml",
        "[servers.x]\nurl = \"http://127.0.0.1:1/${AP_DOOR_1}\"\nheaders = { A = \"${AP_DOOR_2}\" }\n\
         [models.m]\nbase_url = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\napi_key = \"${AP_DOOR_3}\"\n\
         [steps.a]\ncall = \"x.y\"\n[steps.b]\nsample = \"m\"\nprompt = \"{{ steps.a.text }}\"\n",
    );
    assert_eq!(Seen::of(&mut scratch.antiphon(&["check"])).code, DONE);
    let says = ["AP_DOOR_1 (for a/x)", "AP_DOOR_2 (for a/x)", "AP_DOOR_3 (for a/m)", "export them"];
    Seen::of(&mut scratch.with_db(&["run", "a.toml"])).fails(USAGE, &says);
    // Served, it is listed, and its call says the same.
    let mut host = Host::start(&mut scratch.with_db(&["serve", "."]), Era::Modern, json!({}));
    let answer = host.call("a", json!({})).to_string();
    assert!(answer.contains("AP_DOOR_1"), "{answer}");
}

#[test]
fn a_full_standard_stream_is_an_error_and_not_a_panic() {
    let scratch = Scratch::new();
    scratch.file("good.toml", "[steps.a]\nset = 1\n");
    scratch.file("bad.toml", "[steps.a]\nsett = 1\n");
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let seen = Seen::of(scratch.with_db(&["run", "good.toml"]).stdout(full()));
    seen.fails(INTERNAL, &["can't write to standard output"]);
    for (args, code) in [(&["check"][..], USAGE), (&["run", "bad.toml"], USAGE), (&["run", "good.toml"], DONE)] {
        let seen = Seen::of(scratch.antiphon(args).env("ANTIPHON_LOG", "trace").stderr(full()));
        assert_eq!(seen.code, code, "{args:?}");
    }
}
