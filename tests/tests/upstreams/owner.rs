//! The process that has passed a call on is killed, and the caller is on another.

use antiphon_tests::{Era, Host, Scratch, text_of};
use serde_json::json;

use crate::world::{ERAS, beside, eventually, good_is_well, host, logged, misbehaving};

/// A project, the host that owns its runs, and one that is attached to it.
fn owned(era: Era) -> (Scratch, Host, Host) {
    let scratch = beside(&misbehaving("garbage-on-stdout"));
    let mut owner = host(&scratch, era);
    good_is_well(&mut owner);
    let mut other = host(&scratch, era);
    good_is_well(&mut other);
    (scratch, owner, other)
}

#[test]
fn a_call_that_may_have_happened_is_said_to() {
    for era in ERAS {
        let (scratch, mut owner, mut other) = owned(era);
        let charge = other.post_call("good__charge", json!({ "id": "x", "ms": 60_000 }));
        eventually("the call begins", || logged(&scratch, "begin", "charge", None) == 1);
        owner.kill();
        let said = other.response(charge).unwrap();
        assert!(said["error"]["message"].as_str().unwrap().contains("charge"), "{era:?}: {said}");
        assert_eq!(said["error"]["data"]["inDoubt"], true, "{era:?}: {said}");
        assert_eq!(logged(&scratch, "begin", "charge", None), 1, "{era:?}");
        good_is_well(&mut other);
        assert_eq!(text_of(&other.call("bad__look", json!({}))["result"]), "done", "{era:?}");
    }
}

#[test]
fn a_call_that_only_reads_is_made_again() {
    for era in ERAS {
        let (scratch, mut owner, mut other) = owned(era);
        let gate = scratch.path().join("gate");
        let call = other.post_call("good__gate", json!({ "path": gate, "value": 7 }));
        eventually("the call begins", || logged(&scratch, "begin", "gate", None) == 1);
        owner.kill();
        eventually("it begins again", || logged(&scratch, "begin", "gate", None) == 2);
        scratch.file("gate", "");
        let said = other.response(call).unwrap();
        assert_eq!(said["result"]["structuredContent"], json!({ "value": 7 }), "{era:?}: {said}");
    }
}
