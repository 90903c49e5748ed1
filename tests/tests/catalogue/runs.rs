//! Runs as resources.

use std::path::{Path, PathBuf};

use antiphon_tests::{Era, Host, Scratch, Served};
use serde_json::{Value, json};

use crate::{EVERYWHERE, listed, listen, project, seat, stdio};

const LIST: &str = "antiphon://runs";

/// A project whose workflow `slow` waits for a file, and the file: it is not there yet.
fn gated() -> (Scratch, PathBuf) {
    let scratch = project("");
    let gate = scratch.path().join("open");
    scratch.file("slow.toml", &flow(&gate));
    (scratch, gate)
}

/// Waits for a file, then asks nobody, then says so.
fn flow(gate: &Path) -> String {
    format!(
        "[input]\nword = {{ type = \"string\", default = \"hello\" }}\n\
         [steps.wait]\ncall = \"tools.gate\"\nwith.path = {gate:?}\nwith.value = 1\n\
         [steps.block]\nneeds = [\"wait\"]\n[steps.block.do.say]\ncall = \"tools.echo\"\nwith.word = \"{{{{ input.word }}}}\"\n\
         [steps.never]\nneeds = [\"block\"]\nwhen = \"false\"\nset = 1\n\
         [output]\nword = \"{{{{ steps.block.output.say.word }}}}\"\n"
    )
}

fn start(host: &mut Host) -> String {
    let started = host.call("run_start", json!({ "workflow": "slow", "input": {} }));
    started["result"]["structuredContent"]["run"]["id"].as_str().unwrap_or_else(|| panic!("{started}")).to_owned()
}

fn read(host: &mut Host, uri: &str) -> Result<(String, String), Value> {
    let answer = host.ask("resources/read", json!({ "uri": uri }));
    if answer.get("error").is_some() {
        return Err(answer["error"].clone());
    }
    let contents = &answer["result"]["contents"][0];
    assert_eq!(contents["uri"], uri);
    let text = |key: &str| contents[key].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
    Ok((text("mimeType"), text("text")))
}

fn read_json(host: &mut Host, uri: &str) -> Value {
    let (mime, text) = read(host, uri).unwrap();
    assert_eq!(mime, "application/json");
    serde_json::from_str(&text).unwrap()
}

/// The next notification of this URI.
fn updated(host: &mut Host, uri: &str) {
    loop {
        let told = host.pushed("notifications/resources/updated");
        if told["params"]["uri"] == uri {
            return;
        }
    }
}

#[test]
fn a_run_is_listed_read_and_watched() {
    for (wire, era) in EVERYWHERE {
        let (scratch, gate) = gated();
        let host = &mut seat(&scratch, wire, era).host;
        listen(host, era, json!({ "resourcesListChanged": true, "resourceSubscriptions": [LIST] }));
        if era == Era::Legacy {
            host.ask("resources/subscribe", json!({ "uri": LIST }));
        }
        assert_eq!(listed(host, "resources/list", "resources").len(), 1);

        let id = start(host);
        host.pushed("notifications/resources/list_changed");
        updated(host, LIST);
        let uri = format!("{LIST}/{id}");
        let resources = listed(host, "resources/list", "resources");
        assert_eq!(resources.iter().map(|one| one["uri"].as_str().unwrap()).collect::<Vec<_>>(), [LIST, &uri]);
        assert_eq!(resources[1]["title"], "slow: working");

        assert_eq!(read_json(host, LIST)["runs"][0]["uri"], uri, "{wire:?} {era:?}");
        assert_eq!(read_json(host, &uri)["status"], "working");
        let (mime, drawn) = read(host, &format!("{uri}/graph")).unwrap();
        assert_eq!(mime, "text/vnd.mermaid");
        assert!(drawn.starts_with("flowchart TD\n") && drawn.contains("tools.gate<br/>running"), "{drawn}");
        assert!(drawn.contains("subgraph") && drawn.contains("never<br/>set<br/>pending"), "{drawn}");
        let no_output = read(host, &format!("{uri}/output")).unwrap_err();
        assert!(no_output["message"].as_str().unwrap().contains("working"), "{no_output}");

        let (state, output) = (uri.clone(), format!("{uri}/output"));
        if era == Era::Legacy {
            host.ask("resources/subscribe", json!({ "uri": state }));
            host.ask("resources/subscribe", json!({ "uri": output }));
        } else {
            listen(host, era, json!({ "resourceSubscriptions": [state, output] }));
        }
        std::fs::write(&gate, "").unwrap();
        updated(host, &output);
        while read_json(host, &uri)["status"] != "succeeded" {
            updated(host, &uri);
        }
        assert_eq!(read_json(host, &output), json!({ "word": "hello" }));
        let (_, drawn) = read(host, &format!("{uri}/graph")).unwrap();
        assert!(drawn.contains("tools.gate<br/>succeeded") && drawn.contains("tools.echo<br/>succeeded"), "{drawn}");
        assert!(drawn.contains("never<br/>set<br/>skipped") && drawn.contains("classDef succeeded"), "{drawn}");
        let timeline = read_json(host, &format!("{uri}/timeline"));
        assert_eq!(timeline["events"][0]["event"], "started");
        let called = |what: &str, of: &str| {
            let told = timeline["events"].as_array().unwrap();
            told.iter().any(|one| one["event"] == what && one["of"].as_str().is_some_and(|path| path.contains(of)))
        };
        assert!(called("called", "wait") && called("done", "block/say"), "{timeline}");
        assert!(timeline["steps"].as_array().unwrap().iter().any(|step| step["path"] == "wait" && step["ms"].is_u64()));
    }
}

