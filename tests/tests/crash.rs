//! `kill -9` of the owner at random moments, over a workflow with everything in it; and the loss of what was not flushed.
//!
//! `ANTIPHON_KILLS=200 cargo test -p antiphon-tests --test crash` makes the full count; the seed is printed, and
//! `ANTIPHON_SEED` repeats it.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use antiphon_tests::chance::{Random, copy, number};
use antiphon_tests::{Era, Host, Scratch, extension, repository};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

/// Every call carries its run and its place as `tag`, so that the tool's log can be held against the journal.
const MAIN: &str = r#"
[task]
mode = "always"

[input]
fail = { type = "boolean" }

[steps.look]
call = "tools.echo"
with = { run = "{{ run.key }}", tag = "look" }

[steps.left]
call = "tools.charge"
with = { run = "{{ run.key }}", tag = "left", id = "{{ run.key }}-left", ms = 15, after = "{{ steps.look.output.tag }}" }
undo = { call = "tools.refund", with = { run = "{{ run.key }}", tag = "left/undo/undo", id = "{{ output.id }}", ms = 5 } }

[steps.right]
call = "tools.set_kv"
with = { run = "{{ run.key }}", tag = "right", key = "{{ run.key }}", value = 1, ms = 10, after = "{{ steps.look.output.tag }}" }

[steps.nest]
needs = ["look"]
call = "inner"
with.from = "main"

[steps.job]
needs = ["left", "right"]
call = "tools.start_job"
with = { run = "{{ run.key }}", tag = "job", id = "{{ run.key }}", after_polls = 4, ms = 5 }
effects = "idempotent"

[steps.poll]
call = "tools.get_job"
with = { run = "{{ run.key }}", tag = "poll:{{ round }}", id = "{{ steps.job.output.id }}" }
repeat = { until = "output.state == 'passed'", every = "20ms", within = "5m" }

[steps.ask]
needs = ["nest"]
elicit = "Go on?"

[steps.each]
needs = ["ask"]
for_each = [0, 1, 2]
call = "tools.sleep"
with = { run = "{{ run.key }}", tag = "each[{{ index }}]", ms = 10, value = "{{ item }}" }

[steps.last]
needs = ["poll", "each"]
call = "tools.charge"
with = { run = "{{ run.key }}", tag = "last", id = "{{ run.key }}-last", ms = 10 }
undo = { call = "tools.refund", with = { run = "{{ run.key }}", tag = "last/undo/undo", id = "{{ output.id }}", ms = 5 } }

[steps.verdict]
needs = ["last"]
set = true
expect = "not input.fail"
"#;

const INNER: &str = r#"
[input]
from = { type = "string" }

[steps.read]
call = "tools.echo"
with = { run = "{{ run.key }}", tag = "nest/read", from = "{{ input.from }}" }

[steps.pay]
needs = ["read"]
call = "tools.charge"
with = { run = "{{ run.key }}", tag = "nest/pay", id = "{{ run.key }}-pay", ms = 10 }
undo = { call = "tools.refund", with = { run = "{{ run.key }}", tag = "nest/pay/undo/undo", id = "{{ output.id }}", ms = 5 } }
"#;

/// What the database, copied right after a kill, has as completed; and how long the tool's log was then.
struct Snapshot {
    log_lines: usize,
    completed: BTreeSet<(String, String)>,
}

struct Round<'a> {
    scratch: &'a Scratch,
    preload: Option<PathBuf>,
    random: &'a mut Random,
    snapshots: Vec<Snapshot>,
    /// Answers "retry" that were given, by step path.
    retries: BTreeMap<String, usize>,
    kills: u64,
}

