//! Callers of `antiphon serve` who send what is no call, over stdio and HTTP, while another call is under way.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};

use antiphon_tests::{Era, Host, Scratch, Served, Url, call_params, text_of};
use serde_json::{Value, json};

use crate::{DONE, FAILED, GOOD, USAGE, calls_of, run, runs};

const INVALID_REQUEST: i64 = -32600;
const NO_METHOD: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;
const NO_JSON: i64 = -32700;

const COUNT: &str = r#"
[input]
name = { type = "string" }
[output]
length = "{{ input.name | length }}"
[steps.a]
set = 1
"#;

/// Under way until its file is there.
const HOLD: &str = r#"
[task]
mode = "never"
[input]
gate = { type = "string" }
[steps.a]
call = "good.gate"
with = { path = "{{ input.gate }}", value = "held" }
[output]
value = "{{ steps.a.output.value }}"
"#;

fn project() -> Scratch {
    let scratch = Scratch::new();
    scratch.file("antiphon.toml", GOOD);
    scratch.file("count.toml", COUNT);
    scratch.file("hold.toml", HOLD);
    scratch
}

/// Waits until the call that holds is with its server.
fn held(scratch: &Scratch) -> String {
    while calls_of(scratch, "gate") == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    scratch.path().join("gate").display().to_string()
}

fn call(params: Value) -> Vec<u8> {
    let params = call_params(params, &json!({}));
    json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params }).to_string().into_bytes()
}

