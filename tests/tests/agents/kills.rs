//! `kill -9` during an agent's loop: it goes on at its turn, and no turn that was recorded is paid twice.
//!
//! `ANTIPHON_KILLS=100 cargo test -p antiphon-tests --test agents kill` makes the full count; the seed is printed, and
//! `ANTIPHON_SEED` repeats it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use antiphon_tests::chance::{Random, copy, number};
use antiphon_tests::model::{calls, says};
use antiphon_tests::{Era, Host, extension};
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::Project;

const CLERK: &str = r#"
[task]
mode = "always"

[agents.clerk]
instructions = "You are the clerk."
model = "m"
grants = ["tools.echo", "tools.set_kv", "tools.charge"]
"#;

/// How many turns the model takes.
const TURNS: usize = 5;

/// Which turn of which run a request belongs to: the prompt names the run.
fn place(request: &Value) -> (String, usize) {
    let messages = request["messages"].as_array().unwrap();
    let said = messages.iter().filter(|message| message["role"] == "assistant").count();
    let prompt = messages.iter().find(|message| message["role"] == "user").unwrap();
    (prompt["content"].as_str().unwrap().to_owned(), said + 1)
}

fn answer(request: &Value) -> Value {
    // Time to be killed in.
    std::thread::sleep(Duration::from_millis(15));
    let (run, turn) = place(request);
    let tag = |call: &str| json!({ "tag": format!("{run}/{turn}/{call}"), "id": format!("{run}/{turn}"), "ms": 10 });
    match turn {
        TURNS => says(&format!("{run} is done")),
        turn if turn % 2 == 0 => calls(&[("tools__charge", tag("charge"))]),
        _ => {
            let mut set = tag("set");
            set["key"] = run.as_str().into();
            calls(&[("tools__echo", tag("echo")), ("tools__set_kv", set)])
        }
    }
}

fn host(project: &Project) -> Host {
    let mut command = project.scratch.with_db(&["serve", ".", "--trust"]);
    Host::start(&mut command, Era::Modern, capabilities())
}

fn capabilities() -> Value {
    let mut capabilities = extension();
    capabilities["elicitation"] = json!({ "form": {} });
    capabilities
}

/// What was recorded when the owner was killed, and how much the model had been asked by then.
struct Snapshot {
    heard: usize,
    turns: BTreeSet<(String, usize)>,
}

/// The turns that a database has as thought: of which run, and which.
fn thought(database: &Path) -> BTreeSet<(String, usize)> {
    let mut found = BTreeSet::new();
    if !database.exists() {
        return found;
    }
    let connection = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let Ok(mut rows) = connection.prepare("SELECT run, body FROM events ORDER BY run, seq") else { return found };
    let mut prompts: BTreeMap<i64, String> = BTreeMap::new();
    let events = rows.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))).unwrap();
    for (run, body) in events.map(Result::unwrap) {
        let event: Value = serde_json::from_str(&body).unwrap();
        match event["event"].as_str() {
            Some("started") => {
                prompts.insert(run, event["input"]["inline"]["prompt"].as_str().unwrap().to_owned());
            }
            Some("done") => {
                let op = event["op"].as_str().unwrap();
                let turn = op.strip_prefix("turn:").and_then(|rest| rest.split_once("/think"));
                found.extend(turn.map(|(turn, _)| (prompts[&run].clone(), turn.parse().unwrap())));
            }
            _ => {}
        }
    }
    found
}

/// One run, killed so many times at random moments, driven to its end.
fn drive(project: &Project, random: &mut Random, run: &str, mut kills: u64, snapshots: &mut Vec<Snapshot>) -> Value {
    let mut serving = host(project);
    let mut task: Option<String> = None;
    let begun = Instant::now();
    let mut last = Value::Null;
    let mut next = begun + Duration::from_millis(random.below(250));
    loop {
        assert!(begun.elapsed() < Duration::from_secs(120), "the run does not end: {last}");
        if kills > 0 && Instant::now() >= next {
            serving.kill();
            let heard = project.model.heard().len();
            snapshots.push(Snapshot { heard, turns: thought(&copy(&project.scratch.database())) });
            kills -= 1;
            next = Instant::now() + Duration::from_millis(random.below(250));
            serving = host(project);
        }
        let Some(id) = task.clone() else {
            let params = json!({ "name": "ask_clerk", "arguments": { "prompt": run } });
            let mut params = antiphon_tests::call_params(params, &capabilities());
            params["_meta"]["antiphon/idempotency-key"] = json!(run);
            let answer = serving.ask("tools/call", params);
            task = answer["result"]["taskId"].as_str().map(str::to_owned);
            assert!(task.is_some(), "no task: {answer}");
            continue;
        };
        let answer = serving.ask("tasks/get", json!({ "taskId": id }));
        let result = &answer["result"];
        last = answer.clone();
        match result["status"].as_str() {
            Some("working") => std::thread::sleep(Duration::from_millis(3)),
            Some("input_required") => {
                let keys = result["inputRequests"].as_object().unwrap().keys();
                let content = json!({ "choice": "result", "result": "\"charged\"" });
                let reply = |key: &String| (key.clone(), json!({ "action": "accept", "content": content }));
                let responses: serde_json::Map<String, Value> = keys.map(reply).collect();
                serving.ask("tasks/update", json!({ "taskId": id, "inputResponses": responses }));
            }
            _ => {
                serving.close();
                return answer["result"].clone();
            }
        }
    }
}

#[test]
fn killed_in_the_middle_it_goes_on_at_its_turn_and_pays_no_turn_twice() {
    let wanted = number("ANTIPHON_KILLS", 8);
    let mut random = Random::told();
    let project = Project::new(CLERK, answer);
    let (mut snapshots, mut runs) = (Vec::new(), 0);
    while (snapshots.len() as u64) < wanted {
        runs += 1;
        let kills = (1 + random.below(4)).min(wanted - snapshots.len() as u64);
        let ended = drive(&project, &mut random, &format!("run-{runs}"), kills, &mut snapshots);
        assert_eq!(ended["status"], "completed", "{ended}");
        assert!(ended.to_string().contains(&format!("run-{runs} is done")), "{ended}");
    }

    let heard: Vec<(String, usize)> = project.model.heard().iter().map(place).collect();
    for snapshot in &snapshots {
        let again = heard.iter().skip(snapshot.heard).find(|turn| snapshot.turns.contains(turn));
        assert_eq!(again, None, "this turn had been recorded, and was paid again");
    }
    // A turn is paid once more at most for each kill that lost its answer.
    assert!(heard.len() <= runs * TURNS + snapshots.len(), "{} requests, {runs} runs", heard.len());
    // What must not be repeated was not: a person said what became of it.
    let mut charged = BTreeMap::new();
    for (tool, arguments) in project.called().iter().filter(|(tool, _)| tool == "charge") {
        *charged.entry((tool.clone(), arguments["id"].to_string())).or_insert(0) += 1;
    }
    assert!(charged.values().all(|times| *times == 1), "{charged:?}");
    let recorded: usize = snapshots.iter().map(|snapshot| snapshot.turns.len()).sum();
    assert!(recorded > 0, "no kill came after a turn");
}
