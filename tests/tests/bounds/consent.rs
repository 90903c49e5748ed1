//! `consent = "ask"`: a person agrees, once a run, that a server asks people.

use antiphon_tests::Scratch;
use serde_json::{Value, json};

use crate::{ASKS, run};

fn project(consent: &str) -> Scratch {
    let scratch = Scratch::new();
    let server = |name: &str, legacy: &str| {
        format!(
            "[servers.{name}]\ncommand = \"${{FIXTURE}}\"\nargs = [\"--log\", \"${{LOG}}\"{legacy}]\n\
             elicitation = {{ consent = {consent:?} }}\n"
        )
    };
    scratch.file("antiphon.toml", &[server("modern", ""), server("legacy", ", \"--legacy\"")].concat());
    for (file, tool, with) in [
        ("pulls", "modern.elicit_name", r#"{ question = "Who is it?" }"#),
        ("pushes", "legacy.elicit_name", r#"{ question = "Who is it?" }"#),
        ("task", "modern.slow_task", "{ ms = 1, ask = true }"),
    ] {
        let step = format!("[steps.it]\ncall = {tool:?}\nwith = {with}\neffects = \"read_only\"\n");
        scratch.file(&format!("{file}.toml"), &format!("{step}[output]\nit = \"{{{{ steps.it.output }}}}\"\n"));
    }
    scratch
}

/// The open questions of the only run.
fn questions(scratch: &Scratch) -> Vec<Value> {
    scratch.shown()["view"]["questions"].as_array().unwrap().clone()
}

fn answer(scratch: &Scratch, args: &[&str]) -> String {
    let id = scratch.shown()["id"].as_str().unwrap().to_owned();
    let (_, out, err) = scratch.run_with_db(&[&["answer", &id, "--json"], args].concat());
    format!("{out}{err}")
}

/// What the tool was answered.
fn heard(scratch: &Scratch) -> Value {
    let shown = scratch.shown();
    let output = &shown["output"]["it"];
    output.get("answer").unwrap_or(output).clone()
}

#[test]
fn a_person_agrees_first_that_a_server_asks_people() {
    for front in ["pulls", "pushes", "task"] {
        let scratch = project("ask");
        let (code, _, told) = run(&scratch, front);
        assert_eq!(code, ASKS, "{front}: {told}");
        let open = questions(&scratch);
        assert_eq!(open.len(), 1, "{front}: {open:?}");
        let message = open[0]["ask"]["message"].as_str().unwrap();
        assert!(message.contains("wants to ask you something"), "{front}: {message}");
        assert!(message.contains("Who is it?") || message.contains("Whose task is it?"), "{front}: {message}");
        assert_eq!(open[0]["by"], "human", "no model may agree to it");

        let told = answer(&scratch, &["--accept"]);
        let open = questions(&scratch);
        assert_eq!((open.len(), &open[0]["ask"]["kind"]), (1, &json!("relayed")), "{front}: {told}");
        let told = answer(&scratch, &["--field", "name=Ada"]);
        assert_eq!(scratch.shown()["view"]["status"], "succeeded", "{front}: {told}");
        assert_eq!(heard(&scratch), json!({ "action": "accept", "name": "Ada" }), "{front}");
    }
}

#[test]
fn a_person_who_does_not_agree_is_not_asked() {
    for front in ["pulls", "pushes", "task"] {
        let scratch = project("ask");
        run(&scratch, front);
        let told = answer(&scratch, &["--decline"]);
        assert_eq!(scratch.shown()["view"]["status"], "succeeded", "{front}: {told}");
        assert_eq!(heard(&scratch)["action"], "decline", "{front}: the server is told so");
    }
}

#[test]
fn it_is_asked_once_a_run() {
    let scratch = project("ask");
    scratch.file(
        "three.toml",
        "[steps.it]\nfor_each = [1, 2, 3]\ncall = \"modern.elicit_name\"\nwith.question = \"Who is {{ item }}?\"\n\
         effects = \"read_only\"\n[output]\nit = \"{{ steps.it.output }}\"\n",
    );
    run(&scratch, "three");
    assert_eq!(questions(&scratch).len(), 1);
    answer(&scratch, &["--accept"]);
    for open in [3, 2, 1] {
        let questions = questions(&scratch);
        assert_eq!(questions.len(), open, "{questions:?}");
        answer(&scratch, &[questions[0]["key"].as_str().unwrap(), "--field", "name=Ada"]);
    }
    assert_eq!(scratch.shown()["output"]["it"].as_array().unwrap().len(), 3);
}

#[test]
fn without_consent_nobody_is_asked() {
    for front in ["pulls", "pushes", "task"] {
        let scratch = project("deny");
        let (code, output, told) = run(&scratch, front);
        assert!(code != 0 && code != ASKS, "{front}: {output}{told}");
        assert!(told.contains("elicitation"), "{front}: {told}");
    }
}

/// What the fixture's only task knows.
fn task(scratch: &Scratch) -> Value {
    let state = format!("{}.state/task.task-1.json", scratch.log().display());
    serde_json::from_str(&std::fs::read_to_string(state).unwrap()).unwrap()
}

#[test]
fn a_task_that_gets_no_answer_is_cancelled_at_its_server() {
    // The edge has no room for an answer.
    let scratch = project("allow");
    scratch.file(
        "antiphon.toml",
        &format!(
            "[servers.modern]\ncommand = \"${{FIXTURE}}\"\nargs = [\"--log\", \"${{LOG}}\"]\n\
             sampling = {{ consent = \"allow\", models = [\"m\"], limits = {{ tokens = 5 }} }}\n{}",
            crate::model("m", "http://127.0.0.1:9/v1")
        ),
    );
    scratch.file("colour.toml", "[steps.it]\ncall = \"modern.slow_task\"\nwith = { ms = 1, ask = \"colour?\" }\n");
    let (code, _, told) = run(&scratch, "colour");
    assert!(code != 0 && told.contains("sampling.limits.tokens"), "{told}");
    assert_eq!(task(&scratch)["cancelled"], true, "refused");

    // Its run is cancelled while a person is asked.
    let scratch = project("allow");
    let (code, _, told) = run(&scratch, "task");
    assert_eq!(code, ASKS, "{told}");
    let id = scratch.shown()["id"].as_str().unwrap().to_owned();
    let (_, out, told) = scratch.run_with_db(&["cancel", &id]);
    assert_eq!(scratch.shown()["view"]["status"], "cancelled", "{out}{told}");
    assert_eq!(task(&scratch)["cancelled"], true, "cancelled");
}