impl Round<'_> {
    fn host(&self) -> Host {
        let mut command = self.scratch.with_db(&["serve", ".", "--trust"]);
        if let Some(shim) = &self.preload {
            command.env("LD_PRELOAD", shim);
        }
        let mut capabilities = extension();
        capabilities["elicitation"] = json!({ "form": {} });
        Host::start(&mut command, Era::Modern, capabilities)
    }

    /// Kills the owner, and looks at what it left.
    fn kill(&mut self, host: &mut Host) {
        host.kill();
        self.kills += 1;
        // The tool server notices that its pipe is closed; until then it may still log calls that were under way.
        let log_lines = self.scratch.calls().len();
        if self.preload.is_some() {
            lose_unsynced(&self.scratch.database());
        }
        let copy = copy(&self.scratch.database());
        self.snapshots.push(Snapshot { log_lines, completed: completed(&copy) });
    }

    /// One run, killed up to `kills` times at random moments, driven to its end.
    fn drive(&mut self, mut kills: u64, fail: bool) -> Value {
        let key = format!("start-{}-{}", self.kills, self.random.below(u64::MAX));
        let mut host = self.host();
        let mut task: Option<String> = None;
        let mut deadline = self.moment();
        let begun = Instant::now();
        let mut last = Value::Null;
        loop {
            assert!(begun.elapsed() < Duration::from_secs(120), "the run does not end: {last}");
            if kills > 0 && Instant::now() >= deadline {
                self.kill(&mut host);
                kills -= 1;
                deadline = self.moment();
                host = self.host();
            }
            let Some(id) = task.clone() else {
                let mut params = antiphon_tests::call_params(
                    json!({ "name": "main", "arguments": { "fail": fail } }),
                    &json!({ "extensions": extension()["extensions"], "elicitation": { "form": {} } }),
                );
                params["_meta"]["antiphon/idempotency-key"] = json!(key);
                let answer = host.ask("tools/call", params);
                task = answer["result"]["taskId"].as_str().map(str::to_owned);
                assert!(task.is_some(), "no task: {answer}");
                continue;
            };
            let answer = host.ask("tasks/get", json!({ "taskId": id }));
            assert!(answer.get("error").is_none(), "a task id that was handed out must answer: {answer}");
            let result = &answer["result"];
            last = result.clone();
            match result["status"].as_str() {
                Some("working") => std::thread::sleep(Duration::from_millis(4)),
                Some("input_required") => {
                    let responses = self.answers(&result["inputRequests"]);
                    let answer = host.ask("tasks/update", json!({ "taskId": id, "inputResponses": responses }));
                    assert!(answer.get("error").is_none(), "{answer}");
                }
                _ => {
                    host.close();
                    return result.clone();
                }
            }
        }
    }

    fn moment(&mut self) -> Instant {
        Instant::now() + Duration::from_millis(self.random.below(450))
    }

    fn answers(&mut self, requests: &Value) -> Value {
        let mut responses = serde_json::Map::new();
        for key in requests.as_object().unwrap().keys() {
            let content = match key.split_once('#') {
                Some((path, _)) if key.ends_with("?doubt") => match self.random.below(3) {
                    0 => {
                        *self.retries.entry(path.to_owned()).or_default() += 1;
                        json!({ "choice": "retry" })
                    }
                    1 => json!({ "choice": "skip" }),
                    _ => json!({ "choice": "result", "result": "{\"id\": \"given\", \"tag\": \"given\"}" }),
                },
                _ => json!({}),
            };
            responses.insert(key.clone(), json!({ "action": "accept", "content": content }));
        }
        Value::Object(responses)
    }

    /// The promises, held against the tool's own log.
    fn check(&self) {
        let calls = self.scratch.calls();
        for snapshot in &self.snapshots {
            for call in calls.iter().skip(snapshot.log_lines).filter(|call| call["event"] == "begin") {
                let (Some(run), Some(tag)) = (call["arguments"]["run"].as_str(), call["arguments"]["tag"].as_str())
                else {
                    continue;
                };
                let key = (run.to_owned(), tag.to_owned());
                assert!(!snapshot.completed.contains(&key), "{tag} of {run} had completed, and was called again");
            }
        }
        let mut unsafe_calls: BTreeMap<(String, String), usize> = BTreeMap::new();
        for call in calls.iter().filter(|call| call["event"] == "begin") {
            if matches!(call["tool"].as_str(), Some("charge" | "refund")) {
                let name = |field: &str| call["arguments"][field].as_str().unwrap_or_default().to_owned();
                *unsafe_calls.entry((name("run"), name("tag"))).or_default() += 1;
            }
        }
        for ((run, tag), count) in unsafe_calls {
            let permitted = 1 + self.retries.get(&tag).copied().unwrap_or(0);
            assert!(count <= permitted, "{tag} of {run} was called {count} times; {permitted} were permitted");
        }
    }
}

