//! Every rendering of a run, in both eras, over stdio and over HTTP: the scripted client against the real `antiphon serve`.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::thread::sleep;
use std::time::Duration;

use antiphon_tests::{Era, Host, Scratch, Served, Url, call_params, extension, text_of};
use serde_json::{Value, json};

const GREET: &str = r#"
[input]
who = { type = "string" }
[steps.hello]
call = "tools.echo"
with.text = "hello {{ input.who }}"
[output]
greeting = "{{ steps.hello.output.text }}"
"#;

const BROKEN: &str = r#"
[steps.boom]
call = "tools.fail"
with.message = "out of order"
"#;

/// Takes longer than its `inline_wait`, and fails when it is told to.
const SLOW: &str = r#"
[task]
inline_wait = "50ms"
[input]
fail = { type = "boolean", default = false }
[steps.rest]
call = "tools.sleep"
with = { ms = 600, value = "rested" }
expect = "not input.fail"
[output]
value = "{{ steps.rest.output.value }}"
"#;

const NAME: &str = r#"
[steps.pay]
call = "tools.charge"
with.id = "name"
[steps.who]
needs = ["pay"]
elicit = "Who are you?"
by = "anyone"
fields.name = { type = "string", minLength = 2 }
[output]
name = "{{ steps.who.output.name }}"
"#;

const APPROVE: &str = r#"
[steps.sure]
elicit = "Sure?"
[output]
action = "{{ steps.sure.action }}"
"#;

const SAMPLE: &str = r#"
[steps.color]
sample = "caller"
prompt = "Name a color"
"#;

const LONG: &str = r#"
[task]
inline_wait = "50ms"
[steps.rest]
wait = "1h"
"#;

const REPORTS: &str = r#"
[steps.work]
call = "tools.progress"
with = { steps = 4, every_ms = 120 }
"#;

/// The project, and how its callers reach it.
struct Door {
    scratch: Scratch,
    /// Over HTTP if there is an endpoint, else over stdio: the first host's server owns the runs, others attach.
    served: Option<Served>,
}

impl Door {
    fn serve(scratch: &Scratch) -> std::process::Command {
        scratch.with_db(&["serve", ".", "--trust"])
    }

    fn host(&self, era: Era, capabilities: Value) -> Host {
        match &self.served {
            Some(served) => Host::connect(&served.url, None, era, capabilities),
            None => Host::start(&mut Self::serve(&self.scratch), era, capabilities),
        }
    }

    /// What the command line says of the runs.
    fn runs(&self) -> Vec<Value> {
        let (code, out, err) = self.scratch.run_with_db(&["runs", "--json"]);
        assert_eq!(code, 0, "{err}");
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until the only run has this status.
    fn until(&self, status: &str) {
        for _ in 0..400 {
            if self.runs().iter().any(|run| run["status"] == status) {
                return;
            }
            sleep(Duration::from_millis(25));
        }
        panic!("no run is {status}: {:?}", self.runs());
    }
}

fn project() -> Scratch {
    let scratch = Scratch::with_tools();
    for (name, text) in [
        ("greet", GREET),
        ("broken", BROKEN),
        ("slow", SLOW),
        ("name", NAME),
        ("approve", APPROVE),
        ("sample", SAMPLE),
        ("long", LONG),
        ("reports", REPORTS),
    ] {
        scratch.file(&format!("{name}.toml"), text);
    }
    scratch
}

/// The same over stdio and over HTTP, each with a project of its own.
fn over_both(test: impl Fn(&Door)) {
    test(&Door { scratch: project(), served: None });
    let scratch = project();
    let served = Some(Served::start(&mut Door::serve(&scratch)));
    test(&Door { scratch, served });
}

fn tasks() -> Value {
    extension()
}

fn tasks_and_forms() -> Value {
    json!({ "extensions": extension()["extensions"], "elicitation": { "form": {} } })
}

fn forms() -> Value {
    json!({ "elicitation": { "form": {} } })
}

fn accept(content: Value) -> Value {
    json!({ "action": "accept", "content": content })
}

/// The only key of a map of requests.
fn only_key(requests: &Value) -> String {
    let keys: Vec<&String> = requests.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 1, "{requests}");
    keys[0].clone()
}

