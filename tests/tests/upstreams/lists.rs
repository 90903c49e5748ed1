//! Servers that list much, without an end, or something else each time.

use antiphon_tests::text_of;
use serde_json::json;

use crate::world::{ERAS, beside, good_is_well, host, listen, misbehaving, tools};

#[test]
fn five_thousand_tools_are_listed_and_called() {
    for era in ERAS {
        let scratch = beside(&misbehaving("many-tools"));
        let mut host = host(&scratch, era);
        let listed = tools(&mut host);
        assert_eq!(listed.iter().filter(|name| name.starts_with("bad__tool_")).count(), 5_000);
        assert!(listed.contains("bad__look") && listed.contains("good__echo"));
        assert_eq!(text_of(&host.call("bad__tool_5000", json!({}))["result"]), "done");
        good_is_well(&mut host);
    }
}

#[test]
fn a_list_without_an_end_is_left_out() {
    let scratch = beside(&misbehaving("endless-tools"));
    let mut host = host(&scratch, ERAS[1]);
    let listed = tools(&mut host);
    assert!(listed.contains("good__echo") && !listed.contains("bad__tool_1"), "{listed:?}");
    // Who knows its name can call it.
    assert_eq!(text_of(&host.call("bad__look", json!({}))["result"]), "done");
    good_is_well(&mut host);
}

#[test]
fn a_tool_that_is_new_is_told_of_and_listed() {
    for era in ERAS {
        let scratch = beside(&misbehaving("grows"));
        let mut host = host(&scratch, era);
        listen(&mut host, era);
        for grown in 1..=2 {
            let new = format!("bad__tool_{grown}");
            assert!(!tools(&mut host).contains(&new), "{era:?}");
            assert_eq!(text_of(&host.call("bad__act", json!({}))["result"]), "grown");
            host.pushed("notifications/tools/list_changed");
            assert!(tools(&mut host).contains(&new), "{era:?}");
        }
    }
}