/// Calls that a database has as completed: `run.key` and step path.
fn completed(database: &Path) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    if !database.exists() {
        return found;
    }
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let Ok(mut rows) = connection.prepare("SELECT run, body FROM events ORDER BY run, seq") else { return found };
    let mut keys: BTreeMap<i64, String> = BTreeMap::new();
    let events = rows.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))).unwrap();
    for (run, body) in events.map(Result::unwrap) {
        let event: Value = serde_json::from_str(&body).unwrap();
        match event["event"].as_str() {
            Some("started") => {
                keys.insert(run, event["key"].as_str().unwrap().to_owned());
            }
            Some("done") => {
                let path = event["op"].as_str().unwrap().split('#').next().unwrap();
                found.insert((keys[&run].clone(), path.to_owned()));
            }
            _ => {}
        }
    }
    found
}

/// The power goes: what was not flushed is lost.
fn lose_unsynced(database: &Path) {
    let wal = PathBuf::from(format!("{}-wal", database.display()));
    let Ok(synced) = std::fs::read_to_string(format!("{}.synced", wal.display())) else { return };
    let Ok(file) = std::fs::OpenOptions::new().write(true).open(&wal) else { return };
    let length = file.metadata().unwrap().len();
    // Empty: killed before the first note, when nothing had been flushed.
    let synced = if synced.is_empty() { 0 } else { synced.trim().parse::<u64>().unwrap() };
    file.set_len(synced.min(length)).unwrap();
    let _ = std::fs::remove_file(format!("{}-shm", database.display()));
}

fn project() -> Scratch {
    let scratch = Scratch::with_tools();
    scratch.file("main.toml", MAIN);
    scratch.file("inner.toml", INNER);
    scratch
}

fn kill_at_random(preload: Option<PathBuf>, wanted: u64) {
    let mut random = Random::told();
    let (mut kills, mut runs, mut doubts) = (0, 0, 0);
    while kills < wanted {
        // A fresh database now and then, an old one otherwise.
        let scratch = project();
        let mut round = Round {
            scratch: &scratch,
            preload: preload.clone(),
            random: &mut random,
            snapshots: Vec::new(),
            retries: BTreeMap::new(),
            kills: 0,
        };
        for _ in 0..4 {
            let fail = round.random.below(2) == 0;
            let times = 1 + round.random.below(3);
            let ended = round.drive(times, fail);
            assert_eq!(ended["status"], "completed", "{ended}");
            runs += 1;
        }
        round.check();
        doubts += round.retries.values().sum::<usize>();
        kills += round.kills;
    }
    eprintln!("{kills} kills, {runs} runs ended, {doubts} doubts answered with retry");
}

#[test]
fn kill_nine_at_random_moments() {
    kill_at_random(None, number("ANTIPHON_KILLS", 12));
}

#[test]
fn losing_what_was_not_flushed() {
    let folder = tempfile::tempdir().unwrap();
    let shim = folder.path().join("synced.so");
    let source = repository().join("tests/shim/synced.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&shim).arg(&source).arg("-ldl").status();
    assert!(built.is_ok_and(|status| status.success()), "cc builds tests/shim/synced.c");
    kill_at_random(Some(shim), number("ANTIPHON_KILLS", 12) / 2);
}
