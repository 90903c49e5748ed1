//! Many tools by two.

use antiphon_tests::{Era, Scratch, call_params, text_of};
use serde_json::{Value, json};

use crate::{listen, names, project, stdio, tools};

fn many(serve: &str) -> Scratch {
    let scratch = Scratch::new();
    scratch.file(
        "antiphon.toml",
        &format!("[servers.tools]\ncommand = \"${{FIXTURE}}\"\nargs = [\"--log\", \"${{LOG}}\", \"--many\", \"5000\"]\n{serve}"),
    );
    scratch
}

fn found(host: &mut antiphon_tests::Host, query: &str) -> Vec<Value> {
    let answer = host.call("find_tools", json!({ "query": query }));
    let text = text_of(&answer["result"]);
    let found: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{answer}"));
    found["tools"].as_array().cloned().unwrap_or_else(|| panic!("{found}"))
}

#[test]
fn a_tool_is_found_by_what_it_does_and_called_by_name() {
    let scratch = many("[serve]\nexpose = [\"tools.*\"]\ncompact = 40\n");
    scratch.file("own.toml", "[steps.one]\nset = 1\n");
    for era in [Era::Legacy, Era::Modern] {
        let mut host = stdio(&scratch, era);
        let listed = tools(&mut host);
        let names = names(&listed);
        assert_eq!(names, ["own", "run_answer", "run_cancel", "run_start", "run_status", "find_tools", "call_tool"]);
        let call = listed.last().unwrap();
        assert_eq!(call["annotations"]["readOnlyHint"], false, "as careful as the least harmless wants: {call}");
        assert_eq!(call["annotations"]["destructiveHint"], true, "{call}");

        for (query, expected) in [
            ("create an invoice in billing", "tools__billing_create_invoice"),
            ("archive old wiki documents", "tools__wiki_archive_document"),
            ("who can be assigned a helpdesk ticket", "tools__helpdesk_assign_ticket"),
            ("gives its arguments back", "tools__echo"),
            ("tools__big", "tools__big"),
        ] {
            let found = found(&mut host, query);
            assert_eq!(found[0]["name"], expected, "{query}: {found:?}");
            assert!(found.len() <= 5 && found[0]["inputSchema"]["type"] == "object");
        }
        let echoed = host.call("call_tool", json!({ "name": "tools__echo", "arguments": { "a": [1] } }));
        assert_eq!(echoed["result"]["structuredContent"], json!({ "a": [1] }), "{echoed}");
        let unknown = host.call("call_tool", json!({ "name": "ecco" }));
        assert_eq!(unknown["result"]["isError"], true, "a model can mend that: {unknown}");
        let nothing = host.call("find_tools", json!({ "query": "zzzz qqqq" }));
        assert_eq!(nothing["result"]["isError"], true, "{nothing}");
        let all: Value = serde_json::from_str(&text_of(&host.call("find_tools", json!({}))["result"])).unwrap();
        assert_eq!((all["names"].as_array().unwrap().len(), all["more"].as_u64().unwrap()), (500, 4_516));
    }
}

/// Errors, progress, questions: as the tool itself has them.
#[test]
fn a_call_by_the_other_name_is_the_same_call() {
    let scratch = project("[serve]\nexpose = [\"tools.*\", \"!tools.charge\"]\ncompact = true\n");
    let mut host = stdio(&scratch, Era::Modern);
    let call = |name: &str, arguments: Value| json!({ "name": name, "arguments": arguments });
    for (tool, arguments) in [
        ("tools__fail", json!({ "message": "out of order" })),
        ("tools__rpc_error", json!({ "message": "broken" })),
        ("tools__big", json!({ "bytes": 1000 })),
    ] {
        let (direct, through) = (host.call(tool, arguments.clone()), host.call("call_tool", call(tool, arguments)));
        let part = |answer: &Value| (answer["result"].clone(), answer["error"].clone());
        assert_eq!(part(&direct), part(&through), "{tool}");
    }
    assert_eq!(
        host.call("call_tool", call("tools__charge", json!({ "id": "1" })))["result"]["isError"],
        true,
        "it is hidden"
    );
    assert!(scratch.calls().iter().all(|call| call["tool"] != "charge"));

    let mut params = call_params(
        json!({ "name": "call_tool", "arguments": call("tools__progress", json!({ "steps": 3 })) }),
        &json!({}),
    );
    params["_meta"]["progressToken"] = json!("p");
    let id = host.post("tools/call", params);
    let answer = host.response(id).unwrap();
    assert_eq!(answer["result"]["structuredContent"]["steps"], 3, "{answer}");
    let reports = host.inbox.iter().filter(|message| message["params"]["progressToken"] == "p").count();
    assert_eq!(reports, 3, "{:?}", host.inbox);

    let able = json!({ "elicitation": { "form": {} } });
    let asked = call("tools__elicit_name", json!({ "question": "Who?" }));
    let mut params = json!({ "name": "call_tool", "arguments": asked });
    let id = host.post("tools/call", call_params(params.clone(), &able));
    let asks = host.response(id).unwrap();
    assert_eq!(asks["result"]["resultType"], "input_required", "{asks}");
    let (key, _) = asks["result"]["inputRequests"].as_object().unwrap().iter().next().unwrap();
    params["inputResponses"] = json!({ key: { "action": "accept", "content": { "name": "Ada" } } });
    if let Some(state) = asks["result"].get("requestState") {
        params["requestState"] = state.clone();
    }
    let id = host.post("tools/call", call_params(params, &able));
    let answered = host.response(id).unwrap();
    assert!(answered["result"].to_string().contains("Ada"), "{answered}");
}

#[test]
fn few_tools_stay_as_they_are_and_many_come_by_pages() {
    let scratch = project("[serve]\nexpose = [\"tools.*\"]\ncompact = 40\n");
    let mut host = stdio(&scratch, Era::Modern);
    assert_eq!(tools(&mut host).len(), 16);
    listen(&mut host, Era::Modern, json!({ "toolsListChanged": true }));
    crate::configure(&scratch, "[serve]\nexpose = [\"tools.*\"]\ncompact = 3\n");
    host.pushed("notifications/tools/list_changed");
    assert_eq!(names(&tools(&mut host)), ["find_tools", "call_tool"]);

    let scratch = many("[serve]\nexpose = [\"tools.*\"]\n");
    let mut host = stdio(&scratch, Era::Modern);
    let first = host.ask("tools/list", json!({}));
    assert_eq!(first["result"]["tools"].as_array().unwrap().len(), 500);
    assert_eq!(tools(&mut host).len(), 5_016);
    assert_eq!(host.ask("tools/list", json!({ "cursor": "99999" }))["error"]["code"], -32602);
}
