//! Servers over stdio: good ones of both eras, and bad ones of all kinds.

use std::time::Duration;

use crate::support::*;
use antiphon_client::{CallContext, Client, Era, ErrorKind, Outcome, ServerConfig, State, Transport, What};
use serde_json::{Map, json};
use tokio::time::Instant;

#[tokio::test]
async fn a_modern_server() {
    let client = client("modern");
    assert!(matches!(client.state(), State::Idle));
    assert_eq!(echo(&client, "hello").await, "hello");
    assert!(matches!(client.state(), State::Ready(Era::Modern)));
    client.shutdown().await;
}

/// The methods that the server has heard in its greeting.
async fn greeting(client: &Client) -> String {
    let heard = call(client, "heard", json!({})).await.unwrap();
    let methods = text(&heard).split(' ').filter(|method| !["tools/call", "subscriptions/listen"].contains(method));
    methods.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_server_is_greeted_as_it_wanted_to_be_last_time() {
    for (mode, era, first, later) in [
        ("modern", Era::Modern, "server/discover", "server/discover"),
        (
            "legacy",
            Era::Legacy,
            "server/discover initialize notifications/initialized",
            "initialize notifications/initialized",
        ),
        (
            "ignores-discover",
            Era::Legacy,
            "server/discover initialize notifications/initialized",
            "initialize notifications/initialized",
        ),
        (
            "dies-on-discover",
            Era::Legacy,
            "initialize notifications/initialized",
            "initialize notifications/initialized",
        ),
    ] {
        let client = client(mode);
        assert_eq!(greeting(&client).await, first, "{mode}");
        assert!(matches!(client.state(), State::Ready(found) if found == era), "{mode}");
        let _ = call(&client, "die", json!({})).await.unwrap_err();
        assert_eq!(greeting(&client).await, later, "{mode}");
        client.shutdown().await;
    }
}

/// The same process that was asked first serves in the end: nothing was started anew.
#[tokio::test]
async fn a_slow_answer_to_discover_is_an_answer() {
    for (mode, era, heard) in [
        // Its time starts when it has read the question.
        ("loads", Era::Modern, "server/discover"),
        ("ponders", Era::Modern, "server/discover initialize"),
        ("discovers-last", Era::Modern, "server/discover initialize"),
        // It has agreed to the old protocol after all, and may be bound to it.
        ("ponders-and-agrees", Era::Legacy, "server/discover initialize notifications/initialized"),
    ] {
        let client = client(mode);
        assert_eq!(greeting(&client).await, heard, "{mode}");
        assert!(matches!(client.state(), State::Ready(found) if found == era), "{mode}: {:?}", client.state());
        client.tools(&CallContext::detached()).await.unwrap();
        client.shutdown().await;
    }
}

#[tokio::test]
async fn a_start_may_take_long_while_it_says_what_it_does() {
    let mut config = fixture("compiles");
    config.limits.start = Duration::from_millis(700);
    let client = Client::new(config.clone());
    assert_eq!(echo(&client, "built").await, "built");
    client.shutdown().await;

    config = fixture("compiles-forever");
    config.limits.longest_start = Duration::from_secs(1);
    let error = call(&Client::new(config), "echo", json!({})).await.unwrap_err().to_string();
    let account = "server `fixture` did not start: no answer to the handshake within 1s; its last words: Compiling";
    assert!(error.starts_with(account), "{error}");
}

#[tokio::test]
async fn a_server_may_finish_what_it_says_when_its_input_is_closed() {
    let account = std::env::temp_dir().join(format!("antiphon-farewell-{}", std::process::id()));
    let mut config = fixture("says-farewell");
    if let Transport::Stdio { env, .. } = &mut config.transport {
        env.push(("FAREWELL".into(), account.display().to_string().into()));
    }
    let client = Client::new(config);
    echo(&client, "hello").await;
    client.shutdown().await;
    let said = std::fs::read_to_string(&account).unwrap();
    std::fs::remove_file(&account).unwrap();
    assert_eq!(said, "all said");
}

#[tokio::test]
async fn one_process_serves_all_calls() {
    let client = client("modern");
    let first = call(&client, "pid", json!({})).await.unwrap();
    let calls = (0..50).map(|_| call(&client, "pid", json!({})));
    for outcome in futures::future::join_all(calls).await {
        assert_eq!(text(&outcome.unwrap()), text(&first));
    }
    client.shutdown().await;
}

#[tokio::test]
async fn callers_that_come_first_share_the_start() {
    let client = client("modern");
    let calls = (0..10).map(|_| call(&client, "pid", json!({})));
    let mut pids: Vec<String> =
        futures::future::join_all(calls).await.into_iter().map(|outcome| text(&outcome.unwrap()).to_owned()).collect();
    pids.dedup();
    assert_eq!(pids.len(), 1);
    client.shutdown().await;
}

#[tokio::test]
async fn the_catalogue_has_every_page_and_keeps_to_allow() {
    let mut config = fixture("modern");
    config.allow = Some(vec!["e*".into(), "look".into(), "silent".into()]);
    let client = Client::new(config);
    let catalogue = client.tools(&CallContext::detached()).await.unwrap();
    let names: Vec<_> = catalogue.tools().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["echo", "look", "silent"]);
    assert_eq!(catalogue.withheld(), ["put"]);
    let look = catalogue.get("look").unwrap();
    assert!(look.read_only() && !look.idempotent());
    assert_eq!(look.fingerprint.len(), 64);
    assert_ne!(look.fingerprint, catalogue.get("echo").unwrap().fingerprint);
    client.shutdown().await;
}