#[test]
fn what_ends_soon_is_answered_inline() {
    over_both(|door| {
        for (era, capabilities) in [(Era::Modern, tasks()), (Era::Modern, json!({})), (Era::Legacy, json!({}))] {
            let mut host = door.host(era, capabilities);
            let result = host.call("greet", json!({ "who": "world" }))["result"].clone();
            assert_eq!(result["structuredContent"], json!({ "greeting": "hello world" }), "{result}");
            assert_eq!(result["resultType"], if era == Era::Modern { json!("complete") } else { Value::Null });
            let failed = host.call("broken", json!({}))["result"].clone();
            assert_eq!(failed["isError"], true, "{failed}");
            assert!(text_of(&failed).contains("out of order"), "{failed}");
            let refused = host.call("greet", json!({ "who": 7 }))["result"].clone();
            assert_eq!(refused["isError"], true, "{refused}");
            assert!(text_of(&refused).contains("who"), "{refused}");
        }
    });
}

#[test]
fn a_task_is_polled_to_its_end() {
    over_both(|door| {
        let mut host = door.host(Era::Modern, tasks());
        let created = host.call("slow", json!({}))["result"].clone();
        assert_eq!((&created["resultType"], &created["status"]), (&json!("task"), &json!("working")), "{created}");
        assert!(created["pollIntervalMs"].is_u64() && created.get("ttlMs").is_some(), "{created}");
        let ended = host.poll(created["taskId"].as_str().unwrap()).unwrap();
        assert_eq!((&ended["resultType"], &ended["status"]), (&json!("complete"), &json!("completed")), "{ended}");
        assert_eq!(ended["result"]["structuredContent"], json!({ "value": "rested" }));

        let created = host.call("slow", json!({ "fail": true }))["result"].clone();
        let ended = host.poll(created["taskId"].as_str().unwrap()).unwrap();
        assert_eq!(ended["status"], "completed", "`failed` is for JSON-RPC errors: {ended}");
        assert_eq!(ended["result"]["isError"], true);
    });
}

#[test]
fn a_run_that_asks_is_a_task_at_once_and_is_answered() {
    over_both(|door| {
        let mut host = door.host(Era::Modern, tasks_and_forms());
        let created = host.call("name", json!({}))["result"].clone();
        assert_eq!((&created["resultType"], &created["status"]), (&json!("task"), &json!("input_required")));
        let id = created["taskId"].clone();
        let asking = host.ask("tasks/get", json!({ "taskId": id }))["result"].clone();
        let key = only_key(&asking["inputRequests"]);
        let request = &asking["inputRequests"][&key];
        assert_eq!(request["method"], "elicitation/create");
        assert_eq!(request["params"]["message"], "Who are you?");
        assert_eq!(request["params"]["requestedSchema"]["properties"]["name"]["minLength"], 2);

        let update = |name: &str| json!({ "taskId": id, "inputResponses": { &key: accept(json!({ "name": name })) } });
        let refused = host.ask("tasks/update", update("A"));
        assert_eq!(refused["error"]["code"], -32602, "{refused}");
        let unknown = json!({ "taskId": id, "inputResponses": { "nobody": accept(json!({})) } });
        assert!(host.ask("tasks/update", unknown).get("error").is_none(), "unknown keys are ignored");
        let taken = host.ask("tasks/update", update("Ada"));
        assert_eq!(taken["result"]["resultType"], "complete", "{taken}");
        let ended = host.poll(id.as_str().unwrap()).unwrap();
        assert_eq!(ended["result"]["structuredContent"], json!({ "name": "Ada" }));
        let again = host.ask("tasks/update", update("Eve"));
        assert!(again.get("error").is_none(), "a late answer is ignored: {again}");
        assert_eq!(host.poll(id.as_str().unwrap()).unwrap()["result"]["structuredContent"]["name"], "Ada");
    });
}

#[test]
fn a_task_is_cancelled() {
    over_both(|door| {
        let mut host = door.host(Era::Modern, tasks());
        for workflow in ["long", "approve"] {
            let id = host.call(workflow, json!({}))["result"]["taskId"].clone();
            let acknowledged = host.ask("tasks/cancel", json!({ "taskId": id }));
            assert_eq!(acknowledged["result"]["resultType"], "complete", "{acknowledged}");
            assert_eq!(host.poll(id.as_str().unwrap()).unwrap()["status"], "cancelled");
        }
    });
}

