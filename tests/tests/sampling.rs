//! Servers that ask models: the official SDK's in both eras, answered by a model of ours, or by whoever calls us, in either era.
//!
//! What is written in Python needs `.ci/clients`; where that is missing these tests say so and pass, except in CI.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use antiphon_tests::model::{calls, last, says};
use antiphon_tests::{Era, Host, Model, Scratch, extension, python, repository, text_of};
use serde_json::{Value, json};

/// The servers: one of each era, with these grants.
fn project(scratch: &Scratch, python: &Path, model: &str, sampling: &str) {
    let thinker = repository().join("tests/clients/thinker.py");
    let server = |name: &str, era: &str| {
        format!(
            "[servers.{name}]\ncommand = {:?}\nargs = [{:?}, {:?}{era}]\nsampling = {sampling}\n",
            python.display().to_string(),
            thinker.display().to_string(),
            scratch.log().display().to_string(),
        )
    };
    let (push, pull) = (server("push", ", \"legacy\""), server("pull", ""));
    let model = format!("[models.m]\nbase_url = {model:?}\nmodel = \"scripted\"\n");
    scratch.file("antiphon.toml", &format!("{push}{pull}{model}"));
    for name in ["push", "pull"] {
        for tool in ["think", "reckon"] {
            scratch.file(
                &format!("{tool}_{name}.toml"),
                &format!(
                    "[input]\nwords = {{ type = \"string\" }}\n[steps.it]\ncall = \"{name}.{tool}\"\n\
                     with.words = \"{{{{ input.words }}}}\"\neffects = \"read_only\"\n[output]\nsaid = \"{{{{ steps.it.output }}}}\"\n"
                ),
            );
        }
    }
}

const ALLOWED: &str = r#"{ consent = "allow", models = ["m"] }"#;
const CALLER: &str = r#"{ consent = "allow", models = ["caller"] }"#;

fn run(scratch: &Scratch, workflow: &str) -> (i32, Value, String) {
    let file = format!("{workflow}.toml");
    let (code, out, err) = scratch.run_with_db(&["run", &file, "--json", "--trust", "--input", "words=colour?"]);
    (code, out.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default(), err)
}

/// The samplings that a run shows: path and status.
fn samplings(run: &Value) -> Vec<(String, String)> {
    let steps = run["view"]["steps"].as_array().unwrap().iter();
    let text = |step: &Value, key: &str| step[key].as_str().unwrap().to_owned();
    steps.filter(|step| step["verb"] == "sampling").map(|step| (text(step, "path"), text(step, "status"))).collect()
}

fn events(scratch: &Scratch, run: &Value) -> Vec<Value> {
    let (_, out, _) = scratch.run_with_db(&["show", run["id"].as_str().unwrap(), "--events"]);
    out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).filter(Value::is_object).collect()
}

#[test]
fn a_model_of_ours_answers_servers_of_both_eras_and_the_choice_is_recorded() {
    let Some(python) = python() else { return };
    for (server, path) in [("push", "it?ask-1"), ("pull", "it?1.")] {
        let model = Model::start(|request| says(if last(request).contains("colour") { "teal" } else { "?" }));
        let scratch = Scratch::new();
        project(&scratch, &python, &model.url, ALLOWED);
        let (code, output, err) = run(&scratch, &format!("think_{server}"));
        assert_eq!(code, 0, "{err}");
        assert_eq!(output["said"], json!({ "text": "teal", "model": "scripted", "stop": "endTurn" }), "{output}");
        let heard = model.heard();
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert_eq!(heard[0]["messages"][0], json!({ "role": "system", "content": "Be brief." }));
        let run = scratch.shown();
        let [(shown, status)] = &samplings(&run)[..] else { panic!("{run}") };
        assert!(shown.starts_with(path) && status == "succeeded", "{shown} {status}");
        assert_eq!(run["view"]["used"]["tokens"], 15);
        let events = events(&scratch, &run);
        let done = events.iter().find(|event| event["record"]["inline"]["route"].is_object()).unwrap();
        assert_eq!(done["record"]["inline"]["route"]["considered"], json!([{ "model": "m", "why": "named" }]));
    }
}

#[test]
fn a_servers_own_tools_go_through_the_model_and_back() {
    let Some(python) = python() else { return };
    for server in ["push", "pull"] {
        let model = Model::start(|request| match antiphon_tests::model::results(request).as_slice() {
            [] => calls(&[("count", json!({ "word": "antiphon" }))]),
            [length] => says(&format!("It has {length} letters.")),
            more => panic!("{more:?}"),
        });
        let scratch = Scratch::new();
        project(&scratch, &python, &model.url, ALLOWED);
        let (code, output, err) = run(&scratch, &format!("reckon_{server}"));
        assert_eq!(code, 0, "{err}");
        assert!(output["said"].to_string().contains("It has 8 letters."), "{output}");
        assert_eq!(model.heard().len(), 2);
        assert_eq!(samplings(&scratch.shown()).len(), 2);
    }
}

