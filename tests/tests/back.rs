//! The way back in: a server that samples and calls, too, is bounded by the run that called it, on every front.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failed unwrap is a failed test, a skipped one says so"
)]

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use antiphon_tests::model::{last, says};
use antiphon_tests::{Era, Host, Model, Scratch, Url, program};
use serde_json::{Value, json};

/// Grants of the server `back`.
const ALL: &str = "grants = [\"tools.*\", \"greet\"]\nsampling = { consent = \"allow\", models = [\"m\"] }\n";

/// A project with the fixture server twice: `back` comes back in, to call `tools` and a workflow.
fn project(model: &str, grants: &str) -> Scratch {
    let scratch = Scratch::new();
    let server = |name: &str, more: &str| {
        format!("[servers.{name}]\ncommand = \"${{FIXTURE}}\"\nargs = [\"--log\", \"${{LOG}}\"]\n{more}")
    };
    let model = format!("[models.m]\nbase_url = {model:?}\nmodel = \"scripted\"\n");
    scratch.file("antiphon.toml", &format!("{}{}{model}", server("back", grants), server("tools", "")));
    scratch.file(
        "greet.toml",
        "[input]\nwho = { type = \"string\" }\n[steps.it]\ncall = \"tools.echo\"\nwith.text = \"hello {{ input.who }}\"\n\
         [output]\nsaid = \"{{ steps.it.output.text }}\"\n",
    );
    scratch
}

/// A workflow whose only step comes back to do these things.
fn coming(scratch: &Scratch, head: &str, deeds: &Value) {
    let text = format!(
        "{head}\n[steps.it]\ncall = \"back.come_back\"\nwith.do = '''{{{{ {deeds} }}}}'''\n\
         with.keep = {:?}\n",
        scratch.path().join("told.json").display().to_string(),
    );
    scratch.file("it.toml", &text);
}

/// Runs it: what came back, and what was written for people.
fn run(scratch: &Scratch) -> (Vec<Value>, String) {
    let (_, out, err) = scratch.run_with_db(&["run", "it.toml", "--json", "--trust"]);
    let output: Value = out.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    (output["it"]["came"].as_array().cloned().unwrap_or_default(), err)
}

/// The latest run, as it is shown.
fn shown(scratch: &Scratch) -> Value {
    let (_, out, _) = scratch.run_with_db(&["runs", "--json"]);
    let latest: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    let (_, out, err) = scratch.run_with_db(&["show", latest["id"].as_str().unwrap(), "--json"]);
    serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"))
}

fn steps(run: &Value) -> Vec<(String, String)> {
    let text = |step: &Value, key: &str| step[key].as_str().unwrap().to_owned();
    run["view"]["steps"].as_array().unwrap().iter().map(|step| (text(step, "path"), text(step, "status"))).collect()
}

/// What the process was told of its way back.
fn told(scratch: &Scratch) -> Value {
    serde_json::from_str(&std::fs::read_to_string(scratch.path().join("told.json")).unwrap()).unwrap()
}

#[test]
fn what_a_server_samples_and_calls_is_part_of_the_run() {
    let model = Model::start(|request| says(if last(request).contains("colour") { "teal" } else { "?" }));
    let scratch = project(&model.url, ALL);
    coming(
        &scratch,
        "",
        &json!([
            { "sample": "Which colour?" },
            { "call": "tools__charge", "arguments": { "id": "a" } },
            { "call": "greet", "arguments": { "who": "you" } },
            { "tools": true },
        ]),
    );
    let (came, err) = run(&scratch);
    let [sampled, charged, greeted, listed] = came.as_slice() else { panic!("{came:?}\n{err}") };
    assert_eq!(sampled["body"]["choices"][0]["message"]["content"], "teal", "{sampled}");
    assert_eq!(sampled["body"]["usage"]["total_tokens"], 15, "the model's own count: {sampled}");
    assert_eq!(charged["body"]["result"]["structuredContent"], json!({ "id": "a", "charges": 1 }), "{charged}");
    assert_eq!(greeted["body"]["result"]["structuredContent"], json!({ "said": "hello you" }), "{greeted}");
    let tools = listed["body"]["result"]["tools"].as_array().unwrap();
    assert!(tools.iter().any(|tool| tool["name"] == "greet"), "{listed}");
    let echo = tools.iter().find(|tool| tool["name"] == "tools__echo").unwrap();
    assert_eq!(echo["inputSchema"]["type"], "object", "{echo}");

    let run = shown(&scratch);
    let steps = steps(&run);
    for path in ["it?ask-1", "it#1?ask-2/call", "it#1?ask-3/call", "it#1?ask-3/call/it"] {
        assert!(steps.contains(&(path.to_owned(), "succeeded".to_owned())), "{path}: {steps:?}");
    }
    let used = &run["view"]["used"];
    assert_eq!((&used["calls"], &used["tokens"]), (&json!(4), &json!(15)), "{used}");
}