#[test]
fn a_modern_caller_without_tasks_answers_in_rounds() {
    over_both(|door| {
        let mut host = door.host(Era::Modern, forms());
        let asked = host.call("name", json!({}))["result"].clone();
        assert_eq!(asked["resultType"], "input_required", "{asked}");
        let (key, state) = (only_key(&asked["inputRequests"]), asked["requestState"].as_str().unwrap().to_owned());
        let retry = |state: &str, name: &str| {
            json!({
                "name": "name", "arguments": {}, "requestState": state,
                "inputResponses": { &key: accept(json!({ "name": name })) },
            })
        };

        let mut bytes = state.clone().into_bytes();
        let middle = bytes.len() / 2;
        bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
        let tampered = host.ask("tools/call", retry(std::str::from_utf8(&bytes).unwrap(), "Eve"));
        assert_eq!(tampered["error"]["code"], -32602, "{tampered}");
        let mut elsewhere = retry(&state, "Eve");
        elsewhere["name"] = json!("approve");
        assert_eq!(host.ask("tools/call", elsewhere)["error"]["code"], -32602, "a state is for its tool alone");

        let unfit = host.ask("tools/call", retry(&state, "A"))["result"].clone();
        assert_eq!(unfit["resultType"], "input_required", "{unfit}");
        let message = unfit["inputRequests"][&key]["params"]["message"].as_str().unwrap();
        assert!(message.contains("did not fit"), "{message}");

        for name in ["Ada", "Eve"] {
            let ended = host.ask("tools/call", retry(&state, name))["result"].clone();
            assert_eq!(ended["structuredContent"], json!({ "name": "Ada" }), "the first answer counts: {ended}");
        }
        assert_eq!(door.runs().len(), 1, "every round is the same run");
        assert_eq!(charges(door), 1);
    });
}

/// How often `charge` was called.
fn charges(door: &Door) -> usize {
    let calls = door.scratch.calls();
    calls.iter().filter(|call| call["event"] == "begin" && call["tool"] == "charge").count()
}

#[test]
fn the_callers_model_is_asked_in_both_eras() {
    let said = json!({
        "role": "assistant", "model": "m", "content": { "type": "text", "text": "teal" }, "stopReason": "endTurn",
    });
    over_both(|door| {
        let mut modern = door.host(Era::Modern, json!({ "sampling": {} }));
        let asked = modern.call("sample", json!({}))["result"].clone();
        let key = only_key(&asked["inputRequests"]);
        assert_eq!(asked["inputRequests"][&key]["method"], "sampling/createMessage", "{asked}");
        let retry = json!({ "name": "sample", "requestState": asked["requestState"], "inputResponses": { key: said } });
        let ended = modern.ask("tools/call", retry);
        assert_eq!(ended["result"]["structuredContent"]["color"], "teal", "{ended}");

        let mut legacy = door.host(Era::Legacy, json!({ "sampling": {} }));
        let call = legacy.post_call("sample", json!({}));
        let asked = legacy.pushed("sampling/createMessage");
        assert_eq!(asked["params"]["messages"][0]["content"]["text"], "Name a color", "{asked}");
        legacy.reply(&asked, said.clone());
        let ended = legacy.response(call).unwrap();
        assert_eq!(ended["result"]["structuredContent"]["color"], "teal", "{ended}");
    });
}

#[test]
fn a_capability_that_is_not_repeated_counts_for_nothing() {
    over_both(|door| {
        let mut host = door.host(Era::Modern, tasks());
        let created = host.call("slow", json!({}))["result"].clone();
        assert_eq!(created["resultType"], "task");
        let plain = |params: Value| call_params(params, &json!({}));
        let inline = host.ask("tools/call", plain(json!({ "name": "slow", "arguments": {} })))["result"].clone();
        assert_eq!(inline["resultType"], "complete", "{inline}");
        assert_eq!(inline["structuredContent"], json!({ "value": "rested" }));
        let refused = host.ask("tasks/get", plain(json!({ "taskId": created["taskId"] })));
        assert_eq!(refused["error"]["code"], -32021, "{refused}");
    });
}

#[test]
fn progress_is_reported_to_who_gave_a_token() {
    over_both(|door| {
        for era in [Era::Legacy, Era::Modern] {
            let mut host = door.host(era, json!({}));
            let mut params = json!({ "name": "reports", "arguments": {} });
            if era == Era::Modern {
                params = call_params(params, &json!({}));
            }
            params["_meta"]["progressToken"] = json!("mine");
            let ended = host.ask("tools/call", params);
            assert_eq!(ended["result"]["structuredContent"]["work"]["steps"], 4, "{ended}");
            let reports = host.inbox.iter().filter(|message| message["method"] == "notifications/progress");
            let reports: Vec<&Value> = reports.map(|message| &message["params"]).collect();
            assert!(reports.iter().all(|report| report["progressToken"] == "mine"), "{reports:?}");
            let of_tool =
                |report: &&&Value| report["message"].as_str().is_some_and(|text| text.contains("`work`: step"));
            assert!(reports.iter().filter(of_tool).count() >= 2, "{era:?}: {reports:?}");
            let numbers: Vec<f64> = reports.iter().filter_map(|report| report["progress"].as_f64()).collect();
            assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "each above the one before: {numbers:?}");
        }
    });
}

