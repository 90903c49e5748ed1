//! The command line as a person sees it on a terminal, and as a script sees it through pipes.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use antiphon_tests::{Scratch, Terminal};
use serde_json::{Value, json};

const INTRODUCE: &str = r#"
[steps.look]
call = "tools.echo"
with.text = "looked"
[steps.who]
needs = ["look"]
elicit = "Who are you?"
fields.name = { type = "string", minLength = 2 }
fields.color = { type = "string", enum = ["red", "blue"] }
[steps.sure]
elicit = "Are you sure, {{ steps.who.output.name }}?"
[output]
text = "{{ steps.who.output.name }} likes {{ steps.who.output.color }}: {{ steps.sure.action }}"
"#;

const GATE: &str = r#"
[steps.pass]
call = "tools.gate"
with = { path = "${GATE}", value = "passed" }
[output]
value = "{{ steps.pass.output.value }}"
"#;

const PAY: &str = r#"
[steps.pay]
call = "tools.charge"
with = { id = "it", ms = 60000 }
[output]
charges = "{{ steps.pay.output.charges }}"
"#;

const FAIL: &str = r#"
[steps.boom]
call = "tools.fail"
with.message = "out of order"
"#;

/// A project with an agreed database.
struct Project {
    scratch: Scratch,
}

impl Project {
    fn new() -> Self {
        let scratch = Scratch::with_tools();
        let gate = scratch.path().join("gate").display().to_string();
        for (name, text) in
            [("introduce", INTRODUCE), ("gate", &GATE.replace("${GATE}", &gate)), ("pay", PAY), ("fail", FAIL)]
        {
            scratch.file(&format!("{name}.toml"), text);
        }
        Self { scratch }
    }

    fn command(&self, args: &[&str]) -> Command {
        self.scratch.with_db(args)
    }

    fn terminal(&self, args: &[&str]) -> Terminal {
        Terminal::start(&self.command(args))
    }

