//! Several hosts and a terminal share one project's runs; whoever owns them may go, and another goes on.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a failed unwrap is a failed test")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use antiphon_tests::{Era, Host, Scratch, call_params, extension};
use serde_json::{Value, json};

/// How soon another process must have taken over.
const TAKE_OVER: Duration = Duration::from_secs(2);

/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A call that must not be repeated, then one that may be and is under way when the owner goes.
const JOB: &str = r#"
[task]
mode = "never"
[input]
who = { type = "string" }
[steps.pay]
call = "tools.charge"
with.id = "{{ input.who }}-job"
[steps.rest]
needs = ["pay"]
call = "tools.gate"
with = { path = "${GATE}", value = "{{ input.who }}" }
[steps.tell]
needs = ["rest"]
call = "tools.charge"
with.id = "{{ input.who }}-told"
[output]
rested = "{{ steps.rest.output.value }}"
charges = "{{ steps.pay.output.charges }}"
"#;

/// The same around a question.
const APPROVE: &str = r#"
[input]
who = { type = "string" }
[steps.pay]
call = "tools.charge"
with.id = "{{ input.who }}-approve"
[steps.sure]
needs = ["pay"]
elicit = "Sure, {{ input.who }}?"
[steps.go]
needs = ["sure"]
call = "tools.charge"
with.id = "{{ input.who }}-approved"
[output]
charges = "{{ steps.go.output.charges }}"
"#;

/// Who owns the runs, and is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Party {
    Modern,
    Legacy,
    Terminal,
}

struct Project {
    scratch: Scratch,
}

impl Project {
    fn new() -> Self {
        let scratch = Scratch::with_tools();
        let gate = scratch.path().join("gate").display().to_string();
        scratch.file("job.toml", &JOB.replace("${GATE}", &gate));
        scratch.file("approve.toml", APPROVE);
        Self { scratch }
    }

    fn command(&self, args: &[&str]) -> Command {
        self.scratch.with_db(args)
    }

