//! What the scopes of a token open; the rest is to its holder as if it were not there.

use antiphon_tests::{Authority, Era, Served, Url, text_of};
use serde_json::{Value, json};

use crate::{Guarded, MODERN, challenged, project};

const SCOPES: &str = "[serve.auth.scopes]\n\
    \"say\" = [\"echo\"]\n\
    \"read:text\" = [\"conf.*_simple_text\"]\n\
    \"conf\" = [\"conf.*\"]\n\
    \"ask\" = [\"clerk\"]\n\
    \"all\" = [\"*\", \"*.*\"]\n";

const OWN: [&str; 4] = ["run_answer", "run_cancel", "run_start", "run_status"];

fn body(response: antiphon_tests::Response) -> Value {
    serde_json::from_str(&response.text()).unwrap()
}

#[test]
fn what_is_out_of_scope_is_not_listed() {
    let guarded = Guarded::start(SCOPES);
    let seen = |scope: &str| {
        let mut tools = guarded.tools(&guarded.token("ada", scope));
        tools.retain(|name| !OWN.contains(&name.as_str()));
        tools
    };
    assert_eq!(seen("say"), ["echo"]);
    assert_eq!(seen("read:text"), ["conf__test_simple_text"]);
    assert_eq!(seen("say ask unknown"), ["ask_clerk", "echo"]);
    assert_eq!(seen(""), [""; 0]);
    let all = seen("all");
    assert!(all.contains(&"confirm".to_owned()) && all.contains(&"conf__greet".to_owned()), "{all:?}");

    // A tool that starts workflows names those that this caller may start.
    let token = guarded.token("ada", "say");
    let list = body(guarded.send(Some(&token), "tools/list", json!({})));
    let tools = list["result"]["tools"].as_array().unwrap();
    let start = tools.iter().find(|tool| tool["name"] == "run_start").unwrap();
    assert_eq!(start["inputSchema"]["properties"]["workflow"]["enum"], json!(["echo"]));
    // So does what the server says of itself, in both eras.
    let discovered = body(guarded.send(Some(&token), "server/discover", json!({})));
    let client = json!({ "name": "raw", "version": "0" });
    let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
    let message = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
    let bearer = format!("Bearer {token}");
    let mut said = vec![discovered.to_string()];
    let response = Url::parse(&guarded.served.url).post(&[("authorization", &bearer)], &message).response().unwrap();
    response.messages(|message| said.push(message.to_string()));
    for said in said {
        assert!(said.contains("`echo`") && !said.contains("confirm") && !said.contains("clerk"), "{said}");
    }

    // A workflow that is open is a prompt, too, and where there are workflows there are runs.
    for (method, list, own) in [("resources/list", "resources", "antiphon://runs"), ("prompts/list", "prompts", "echo")]
    {
        let of = |scope: &str| {
            let listed = body(guarded.send(Some(&guarded.token("ada", scope)), method, json!({})));
            let all = listed["result"][list].as_array().cloned().unwrap_or_default();
            let name = |one: &Value| one.get("uri").or(one.get("name")).and_then(Value::as_str).map(str::to_owned);
            all.iter().filter_map(name).collect::<Vec<_>>()
        };
        assert_eq!((of("say"), of("read:text")), (vec![own.to_owned()], Vec::new()), "{method}");
        assert!(!of("conf").is_empty() && !of("conf").contains(&own.to_owned()), "{method}");
        assert!(of("all").len() > of("conf").len(), "{method}");
    }
}

#[test]
fn a_tool_that_calls_others_opens_no_more() {
    let authority = Authority::start();
    let scratch = project(&authority, SCOPES);
    let path = scratch.path().join("antiphon.toml");
    let compact = std::fs::read_to_string(&path).unwrap().replace("[serve]\n", "[serve]\ncompact = true\n");
    std::fs::write(&path, compact).unwrap();
    let served = Served::start(&mut scratch.with_db(&["serve", ".", "--trust"]));
    let guarded = Guarded { authority, scratch, served };
    let token = guarded.token("ada", "read:text");
    assert_eq!(guarded.tools(&token), ["find_tools", "call_tool"]);
    let call = |tool: &str, arguments: Value| {
        body(guarded.send(Some(&token), "tools/call", json!({ "name": tool, "arguments": arguments })))
    };
    let open = call("call_tool", json!({ "name": "conf__test_simple_text", "arguments": {} }));
    assert!(text_of(&open["result"]).contains("simple text"), "{open}");
    let closed = call("call_tool", json!({ "name": "conf__greet", "arguments": { "name": "Ada" } }));
    assert_eq!(closed["result"]["isError"], true, "{closed}");
    assert!(!closed.to_string().contains("Hello"), "{closed}");
    let found = call("find_tools", json!({ "query": "greet" }));
    assert_eq!(found["result"]["isError"], true, "{found}");
    let names = call("find_tools", json!({}));
    assert!(!names.to_string().contains("greet") && names.to_string().contains("conf__test_simple_text"), "{names}");
}