#[test]
fn an_answer_of_a_shape_is_asked_for_as_one() {
    let model = Model::start(|_| says(r#"{ "colour": "teal" }"#));
    let scratch = project(&model.url, ALL);
    let schema = json!({
        "type": "object", "properties": { "colour": { "type": "string" } }, "required": ["colour"],
    });
    coming(&scratch, "", &json!([{ "sample": "Which colour?", "schema": schema }]));
    let (came, err) = run(&scratch);
    let content =
        came[0]["body"]["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{came:?}{err}"));
    assert_eq!(serde_json::from_str::<Value>(content).unwrap(), json!({ "colour": "teal" }));
    let heard = model.heard();
    assert_eq!(heard[0]["response_format"]["json_schema"]["schema"], schema, "the model's server is told: {heard:?}");
}

/// The smallest real one: it makes little sense, and keeps to the shape.
#[test]
fn the_embedded_model_answers_servers_too() {
    let scratch = project("http://127.0.0.1:9/v1", &ALL.replace("\"m\"", "\"local\""));
    let (code, _, err) = scratch.run(&["model", "fetch", "tiny"]);
    if code != 0 {
        assert!(std::env::var_os("CI").is_none(), "{err}");
        eprintln!("skipped: {err}");
        return;
    }
    let schema = json!({
        "type": "object", "properties": { "colour": { "enum": ["teal", "red"] } }, "required": ["colour"],
        "additionalProperties": false,
    });
    coming(&scratch, "", &json!([{ "sample": "Which colour is the sea?", "schema": schema }]));
    let args = ["run", "it.toml", "--json", "--trust"];
    let ran = scratch.with_db(&args).env("ANTIPHON_MODEL", "tiny").output().unwrap();
    let (out, err) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8_lossy(&ran.stderr));
    let output: Value = out.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    let came = &output["it"]["came"][0];
    let said = came["body"]["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{out}{err}"));
    let colour = serde_json::from_str::<Value>(said).unwrap()["colour"].clone();
    assert!(colour == "teal" || colour == "red", "{said}");
    assert!(came["body"]["usage"]["completion_tokens"].as_u64().unwrap() > 0, "{came}");
}