#[test]
fn a_legacy_caller_is_asked_on_the_way() {
    over_both(|door| {
        let mut host = door.host(Era::Legacy, json!({ "elicitation": {} }));
        let call = host.post_call("name", json!({}));
        for (name, again) in [("A", false), ("Ada", true)] {
            let asked = host.pushed("elicitation/create");
            let message = asked["params"]["message"].as_str().unwrap();
            assert!(message.starts_with("Who are you?") && message.contains("did not fit") == again, "{message}");
            host.reply(&asked, accept(json!({ "name": name })));
        }
        let ended = host.response(call).unwrap();
        assert_eq!(ended["result"]["structuredContent"], json!({ "name": "Ada" }), "{ended}");

        let call = host.post_call("approve", json!({}));
        let asked = host.pushed("elicitation/create");
        host.reply(&asked, json!({ "action": "decline" }));
        let ended = host.response(call).unwrap();
        assert_eq!(ended["result"]["structuredContent"], json!({ "action": "decline" }), "{ended}");
    });
}

#[test]
fn who_cannot_be_asked_gets_a_handle_and_tools_for_it() {
    over_both(|door| {
        for era in [Era::Legacy, Era::Modern] {
            let mut host = door.host(era, json!({}));
            let mut run = |tool: &str, arguments: Value| host.call(tool, arguments)["result"].clone();
            let handle = run("name", json!({}))["structuredContent"]["run"].clone();
            assert_eq!(handle["status"], "input_required", "{handle}");
            assert_eq!(handle["needs"][0]["answer_with"], "run_answer");
            let (id, key) = (&handle["id"], &handle["needs"][0]["key"]);
            let unfit = run("run_answer", json!({ "run_id": id, "key": key, "content": { "name": "A" } }));
            assert_eq!(unfit["isError"], true, "{unfit}");
            let answered = run("run_answer", json!({ "run_id": id, "key": key, "content": { "name": "Ada" } }));
            assert_ne!(answered["isError"], true, "{answered}");
            let ended =
                run("run_status", json!({ "run_id": id, "wait_seconds": 10 }))["structuredContent"]["run"].clone();
            assert_eq!((&ended["status"], &ended["output"]["name"]), (&json!("succeeded"), &json!("Ada")), "{ended}");

            let started = run("run_start", json!({ "workflow": "long" }))["structuredContent"]["run"].clone();
            assert_eq!(started["status"], "working", "{started}");
            run("run_cancel", json!({ "run_id": started["id"], "reason": "enough" }));
            let status = json!({ "run_id": started["id"], "wait_seconds": 10 });
            assert_eq!(run("run_status", status)["structuredContent"]["run"]["status"], "cancelled");
        }
    });
}

#[test]
fn no_model_answers_for_a_person() {
    over_both(|door| {
        let mut host = door.host(Era::Legacy, json!({}));
        let handle = host.call("approve", json!({}))["result"]["structuredContent"]["run"].clone();
        let id = handle["id"].as_str().unwrap();
        let how = handle["needs"][0]["answer_with"].as_str().unwrap();
        assert!(how.contains(&format!("antiphon answer {id}")), "{how}");
        let key = &handle["needs"][0]["key"];
        let refused = host.call("run_answer", json!({ "run_id": id, "key": key, "content": {} }))["result"].clone();
        assert_eq!(refused["isError"], true, "{refused}");

        let (code, _, err) = door.scratch.run_with_db(&["answer", id, "--accept"]);
        assert_eq!(code, 0, "a person can: {err}");
        let status = host.call("run_status", json!({ "run_id": id, "wait_seconds": 10 }))["result"].clone();
        assert_eq!(status["structuredContent"]["run"]["output"], json!({ "action": "accept" }), "{status}");
    });
}

#[test]
fn who_leaves_before_having_a_handle_cancels() {
    over_both(|door| {
        let mut host = door.host(Era::Modern, json!({}));
        let call = host.post_call("long", json!({}));
        door.until("working");
        host.give_up(call);
        door.until("cancelled");
    });
}

#[test]
fn an_unknown_tool_is_a_wrong_parameter() {
    over_both(|door| {
        for era in [Era::Legacy, Era::Modern] {
            let mut host = door.host(era, json!({}));
            let refused = host.call("nobody", json!({}));
            assert_eq!(refused["error"]["code"], -32602, "{refused}");
            assert!(refused["error"]["message"].as_str().unwrap().contains("nobody"), "{refused}");
        }
        let mut modern = door.host(Era::Modern, tasks());
        assert_eq!(modern.ask("tasks/get", json!({ "taskId": "nobody" }))["error"]["code"], -32602);
    });
}

