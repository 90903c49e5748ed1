//! Limits: of runs, of servers; what a choice makes of what is left.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use antiphon_tests::model::{calls, last, results, says};
use antiphon_tests::{Era, Host, Model, Scratch, text_of};
use serde_json::{Value, json};

use crate::{ANSWER_TOKENS, DONE, FAILED, errors, in_one_line, model, run};

/// A model with a price for what it writes, in US dollars per million tokens.
fn priced(name: &str, url: &str, dollars: f64) -> String {
    format!("{}price = {{ input = 0.0, output = {dollars:?} }}\n", model(name, url))
}

/// A step that asks these models for a thousand tokens at the most.
fn asks(models: &str, limits: &str) -> String {
    format!("[limits]\n{limits}\n[steps.it]\nsample = {models}\nmax_tokens = 1000\nprompt = \"colour?\"\n")
}

#[test]
fn a_model_that_costs_more_than_is_left_is_not_asked() {
    let (dear, cheap) = (Model::start(|_| says("gold")), Model::start(|_| says("tin")));
    let scratch = Scratch::new();
    let models = [priced("dear", &dear.url, 1000.0), priced("cheap", &cheap.url, 1.0)].concat();
    scratch.file("antiphon.toml", &models);
    // A thousand tokens: a dollar of the one, a tenth of a cent of the other.
    scratch.file("buy.toml", &asks("[\"dear\", \"cheap\"]", "cost_usd = 0.1"));
    let (code, output, told) = run(&scratch, "buy");
    assert_eq!((code, &output["it"]), (DONE, &json!("tin")), "{told}");
    assert!(dear.heard().is_empty());

    let (code, out, told) = scratch.run(&["explain-route", "buy", "it"]);
    assert_eq!(code, DONE, "{told}");
    assert!(out.contains("1. cheap") && out.contains("it may cost 1.0000 US dollars, and 0.1000 are left"), "{out}");

    // And what was recorded.
    let id = scratch.shown()["id"].as_str().unwrap().to_owned();
    let (code, out, told) = scratch.run_with_db(&["explain-route", "--run", &id]);
    assert_eq!(code, DONE, "{told}");
    assert!(out.starts_with("it#1: scripted answered, 15 tokens, $0.0000"), "{out}");
    assert!(out.contains("1. cheap") && out.contains("- dear") && out.contains("0.1000 are left"), "{out}");
    let (_, out, _) = scratch.run_with_db(&["explain-route", "--run", &id, "--json"]);
    let choices: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(choices[0]["route"]["order"], json!(["cheap"]), "{choices}");

    let alone = Scratch::new();
    alone.file("antiphon.toml", &models);
    alone.file("buy.toml", &asks("\"dear\"", "cost_usd = 0.1"));
    let (code, _, told) = run(&alone, "buy");
    assert_eq!(code, FAILED, "{told}");
    assert_eq!(alone.shown()["view"]["outcome"]["error"]["kind"], "budget");
    assert!(told.contains("too dear for what is left of the budget"), "{told}");
    assert!(dear.heard().is_empty());
}

#[test]
fn whoever_called_answers_where_models_are_too_dear() {
    let scratch = Scratch::new();
    scratch.file("antiphon.toml", &priced("dear", "http://127.0.0.1:9/v1", 1000.0));
    scratch.file("buy.toml", &asks("[\"dear\", \"caller\"]", "cost_usd = 0.1"));
    let mut host =
        Host::start(&mut scratch.with_db(&["serve", ".", "--trust"]), Era::Legacy, json!({ "sampling": {} }));
    let call = host.post_call("buy", json!({}));
    let asked = host.pushed("sampling/createMessage");
    host.reply(&asked, json!({ "role": "assistant", "model": "h", "content": { "type": "text", "text": "free" } }));
    let ended = host.response(call).unwrap()["result"].clone();
    assert_eq!(ended["structuredContent"]["it"], "free", "{ended}");
}

/// A server that asks models, one call after the other.
fn asking_server(scratch: &Scratch, limits: &str, model: &str) {
    scratch.file(
        "antiphon.toml",
        &format!(
            "[servers.tools]\ncommand = \"${{FIXTURE}}\"\nargs = [\"--log\", \"${{LOG}}\"]\n\
             sampling = {{ consent = \"allow\", models = [\"m\"], limits = {limits} }}\n{model}"
        ),
    );
    scratch.file(
        "many.toml",
        "[steps.it]\nfor_each = \"range(8) | list\"\nconcurrency = 1\ntolerate = \"all\"\ncall = \"tools.sample_me\"\n\
         with.prompt = \"colour {{ item }}?\"\neffects = \"read_only\"\n",
    );
}

#[test]
fn what_a_servers_samples_may_cost_is_limited() {
    let thinks = Model::start(|_| says("teal"));
    let scratch = Scratch::new();
    // A hundred tokens are asked for: ten cents; five are said: half a cent.
    asking_server(&scratch, "{ cost_usd = 0.112 }", &priced("m", &thinks.url, 1000.0));
    let (code, _, told) = run(&scratch, "many");
    assert_eq!(code, DONE, "{told}");
    assert_eq!(thinks.heard().len(), 3);
    let shown = scratch.shown();
    assert_eq!(shown["view"]["used"]["tokens"], 3 * ANSWER_TOKENS);
    let errors = errors(&shown, "sampling");
    assert!(errors.len() == 5 && errors.iter().all(|why| why.contains("too dear")), "{errors:?}");
    let (_, out, _) = scratch.run(&["explain-route", "many", "tools"]);
    assert!(out.contains("0.112 US dollars a run"), "{out}");
}