fn host(scratch: &Scratch, era: Era, capabilities: Value) -> Host {
    Host::start(&mut scratch.with_db(&["serve", ".", "--trust"]), era, capabilities)
}

fn said(text: &str) -> Value {
    json!({
        "role": "assistant", "model": "host-1", "content": { "type": "text", "text": text }, "stopReason": "endTurn",
    })
}

/// The four crossings, and tasks: a push answered by a push, a push by MRTR, MRTR by a push, MRTR by MRTR.
#[test]
fn the_callers_model_answers_whichever_era_either_side_is_of() {
    let Some(python) = python() else { return };
    for server in ["push", "pull"] {
        let scratch = Scratch::new();
        project(&scratch, &python, "http://127.0.0.1:9/v1", CALLER);
        let tool = format!("think_{server}");
        let words = json!({ "words": "colour?" });
        let wanted = json!({ "text": "teal", "model": "host-1", "stop": "endTurn" });

        let mut legacy = host(&scratch, Era::Legacy, json!({ "sampling": {} }));
        let call = legacy.post_call(&tool, words.clone());
        let asked = legacy.pushed("sampling/createMessage");
        assert_eq!(asked["params"]["messages"][0]["content"]["text"], "colour?", "{asked}");
        assert_eq!(
            (&asked["params"]["maxTokens"], &asked["params"]["systemPrompt"]),
            (&json!(50), &json!("Be brief."))
        );
        legacy.reply(&asked, said("teal"));
        let ended = legacy.response(call).unwrap();
        assert_eq!(ended["result"]["structuredContent"]["said"], wanted, "{server}, legacy: {ended}");

        let mut modern = host(&scratch, Era::Modern, json!({ "sampling": {} }));
        let asked = modern.call(&tool, words.clone())["result"].clone();
        assert_eq!(asked["resultType"], "input_required", "{server}: {asked}");
        let key = asked["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
        let retry = json!({
            "name": tool, "arguments": words, "requestState": asked["requestState"],
            "inputResponses": { key: said("teal") },
        });
        let ended = modern.ask("tools/call", retry);
        assert_eq!(ended["result"]["structuredContent"]["said"], wanted, "{server}, modern: {ended}");

        let both = json!({ "sampling": {}, "extensions": extension()["extensions"] });
        let mut tasks = host(&scratch, Era::Modern, both);
        let created = tasks.call(&tool, words.clone())["result"].clone();
        let id = created["taskId"].as_str().unwrap_or_else(|| panic!("{created}")).to_owned();
        let asking = tasks.poll(&id).unwrap();
        assert_eq!(asking["status"], "input_required", "{asking}");
        let key = asking["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
        tasks.ask("tasks/update", json!({ "taskId": id, "inputResponses": { key: said("teal") } }));
        let ended = tasks.poll(&id).unwrap();
        assert_eq!(ended["result"]["structuredContent"]["said"], wanted, "{server}, task: {ended}");
    }
}

#[test]
fn a_caller_that_refuses_leaves_the_server_without_an_answer() {
    let Some(python) = python() else { return };
    for server in ["push", "pull"] {
        let scratch = Scratch::new();
        project(&scratch, &python, "http://127.0.0.1:9/v1", CALLER);
        let mut legacy = host(&scratch, Era::Legacy, json!({ "sampling": {} }));
        let call = legacy.post_call(&format!("think_{server}"), json!({ "words": "colour?" }));
        let asked = legacy.pushed("sampling/createMessage");
        legacy.refuse(&asked, -1, "the user said no");
        let ended = legacy.response(call).unwrap()["result"].clone();
        assert_eq!(ended["isError"], true, "{ended}");
        assert!(text_of(&ended).contains("declined to sample"), "{ended}");
    }
}

/// The fixture server asks whether it may or not.
const RUDE: &str = r#"
[servers.modern]
command = "${FIXTURE}"
args = ["--log", "${LOG}"]
GRANT
[servers.legacy]
command = "${FIXTURE}"
args = ["--log", "${LOG}", "--legacy"]
GRANT
"#;

fn rude(grant: &str, model: &str) -> Scratch {
    let scratch = Scratch::new();
    let model = format!("[models.m]\nbase_url = {model:?}\nmodel = \"scripted\"\n");
    scratch.file("antiphon.toml", &format!("{}{model}", RUDE.replace("GRANT", grant)));
    let step =
        |tool: &str, with: &str| format!("[steps.it]\ncall = \"{tool}\"\nwith = {with}\neffects = \"read_only\"\n");
    scratch.file("pulls.toml", &step("modern.sample_me", r#"{ prompt = "colour?" }"#));
    scratch.file("pushes.toml", &step("legacy.sample_me", r#"{ prompt = "colour?" }"#));
    scratch.file("task.toml", &step("modern.slow_task", r#"{ ms = 1, ask = "colour?" }"#));
    scratch
}

fn run_rude(scratch: &Scratch, workflow: &str) -> (i32, Value, String) {
    let (code, out, err) = scratch.run_with_db(&["run", &format!("{workflow}.toml"), "--json", "--trust"]);
    (code, out.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default(), err)
}

#[test]
fn a_denied_edge_is_denied_on_every_front() {
    for grant in ["", r#"sampling = { consent = "deny", models = ["m"] }"#] {
        for front in ["pulls", "pushes", "task"] {
            let model = Model::start(|_| says("teal"));
            let scratch = rude(grant, &model.url);
            let (code, output, err) = run_rude(&scratch, front);
            assert_ne!(code, 0, "{front}: {output}");
            assert!(err.contains("sampling"), "{front}: {err}");
            assert!(model.heard().is_empty(), "{front}: no model was asked");
        }
    }
}

#[test]
fn a_task_that_asks_a_model_gets_its_answer() {
    let model = Model::start(|_| says("teal"));
    let scratch = rude(&format!("sampling = {ALLOWED}"), &model.url);
    let (code, output, err) = run_rude(&scratch, "task");
    assert_eq!(code, 0, "{err}");
    assert_eq!(output["it"]["answer"]["text"], "teal", "{output}");
    assert_eq!(model.heard().len(), 1);
}

/// Answers the open question of the only run.
fn answer(scratch: &Scratch, args: &[&str]) -> (i32, String) {
    let id = scratch.shown()["id"].as_str().unwrap().to_owned();
    let (code, out, err) = scratch.run_with_db(&[&["answer", &id], args].concat());
    (code, format!("{out}{err}"))
}

#[test]
fn a_person_is_asked_once_a_run_and_server() {
    let model = Model::start(|_| says("teal"));
    for yes in [true, false] {
        let scratch = rude(r#"sampling = { consent = "ask", models = ["m"], limits = { tokens = 900 } }"#, &model.url);
        scratch.file(
            "three.toml",
            "[steps.it]\nfor_each = [1, 2, 3]\ncall = \"modern.sample_me\"\nwith.prompt = \"colour {{ item }}?\"\n\
             effects = \"read_only\"\n[output]\nall = \"{{ steps.it.output }}\"\n",
        );
        let before = model.heard().len();
        run_rude(&scratch, "three");
        let asking = scratch.shown();
        let questions = asking["view"]["questions"].as_array().unwrap();
        assert_eq!(questions.len(), 1, "{questions:?}");
        let message = questions[0]["ask"]["message"].as_str().unwrap();
        for part in ["`modern`", "“colour ", "m;", "900 tokens"] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert_eq!(model.heard().len(), before, "nothing is sampled before");
        let (_, told) = answer(&scratch, &[if yes { "--accept" } else { "--decline" }]);
        let id = asking["id"].as_str().unwrap();
        let (_, out, err) = scratch.run_with_db(&["resume", id, "--json"]);
        let ended = scratch.shown();
        if yes {
            assert_eq!(ended["view"]["status"], "succeeded", "{told}{out}{err}");
            assert_eq!(model.heard().len(), before + 3);
        } else {
            assert_eq!(ended["view"]["status"], "failed", "{told}{out}{err}");
            assert_eq!(ended["view"]["outcome"]["error"]["kind"], "denied", "{ended}");
            assert_eq!(model.heard().len(), before);
        }
    }
}

#[test]
fn a_fan_out_never_uses_more_than_the_budget() {
    let model = Model::start(|_| says("teal"));
    for (limits, grant) in [
        ("[limits]\ntokens = 400\n", format!("sampling = {ALLOWED}")),
        ("", r#"sampling = { consent = "allow", models = ["m"], limits = { tokens = 400 } }"#.to_owned()),
    ] {
        let scratch = rude(&grant, &model.url);
        scratch.file(
            "many.toml",
            &format!(
                "{limits}[steps.it]\nfor_each = \"range(40) | list\"\ntolerate = \"all\"\nconcurrency = 8\n\
                 call = \"modern.sample_me\"\nwith.prompt = \"colour {{{{ item }}}}?\"\neffects = \"read_only\"\n"
            ),
        );
        let before = model.heard().len() as u64;
        let (code, _, err) = run_rude(&scratch, "many");
        assert_eq!(code, 0, "{err}");
        let run = scratch.shown();
        let used = run["view"]["used"]["tokens"].as_u64().unwrap();
        assert!(used <= 400, "{used}");
        // It is used, too: those that would not fit at once waited for the others.
        let answered = model.heard().len() as u64 - before;
        assert!(answered >= 15 && used == answered * 15, "{answered} answers, {used} tokens");
        let failed = samplings(&run).into_iter().filter(|(_, status)| status == "failed").count();
        assert!(failed > 0, "{run}");
    }
}

#[test]
fn an_answer_that_was_paid_survives_a_crash_and_is_not_paid_again() {
    let Some(python) = python() else { return };
    for server in ["push", "pull"] {
        let (release, held) = channel::<()>();
        let held: Arc<Mutex<Receiver<()>>> = Arc::new(Mutex::new(held));
        let (reached, second) = channel();
        let reached = Mutex::new(reached);
        let model = Model::start(move |request| {
            if antiphon_tests::model::results(request).is_empty() {
                return calls(&[("count", json!({ "word": "antiphon" }))]);
            }
            let _ = reached.lock().unwrap().send(());
            let _ = held.lock().unwrap().recv();
            says("eight")
        });
        let scratch = Scratch::new();
        project(&scratch, &python, &model.url, ALLOWED);
        let mut first = host(&scratch, Era::Legacy, json!({}));
        first.post_call(&format!("reckon_{server}"), json!({ "words": "How long?" }));
        second.recv().unwrap();
        first.kill();
        drop(release);
        let id = scratch.shown()["id"].as_str().unwrap().to_owned();
        let (code, out, err) = scratch.run_with_db(&["resume", &id, "--json"]);
        assert_eq!(code, 0, "{server}: {out}{err}");
        let heard = model.heard();
        let firsts = heard.iter().filter(|request| antiphon_tests::model::results(request).is_empty()).count();
        assert_eq!(firsts, 1, "{server}: the first answer was recorded: {heard:?}");
        assert_eq!(heard.len(), 3, "{server}: the second was lost with the process");
    }
}

#[test]
fn explain_route_says_who_would_answer_and_why() {
    let scratch = rude(
        r#"sampling = { consent = "ask", models = ["m", "caller"], limits = { tokens = 900 } }"#,
        "http://127.0.0.1:9/v1",
    );
    let explain = |who: &str, json: &[&str]| {
        let (code, out, err) = scratch.run(&[&["explain-route", "pulls", who][..], json].concat());
        assert_eq!(code, 0, "{err}");
        out
    };
    let said = explain("modern", &[]);
    for part in ["once a person has agreed", "900 tokens a run", "1. m", "2. caller"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let json: Value = serde_json::from_str(&explain("modern", &["--json"])).unwrap();
    assert_eq!(json["order"], json!(["m", "caller"]), "{json}");
    scratch.file(
        "think.toml",
        "[models.small]\nbase_url = \"http://127.0.0.1:9/v1\"\nmodel = \"tiny-scripted\"\n[steps.it]\nsample = \"auto\"\n\
         prefer = { hints = [\"tiny-scripted\"] }\nprompt = \"Well?\"\n",
    );
    let (code, out, err) = scratch.run(&["explain-route", "think", "it"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("1. think/small") && out.contains("fits the hint `tiny-scripted`"), "{out}");
    let (code, _, err) = scratch.run(&["explain-route", "pulls", "nobody"]);
    assert!(code != 0 && err.contains("no route to a model"), "{err}");
}

/// Two projects whose workflows call each other through `antiphon serve`.
#[test]
fn a_circle_over_two_processes_ends_at_the_bound_and_shows_the_way() {
    let (here, there) = (Scratch::new(), Scratch::new());
    here.file("ping.toml", &format!("[servers.there]\n{}[steps.it]\ncall = \"there.pong\"\n", there.as_server()));
    there.file("pong.toml", &format!("[servers.here]\n{}[steps.it]\ncall = \"here.ping\"\n", here.as_server()));
    let (code, out, err) = here.run_with_db(&["run", "ping.toml", "--trust"]);
    assert_ne!(code, 0, "{out}");
    assert!(err.contains("ping → pong → ping → pong → ping"), "{err}");
    assert!(err.contains("limits.depth"), "{err}");
}