#[test]
fn ids_are_completed_and_templates_say_what_there_is() {
    let (scratch, gate) = gated();
    std::fs::write(&gate, "").unwrap();
    let mut host = stdio(&scratch, Era::Modern);
    let id = start(&mut host);
    let templates = listed(&mut host, "resources/templates/list", "resourceTemplates");
    let templates: Vec<&str> = templates.iter().map(|one| one["uriTemplate"].as_str().unwrap()).collect();
    assert_eq!(
        templates,
        [
            "antiphon://runs{?cursor}",
            "antiphon://runs/{id}",
            "antiphon://runs/{id}/timeline",
            "antiphon://runs/{id}/output",
            "antiphon://runs/{id}/graph",
        ]
    );
    let mut complete = |begun: &str| {
        let reference = json!({ "type": "ref/resource", "uri": templates[4] });
        let params = json!({ "ref": reference, "argument": { "name": "id", "value": begun } });
        host.ask("completion/complete", params)["result"]["completion"]["values"].clone()
    };
    assert_eq!(complete(&id[..6]), json!([id]));
    assert_eq!(complete("nothing"), json!([]));
    assert_eq!(complete(""), json!([id]));
}

#[test]
fn nobody_sees_the_runs_of_others() {
    let (scratch, gate) = gated();
    let mut command = scratch.with_db(&["serve", ".", "--trust", "--token", "ann=ANN", "--token", "bob=BOB"]);
    let served = Served::start(command.env("ANN", "ann's secret").env("BOB", "bob's secret"));
    for era in [Era::Modern, Era::Legacy] {
        let connect = |secret: &str| Host::connect(&served.url, Some(secret), era, json!({}));
        let (mut ann, mut bob) = (connect("ann's secret"), connect("bob's secret"));
        let id = start(&mut ann);
        let uri = format!("{LIST}/{id}");
        assert_eq!(listed(&mut bob, "resources/list", "resources").len(), 1, "the list itself");
        assert_eq!(read_json(&mut bob, LIST)["runs"], json!([]));
        for tail in ["", "/timeline", "/output", "/graph"] {
            let foreign = read(&mut bob, &format!("{uri}{tail}")).unwrap_err();
            let missing = read(&mut bob, &format!("{LIST}/00000000-0000-4000-8000-000000000000{tail}")).unwrap_err();
            assert_eq!(foreign["code"], missing["code"], "as if there were none: {foreign}");
        }
        let reference = json!({ "type": "ref/resource", "uri": "antiphon://runs/{id}" });
        let params = json!({ "ref": reference, "argument": { "name": "id", "value": "" } });
        assert_eq!(bob.ask("completion/complete", params)["result"]["completion"]["values"], json!([]));
        if era == Era::Legacy {
            let refused = bob.ask("resources/subscribe", json!({ "uri": uri }));
            assert!(refused["error"]["code"].is_i64(), "{refused}");
        }
        assert_eq!(read_json(&mut ann, &uri)["id"], id);
    }
    // What happens to Ann's runs is not told to Bob.
    let mut bob = Host::connect(&served.url, Some("bob's secret"), Era::Modern, json!({}));
    let mut ann = Host::connect(&served.url, Some("ann's secret"), Era::Modern, json!({}));
    let anns = format!("{LIST}/{}", start(&mut ann));
    listen(&mut bob, Era::Modern, json!({ "resourcesListChanged": true, "resourceSubscriptions": [anns, LIST] }));
    listen(&mut ann, Era::Modern, json!({ "resourceSubscriptions": [anns] }));
    std::fs::write(&gate, "").unwrap();
    updated(&mut ann, &anns);
    let bobs = start(&mut bob);
    // The first that he hears of is his own.
    let told = bob.pushed("notifications/resources/updated");
    assert_eq!(told["params"]["uri"], LIST, "{told}");
    assert!(bob.inbox.iter().all(|message| message["params"]["uri"] != anns), "{:?}", bob.inbox);
    assert_eq!(read_json(&mut bob, LIST)["runs"][0]["id"], bobs);
}

