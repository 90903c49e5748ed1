//! Servers that misbehave, each used by one step while another step uses a good server.

use std::net::TcpListener;

use antiphon_tests::{Era, Host, Scratch, extension};
use serde_json::{Value, json};

use crate::{DONE, GOOD, IN_DOUBT, calls_of, only_run, run, web};

/// What becomes of a call.
enum Call {
    /// It succeeds.
    Succeeds,
    /// It fails with this kind of error, and its message says this.
    Fails(&'static str, &'static [&'static str]),
}

use Call::{Fails, Succeeds};

/// A step on the bad server, one on the good one, and what became of both. `more` goes to the bad server's step.
fn workflow(tool: &str, more: &str) -> String {
    format!(
        "[steps.bad]\ncall = \"bad.{tool}\"\non_error = \"continue\"\n{more}\n\
         [steps.good]\ncall = \"good.charge\"\nwith.id = \"{tool}\"\n\
         [output]\ncharges = \"{{{{ steps.good.output.charges }}}}\"\nstatus = \"{{{{ steps.bad.status }}}}\"\n\
         kind = \"{{{{ steps.bad.error.kind | default(none) }}}}\"\n\
         message = \"{{{{ steps.bad.error.message | default('') }}}}\"\n"
    )
}

fn project(bad: &str, more: &str) -> Scratch {
    let scratch = Scratch::new();
    scratch.file("antiphon.toml", &format!("{GOOD}[servers.bad]\n{bad}\n"));
    scratch.file("look.toml", &workflow("look", more));
    scratch.file("act.toml", &workflow("act", more));
    scratch
}

#[track_caller]
fn check(call: &Call, output: &Value) {
    assert_eq!(output["charges"], 1, "the good server was called, once: {output}");
    match call {
        Succeeds => assert_eq!(output["status"], "succeeded", "{output}"),
        Fails(kind, says) => {
            assert_eq!((&output["status"], &output["kind"]), (&json!("failed"), &json!(kind)), "{output}");
            for part in *says {
                assert!(output["message"].as_str().unwrap().contains(part), "{part}: {output}");
            }
        }
    }
}

/// A call that may be repeated fails, and its run goes on; one that must not be is in doubt if it was `sent`, and a person
/// decides.
#[track_caller]
fn misbehaves(bad: &str, more: &str, call: &Call, sent: bool) {
    let scratch = project(bad, more);
    check(call, &run(&scratch, &["run", "look.toml", "--trust"]).succeeds());

    let scratch = project(bad, more);
    let seen = run(&scratch, &["run", "act.toml", "--trust"]);
    match call {
        Fails(_, says) if sent => {
            let mut expected = vec!["`bad`: The call of `bad.act` by step `bad` may have happened"];
            expected.extend(*says);
            let seen = seen.fails(IN_DOUBT, &expected);
            let id = only_run(&scratch);
            assert!(seen.err.contains(&format!("antiphon answer {} --retry | --skip", &id[..8])), "{}", seen.err);
            // Nothing of the other step is lost, and none of it is done again.
            let output = run(&scratch, &["answer", &id, "--skip"]).succeeds();
            assert_eq!((&output["charges"], &output["status"]), (&json!(1), &json!("skipped")));
        }
        _ => check(call, &seen.succeeds()),
    }
    assert_eq!(calls_of(&scratch, "charge"), 1);
    only_run(&scratch);
}

fn program(mode: &str) -> String {
    format!("command = \"${{MISBEHAVING}}\"\nargs = [\"{mode}\"]")
}

#[test]
fn one_that_exits_at_its_start() {
    let says = &["`bad` did not start", "exit status: 3", "the config file is missing"];
    misbehaves(&program("exit-at-start"), "retry = { attempts = 1 }", &Fails("unavailable", says), false);
}

#[test]
fn one_that_hangs_at_its_start() {
    let says = &["`bad` was not connected before the call's deadline"];
    misbehaves(&program("hang-at-start"), "timeout = \"1s\"", &Fails("timeout", says), false);
}

#[test]
fn one_that_starts_slowly() {
    misbehaves(&program("slow-start"), "", &Succeeds, false);
}

#[test]
fn one_that_exits_when_called() {
    let call = Fails("unavailable", &["`bad` exited with exit status: 4"]);
    misbehaves(&program("exit-on-call"), "retry = { attempts = 1 }", &call, true);
}

#[test]
fn one_that_hangs_when_called() {
    let bad = program("hang-on-call") + "\ntimeout = \"2s\"";
    misbehaves(&bad, "", &Fails("timeout", &["`bad` did not answer within 2s"]), true);
}

#[test]
fn one_that_writes_garbage_between_its_messages() {
    misbehaves(&program("garbage-on-stdout"), "", &Succeeds, false);
}

#[test]
fn one_that_answers_with_half_a_line_of_json() {
    misbehaves(
        &program("invalid-json-result"),
        "",
        &Fails("invalid_output", &["`bad` answered with invalid JSON"]),
        true,
    );
}

#[test]
fn one_whose_result_is_none() {
    misbehaves(&program("wrong-shape"), "", &Fails("invalid_output", &["gave a result that is not an object"]), true);
}

#[test]
fn one_that_answers_with_fifty_megabytes() {
    let says = &["`bad` answered with a line of 52", "where 16777216 are allowed"];
    misbehaves(&program("huge-result"), "", &Fails("invalid_output", says), true);
}

#[test]
fn one_that_is_no_program() {
    let says = &["`bad` did not start", "there is no command `no-such-server`"];
    let more = "retry = { attempts = 1 }";
    misbehaves("command = \"no-such-server\"", more, &Fails("unavailable", says), false);
    // It runs, but does not speak MCP.
    let echo = "command = \"echo\"\nargs = [\"hello\"]";
    misbehaves(echo, more, &Fails("unavailable", &["`bad` did not start", "exit status: 0"]), false);
}

#[test]
fn one_that_is_not_there() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let says = &["`bad`", "can't be reached", "refused"];
    let url = format!("url = \"http://127.0.0.1:{port}/mcp\"");
    misbehaves(&url, "retry = { attempts = 1 }", &Fails("unavailable", says), false);
}

#[test]
fn ones_that_are_no_mcp_servers() {
    let more = "retry = { attempts = 1 }";
    let unreadable = || Fails("invalid_output", &["`bad`", "can't be read"]);
    for (status, kind, body, call) in [
        ("500 Internal Server Error", "text/plain", "out of order", Fails("unavailable", &["`bad`", "HTTP 500"])),
        ("404 Not Found", "text/plain", "nothing here", Fails("unavailable", &["`bad`", "404"])),
        ("401 Unauthorized", "text/plain", "who are you?", Fails("denied", &["`bad`", "401", "`headers`"])),
        ("200 OK", "text/html", "<h1>Welcome</h1>", unreadable()),
        ("200 OK", "application/json", "{", unreadable()),
    ] {
        let address = web(move |_| (status, kind, body.to_owned()));
        misbehaves(&format!("url = \"http://{address}/mcp\""), more, &call, false);
    }
}

/// All of them in one process, all at the same time.
#[test]
fn bad_servers_and_a_good_one_side_by_side() {
    let modes = ["exit-at-start", "hang-at-start", "exit-on-call", "hang-on-call", "wrong-shape", "huge-result"];
    let scratch = Scratch::new();
    let mut servers = GOOD.to_owned();
    for mode in modes {
        servers.push_str(&format!("[servers.{mode}]\n{}\n", program(mode)));
        scratch
            .file(&format!("use_{mode}.toml"), &format!("name = \"{mode}_flow\"\n[steps.a]\ncall = \"{mode}.act\"\n"));
    }
    scratch.file("antiphon.toml", &servers);
    scratch.file("fine.toml", "[steps.a]\ncall = \"good.charge\"\nwith.id = \"fine\"\n");
    let mut host = Host::start(&mut scratch.with_db(&["serve", ".", "--trust"]), Era::Modern, extension());
    let bad = modes.map(|mode| host.post_call(&format!("{mode}_flow"), json!({})));
    for _ in 0..10 {
        let answer = host.call("fine", json!({}));
        assert_eq!(answer["result"]["structuredContent"]["a"]["id"], "fine", "{answer}");
    }
    // A handle, a question, a failed run: whatever it is, it is an answer.
    for id in bad {
        let answer = host.response(id).unwrap();
        assert!(answer["result"].is_object(), "{answer}");
    }
    assert_eq!(calls_of(&scratch, "charge"), 10);
}

#[test]
fn a_bad_server_leaves_the_catalogue_of_others_intact() {
    let scratch = project(&program("exit-at-start"), "");
    let seen = run(&scratch, &["tools", "--trust"]);
    assert_eq!(seen.code, DONE, "{}", seen.err);
    assert!(seen.out.contains("good.charge") && !seen.out.contains("bad."), "{}", seen.out);
    assert!(seen.err.contains("not listed: bad: server `bad` did not start"), "{}", seen.err);
}