#[tokio::test]
async fn a_server_that_is_allowed_nothing_has_no_tools() {
    let client = Client::new(ServerConfig { allow: Some(Vec::new()), ..fixture("modern") });
    let catalogue = client.tools(&CallContext::detached()).await.unwrap();
    assert_eq!((catalogue.tools().count(), catalogue.withheld().len()), (0, 4));
    client.shutdown().await;
}

#[tokio::test]
async fn a_catalogue_follows_its_server() {
    for mode in ["modern", "legacy"] {
        let client = client(mode);
        let cx = CallContext::detached();
        assert!(client.tools(&cx).await.unwrap().get("grown").is_none());
        call(&client, "grow", json!({})).await.unwrap();
        while client.tools(&cx).await.unwrap().get("grown").is_none() {
            tokio::task::yield_now().await;
        }
        client.shutdown().await;
    }
}

#[tokio::test]
async fn a_catalogue_without_an_end_is_refused() {
    let error = client("endless").tools(&CallContext::detached()).await.unwrap_err();
    assert_eq!(error.to_string(), "server `fixture` answers `tools/list` with pages that lead back to each other");
}

#[tokio::test]
async fn resources_are_read() {
    let client = client("modern");
    let read =
        |uri: &str| antiphon_client::Call { what: What::Resource { uri: uri.into() }, meta: Map::new(), input: None };
    let note = client.call(read("test://note"), &CallContext::detached()).await.unwrap();
    assert_eq!(note, Outcome::Done(json!({ "contents": [{ "uri": "test://note", "text": "a note" }] })));
    let error = client.call(read("test://gone"), &CallContext::detached()).await.unwrap_err();
    assert_eq!(error.to_string(), "server `fixture` answered with error -32602: no such resource");
    client.shutdown().await;
}

#[tokio::test]
async fn meta_and_environment_arrive_and_our_own_environment_does_not() {
    let client = client("modern");
    let mut keyed = tool("meta", json!({}));
    keyed.meta.insert("antiphon/idempotency-key".into(), json!("k-1"));
    assert_eq!(text(&client.call(keyed, &CallContext::detached()).await.unwrap()), "\"k-1\"");
    let env = |name: &str| call(&client, "env", json!({ "name": name }));
    assert_eq!(text(&env("FIXTURE_TOKEN").await.unwrap()), "s3cr3t-t0ken");
    assert_ne!(text(&env("PATH").await.unwrap()), "unset");
    assert!(std::env::var("CARGO_MANIFEST_DIR").is_ok());
    assert_eq!(text(&env("CARGO_MANIFEST_DIR").await.unwrap()), "unset");
    client.shutdown().await;
}