#[test]
fn who_has_no_name_has_no_list() {
    let (scratch, gate) = gated();
    std::fs::write(&gate, "").unwrap();
    let served = Served::start(&mut scratch.with_db(&["serve", ".", "--trust"]));
    let mut host = Host::connect(&served.url, None, Era::Modern, json!({}));
    let id = start(&mut host);
    assert_eq!(read_json(&mut host, LIST)["runs"], json!([]));
    assert_eq!(read_json(&mut host, &format!("{LIST}/{id}"))["id"], id);
}

#[test]
fn many_runs_come_by_pages() {
    let scratch = project("");
    scratch.file("quick.toml", "[steps.one]\nset = 1\n");
    let mut host = stdio(&scratch, Era::Modern);
    for _ in 0..260 {
        host.call("quick", json!({}));
    }
    let first = host.ask("resources/list", json!({}));
    assert_eq!(first["result"]["resources"].as_array().unwrap().len(), 51);
    let all = listed(&mut host, "resources/list", "resources");
    assert_eq!(all.len(), 201, "the list, and the newest two hundred");
    let mut uri = LIST.to_owned();
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let page = read_json(&mut host, &uri);
        seen.extend(page["runs"].as_array().unwrap().iter().map(|run| run["id"].to_string()));
        let Some(next) = page["next"].as_str() else { break };
        uri = next.to_owned();
    }
    assert_eq!(seen.len(), 260);
    for cursor in ["x", "1.", "1.x.y"] {
        let answer = host.ask("resources/list", json!({ "cursor": cursor }));
        assert!(answer["error"]["code"] == -32602 || answer["result"]["resources"] == json!([]), "{cursor}: {answer}");
    }
}

/// Antiphon behind Antiphon: both have `antiphon://runs`, and neither hides the other's.
#[test]
fn runs_of_an_antiphon_behind_this_one_are_marked() {
    let behind = project("");
    let gate = behind.path().join("open");
    std::fs::write(&gate, "").unwrap();
    behind.file("slow.toml", &flow(&gate));
    let before = Scratch::new();
    before
        .file("antiphon.toml", &format!("[servers.behind]\n{}[serve]\nexpose = [\"behind.*\"]\n", behind.as_server()));
    before.file("own.toml", "[steps.one]\nset = 1\n");
    let mut host = stdio(&before, Era::Modern);
    let resources = listed(&mut host, "resources/list", "resources");
    let uris: Vec<&str> = resources.iter().map(|one| one["uri"].as_str().unwrap()).collect();
    assert_eq!(uris, [LIST, "behind+antiphon://runs"]);
    host.call("own", json!({}));
    let theirs = host.call("behind__slow", json!({}));
    assert_eq!(theirs["result"]["structuredContent"]["word"], "hello", "{theirs}");
    let own = read_json(&mut host, LIST);
    assert_eq!(own["runs"][0]["workflow"], "own", "{own}");
    let answer = host.ask("resources/read", json!({ "uri": "behind+antiphon://runs" }));
    assert!(
        answer["result"]["contents"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}")).contains("\"slow\"")
    );
}