#[test]
fn a_person_agrees_before_a_server_samples() {
    let model = Model::start(|_| says("teal"));
    let scratch = project(&model.url, &ALL.replace("allow", "ask"));
    coming(&scratch, "", &json!([{ "call": "tools__charge", "arguments": { "id": "a" } }, { "sample": "colour?" }]));
    let (came, err) = run(&scratch);
    assert!(came.is_empty() && err.contains("The server `back` wants to ask a model"), "{came:?} {err}");
    assert!(model.heard().is_empty());
    let id = shown(&scratch)["id"].as_str().unwrap().to_owned();
    scratch.run_with_db(&["answer", &id, "--accept"]);
    let (code, out, err) = scratch.run_with_db(&["resume", &id, "--json"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("teal"), "{out}");
    let charges = scratch.calls().iter().filter(|call| call["tool"] == "charge" && call["event"] == "begin").count();
    assert_eq!((model.heard().len(), charges), (1, 1), "what was done before is not done again");
}

#[test]
fn a_denied_edge_is_denied_here_too() {
    let model = Model::start(|_| says("teal"));
    let sampling = "sampling = { consent = \"allow\", models = [\"m\"] }\n";
    let denied = "sampling = { consent = \"deny\", models = [\"m\"] }\n";
    let deeds = json!([
        { "sample": "colour?" }, { "call": "tools__echo", "arguments": {} }, { "call": "tools__charge", "arguments": {} },
    ]);
    let grants = "grants = [\"tools.echo\"]\n";
    for (grants, names, sampled, called) in [
        (sampling.to_owned(), ["OPENAI_API_KEY", "OPENAI_BASE_URL"], 200, "granted nothing to call"),
        (grants.to_owned(), ["ANTIPHON_MCP_TOKEN", "ANTIPHON_MCP_URL"], 403, ""),
        (format!("{grants}{denied}"), ["ANTIPHON_MCP_TOKEN", "ANTIPHON_MCP_URL"], 403, ""),
    ] {
        let before = model.heard().len();
        let scratch = project(&model.url, &grants);
        coming(&scratch, "", &deeds);
        let (came, err) = run(&scratch);
        let [sample, echo, charge] = came.as_slice() else { panic!("{came:?}\n{err}") };
        let mut injected: Vec<String> = told(&scratch).as_object().unwrap().keys().cloned().collect();
        injected.sort();
        assert_eq!(injected, names, "nobody is told of what they may not do");
        assert_eq!(sample["status"], sampled, "{sample}");
        assert_eq!(model.heard().len() - before, usize::from(sampled == 200));
        if sampled == 403 {
            assert!(
                sample["body"]["error"]["message"].as_str().unwrap().contains("not granted `sampling`"),
                "{sample}"
            );
        }
        let text = |came: &Value| came["body"]["result"]["content"][0]["text"].as_str().unwrap_or_default().to_owned();
        assert_eq!(echo["body"]["result"]["isError"] == true, !called.is_empty(), "{echo}");
        assert!(text(echo).contains(called), "{echo}");
        assert_eq!(charge["body"]["result"]["isError"], true, "{charge}");
        let outside =
            if called.is_empty() { "`tools__charge` can't be called here; what can is tools__echo" } else { called };
        assert!(text(charge).contains(outside), "{charge}");
        assert!(!scratch.calls().iter().any(|call| call["tool"] == "charge"), "nothing was dispatched");
    }
    let scratch = project(&model.url, "");
    coming(&scratch, "", &json!([{ "sample": "colour?" }]));
    assert_eq!(run(&scratch).0, [json!({ "told": [] })], "and where nothing is granted, nothing is told");
}

#[test]
fn the_run_bounds_what_its_servers_use() {
    let model = Model::start(|_| says("teal"));
    let five = |deed: Value| Value::Array(vec![deed; 5]);
    let refused = |came: &[Value]| {
        let texts = came.iter().map(|came| {
            let error = came["body"]["error"]["message"].as_str();
            error.or_else(|| came["body"]["result"]["content"][0]["text"].as_str()).unwrap_or_default().to_owned()
        });
        texts.filter(|text| text.contains("limits")).collect::<Vec<_>>()
    };
    for (head, limits, deed, limit) in [
        ("[limits]\ntokens = 60\n", "", json!({ "sample": "colour?" }), "limits.tokens"),
        ("", ", limits = { tokens = 60 }", json!({ "sample": "colour?" }), "sampling.limits.tokens"),
        ("", ", limits = { calls = 2 }", json!({ "sample": "colour?" }), "sampling.limits.calls"),
        ("", ", limits = { rounds = 2 }", json!({ "sample": "colour?" }), "sampling.limits.rounds"),
        ("[limits]\ncalls = 3\n", "", json!({ "call": "tools__echo", "arguments": {} }), "limits.calls"),
    ] {
        let grants = ALL.replace(" }\n", &format!("{limits} }}\n"));
        let scratch = project(&model.url, &grants);
        let before = model.heard().len() as u64;
        coming(&scratch, head, &five(deed));
        let (came, err) = run(&scratch);
        assert_eq!(came.len(), 5, "{err}");
        let said = refused(&came);
        assert!(!said.is_empty() && said.iter().all(|text| text.contains(limit)), "{limit}: {said:?} {came:?}");
        let used = shown(&scratch)["view"]["used"].clone();
        let answered = model.heard().len() as u64 - before;
        assert_eq!(used["tokens"], 15 * answered, "{limit}: {used}");
        assert!(answered < 5 && (answered > 0 || limit == "limits.calls"), "{limit}: {answered}");
        if head.contains("tokens") {
            assert!(used["tokens"].as_u64().unwrap() <= 60, "{used}");
        }
    }
}

#[test]
fn a_way_that_leads_back_to_itself_ends_at_the_bound() {
    let scratch = project("http://127.0.0.1:9/v1", "grants = [\"it\"]\n");
    let deeds = json!([{ "call": "it", "arguments": {} }]);
    coming(&scratch, "", &deeds);
    let (code, out, err) = scratch.run(&["check", "it.toml"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(format!("{out}{err}").contains("AP0308"), "it is worth knowing: {out}{err}");
    let (came, _) = run(&scratch);
    assert!(json!(came).to_string().contains("it → back → it → back → …"), "{came:?}");
}

#[test]
fn a_token_is_good_for_its_own_run_while_it_lasts() {
    let model = Model::start(|_| says("teal"));
    let scratch = project(&model.url, ALL);
    let gate = scratch.path().join("gate");
    coming(&scratch, "", &json!([{ "gate": gate }]));
    let mut host = Host::start(&mut scratch.with_db(&["serve", ".", "--trust"]), Era::Modern, json!({}));
    let call = host.post_call("it", json!({}));
    let keep = scratch.path().join("told.json");
    while !keep.exists() || told(&scratch).is_null() {
        std::thread::yield_now();
    }
    let told = told(&scratch);
    let text = |name: &str| told[name].as_str().unwrap();
    let (models, tools) =
        (Url::parse(&format!("{}/chat/completions", text("OPENAI_BASE_URL"))), text("ANTIPHON_MCP_URL"));
    let ask = |token: &str| {
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str())];
        let body = json!({ "messages": [{ "role": "user", "content": "colour?" }] });
        let sampled = models.post(&headers, &body).response().unwrap().status;
        let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {} });
        (sampled, Url::parse(tools).post(&headers, &list).response().unwrap().status)
    };
    let token = text("OPENAI_API_KEY");
    assert_eq!(ask(token), (200, 200));
    assert_eq!(ask(&format!("{token}/nonsense")), (403, 200), "no such call is under way");
    for wrong in ["", "x", &token[1..], &token.to_uppercase()] {
        assert_eq!(ask(wrong), (401, 401), "{wrong}");
    }
    std::fs::write(&gate, "").unwrap();
    let ended = host.response(call).unwrap();
    assert_eq!(ended["result"]["isError"], false, "{ended}");
    // The connection goes once the run has ended, which the host may hear first.
    while ask(token) != (401, 401) {
        std::thread::yield_now();
    }
}