    /// Runs a command to its end; its stdout as JSON, a value a line.
    fn terminal(&self, args: &[&str]) -> Vec<Value> {
        let output = self.command(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn host(&self, era: Era) -> Host {
        let capabilities = match era {
            Era::Modern => json!({ "extensions": extension()["extensions"], "elicitation": { "form": {} } }),
            Era::Legacy => json!({ "elicitation": {} }),
        };
        Host::start(&mut self.command(&["serve", ".", "--trust"]), era, capabilities)
    }

    fn run_job(&self) -> Child {
        self.command(&["run", "job.toml", "-i", "who=terminal", "--trust", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Lets the jobs end.
    fn open_gate(&self) {
        self.scratch.file("gate", "");
    }

    /// Who holds the lock and listens.
    fn owner(&self) -> Option<u32> {
        let text = fs::read_to_string(format!("{}.lock", self.scratch.database().display())).ok()?;
        serde_json::from_str::<Value>(&text).ok()?["pid"].as_u64()?.try_into().ok()
    }

    /// How often a call of this tool with this argument has begun.
    fn begun(&self, tool: &str, argument: &str, value: &str) -> usize {
        let calls = self.scratch.calls();
        let is_it =
            |call: &&Value| call["event"] == "begin" && call["tool"] == tool && call["arguments"][argument] == value;
        calls.iter().filter(is_it).count()
    }

    fn charged(&self, id: &str) -> usize {
        self.begun("charge", "id", id)
    }

    /// The id of the only run of a workflow that a party started.
    fn run_of(&self, who: &str, workflow: &str) -> String {
        let runs = self.terminal(&["runs", "--json"]);
        let ids = runs.iter().filter(|run| run["workflow"] == workflow).map(|run| run["id"].as_str().unwrap());
        let is_theirs = |id: &&str| {
            let events = self.terminal(&["show", id, "--json", "--events"]);
            events.iter().any(|event| event["event"] == "started" && event["input"]["inline"]["who"] == who)
        };
        ids.into_iter().find(is_theirs).unwrap().to_owned()
    }
}

/// Waits until it is so.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it never came: {what}");
        sleep(Duration::from_millis(10));
    }
}

/// A party that has a job under way and, if it is a host, a question open.
struct Parties {
    project: Project,
    modern: Host,
    /// The task of its question.
    task: String,
    /// A question that it got instead of a result, when it declared no tasks.
    round: Value,
    modern_job: u64,
    legacy: Host,
    legacy_approve: u64,
    /// Its question, as it was pushed.
    pushed: Value,
    legacy_job: u64,
    terminal: Child,
}

impl Parties {
    /// All three at work; this one owns the runs.
    fn gather(owner: Party) -> Self {
        let project = Project::new();
        let (mut modern, mut legacy, mut terminal) = (None, None, None);
        let mut parties = vec![Party::Modern, Party::Legacy, Party::Terminal];
        parties.sort_by_key(|party| *party != owner);
        for party in parties {
            let pid = match party {
                Party::Modern => modern.insert(project.host(Era::Modern)).pid(),
                Party::Legacy => legacy.insert(project.host(Era::Legacy)).pid(),
                Party::Terminal => terminal.insert(project.run_job()).id(),
            };
            if party == owner {
                eventually("the first is the owner", || project.owner() == Some(pid));
            }
        }
        let (mut modern, mut legacy) = (modern.unwrap(), legacy.unwrap());
        let created = modern.call("approve", json!({ "who": "modern" }))["result"].clone();
        assert_eq!(created["status"], "input_required", "{created}");
        let task = created["taskId"].as_str().unwrap().to_owned();
        let round = modern.ask("tools/call", in_rounds(json!({})))["result"].clone();
        assert_eq!(round["resultType"], "input_required", "{round}");
        let modern_job = modern.post_call("job", json!({ "who": "modern" }));
        let legacy_approve = legacy.post_call("approve", json!({ "who": "legacy" }));
        let pushed = legacy.pushed("elicitation/create");
        let legacy_job = legacy.post_call("job", json!({ "who": "legacy" }));
        for who in ["modern", "legacy", "terminal"] {
            eventually("its job is under way", || project.begun("gate", "value", who) == 1);
        }
        Self {
            project,
            modern,
            task,
            round,
            modern_job,
            legacy,
            legacy_approve,
            pushed,
            legacy_job,
            terminal: terminal.unwrap(),
        }
    }

    /// Everybody sees the same runs.
    fn share(&mut self) {
        let runs = self.project.terminal(&["runs", "--json"]);
        assert_eq!(runs.len(), 6);
        for run in &runs {
            assert_eq!(run["owner"], "local", "{run}");
            let id = &run["id"];
            assert_eq!(self.modern.ask("tasks/get", json!({ "taskId": id }))["result"]["taskId"], *id);
            let seen = self.legacy.call("run_status", json!({ "run_id": id }))["result"].clone();
            assert_eq!(seen["structuredContent"]["run"]["status"], run["status"], "{seen}");
        }
    }

    fn kill(&mut self, owner: Party) {
        match owner {
            Party::Modern => self.modern.kill(),
            Party::Legacy => self.legacy.kill(),
            Party::Terminal => {
                self.terminal.kill().unwrap();
                self.terminal.wait().unwrap();
            }
        }
    }

    /// The hosts that are still there get answers again; how long that takes.
    fn taken_over(&mut self, owner: Party) -> Duration {
        let begun = Instant::now();
        for (party, host) in [(Party::Modern, &mut self.modern), (Party::Legacy, &mut self.legacy)] {
            if party != owner {
                let listed = host.ask("tools/list", json!({}));
                assert!(listed["result"]["tools"].is_array(), "{listed}");
            }
        }
        begun.elapsed()
    }

    /// The modern host's call is answered on its pipe, and its task goes on; after a restart at least the task.
    fn finish_modern(&mut self, killed: bool) {
        if killed {
            self.modern = self.project.host(Era::Modern);
            let job = self.project.run_of("modern", "job");
            self.ended_well(&job);
        } else {
            let ended = self.modern.response(self.modern_job).unwrap();
            assert_eq!(ended["result"]["structuredContent"], json!({ "rested": "modern", "charges": 1 }), "{ended}");
        }
        let asking = self.modern.ask("tasks/get", json!({ "taskId": self.task }))["result"].clone();
        assert_eq!(asking["status"], "input_required", "{asking}");
        let key = only_key(&asking["inputRequests"]);
        let responses = json!({ key: { "action": "accept", "content": {} } });
        let taken = self.modern.ask("tasks/update", json!({ "taskId": self.task, "inputResponses": responses }));
        assert!(taken.get("error").is_none(), "{taken}");
        let ended = self.modern.poll(&self.task).unwrap();
        assert_eq!(ended["result"]["structuredContent"], json!({ "charges": 1 }), "{ended}");

        let key = only_key(&self.round["inputRequests"]);
        let responses = json!({ key: { "action": "accept", "content": {} } });
        let retry = json!({ "requestState": self.round["requestState"], "inputResponses": responses });
        let ended = self.modern.ask("tools/call", in_rounds(retry));
        assert_eq!(ended["result"]["structuredContent"], json!({ "charges": 1 }), "{ended}");
    }

    /// The legacy host's session goes on and it is asked again; after a restart its runs are there, for a person to answer.
    fn finish_legacy(&mut self, killed: bool) {
        if killed {
            self.legacy = self.project.host(Era::Legacy);
            let job = self.project.run_of("legacy", "job");
            self.ended_well(&job);
            let approve = self.project.run_of("legacy", "approve");
            let answered = self.project.command(&["answer", &approve, "--accept"]).output().unwrap();
            assert!(answered.status.success(), "{answered:?}");
            self.ended_well(&approve);
            return;
        }
        let withdrawn = self.legacy.pushed("notifications/cancelled");
        assert_eq!(withdrawn["params"]["requestId"], self.pushed["id"]);
        // Nobody waits for this answer any more.
        self.legacy.reply(&self.pushed, json!({ "action": "decline" }));
        let again = self.legacy.pushed("elicitation/create");
        assert_eq!(again["params"]["message"], "Sure, legacy?");
        self.legacy.reply(&again, json!({ "action": "accept", "content": {} }));
        // If the terminal took over and left when its run had ended, it may have taken the answer along.
        assert_eq!(say_yes(&mut self.legacy, self.legacy_approve), json!({ "charges": 1 }));
        let ended = self.legacy.response(self.legacy_job).unwrap();
        assert_eq!(ended["result"]["structuredContent"], json!({ "rested": "legacy", "charges": 1 }), "{ended}");
    }

    /// The terminal prints its run's output; one that was killed is replaced by `watch`.
    fn finish_terminal(&mut self, killed: bool) {
        let expected = json!({ "rested": "terminal", "charges": 1 });
        if killed {
            let id = self.project.run_of("terminal", "job");
            assert_eq!(self.project.terminal(&["watch", &id, "--json"]), [expected]);
            return;
        }
        let code = end_of(&mut self.terminal);
        let mut printed = String::new();
        self.terminal.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        assert_eq!((code, printed.trim()), (Some(0), expected.to_string().as_str()));
    }

    /// A run that nobody waits for any more has succeeded.
    fn ended_well(&mut self, id: &str) {
        let status = json!({ "run_id": id, "wait_seconds": 30 });
        let seen = self.modern.call("run_status", status)["result"].clone();
        assert_eq!(seen["structuredContent"]["run"]["status"], "succeeded", "{seen}");
    }
}

/// `approve`, called by a caller that knows forms but no tasks; with what a retry adds.
fn in_rounds(mut params: Value) -> Value {
    params["name"] = json!("approve");
    params["arguments"] = json!({ "who": "rounds" });
    call_params(params, &json!({ "elicitation": { "form": {} } }))
}

/// Waits for a process; its exit code.
fn end_of(child: &mut Child) -> Option<i32> {
    let mut status = None;
    eventually("it ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap().code()
}

fn kill_the_owner(owner: Party) {
    let mut parties = Parties::gather(owner);
    parties.share();
    parties.kill(owner);
    let took = parties.taken_over(owner);
    eprintln!("the {owner:?} owner was killed; the others had answers after {} ms", took.as_millis());
    assert!(took < TAKE_OVER, "{took:?}");
    parties.project.open_gate();
    parties.finish_modern(owner == Party::Modern);
    parties.finish_legacy(owner == Party::Legacy);
    parties.finish_terminal(owner == Party::Terminal);

    let Parties { project, modern, legacy, .. } = parties;
    for who in ["modern", "legacy", "terminal"] {
        assert_eq!(project.begun("gate", "value", who), 2, "under way, and repeated");
        for what in ["job", "told", "approve", "approved"] {
            let expected = usize::from(who != "terminal" || !what.starts_with("approve"));
            assert_eq!(project.charged(&format!("{who}-{what}")), expected, "{who}-{what}");
        }
    }
    assert_eq!((project.charged("rounds-approve"), project.charged("rounds-approved")), (1, 1));
    assert_eq!((modern.close(), legacy.close()), (Some(0), Some(0)));
    assert_eq!(project.terminal(&["runs", "--json", "--live"]), Vec::<Value>::new());
}

#[test]
fn a_modern_host_that_owns_the_runs_is_killed() {
    kill_the_owner(Party::Modern);
}

#[test]
fn a_legacy_host_that_owns_the_runs_is_killed() {
    kill_the_owner(Party::Legacy);
}

#[test]
fn a_terminal_that_owns_the_runs_is_killed() {
    kill_the_owner(Party::Terminal);
}

/// What is under way gets its grace, be it another's, and only then the next goes on.
#[test]
fn an_owner_that_leaves_lets_calls_end() {
    let project = Project::new();
    let owner = project.host(Era::Modern);
    eventually("it owns", || project.owner() == Some(owner.pid()));
    let mut host = project.host(Era::Legacy);
    let call = host.post_call("job", json!({ "who": "guest" }));
    eventually("its job is under way", || project.begun("gate", "value", "guest") == 1);
    let begun = Instant::now();
    let leaving = std::thread::spawn(move || owner.close());
    eventually("it hangs up", || !fs::exists(format!("{}.socket", project.scratch.database().display())).unwrap());
    project.open_gate();
    let ended = host.response(call).unwrap();
    assert_eq!(ended["result"]["structuredContent"], json!({ "rested": "guest", "charges": 1 }), "{ended}");
    eprintln!("the owner left; the other had its answer after {} ms", begun.elapsed().as_millis());
    assert_eq!(leaving.join().unwrap(), Some(0));
    assert_eq!(project.begun("gate", "value", "guest"), 1, "the call under way was not cut off");
    assert_eq!(host.close(), Some(0));
}

/// An owner that is told to end waits a little only; what it cuts off is made again.
#[test]
fn an_owner_that_is_told_to_end_hands_over() {
    let project = Project::new();
    let owner = project.host(Era::Modern);
    eventually("it owns", || project.owner() == Some(owner.pid()));
    let mut host = project.host(Era::Modern);
    let call = host.post_call("job", json!({ "who": "guest" }));
    eventually("its job is under way", || project.begun("gate", "value", "guest") == 1);
    let signalled = Command::new("kill").args(["-TERM", &owner.pid().to_string()]).status().unwrap();
    assert!(signalled.success());
    eventually("the next owns", || project.owner() == Some(host.pid()));
    project.open_gate();
    let ended = host.response(call).unwrap();
    assert_eq!(ended["result"]["structuredContent"], json!({ "rested": "guest", "charges": 1 }), "{ended}");
    assert_eq!(project.begun("gate", "value", "guest"), 2, "it is read-only, so it was made again");
    assert_eq!((owner.close(), host.close()), (Some(0), Some(0)));
}

/// Whoever owns the runs leaves as soon as its own work is done, again and again; the others never see an error.
#[test]
fn owners_come_and_go_and_nobody_notices() {
    let project = Project::new();
    std::thread::scope(|scope| {
        for place in 0..6 {
            let project = &project;
            let era = if place % 2 == 0 { Era::Modern } else { Era::Legacy };
            scope.spawn(move || {
                let mut host = project.host(era);
                for round in 0..40 {
                    let who = format!("{place}-{round}");
                    let result = match era {
                        Era::Modern => approved_as_task(&mut host, &who),
                        Era::Legacy => approved_on_the_way(&mut host, &who),
                    };
                    assert_eq!(result, json!({ "charges": 1 }));
                    assert_eq!(project.charged(&format!("{who}-approve")), 1);
                    if project.owner() == Some(host.pid()) {
                        break;
                    }
                }
                assert_eq!(host.close(), Some(0));
            });
        }
    });
    assert_eq!(project.terminal(&["runs", "--json", "--live"]), Vec::<Value>::new());
}

/// Calls `approve` and says yes, by way of a task.
fn approved_as_task(host: &mut Host, who: &str) -> Value {
    let created = host.call("approve", json!({ "who": who }));
    assert_eq!(created["result"]["status"], "input_required", "{created}");
    let task = created["result"]["taskId"].as_str().unwrap();
    let asking = host.ask("tasks/get", json!({ "taskId": task }));
    let key = only_key(&asking["result"]["inputRequests"]);
    let responses = json!({ key: { "action": "accept", "content": {} } });
    let taken = host.ask("tasks/update", json!({ "taskId": task, "inputResponses": responses }));
    assert!(taken.get("error").is_none(), "{taken}");
    host.poll(task).unwrap()["result"]["structuredContent"].clone()
}

/// Calls `approve` and says yes whenever it is asked.
fn approved_on_the_way(host: &mut Host, who: &str) -> Value {
    let call = host.post_call("approve", json!({ "who": who }));
    say_yes(host, call)
}

/// Says yes to what is asked until this call has its response; its structured content.
fn say_yes(host: &mut Host, call: u64) -> Value {
    loop {
        let message = host.hear().unwrap();
        if message["method"] == "elicitation/create" {
            host.reply(&message, json!({ "action": "accept", "content": {} }));
        } else if message["id"] == call && message.get("method").is_none() {
            assert!(message.get("error").is_none(), "{message}");
            return message["result"]["structuredContent"].clone();
        } else {
            host.inbox.push_back(message);
        }
    }
}

fn only_key(requests: &Value) -> &String {
    requests.as_object().unwrap().keys().next().unwrap()
}

#[test]
fn of_ten_that_start_at_once_one_owns_the_runs() {
    let project = Project::new();
    let mut hosts: Vec<Host> = (0..10).map(|_| project.host(Era::Modern)).collect();
    project.open_gate();
    for round in 0..3 {
        let calls: Vec<u64> = hosts
            .iter_mut()
            .enumerate()
            .map(|(place, host)| host.post_call("job", json!({ "who": format!("{round}-{place}") })))
            .collect();
        let begun = Instant::now();
        for (host, call) in hosts.iter_mut().zip(calls) {
            let ended = host.response(call).unwrap();
            assert_eq!(ended["result"]["structuredContent"]["charges"], 1, "{ended}");
        }
        eprintln!("{} at once had their answers after {} ms", hosts.len(), begun.elapsed().as_millis());
        let owners: Vec<u32> =
            hosts.iter().map(Host::pid).filter(|pid| has_open(*pid, &project.scratch.database())).collect();
        assert_eq!(owners, [project.owner().unwrap()], "one has the database open, and says so");
        let place = hosts.iter().position(|host| host.pid() == owners[0]).unwrap();
        hosts.remove(place).kill();
    }
    assert_eq!(project.terminal(&["runs", "--json", "--limit", "100"]).len(), 10 + 9 + 8);
}

/// Whether a process has a file open.
fn has_open(pid: u32, file: &Path) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    open.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == file))
}

#[test]
fn another_version_is_told_to_keep_away() {
    let project = Project::new();
    let path = format!("{}.lock", project.scratch.database().display());
    let mut lock = File::create(&path).unwrap();
    lock.lock().unwrap();
    lock.write_all(br#"{ "pid": 7, "version": "99.0.0", "socket": "/nowhere" }"#).unwrap();
    for args in [&["run", "job.toml", "-i", "who=x", "--trust"][..], &["serve", ".", "--trust"], &["watch", "x"]] {
        let refused = project.command(args).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(70), "{args:?}: {said}");
        assert!(said.contains("process 7") && said.contains("99.0.0") && said.contains("this is"), "{args:?}: {said}");
        assert_eq!(refused.stdout, b"");
    }
    assert!(!project.scratch.database().exists(), "nothing was touched");
}