#[tokio::test]
async fn an_error_of_the_server_is_certain() {
    let client = client("modern");
    let error = call(&client, "fails", json!({})).await.unwrap_err();
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Rpc, false));
    assert_eq!(error.to_string(), "server `fixture` answered with error -32050: the disk is on fire");
    client.shutdown().await;
}

#[tokio::test]
async fn a_server_that_exits_says_its_last_words() {
    let error = call(&client("exits"), "echo", json!({})).await.unwrap_err();
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Unavailable, false));
    assert_eq!(
        error.to_string(),
        "server `fixture` did not start: it exited with exit status: 1; its last words: config.toml: no such file"
    );
}

#[tokio::test]
async fn a_command_that_does_not_exist() {
    let mut config = fixture("modern");
    config.transport =
        Transport::Stdio { command: "no-such-command".into(), args: Vec::new(), env: Vec::new(), cwd: None };
    let error = call(&Client::new(config), "echo", json!({})).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "server `fixture` did not start: there is no command `no-such-command` on the PATH; is it installed?"
    );
}

#[tokio::test]
async fn a_server_that_refuses_the_handshake_is_quoted_in_short() {
    let error = call(&client("refuses"), "echo", json!({})).await.unwrap_err().to_string();
    assert!(
        error.starts_with("server `fixture` did not start: it answered the handshake with error -32603: not today"),
        "{error}"
    );
    assert!(error.len() < 2_100);
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let mut config = fixture("hangs");
    config.limits.start = Duration::from_secs(1);
    let error = call(&Client::new(config), "echo", json!({})).await.unwrap_err();
    assert_eq!(error.to_string(), "server `fixture` did not start: no answer to the handshake within 1s");
    assert!(!error.in_doubt);
}

#[tokio::test]
async fn a_server_that_only_spews_is_given_up() {
    let error = call(&client("spews"), "echo", json!({})).await.unwrap_err();
    assert!(error.to_string().contains("wrote 1000 lines to its standard output that are not MCP messages"), "{error}");
}

#[tokio::test]
async fn noise_on_stdout_disturbs_nobody() {
    let client = client("modern");
    assert_eq!(text(&call(&client, "chatty", json!({})).await.unwrap()), "done");
    client.shutdown().await;
}

#[tokio::test]
async fn unreadable_answers_fail_their_call_alone() {
    let mut config = fixture("modern");
    config.limits.message = 100_000;
    let client = Client::new(config);
    for (name, arguments, account) in [
        ("broken", json!({}), "answered with invalid JSON"),
        ("huge", json!({ "bytes": 300_000 }), "answered with a line of 300"),
        ("huge", json!({ "bytes": 300_000, "id_last": true }), "answered with a line of 300"),
        ("shapeless", json!({}), "gave a result that is not an object"),
        ("strange", json!({}), "gave a result of the unknown type `hologram`"),
    ] {
        let (error, other) =
            tokio::join!(call(&client, name, arguments), call(&client, "echo", json!({ "text": "x" })));
        let error = error.unwrap_err();
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::InvalidOutput, true), "{error}");
        assert!(error.to_string().contains(account), "{error}");
        assert_eq!(text(&other.unwrap()), "x");
    }
    client.shutdown().await;
}

#[tokio::test]
async fn a_result_up_to_the_limit_arrives_whole() {
    let client = client("modern");
    let outcome = call(&client, "huge", json!({ "bytes": 10_000_000 })).await.unwrap();
    assert_eq!(text(&outcome).len(), 10_000_000);
    client.shutdown().await;
}

#[tokio::test]
async fn silence_ends_a_call_and_the_server_is_told() {
    let mut config = fixture("modern");
    config.timeout = Duration::from_millis(300);
    let client = Client::new(config);
    let error = call(&client, "silent", json!({})).await.unwrap_err();
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Timeout, true));
    assert_eq!(error.to_string(), "server `fixture` did not answer within 300ms");
    until_cancelled(&client, 1).await;
    client.shutdown().await;
}