#[test]
fn who_serves_several_calls_says_for_which_it_speaks() {
    let model = Model::start(|request| says(last(request)));
    for token in ["", "bare"] {
        let scratch = project(&model.url, ALL);
        scratch.file(
            "it.toml",
            &format!(
                "[steps.it]\nfor_each = [1, 2, 3]\ncall = \"back.come_back\"\nwith.as = {token:?}\n\
                 with.do = [{{ gate = {:?} }}, {{ sample = \"colour {{{{ item }}}}\" }}]\n[steps.open]\ncall = \"tools.echo\"\n",
                scratch.path().join("gate").display().to_string(),
            ),
        );
        let mut running = scratch.with_db(&["run", "it.toml", "--json", "--trust"]);
        let child = running.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let begun = |scratch: &Scratch| scratch.calls().iter().filter(|call| call["tool"] == "come_back").count();
        while begun(&scratch) < 3 {
            std::thread::yield_now();
        }
        std::fs::write(scratch.path().join("gate"), "").unwrap();
        let out = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let output: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
        for (at, came) in output["it"].as_array().unwrap().iter().enumerate() {
            let came = &came["came"][0];
            match token {
                "" => {
                    assert_eq!(came["body"]["choices"][0]["message"]["content"], format!("colour {}", at + 1), "{came}")
                }
                // The last one left is alone again.
                _ if came["status"] == 200 => {}
                _ => {
                    assert_eq!(came["status"], 403, "{came}");
                    let message = came["body"]["error"]["message"].as_str().unwrap();
                    assert!(message.contains("several calls") && message.contains("TOKEN/KEY"), "{came}");
                }
            }
        }
        assert!(token.is_empty() || out.contains("several calls"), "{out}");
    }
}