    /// Runs a command whose ends are pipes: exit code, stdout, stderr.
    fn piped(&self, args: &[&str]) -> (i32, String, String) {
        let output = self.command(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// The newest run's id.
    fn newest(&self) -> String {
        let (_, runs, _) = self.piped(&["runs", "--json", "--limit", "1"]);
        serde_json::from_str::<Value>(runs.trim()).unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// Waits until a tool is being called.
    fn until_called(&self, tool: &str) {
        let begun = Instant::now();
        while !self.scratch.calls().iter().any(|call| call["event"] == "begin" && call["tool"] == tool) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{tool} is not called");
            sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn a_run_shows_its_steps_and_asks_in_a_form() {
    let project = Project::new();
    let mut terminal = project.terminal(&["run", "introduce.toml", "--trust"]);
    terminal.until("✓ look");
    terminal.until("? who");
    terminal.until("waits for an answer");
    terminal.until("Who are you?");
    terminal.until("Leave it open");
    terminal.press("\r");
    terminal.until("name");
    terminal.press("A\r");
    terminal.until("shorter than 2");
    terminal.press("\u{8}Ada\r");
    terminal.until("color");
    terminal.until("blue");
    terminal.press("\u{1b}[B\r");
    terminal.until("Are you sure, Ada?");
    terminal.until("Leave it open");
    terminal.press("\r");
    terminal.until("✓ sure");
    terminal.until("Ada likes blue: accept\n");
    let (code, text) = terminal.end();
    assert_eq!(code, 0, "{text}");
    assert!(!text.contains("\"text\""), "a lone text is printed as text: {text}");
}

#[test]
fn a_question_may_be_left_open_or_declined() {
    let project = Project::new();
    let mut terminal = project.terminal(&["run", "introduce.toml", "--trust"]);
    terminal.until("Leave it open");
    terminal.press("\u{1b}[B\u{1b}[B\r");
    terminal.until("antiphon answer");
    let (code, text) = terminal.end();
    assert_eq!(code, 3, "{text}");

    let id = project.newest();
    let mut terminal = project.terminal(&["answer", &id]);
    terminal.until("Leave it open");
    terminal.press("\u{1b}[B\r");
    terminal.until("- who");
    let (code, text) = terminal.end();
    assert_eq!(code, 0, "a no skips what needs it, and is no failure: {text}");
}

#[test]
fn ctrl_c_pauses_and_resume_goes_on() {
    let project = Project::new();
    let mut terminal = project.terminal(&["run", "gate.toml", "--trust"]);
    terminal.until("▸ pass");
    project.until_called("gate");
    terminal.press("\u{3}");
    terminal.until("paused: antiphon resume ");
    let (code, text) = terminal.end();
    assert_eq!(code, 6, "{text}");
    let id = project.newest();
    let hint = format!("antiphon resume {} --db {}", &id[..8], project.scratch.database().display());
    assert!(text.replace('\n', "").contains(&hint), "{hint} is not in {text}");

    project.scratch.file("gate", "");
    let (code, out, err) = project.piped(&["resume", &id[..8]]);
    assert_eq!((code, out.as_str()), (0, "{\n  \"value\": \"passed\"\n}\n"), "{err}");
}

#[test]
fn ctrl_c_in_a_form_pauses_too() {
    let project = Project::new();
    let mut terminal = project.terminal(&["run", "introduce.toml", "--trust"]);
    terminal.until("Leave it open");
    terminal.press("\u{3}");
    terminal.until("paused: antiphon resume ");
    let (code, text) = terminal.end();
    assert_eq!(code, 6, "{text}");
    let mut terminal = project.terminal(&["resume", &project.newest()]);
    terminal.until("Who are you?");
}

/// The form is in the midst of reading keys; whoever uses the terminal next must find it as it was.
#[test]
fn a_signal_closes_the_form_and_leaves_the_terminal_as_it_was() {
    let project = Project::new();
    let run = project.command(&["run", "introduce.toml", "--trust"]);
    let mut terminal = Terminal::start_then(&run, "; code=$?; stty -a; exit $code");
    terminal.until("Leave it open");
    let lock = std::fs::read_to_string(format!("{}.lock", project.scratch.database().display())).unwrap();
    let owner = serde_json::from_str::<Value>(&lock).unwrap()["pid"].to_string();
    assert!(Command::new("kill").args(["-TERM", &owner]).status().unwrap().success());
    terminal.until("paused: antiphon resume ");
    let (code, text) = terminal.end();
    assert_eq!(code, 6, "{text}");
    assert!(text.contains(" icanon") && text.contains(" echo "), "{text}");
}

#[test]
fn commands_of_files_are_asked_about_once() {
    let project = Project::new();
    project.scratch.file("gate", "");
    let mut terminal = project.terminal(&["run", "gate.toml"]);
    terminal.until("fixture-server --log");
    terminal.until("Start them, now and from now on?");
    terminal.press("n");
    let (code, text) = terminal.end();
    assert_eq!(code, 2, "{text}");
    assert!(project.scratch.calls().is_empty(), "nothing was started");

    let mut terminal = project.terminal(&["run", "gate.toml"]);
    terminal.until("Start them, now and from now on?");
    terminal.press("y");
    terminal.until("passed\n");
    assert_eq!(terminal.end().0, 0);

    let (code, text) = project.terminal(&["run", "gate.toml"]).end();
    assert_eq!(code, 0, "{text}");
    assert!(!text.contains("Start them"), "it is remembered: {text}");
    assert_eq!(project.piped(&["run", "gate.toml"]).0, 0, "for pipes too");
}

#[test]
fn a_call_in_doubt_is_decided_by_a_person() {
    let project = Project::new();
    let mut run = project.command(&["run", "pay.toml", "--trust"]).stderr(Stdio::null()).spawn().unwrap();
    project.until_called("charge");
    run.kill().unwrap();
    run.wait().unwrap();
    let id = project.newest();
    let (code, out, err) = project.piped(&["resume", &id]);
    assert_eq!((code, out.as_str()), (4, ""), "{err}");
    assert!(err.contains("may have happened") && err.contains("--retry | --skip | --result"), "{err}");

    let mut terminal = project.terminal(&["answer", &id]);
    terminal.until("It did happen: give its result");
    terminal.press("\u{1b}[A\r");
    terminal.until("Its result, as JSON");
    terminal.press("{\"id\": \"it\", \"charges\": 1}\r");
    terminal.until("\"charges\": 1");
    let (code, text) = terminal.end();
    assert_eq!(code, 0, "{text}");
    let charges = project.scratch.calls().iter().filter(|call| call["event"] == "begin").count();
    assert_eq!(charges, 1, "it was not called again");
}

#[test]
fn pipes_get_the_output_and_nothing_else() {
    let project = Project::new();
    project.scratch.file("gate", "");
    let (code, out, err) = project.piped(&["run", "gate.toml", "--trust"]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "{\n  \"value\": \"passed\"\n}\n", ""));
    let (code, out, _) = project.piped(&["run", "gate.toml", "--json"]);
    assert_eq!((code, out.as_str()), (0, "{\"value\":\"passed\"}\n"));

    // A person who sends only the output elsewhere still sees the rest.
    let mut terminal = Terminal::start_then(&project.command(&["run", "gate.toml"]), ">out.json");
    terminal.until("✓ pass");
    assert_eq!(terminal.end().0, 0);
    let out = std::fs::read_to_string(project.scratch.path().join("out.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), json!({ "value": "passed" }));
}

#[test]
fn every_end_has_its_exit_code() {
    let project = Project::new();
    project.scratch.file("gate", "");
    let ended = |args: &[&str], expected: i32, says: &str| {
        let (code, out, err) = project.piped(args);
        assert_eq!(code, expected, "{args:?}: {out}{err}");
        assert!(err.contains(says), "{args:?} does not say {says:?}: {err}");
        assert!(code == 0 || out.is_empty(), "{args:?}: {out}");
    };
    ended(&["run", "gate.toml", "--trust"], 0, "");
    ended(&["run", "fail.toml"], 1, "out of order");
    ended(&["run", "nothing.toml"], 2, "nothing.toml");
    ended(&["run", "introduce.toml"], 3, "Who are you?");
    let id = project.newest();
    ended(&["watch", &id], 6, "antiphon resume");
    ended(&["cancel", &id, "--reason", "enough"], 0, "");
    ended(&["resume", &id], 5, "enough");

    let mut run = project.command(&["run", "pay.toml"]).stderr(Stdio::null()).spawn().unwrap();
    project.until_called("charge");
    run.kill().unwrap();
    run.wait().unwrap();
    ended(&["resume", &project.newest()], 4, "may have happened");
}

#[test]
fn a_hosts_file_is_changed_only_when_somebody_agrees() {
    let project = Project::new();
    let home = project.scratch.path().join("home");
    let path = home.join(".cursor/mcp.json");
    let install = |args: &[&str]| {
        let mut command = project.scratch.antiphon(&[&["install", "cursor"], args].concat());
        command.env("HOME", &home).env_remove("XDG_CONFIG_HOME");
        Terminal::start(&command)
    };
    let mut terminal = install(&[]);
    terminal.until("+     \"antiphon\": {");
    terminal.until("Put it there?");
    terminal.press("n");
    let (code, text) = terminal.end();
    assert_eq!((code, path.exists()), (2, false), "{text}");

    let mut terminal = install(&[]);
    terminal.until("Put it there?");
    terminal.press("y");
    terminal.until("written to");
    let (code, text) = terminal.end();
    assert_eq!((code, path.exists()), (0, true), "{text}");

    let mut terminal = install(&["--undo"]);
    terminal.until("Delete the file");
    terminal.press("y");
    let (code, text) = terminal.end();
    assert_eq!((code, path.exists()), (0, false), "{text}");
}