#[test]
fn a_call_out_of_scope_is_told_which_scope_would_do() {
    let guarded = Guarded::start(&format!("required_scopes = [\"use\"]\n{SCOPES}"));
    let token = guarded.token("ada", "use say");
    let refused = [
        ("tools/call", json!({ "name": "confirm", "arguments": {} }), "use all"),
        ("tools/call", json!({ "name": "ask_clerk", "arguments": { "prompt": "?" } }), "use ask"),
        ("tools/call", json!({ "name": "conf__test_simple_text", "arguments": {} }), "use read:text"),
        ("tools/call", json!({ "name": "conf__greet", "arguments": {} }), "use conf"),
        ("tools/call", json!({ "name": "run_start", "arguments": { "workflow": "confirm" } }), "use all"),
        ("prompts/get", json!({ "name": "conf__test_simple_prompt" }), "use conf"),
    ];
    for (method, params, scope) in refused {
        let response = guarded.send(Some(&token), method, params.clone());
        assert_eq!(response.status, 403, "{params}");
        assert_eq!(challenged(&response, "error").as_deref(), Some("insufficient_scope"), "{params}");
        assert_eq!(challenged(&response, "scope").as_deref(), Some(scope), "{params}");
        assert_eq!(challenged(&response, "resource_metadata").as_deref(), Some(crate::METADATA));
    }
    assert!(guarded.scratch.runs().is_empty(), "nothing has begun");
    // What is not there at all is no matter of scopes.
    let unknown = body(guarded.send(Some(&token), "tools/call", json!({ "name": "nothing", "arguments": {} })));
    assert_eq!(unknown["error"]["code"], -32602, "{unknown}");
    let open = body(guarded.send(Some(&token), "tools/call", json!({ "name": "echo", "arguments": {} })));
    assert!(text_of(&open["result"]).contains("hello"), "{open}");
    let more = guarded.token("ada", "use read:text");
    let open =
        body(guarded.send(Some(&more), "tools/call", json!({ "name": "conf__test_simple_text", "arguments": {} })));
    assert_eq!(open["result"]["isError"], Value::Null, "{open}");
}

#[test]
fn a_legacy_caller_is_refused_likewise() {
    let guarded = Guarded::start(SCOPES);
    let mut host = guarded.host(&guarded.token("ada", "say"), Era::Legacy);
    let refused = host.call("confirm", json!({}));
    assert_eq!(refused["http"], 403, "{refused}");
    let done = host.call("echo", json!({}));
    assert!(text_of(&done["result"]).contains("hello"), "{done}");
}

#[test]
fn a_resource_out_of_scope_is_not_there() {
    let guarded = Guarded::start(SCOPES);
    let read = |scope: &str| {
        let params = json!({ "uri": "test://static-text" });
        body(guarded.send(Some(&guarded.token("ada", scope)), "resources/read", params))
    };
    assert!(read("conf")["result"]["contents"].is_array());
    // Some tools of the server are not the server.
    for scope in ["", "say", "read:text"] {
        let refused = read(scope);
        assert!(refused["error"].is_object(), "{scope}: {refused}");
        assert!(!refused.to_string().contains("static text"), "{scope}: {refused}");
    }
    let mut host = guarded.host(&guarded.token("ada", "read:text"), Era::Legacy);
    let refused = host.ask("resources/subscribe", json!({ "uri": "test://watched-resource" }));
    assert!(refused["error"].is_object(), "{refused}");
}

#[test]
fn an_agents_endpoint_asks_for_the_same_scopes() {
    let guarded = Guarded::start(SCOPES);
    let at = |token: &str, method: &str, params: Value| {
        guarded.send_to("/agents/clerk/mcp", &[("mcp-protocol-version", MODERN)], Some(token), method, params)
    };
    let ask = json!({ "name": "ask_clerk", "arguments": { "prompt": "?" } });
    let few = guarded.token("ada", "say");
    let refused = at(&few, "tools/call", ask);
    assert_eq!(refused.status, 403);
    assert_eq!(challenged(&refused, "scope").as_deref(), Some("ask"));
    assert!(!body(at(&few, "tools/list", json!({}))).to_string().contains("ask_clerk"));
    let enough = guarded.token("ada", "ask");
    assert!(body(at(&enough, "tools/list", json!({}))).to_string().contains("ask_clerk"));
}