#[test]
fn the_same_key_is_the_same_run() {
    over_both(|door| {
        for era in [Era::Legacy, Era::Modern] {
            let before = charges(door);
            let mut host = door.host(era, json!({}));
            let keyed = |workflow: &str, arguments: Value| {
                let mut params = json!({ "name": workflow, "arguments": arguments });
                if era == Era::Modern {
                    params = call_params(params, &json!({}));
                }
                params["_meta"]["antiphon/idempotency-key"] = json!(format!("{era:?}"));
                params
            };
            let first = host.ask("tools/call", keyed("name", json!({})))["result"]["structuredContent"]["run"].clone();
            let second = host.ask("tools/call", keyed("name", json!({})))["result"]["structuredContent"]["run"].clone();
            assert!(first["id"].is_string());
            assert_eq!(first, second);
            assert_eq!(charges(door), before + 1);

            host.ask("tools/call", keyed("greet", json!({ "who": "a" })));
            let reused = host.ask("tools/call", keyed("greet", json!({ "who": "b" })));
            assert!(reused.to_string().contains("idempotency"), "other arguments are another call: {reused}");
        }
    });
}

#[test]
fn a_discovery_may_come_before_the_handshake() {
    let door = Door { scratch: project(), served: None };
    let mut host = door.host(Era::Modern, forms());
    let discovered = host.ask("server/discover", json!({}));
    let versions = discovered["result"]["supportedVersions"].as_array().unwrap();
    assert!(versions.contains(&json!("2026-07-28")) && versions.contains(&json!("2025-11-25")), "{discovered}");
    host.initialize();
    let call = host.post_call("approve", json!({}));
    let asked = host.pushed("elicitation/create");
    host.reply(&asked, accept(json!({})));
    assert_eq!(host.response(call).unwrap()["result"]["structuredContent"], json!({ "action": "accept" }));
}

#[test]
fn a_token_is_an_owner() {
    let scratch = project();
    let mut command = Door::serve(&scratch);
    command.args(["--token", "ann=ANN", "--token", "eve=EVE"]).env("ANN", "s3cret").env("EVE", "other");
    let served = Served::start(&mut command);
    let mut ann = Host::connect(&served.url, Some("s3cret"), Era::Modern, tasks_and_forms());
    let mut eve = Host::connect(&served.url, Some("other"), Era::Modern, tasks_and_forms());
    let id = ann.call("name", json!({}))["result"]["taskId"].clone();
    let responses = json!({ "who#1": accept(json!({ "name": "Eve" })) });
    for (method, params) in [
        ("tasks/get", json!({ "taskId": id })),
        ("tasks/update", json!({ "taskId": id, "inputResponses": responses })),
        ("tasks/cancel", json!({ "taskId": id })),
    ] {
        let refused = eve.ask(method, params);
        assert_eq!(refused["error"]["code"], -32602, "{refused}");
    }
    assert_eq!(eve.call("run_status", json!({ "run_id": id }))["result"]["isError"], true);
    assert_eq!(ann.ask("tasks/get", json!({ "taskId": id }))["result"]["status"], "input_required");

    let (_, runs, _) = scratch.run_with_db(&["runs", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(runs.trim()).unwrap()["owner"], "token:ann", "the terminal sees all");

    let url = Url::parse(&served.url);
    let list =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": call_params(json!({}), &json!({})) });
    for authorization in [None, Some("Bearer wrong"), Some("Basic s3cret")] {
        let headers: Vec<_> = authorization.map(|value| ("authorization", value)).into_iter().collect();
        let response = url.post(&headers, &list).response().unwrap();
        assert_eq!(response.status, 401, "{authorization:?}");
        assert_eq!(response.header("www-authenticate"), Some("Bearer"));
    }
}

#[test]
fn foreign_pages_and_names_are_refused() {
    let scratch = project();
    let served = Served::start(&mut Door::serve(&scratch));
    let url = Url::parse(&served.url);
    let list =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": call_params(json!({}), &json!({})) });
    for (expected, header) in [
        (403, ("origin", "https://evil.example")),
        (403, ("origin", "null")),
        (403, ("host", "evil.example")),
        (200, ("origin", "http://localhost:3000")),
    ] {
        let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/list"), header];
        let response = url.post(&headers, &list).response().unwrap();
        assert_eq!(response.status, expected, "{header:?}");
    }
}
