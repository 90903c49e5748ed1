//! Each agent is an MCP server: a tool of the orchestrator, an endpoint of its own, and alone over stdio.

use antiphon_tests::model::{calls, last, says, system};
use antiphon_tests::{Era, Host, Served, text_of};
use serde_json::{Value, json};

use crate::Project;

const AGENTS: &str = r#"
[agents.clerk]
description = "Knows the files"
instructions = "You are the clerk."
model = "m"

[agents.cook]
instructions = "You cook."
model = "m"
grants = ["tools.elicit_name"]

[servers.tools.elicitation]
consent = "allow"
"#;

fn project() -> Project {
    let project = Project::new(AGENTS, |request| match system(request) {
        "You cook." if last(request) == "Hungry" => calls(&[("tools__elicit_name", json!({}))]),
        _ => says(&format!("{} You asked: {}", system(request), last(request))),
    });
    project.scratch.file("hello.toml", "[steps.hello]\nset = \"Hello\"\n");
    project
}

fn serve(project: &Project, more: &[&str]) -> std::process::Command {
    project.scratch.with_db(&[&["serve", ".", "--trust"], more].concat())
}

fn names(host: &mut Host) -> Vec<String> {
    let listed = host.ask("tools/list", json!({}));
    let tools = listed["result"]["tools"].as_array().unwrap_or_else(|| panic!("{listed}")).clone();
    let own = |name: &str| !name.starts_with("run_");
    tools.iter().filter_map(|tool| tool["name"].as_str()).filter(|name| own(name)).map(str::to_owned).collect()
}

fn answered(answer: &Value) -> String {
    assert!(!answer["result"]["isError"].as_bool().unwrap_or(false), "{answer}");
    text_of(&answer["result"])
}

fn answered_badly(answer: &Value) -> String {
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    text_of(&answer["result"])
}

#[test]
fn it_is_a_tool_beside_the_workflows() {
    let project = project();
    for era in [Era::Legacy, Era::Modern] {
        let mut host = Host::start(&mut serve(&project, &[]), era, json!({}));
        assert_eq!(names(&mut host), ["ask_clerk", "ask_cook", "hello"]);
        let answer = host.call("ask_clerk", json!({ "prompt": "Who are you?" }));
        assert_eq!(answered(&answer), "You are the clerk. You asked: Who are you?");
        let refused = host.call("ask_clerk", json!({ "promt": "Who are you?" }));
        assert!(answered_badly(&refused).contains("the input does not fit `ask_clerk`"), "{refused}");
        host.close();
    }
}

#[test]
fn it_is_served_alone_over_stdio() {
    let project = project();
    let mut host = Host::start(&mut serve(&project, &["--agent", "clerk"]), Era::Legacy, json!({}));
    assert_eq!(names(&mut host), ["ask_clerk"]);
    let answer = host.call("ask_clerk", json!({ "prompt": "Alone?" }));
    assert!(answered(&answer).contains("You asked: Alone?"), "{answer}");
    host.close();

    let (code, _, told) = project.scratch.run(&["serve", ".", "--agent", "nobody"]);
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("there is no agent `nobody`") && told.contains("clerk, cook"), "{told}");
}

#[test]
fn it_has_an_endpoint_of_its_own() {
    let project = project();
    let served = Served::start(&mut serve(&project, &[]));
    let own = served.url.replace("/mcp", "/agents/clerk/mcp");
    for era in [Era::Legacy, Era::Modern] {
        let mut host = Host::connect(&own, None, era, json!({}));
        assert_eq!(names(&mut host), ["ask_clerk"]);
        let answer = host.call("ask_clerk", json!({ "prompt": "By HTTP?" }));
        assert!(answered(&answer).contains("You asked: By HTTP?"), "{answer}");
        let other = host.call("ask_cook", json!({ "prompt": "Hungry" }));
        assert!(other.get("error").is_some(), "{other}");
        let mut all = Host::connect(&served.url, None, era, json!({}));
        assert_eq!(names(&mut all), ["ask_clerk", "ask_cook", "hello"]);
    }
    let nobody = antiphon_tests::Url::parse(&served.url.replace("/mcp", "/agents/nobody/mcp"));
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    assert_eq!(nobody.post(&[], &body).response().unwrap().status, 404);
}

#[test]
fn what_its_tools_ask_is_put_to_a_person() {
    let project = project();
    let capabilities = json!({ "elicitation": { "form": {} } });
    let mut host = Host::start(&mut serve(&project, &[]), Era::Legacy, capabilities);
    let id = host.post_call("ask_cook", json!({ "prompt": "Hungry" }));
    let asked = host.pushed("elicitation/create");
    assert!(asked["params"]["message"].as_str().unwrap().contains("What is your name?"), "{asked}");
    assert_eq!(project.model.heard().len(), 1, "no model is asked for it");
    host.reply(&asked, json!({ "action": "accept", "content": { "name": "Ann" } }));
    let answer = host.response(id).unwrap();
    let told = answered(&answer);
    assert!(told.starts_with("You cook. You asked: {") && told.contains(r#""name":"Ann""#), "{told}");
    host.close();
}

#[test]
fn the_prompt_may_come_from_standard_input() {
    let project = project();
    let mut command = project.scratch.antiphon(&["ask", "clerk", "-", "--trust"]);
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"From a pipe").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), r#""You are the clerk. You asked: From a pipe""#);
}