#[tokio::test]
async fn progress_keeps_a_call_alive() {
    let mut config = fixture("modern");
    config.timeout = Duration::from_millis(900);
    let client = Client::new(config);
    let (cx, seen) = watched();
    // Four pauses, longer in all than the silence that is allowed.
    let outcome = client.call(tool("steps", json!({ "ms": 400 })), &cx).await.unwrap();
    assert_eq!(text(&outcome), "arrived");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 3);
    assert_eq!((seen[2].progress, seen[2].total, seen[2].message.as_deref()), (3.0, Some(3.0), Some("step")));
}

#[tokio::test]
async fn a_deadline_holds_whatever_the_server_reports() {
    let client = client("modern");
    let cx = CallContext { deadline: Some(Instant::now() + Duration::from_millis(600)), ..CallContext::detached() };
    let error = client.call(tool("steps", json!({ "ms": 500 })), &cx).await.unwrap_err();
    assert_eq!(error.to_string(), "server `fixture` did not answer before the call's deadline");
    assert!(error.in_doubt);
    client.shutdown().await;
}

#[tokio::test]
async fn cancelling_and_dropping_both_reach_the_server() {
    let client = client("modern");
    echo(&client, "up").await;
    let cx = CallContext::detached();
    let cancel = cx.cancelled.clone();
    let (ended, ()) = tokio::join!(client.call(tool("silent", json!({})), &cx), async {
        // The call has been written when the server has answered one that was made after it.
        echo(&client, "after").await;
        cancel.cancel();
    });
    let error = ended.unwrap_err();
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Cancelled, true));
    until_cancelled(&client, 1).await;
    let dropped = CallContext::detached();
    tokio::select! {
        _ = client.call(tool("silent", json!({})), &dropped) => unreachable!(),
        _ = echo(&client, "meanwhile") => {}
    }
    until_cancelled(&client, 2).await;
    client.shutdown().await;
}

async fn until_cancelled(client: &Client, times: u32) {
    while text(&call(client, "cancelled", json!({})).await.unwrap()) != times.to_string() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_server_that_dies_leaves_its_calls_in_doubt_and_comes_back() {
    let client = client("modern");
    echo(&client, "up").await;
    let (dying, waiting) = tokio::join!(call(&client, "silent", json!({})), call(&client, "die", json!({})));
    for error in [dying.unwrap_err(), waiting.unwrap_err()] {
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::Unavailable, true));
        assert_eq!(
            error.to_string(),
            "server `fixture` exited with exit status: 3; its last words: panicked: out of cheese"
        );
    }
    assert_eq!(echo(&client, "back").await, "back");
    client.shutdown().await;
}

#[tokio::test]
async fn a_killed_server_comes_back() {
    let client = client("modern");
    let pid = text(&call(&client, "pid", json!({})).await.unwrap()).to_owned();
    assert!(std::process::Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    let mut fresh = call(&client, "pid", json!({})).await;
    while fresh.is_err() {
        fresh = call(&client, "pid", json!({})).await;
    }
    assert_ne!(text(&fresh.unwrap()), pid);
    client.shutdown().await;
}

#[tokio::test]
async fn shutting_down_does_not_wait_for_a_start() {
    let client = client("hangs");
    let cx = CallContext::detached();
    let (ended, ()) = tokio::join!(client.tools(&cx), async {
        while !matches!(client.state(), State::Starting) {
            tokio::task::yield_now().await;
        }
        client.shutdown().await;
    });
    assert_eq!(ended.unwrap_err().to_string(), "server `fixture` has been shut down");
}

#[tokio::test]
async fn shutting_down_ends_the_stubborn_and_their_children() {
    for mode in ["stubborn", "family"] {
        let client = client(mode);
        let pid: i32 = text(&call(&client, "pid", json!({})).await.unwrap()).parse().unwrap();
        client.shutdown().await;
        // A killed orphan is there until the system has taken note of its end.
        while std::process::Command::new("kill")
            .args(["-0", "--", &format!("-{pid}")])
            .output()
            .unwrap()
            .status
            .success()
        {
            tokio::task::yield_now().await;
        }
        let error = call(&client, "echo", json!({})).await.unwrap_err();
        assert_eq!(error.to_string(), "server `fixture` has been shut down");
    }
}