#[test]
fn cancelling_the_run_cancels_what_its_server_asked() {
    let (asked, was_asked) = channel();
    let (release, held) = channel::<()>();
    let (asked, held) = (Mutex::new(asked), Arc::new(Mutex::new(held)));
    let model = Model::start(move |_| {
        asked.lock().unwrap().send(()).unwrap();
        let _ = held.lock().unwrap().recv();
        says("late")
    });
    let scratch = project(&model.url, ALL);
    coming(&scratch, "", &json!([{ "sample": "colour?" }]));
    let mut host = Host::start(&mut scratch.with_db(&["serve", ".", "--trust"]), Era::Legacy, json!({}));
    let call = host.post_call("it", json!({}));
    was_asked.recv().unwrap();
    let (_, out, _) = scratch.run_with_db(&["runs", "--json"]);
    let id = serde_json::from_str::<Value>(out.lines().next().unwrap()).unwrap()["id"].as_str().unwrap().to_owned();
    let (code, out, err) = scratch.run_with_db(&["cancel", &id]);
    assert_eq!(code, 0, "{out}{err}");
    let ended = host.response(call).unwrap();
    assert!(ended.to_string().contains("cancelled"), "{ended}");
    let run = shown(&scratch);
    assert_eq!(run["view"]["status"], "cancelled");
    assert!(steps(&run).contains(&("it?ask-1".to_owned(), "cancelled".to_owned())), "{run}");
    drop(release);
}

