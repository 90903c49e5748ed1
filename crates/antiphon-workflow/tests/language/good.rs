//! Good files: what they become.
#![expect(clippy::unwrap_used, reason = "tests")]

use crate::common;
use std::collections::BTreeMap;

use antiphon_kernel::{Plan, Target, Verb};
use antiphon_workflow::{Party, Project, Workflow, env};

#[test]
fn good_files_lower() {
    for file in common::files(&common::folder("good")) {
        let checked = common::load(&file);
        let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        assert!(!checked.has_errors(), "{}", common::report(&checked));
        let plans: BTreeMap<_, _> =
            checked.project.workflows.iter().map(|(name, workflow)| (name, &*workflow.plan)).collect();
        insta::assert_json_snapshot!(format!("{name}_plans"), plans);
        insta::assert_snapshot!(format!("{name}_said"), common::report(&checked));
        insta::assert_debug_snapshot!(
            format!("{name}_servers"),
            (&checked.project.servers, &checked.project.models, &checked.project.serve)
        );
        let drawn: Vec<_> = checked
            .project
            .workflows
            .values()
            .map(|workflow| [antiphon_workflow::mermaid(workflow), antiphon_workflow::dot(workflow)].concat())
            .collect();
        insta::assert_snapshot!(format!("{name}_drawn"), drawn.concat());
    }
}

fn workflow(file: &str, name: &str) -> Workflow {
    let checked = common::load(&common::folder("good").join(file));
    checked.project.workflows[name].clone()
}

#[test]
fn a_workflow_tells_what_it_uses() {
    let triage = workflow("triage.toml", "triage");
    assert_eq!(Vec::from_iter(&triage.servers_used), ["tracker"]);
    assert_eq!(Vec::from_iter(&triage.models_used), ["fast", "smart"]);
    assert!(triage.asks);
    assert!(!triage.read_only);
    assert_eq!(Vec::from_iter(triage.plan.workflows.keys()), ["publish", "triage"]);
    // Its own limits, then the project's.
    assert_eq!((triage.plan.limits.calls, triage.plan.limits.tokens), (200, 50_000));
    let publish = workflow("triage.toml", "publish");
    assert_eq!(publish.plan.limits.calls, 500);
    assert!(publish.read_only && !publish.asks);

    let ship = workflow("ship.toml", "ship");
    assert_eq!(Vec::from_iter(&ship.servers_used), ["ship/chat", "ship/ci"]);
    assert!(ship.asks && !ship.read_only);
    assert!(workflow("tokens.toml", "spellings").read_only);
}

#[test]
fn an_agent_is_a_workflow() {
    let checked = common::load(&common::folder("good").join("agents.toml"));
    let agents = &checked.project.agents;
    let keys: Vec<_> = agents.keys().map(String::as_str).collect();
    assert_eq!(keys, ["agents/ask_critic", "ask_desk", "ask_refund", "ask_researcher"]);

    let desk = &agents["ask_desk"];
    assert_eq!((desk.name.as_str(), desk.agent.as_deref()), ("ask_desk", Some("desk")));
    assert_eq!(desk.description.as_deref(), Some("Answers customers"));
    // What the others who may come to hold its conversation can do, it can come to.
    assert_eq!(Vec::from_iter(&desk.servers_used), ["files"]);
    assert_eq!(Vec::from_iter(desk.plan.workflows.keys()), ["ask_desk"]);
    assert!(!desk.read_only && !desk.asks);

    let researcher = &agents["ask_researcher"];
    assert_eq!(Vec::from_iter(researcher.plan.workflows.keys()), ["ask_desk", "ask_researcher", "lookup"]);
    assert!(researcher.asks, "the caller may have to think for it");
    assert!(agents["agents/ask_critic"].read_only);
    insta::assert_snapshot!("agents_ask_desk_drawn", antiphon_workflow::mermaid(desk));
    let routes = &checked.project.routes;
    let drawn = [antiphon_workflow::routes_mermaid(routes), antiphon_workflow::routes_dot(routes)].concat();
    insta::assert_snapshot!("agents_routes_drawn", drawn);
}

#[test]
fn a_server_with_grants_reaches_what_it_may_call() {
    let text = "[servers.files]\ncommand = \"files\"\n[servers.other]\ncommand = \"other\"\n\
                [servers.scout]\ncommand = \"scout\"\ngrants = [\"files.read_*\", \"critic\"]\n\
                [agents.critic]\ninstructions = \"Grade.\"\nmodel = \"small\"\n\
                [models.small]\nbase_url = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\n\
                [steps.go]\ncall = \"scout.go\"\neffects = \"read_only\"\n";
    let checked = common::load_text(text);
    assert!(!checked.has_errors(), "{}", common::report(&checked));
    let Project { workflows, ways_back, routes, .. } = checked.project;
    let workflow = workflows.values().next().unwrap();
    let own = |name: &str| format!("{}/{name}", workflow.name);
    assert_eq!(Vec::from_iter(&workflow.servers_used), [&own("files"), &own("scout")]);
    assert_eq!(Vec::from_iter(&workflow.models_used), [&own("small")]);
    assert!(!workflow.read_only, "nobody knows what it calls");
    let back = Plan::way_back(&own("scout"));
    let plan = &workflow.plan.workflows;
    assert_eq!(Vec::from_iter(plan.keys()), [&back, &workflow.name, &own("ask_critic")]);
    let Verb::Call { target: Target::OneOf { among, .. }, .. } = &plan[&back].body.steps[0].verb else { panic!() };
    assert_eq!(Vec::from_iter(among.keys()), ["ask_critic", "files__read_*"]);
    let told: Vec<_> = ways_back[&own("scout")].tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(told, ["files__read_*", "ask_critic"]);
    let from: Vec<_> = routes.from(&Party::Server(own("scout"))).into_iter().map(|(to, _)| to.called()).collect();
    assert_eq!(from, ["critic", "files"]);
}

#[test]
fn variables_are_named() {
    let checked = common::load(&common::folder("good").join("triage.toml"));
    let tracker = env::variables(&checked.project.servers["tracker"]);
    let shown: Vec<_> =
        tracker.iter().map(|variable| (variable.name.as_str(), variable.optional, variable.secret)).collect();
    assert_eq!(shown, [("LEVEL", true, false), ("TRACKER_TOKEN", false, true)]);
    let smart = env::model_variables(&checked.project.models["smart"]);
    let shown: Vec<_> = smart.iter().map(|variable| (variable.name.as_str(), variable.secret)).collect();
    assert_eq!(shown, [("MODEL_KEY", true), ("TEAM_KEY", true)]);
}
