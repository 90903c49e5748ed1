//! Servers that do not answer.

use std::time::{Duration, Instant};

use antiphon_tests::Scratch;
use serde_json::json;

use crate::world::{ERAS, beside, blames_bad, good_is_well, host, misbehaving, tools};

#[test]
fn a_call_that_hangs_ends_with_the_servers_timeout_and_holds_up_no_other() {
    for era in ERAS {
        let scratch = beside(&(misbehaving("hang-on-call") + "timeout = \"2s\"\n"));
        let mut host = host(&scratch, era);
        let hanging = host.post_call("bad__look", json!({}));
        good_is_well(&mut host);
        assert!(host.inbox.iter().all(|message| message["id"] != hanging), "{:?}", host.inbox);
        let why = blames_bad(&host.response(hanging).unwrap());
        assert!(why.contains("2s"), "{why}");
    }
}

#[test]
fn one_that_hangs_holds_up_lists_once() {
    let scratch = Scratch::new();
    let server = |name: &str, mode: &str| format!("[servers.{name}]\n{}timeout = \"2s\"\n", misbehaving(mode));
    scratch.file(
        "antiphon.toml",
        &format!(
            "[servers.good]\ncommand = \"${{FIXTURE}}\"\nargs = [\"--log\", \"${{LOG}}\"]\n{}{}[serve]\nexpose = [\"*.*\"]\n",
            server("bad", "hang-at-start"),
            server("worse", "hang-on-list"),
        ),
    );
    let mut host = host(&scratch, ERAS[0]);
    let first = tools(&mut host);
    assert!(first.contains("good__echo") && !first.contains("bad__look"), "{first:?}");
    // Both are waited for still, but not by those who ask now.
    let begun = Instant::now();
    for _ in 0..5 {
        assert_eq!(tools(&mut host), first);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    blames_bad(&host.call("bad__look", json!({})));
    good_is_well(&mut host);
}
