//! Secrets, given as `${VAR}` under `env`, `headers` and `api_key`, to servers and models that repeat them wherever they can:
//! no output, no log, no file and no answer of ours has them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use antiphon_tests::{Era, Host, Scratch};
use serde_json::json;

use crate::{GOOD, Seen, only_run, shell, web};

const TOKEN: &str = "tok-5e5ame-0pen";
const HEADER: &str = "hdr-5e5ame-0pen";
const KEY: &str = "key-5e5ame-0pen";

fn project() -> Scratch {
    let scratch = Scratch::new();
    // It says what it was sent.
    let echo = web(|head| {
        let body = json!({ "error": { "message": format!("refused: {head}") } });
        ("401 Unauthorized", "application/json", body.to_string())
    });
    scratch.file(
        "antiphon.toml",
        &format!(
            "{GOOD}[servers.blabs]\ncommand = \"${{MISBEHAVING}}\"\nargs = [\"blabs\"]\n\
             env = {{ TOKEN = \"${{AP_TOKEN}}\", PLACE = \"${{PROJECT_DIR}}\" }}\n\
             [servers.web]\nurl = \"http://{echo}/mcp\"\nheaders = {{ Authorization = \"Bearer ${{AP_HEADER}}\" }}\n\
             [models.wise]\nbase_url = \"http://{echo}/v1\"\nmodel = \"wise\"\napi_key = \"${{AP_KEY}}\"\n\
             headers = {{ X-Team = \"team ${{AP_HEADER}}\" }}\n"
        ),
    );
    scratch.file(
        "tell.toml",
        r#"
        [steps.look]
        call = "blabs.look"
        [steps.act]
        call = "blabs.act"
        effects = "read_only"
        on_error = "continue"
        [steps.web]
        call = "web.anything"
        on_error = "continue"
        [steps.model]
        sample = "wise"
        prompt = "Who am I? {{ steps.look.text }}"
        on_error = "continue"
        [steps.passes_on]
        call = "good.echo"
        with.text = "{{ steps.look.output.env.TOKEN }}"
        [output]
        look = "{{ steps.look.text }}"
        passed = "{{ steps.passes_on.output.text }}"
        errors = ["{{ steps.act.error.message }}", "{{ steps.web.error.message }}", "{{ steps.model.error.message }}"]
        "#,
    );
    scratch
}

fn with_secrets(command: &mut Command) -> &mut Command {
    command.env("AP_TOKEN", TOKEN).env("AP_HEADER", HEADER).env("AP_KEY", KEY).env("ANTIPHON_LOG", "trace")
}

#[track_caller]
fn is_clean(what: &str, bytes: &[u8]) {
    for secret in [TOKEN, HEADER, KEY] {
        if let Some(at) = bytes.windows(secret.len()).position(|window| window == secret.as_bytes()) {
            let around = &bytes[at.saturating_sub(200)..(at + 50).min(bytes.len())];
            panic!("{what} has {secret}: …{}…", String::from_utf8_lossy(around));
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn nothing_repeats_them() {
    let scratch = project();
    let check = |args: &[&str], code: i32| {
        let seen = Seen::of(with_secrets(&mut scratch.with_db(args)));
        assert_eq!(seen.code, code, "{args:?}: {}", seen.err);
        is_clean(&format!("stdout of {args:?}"), seen.out.as_bytes());
        is_clean(&format!("stderr of {args:?}"), seen.err.as_bytes());
        seen
    };
    check(&["run", "tell.toml", "--trust", "--dry-run"], 0);
    let output = check(&["run", "tell.toml", "--trust", "--json"], 0).succeeds();
    // They were used, and repeated to us.
    assert_eq!((&output["look"], &output["passed"]), (&json!("I am ***"), &json!("***")), "{output}");
    let errors = output["errors"].to_string();
    assert!(errors.contains("*** is no good") && errors.contains("401"), "{errors}");
    // What is no secret is not hidden.
    assert!(!output.to_string().contains(&scratch.path().display().to_string()));

    let id = only_run(&scratch);
    check(&["show", &id], 0);
    check(&["show", &id, "--json"], 0);
    check(&["runs", "--json"], 0);
    check(&["tools"], 0);
    check(&["call", "blabs.look"], 0);
    check(&["call", "blabs.act"], 1);

    // The logs of a server that serves, and what it answers.
    let log = scratch.path().join("serve.log");
    let mut serve = shell("exec 2> serve.log", &scratch.with_db(&["serve", ".", "--trust"]));
    let mut host = Host::start(with_secrets(&mut serve), Era::Modern, json!({}));
    for message in [host.ask("tools/list", json!({})), host.call("tell", json!({}))] {
        is_clean("an answer", message.to_string().as_bytes());
    }
    assert_eq!(host.close(), Some(0));
    assert!(fs::read_to_string(&log).unwrap().contains("my token is ***"), "the log is a log");

    for file in files(scratch.path()) {
        is_clean(&file.display().to_string(), &fs::read(&file).unwrap());
    }
}