#[test]
fn what_a_server_called_is_not_called_again_after_a_crash() {
    let scratch = project("http://127.0.0.1:9/v1", ALL);
    let gate = scratch.path().join("gate");
    coming(&scratch, "", &json!([{ "call": "tools__charge", "arguments": { "id": "a" } }, { "gate": gate }]));
    let mut host = Host::start(&mut scratch.with_db(&["serve", ".", "--trust"]), Era::Legacy, json!({}));
    host.post_call("it", json!({}));
    let ended = |scratch: &Scratch, tool: &str| {
        scratch.calls().iter().any(|call| call["tool"] == tool && call["event"] == "end")
    };
    // Its result is recorded before the server hears of it.
    while !ended(&scratch, "charge") {
        std::thread::yield_now();
    }
    let id = shown(&scratch)["id"].as_str().unwrap().to_owned();
    let charged = |run: &Value| steps(run).contains(&("it#1?ask-1/call".to_owned(), "succeeded".to_owned()));
    while !charged(&shown(&scratch)) {}
    host.kill();
    std::fs::write(&gate, "").unwrap();
    let (code, out, err) = scratch.run_with_db(&["resume", &id, "--json"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains(r#""charges":1"#), "{out}");
    let charges = scratch.calls().iter().filter(|call| call["tool"] == "charge" && call["event"] == "begin").count();
    assert_eq!(charges, 1, "it was done, and is not done again");
}

#[test]
fn what_a_server_does_not_wait_for_ends_with_its_call() {
    let scratch = project("http://127.0.0.1:9/v1", ALL);
    let (never, begun) = (scratch.path().join("never"), scratch.path().join("begun"));
    coming(
        &scratch,
        "",
        &json!([{ "call": "tools__gate", "arguments": { "path": never }, "wait": false }, { "gate": begun }]),
    );
    std::thread::scope(|both| {
        both.spawn(|| {
            while !scratch.calls().iter().any(|call| call["tool"] == "gate") {
                std::thread::yield_now();
            }
            std::fs::write(&begun, "").unwrap();
        });
        let (code, _, err) = scratch.run_with_db(&["run", "it.toml", "--json", "--trust"]);
        assert_eq!(code, 0, "{err}");
    });
    let run = shown(&scratch);
    assert!(steps(&run).contains(&("it#1?ask-1/call".to_owned(), "cancelled".to_owned())), "{run}");
    assert!(steps(&run).contains(&("it".to_owned(), "succeeded".to_owned())), "{run}");
}

#[test]
fn a_single_call_has_the_way_back_too() {
    let model = Model::start(|_| says("teal"));
    let scratch = project(&model.url, ALL);
    let deeds = json!([{ "call": "greet", "arguments": { "who": "you" } }, { "sample": "colour?" }]);
    let input = format!("do={deeds}");
    let args = ["call", "back.come_back", "--json", "--trust", "--input", &input];
    let (code, out, err) = scratch.run_with_db(&args);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("hello you") && out.contains("teal"), "{out}");
}

/// The child is Antiphon itself: what it does for us, it does with our tools and models.
#[test]
fn another_antiphon_comes_back_in() {
    let model = Model::start(|_| says("teal"));
    let (here, there) = (project(&model.url, ""), Scratch::new());
    let (folder, database) = (there.path().display().to_string(), there.database().display().to_string());
    here.file(
        "it.toml",
        &format!(
            "[servers.there]\ncommand = {:?}\nargs = [\"serve\", {folder:?}, \"--trust\", \"--db\", {database:?}]\n\
             env = {{ XDG_RUNTIME_DIR = {folder:?}, XDG_DATA_HOME = {folder:?} }}\ngrants = [\"greet\"]\n\
             sampling = {{ consent = \"allow\", models = [\"m\"] }}\n[steps.it]\ncall = \"there.think\"\n\
             [output]\nsaid = \"{{{{ steps.it.output }}}}\"\n",
            program("antiphon").display().to_string(),
        ),
    );
    there.file(
        "think.toml",
        "[servers.here]\nurl = \"${ANTIPHON_MCP_URL}\"\nheaders = { Authorization = \"Bearer ${ANTIPHON_MCP_TOKEN}\" }\n\
         [models.here]\nbase_url = \"${OPENAI_BASE_URL}\"\nmodel = \"any\"\napi_key = \"${OPENAI_API_KEY}\"\n\
         [steps.greet]\ncall = \"here.greet\"\nwith.who = \"you\"\n\
         [steps.colour]\nsample = \"here\"\nprompt = \"colour?\"\n\
         [output]\ngreeting = \"{{ steps.greet.output.said }}\"\ncolour = \"{{ steps.colour.output }}\"\n",
    );
    let (code, out, err) = here.run_with_db(&["run", "it.toml", "--json", "--trust"]);
    assert_eq!(code, 0, "{err}");
    let output: Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
    assert_eq!(output["said"], json!({ "greeting": "hello you", "colour": "teal" }), "{output}");
    assert_eq!(shown(&here)["view"]["used"]["tokens"], 15, "it is paid here");
}

#[test]
fn no_token_is_ever_written_down() {
    let model = Model::start(|request| says(last(request)));
    let scratch = project(&model.url, ALL);
    coming(&scratch, "", &json!([{ "told": "" }]));
    let (came, err) = run(&scratch);
    let token = told(&scratch)["OPENAI_API_KEY"].as_str().unwrap().to_owned();
    assert_eq!(came[0]["token"].as_str().unwrap().split('/').next(), Some("***"), "{came:?}");
    assert!(!err.contains(&token));
    std::fs::remove_file(scratch.path().join("told.json")).unwrap();
    // The fixture's own log is of what it was called with.
    let mut todo = vec![scratch.path().to_owned()];
    let mut looked_at = 0;
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => todo.push(entry.path()),
                kind if kind.is_file() => {
                    let bytes = std::fs::read(entry.path()).unwrap();
                    assert!(!bytes.windows(token.len()).any(|bytes| bytes == token.as_bytes()), "{:?}", entry.path());
                    looked_at += 1;
                }
                _ => {}
            }
        }
    }
    assert!(looked_at > 2);
}