#[test]
fn how_long_models_work_for_a_server_is_limited() {
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    let thinks = Model::start(move |_| {
        let _ = held.lock().unwrap().recv();
        says("too late")
    });
    let scratch = Scratch::new();
    asking_server(&scratch, "{ duration = \"250ms\" }", &model("m", &thinks.url));
    let (code, _, told) = run(&scratch, "many");
    drop(release);
    assert_eq!(code, DONE, "{told}");
    assert_eq!(thinks.heard().len(), 1, "there was no time for a second");
    let errors = errors(&scratch.shown(), "sampling");
    assert!(errors[0].contains("no answer before the deadline"), "{errors:?}");
    assert!(errors[1..].iter().all(|why| why.contains("sampling.limits.duration")), "{errors:?}");
}

#[test]
fn limits_that_are_only_watched_are_recorded() {
    let thinks = Model::start(|_| says("teal"));
    let scratch = Scratch::new();
    scratch.file("antiphon.toml", &priced("m", &thinks.url, 1000.0));
    let steps =
        "[steps.it]\nfor_each = [1, 2, 3]\nconcurrency = 1\nsample = \"m\"\nmax_tokens = 100\nprompt = \"colour?\"\n";
    for (mode, code, heard) in [("enforce", FAILED, 0), ("audit", DONE, 3)] {
        let before = thinks.heard().len();
        scratch
            .file("go.toml", &format!("[limits]\ntokens = 20\ncost_usd = 0.01\ncalls = 2\nmode = {mode:?}\n{steps}"));
        let (ended, _, told) = run(&scratch, "go");
        assert_eq!((ended, thinks.heard().len() - before), (code, heard), "{mode}: {told}");
    }
    let id = scratch.runs()[0]["id"].as_str().unwrap().to_owned();
    let (_, out, _) = scratch.run_with_db(&["show", &id]);
    for limit in ["limits.tokens", "limits.cost_usd", "limits.calls"] {
        assert!(out.lines().any(|line| line.starts_with("beyond a limit: ") && line.contains(limit)), "{limit}: {out}");
    }
}

const CLERK: &str = r#"
[agents.clerk]
instructions = "You are the clerk."
model = "m"
max_tokens = 50
grants = ["tools.*"]
"#;

fn clerk(scratch: &Scratch, url: &str, more: &str) {
    let tools = "[servers.tools]\ncommand = \"${FIXTURE}\"\nargs = [\"--log\", \"${LOG}\"]\n";
    scratch.file("antiphon.toml", &format!("{tools}{}{CLERK}{more}", model("m", url)));
}

#[test]
fn what_tools_a_model_is_told_of_counts() {
    let thinks = Model::start(|_| says("Hello"));
    let scratch = Scratch::new();
    // The conversation alone is far below; the fixture's fifteen tools are not.
    clerk(&scratch, &thinks.url, "[limits]\ntokens = 600\n");
    let (code, _, told) = scratch.run_with_db(&["ask", "clerk", "Hi", "--trust"]);
    assert_eq!(code, FAILED, "{told}");
    assert!(in_one_line(&told).contains("of 600 are left (`limits.tokens`)"), "{told}");
    assert!(thinks.heard().is_empty());

    let scratch = Scratch::new();
    clerk(&scratch, &thinks.url, "[limits]\ntokens = 6000\n");
    let (code, _, told) = scratch.run_with_db(&["ask", "clerk", "Hi", "--trust"]);
    assert_eq!((code, thinks.heard().len()), (DONE, 1), "{told}");
    // What it may call is on record.
    let id = scratch.shown()["id"].as_str().unwrap().to_owned();
    let (_, out, _) = scratch.run_with_db(&["show", &id, "--events"]);
    assert!(out.lines().any(|line| line.contains("\"prepared\"") && line.contains("\"tools\"")), "{out}");
}

#[test]
fn a_long_result_is_cut_where_a_conversation_takes_it_in() {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = Arc::clone(&heard);
    let thinks = Model::start(move |request| match results(request).as_slice() {
        [] => calls(&[("tools__big", json!({ "bytes": last(request).parse::<u64>().unwrap() }))]),
        results => {
            told.lock().unwrap().push(results[0].to_owned());
            says("I see")
        }
    });
    for (more, bytes, kept, note) in [
        ("max_result_tokens = 100\n", 5_000, 400, Some("4600 of 5000 bytes are left out here (`max_result_tokens`)")),
        ("", 5_000, 5_000, None),
        ("", 50_000, 40_000, Some("10000 of 50000 bytes")),
    ] {
        let scratch = Scratch::new();
        clerk(&scratch, &thinks.url, more);
        let (code, _, said) = scratch.run_with_db(&["ask", "clerk", &bytes.to_string(), "--trust"]);
        assert_eq!(code, DONE, "{said}");
        let result = heard.lock().unwrap().pop().unwrap();
        assert_eq!(result.matches('x').count() - usize::from(note.is_some()), kept, "{}", &result[kept..]);
        assert!(
            note.is_none_or(|note| result.ends_with(&format!("[cut: {note}]")) || result.contains(note)),
            "{result}"
        );
    }
}

#[test]
fn a_caller_is_told_which_limit_it_was() {
    let scratch = Scratch::new();
    scratch.file("antiphon.toml", &model("m", "http://127.0.0.1:9/v1"));
    scratch.file("go.toml", &asks("\"m\"", "tokens = 10"));
    for era in [Era::Legacy, Era::Modern] {
        let mut host = Host::start(&mut scratch.with_db(&["serve", ".", "--trust"]), era, json!({}));
        let ended = host.call("go", json!({}))["result"].clone();
        assert_eq!(ended["_meta"]["antiphon/limit"], true, "{era:?}: {ended}");
        assert!(text_of(&ended).contains("limits.tokens"), "{ended}");
    }
}