/// What is sent, the id and the code of the error that answers it, and what that says.
fn refused() -> Vec<(Vec<u8>, Value, i64, &'static str)> {
    let request = |method: &str| {
        let params = call_params(json!({}), &json!({}));
        json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params }).to_string().into_bytes()
    };
    let long = "x".repeat(20_000_000);
    let too_long = "at most 4194304 are taken";
    vec![
        (b"junk".to_vec(), json!(null), NO_JSON, "not JSON"),
        (b"\xff\xfe".to_vec(), json!(null), NO_JSON, "not JSON"),
        (br#"{"jsonrpc":"2.0","id":7,"#.to_vec(), json!(null), NO_JSON, "not JSON"),
        (
            br#"{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":"\ud800"}}"#.to_vec(),
            json!(7),
            NO_JSON,
            "not JSON",
        ),
        (b"[]".to_vec(), json!(null), INVALID_REQUEST, "batches"),
        (b"42".to_vec(), json!(null), INVALID_REQUEST, "not a JSON-RPC request"),
        (br#"{"jsonrpc":"2.0","id":7,"method":1}"#.to_vec(), json!(7), INVALID_REQUEST, "not a JSON-RPC request"),
        (request("no/such"), json!(7), NO_METHOD, "no/such"),
        // What the command line may ask of the owner is not for hosts.
        (request("antiphon/runs"), json!(7), NO_METHOD, "antiphon/runs"),
        (call(json!({ "name": "count", "arguments": [1] })), json!(7), INVALID_PARAMS, "`arguments` an object"),
        (call(json!({ "name": 5 })), json!(7), INVALID_PARAMS, "`name` must be a string"),
        (call(json!({})), json!(7), INVALID_PARAMS, "`name` must be a string"),
        (call(json!({ "name": "no_such_tool" })), json!(7), INVALID_PARAMS, "no tool `no_such_tool`"),
        (call(json!({ "name": "count", "arguments": { "name": long } })), json!(7), INVALID_REQUEST, too_long),
        (long.into_bytes(), json!(null), INVALID_REQUEST, too_long),
    ]
}

/// Arguments that the model can mend: a result that says what is wrong.
fn unfit() -> [(Value, &'static str); 5] {
    [
        (json!({}), "\"name\" is a required property"),
        (json!(null), "\"name\" is a required property"),
        (json!({ "name": 1 }), "`/name`: 1 is not of type \"string\""),
        (json!({ "name": ["x"] }), "`/name`"),
        (json!({ "name": "x", "colour": 1 }), "'colour' was unexpected"),
    ]
}

/// A pipe to a server, without any manners.
struct Pipe {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Pipe {
    fn to(scratch: &Scratch) -> Self {
        let mut command = scratch.with_db(&["serve", ".", "--trust"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn say(&mut self, line: &[u8]) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(line).and_then(|()| stdin.write_all(b"\n")).unwrap();
    }

    fn hear(&mut self) -> Value {
        let line = self.lines.next().expect("the server is there").unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON on stdout: {line}"))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn over_stdio_everything_is_answered_and_the_pipe_goes_on() {
    let scratch = project();
    let mut pipe = Pipe::to(&scratch);
    let gate = scratch.path().join("gate").display().to_string();
    let mut hold: Value =
        serde_json::from_slice(&call(json!({ "name": "hold", "arguments": { "gate": gate } }))).unwrap();
    hold["id"] = json!("held");
    pipe.say(hold.to_string().as_bytes());
    let gate = held(&scratch);

    for (line, id, code, says) in refused() {
        pipe.say(&line);
        let answer = pipe.hear();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&id, &json!(code)), "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(says), "{says}: {answer}");
    }
    for (arguments, says) in unfit() {
        pipe.say(&call(json!({ "name": "count", "arguments": arguments })));
        let answer = pipe.hear();
        assert_eq!(answer["result"]["isError"], true, "{answer}");
        assert!(text_of(&answer["result"]).contains(says), "{says}: {answer}");
    }
    // Nobody waits for an answer to these.
    for line in [&b""[..], b"   ", br#"{"jsonrpc":"2.0","method":"notifications/no/such"}"#, br#"{"id":3,"result":{}}"#]
    {
        pipe.say(line);
    }
    pipe.say(&call(json!({ "name": "count", "arguments": { "name": "four" } })));
    assert_eq!(pipe.hear()["result"]["structuredContent"], json!({ "length": 4 }));

    fs::write(gate, "").unwrap();
    let answer = pipe.hear();
    assert_eq!((&answer["id"], &answer["result"]["structuredContent"]), (&json!("held"), &json!({ "value": "held" })));
    assert_eq!(runs(&scratch).len(), 2);
}

#[test]
fn over_http_everything_is_answered_and_the_server_goes_on() {
    let scratch = project();
    let served = Served::start(&mut scratch.with_db(&["serve", ".", "--trust"]));
    let url = Url::parse(&served.url);
    let mut host = Host::connect(&served.url, None, Era::Modern, json!({}));
    let gate = scratch.path().join("gate").display().to_string();
    let hold = host.post_call("hold", json!({ "gate": gate }));
    let gate = held(&scratch);

    let post = |body: &[u8]| {
        let message: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
        let mut headers = vec![("mcp-protocol-version", "2026-07-28")];
        headers.extend(text("/method").map(|method| ("mcp-method", method)));
        headers.extend(text("/params/name").map(|name| ("mcp-name", name)));
        let response = url.post_bytes(&headers, body).response().unwrap();
        let (status, text) = (response.status, response.text());
        (status, serde_json::from_str::<Value>(&text).unwrap_or_else(|_| panic!("{status}: {text}")))
    };
    for (body, id, code, says) in refused() {
        let (status, answer) = post(&body);
        assert_eq!(answer["error"]["code"], json!(code), "{status}: {answer}");
        // What is too long is not looked into.
        assert!(answer["id"] == id || status == 413, "{status}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(says), "{says}: {answer}");
    }
    for (arguments, says) in unfit() {
        let (status, answer) = post(&call(json!({ "name": "count", "arguments": arguments })));
        assert_eq!((status, &answer["result"]["isError"]), (200, &json!(true)), "{answer}");
        assert!(text_of(&answer["result"]).contains(says), "{says}: {answer}");
    }
    for headers in [&[("host", "evil.example")][..], &[("origin", "http://evil.example")]] {
        assert_eq!(url.post(headers, &json!({})).response().unwrap().status, 403, "{headers:?}");
    }
    assert_eq!(url.post(&[("content-type", "text/plain")], &json!({})).response().unwrap().status, 400);

    let answer = host.call("count", json!({ "name": "four" }));
    assert_eq!(answer["result"]["structuredContent"], json!({ "length": 4 }), "{answer}");
    fs::write(gate, "").unwrap();
    let answer = host.response(hold).unwrap();
    assert_eq!(answer["result"]["structuredContent"], json!({ "value": "held" }), "{answer}");
}

#[test]
fn a_call_on_the_command_line_says_what_it_does_not_find() {
    let scratch = project();
    for (args, code, says) in [
        (&["call", "nobody"][..], USAGE, &["there is no workflow `nobody`"][..]),
        (&["call", "nobody.echo"], USAGE, &["no server is named `nobody`"]),
        (&["call", "good.ecco", "--trust"], USAGE, &["`good` has no tool `ecco`", "echo"]),
        (&["call", "good.fail", "--input", "message=out of order"], FAILED, &["out of order"]),
        (&["call", "good.rpc_error", "--input", "message=no way"], FAILED, &["no way"]),
        (&["show", "abc"], USAGE, &["no run abc", "`antiphon runs`"]),
        (&["cancel", "abc"], USAGE, &["no run abc"]),
        (&["resume", "abc"], USAGE, &["no run abc"]),
    ] {
        run(&scratch, args).fails(code, says);
    }
    assert_eq!(run(&scratch, &["call", "good.echo", "--input", "a=1"]).code, DONE);
}
