//! `run --dry-run`: what would happen.

use std::collections::BTreeMap;
use std::fmt::Write;

use antiphon_kernel::{Callee, EffectClass, Graph, Limits, Plan, Source, Step, Target, Verb, Wait, Workflow};
use antiphon_workflow::{ServerDef, Transport};
use serde::Serialize;
use serde_json::{Value, json};

use super::print;
use crate::fault::Fault;
use crate::project::Loaded;
use crate::trust::CommandLine;
use crate::ui::form::printable;

/// Prints the plan: steps in an order in which they could run, servers, bounds, questions.
pub fn print(loaded: &Loaded, input: &Value, as_json: bool) -> Result<(), Fault> {
    let workflow = &loaded.workflow;
    let servers: BTreeMap<&str, String> = workflow
        .servers_used
        .iter()
        .filter_map(|key| Some((key.as_str(), reached(key, loaded.project.servers.get(key)?))))
        .collect();
    if as_json {
        let value = json!({
            "workflow": workflow.name,
            "input": input,
            "steps": files(&workflow.plan).map(|part| (part.name.clone(), steps(part, &workflow.plan))).collect::<BTreeMap<_, _>>(),
            "agents": agents(&workflow.plan),
            "servers": servers,
            "models": workflow.models_used,
            "asks": workflow.asks,
            "limits": workflow.plan.limits,
        });
        return print::json(&value, true);
    }
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = write_plan(&mut text, loaded, input, &servers);
    print::line(text.trim_end())
}

fn write_plan(text: &mut String, loaded: &Loaded, input: &Value, servers: &BTreeMap<&str, String>) -> std::fmt::Result {
    let workflow = &loaded.workflow;
    writeln!(text, "{} ({}): nothing is started, nothing is called", workflow.name, workflow.path)?;
    writeln!(text, "\nInput\n  {input}")?;
    for part in files(&workflow.plan) {
        writeln!(text, "\nSteps of {}", part.name)?;
        write_steps(text, &part.body, &workflow.plan, 1)?;
    }
    let agents = agents(&workflow.plan);
    if !agents.is_empty() {
        writeln!(text, "\nAgents")?;
        for agent in agents {
            writeln!(text, "  {}", agent.told())?;
        }
    }
    if !servers.is_empty() {
        writeln!(text, "\nServers")?;
        for (key, how) in servers {
            writeln!(text, "  {key}: {how}")?;
        }
    }
    if !workflow.models_used.is_empty() {
        let models: Vec<&str> = workflow.models_used.iter().map(String::as_str).collect();
        writeln!(text, "\nModels\n  {}", models.join(", "))?;
    }
    writeln!(text, "\nBounds\n  {}", bounds(&workflow.plan.limits))?;
    if workflow.asks {
        writeln!(text, "\nIt may ask: see the steps that elicit, or sample the caller.")?;
    }
    Ok(())
}

/// The workflows that somebody wrote, the first one first.
fn files(plan: &Plan) -> impl Iterator<Item = &Workflow> {
    let root = plan.workflows.get(&plan.root);
    let nested = plan.workflows.iter().filter(|(name, _)| **name != plan.root).map(|(_, nested)| nested);
    root.into_iter().chain(nested).filter(|workflow| workflow.agent.is_none())
}

/// Who may be asked: the agent, or another one that may come to hold its conversation.
#[derive(Serialize)]
struct Agent<'a> {
    name: &'a str,
    /// The agent whose conversation it would be, if that is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    holds_for: Option<&'a str>,
    models: Vec<&'a str>,
    may_call: Vec<String>,
    max_turns: u32,
}

impl Agent<'_> {
    fn told(&self) -> String {
        let grants = match self.may_call.as_slice() {
            [] => "may call nothing".to_owned(),
            grants => format!("may call {}", grants.join(", ")),
        };
        let whose = self.holds_for.map(|other| format!(" (as the next one after {other})")).unwrap_or_default();
        format!("{}{whose}  sample {}, {grants}, at most {} turns", self.name, self.models.join(", "), self.max_turns)
    }
}

/// The agents of a plan, with what they were granted.
fn agents(plan: &Plan) -> Vec<Agent<'_>> {
    let mut agents = Vec::new();
    for workflow in plan.workflows.values() {
        let Some(name) = workflow.agent.as_deref() else { continue };
        for step in &workflow.body.steps {
            let (Verb::Do { body }, Some(max_turns)) = (&step.verb, step.repeat.as_ref().and_then(|repeat| repeat.max))
            else {
                continue;
            };
            let holders: Vec<(&str, &Graph)> = body
                .steps
                .iter()
                .filter_map(|step| match &step.verb {
                    Verb::Do { body } => Some((step.id.as_str(), body)),
                    _ => None,
                })
                .collect();
            let holders = if holders.is_empty() { vec![(name, body)] } else { holders };
            for (holder, body) in holders {
                let mut agent =
                    Agent { name: holder, holds_for: None, models: Vec::new(), may_call: Vec::new(), max_turns };
                agent.holds_for = (holder != name).then_some(name);
                for step in &body.steps {
                    match &step.verb {
                        Verb::Sample { models, caller, .. } => {
                            agent.models =
                                models.iter().map(String::as_str).chain(caller.then_some("caller")).collect();
                        }
                        Verb::Call { target: Target::OneOf { among, .. }, .. } => {
                            agent.may_call = among.values().map(|callee| called(callee, plan)).collect();
                        }
                        _ => {}
                    }
                }
                agents.push(agent);
            }
        }
    }
    agents
}

fn write_steps(text: &mut String, graph: &Graph, plan: &Plan, depth: usize) -> std::fmt::Result {
    for step in in_order(&graph.steps) {
        write!(text, "{:indent$}{}  {}", "", step.id, does(step, plan), indent = depth * 2)?;
        let after: Vec<&str> = step.deps.keys().map(String::as_str).collect();
        if !after.is_empty() {
            write!(text, "  after {}", after.join(", "))?;
        }
        writeln!(text)?;
        if let Verb::Do { body } = &step.verb {
            write_steps(text, body, plan, depth + 1)?;
        }
    }
    Ok(())
}

/// The steps, each after those that it waits for; otherwise in the order of the file.
fn in_order(steps: &[Step]) -> Vec<&Step> {
    let mut waiting: Vec<&Step> = steps.iter().collect();
    let mut ordered: Vec<&Step> = Vec::with_capacity(steps.len());
    while !waiting.is_empty() {
        let is_ready = |step: &&Step| !waiting.iter().any(|other| step.deps.contains_key(&other.id));
        // A checked plan has no cycle; were there one, the file's order would do.
        let next = waiting.iter().position(is_ready).unwrap_or(0);
        ordered.push(waiting.remove(next));
    }
    ordered
}

fn steps(workflow: &Workflow, plan: &Plan) -> Vec<Value> {
    fn list(graph: &Graph, plan: &Plan) -> Vec<Value> {
        in_order(&graph.steps)
            .into_iter()
            .map(|step| {
                let mut value =
                    json!({ "id": step.id, "does": does(step, plan), "after": step.deps.keys().collect::<Vec<_>>() });
                if let Verb::Do { body } = &step.verb {
                    value["do"] = list(body, plan).into();
                }
                value
            })
            .collect()
    }
    list(&workflow.body, plan)
}

/// A step in words: its verb, whom it reaches, what bounds it.
fn does(step: &Step, plan: &Plan) -> String {
    let mut words = match &step.verb {
        Verb::Call { target: Target::Fixed(callee), .. } => format!("call {}", called(callee, plan)),
        Verb::Call { target: Target::OneOf { among, .. }, .. } => {
            format!("call one of {}", among.values().map(|callee| called(callee, plan)).collect::<Vec<_>>().join(", "))
        }
        Verb::Sample { models, caller, .. } => {
            let mut models = models.clone();
            models.extend(caller.then(|| "caller".to_owned()));
            format!("sample {}", models.join(", "))
        }
        Verb::Elicit { message, .. } => match &message.source {
            Source::Literal(Value::String(text)) | Source::Template(text) | Source::Expression(text) => {
                format!("elicit {:?}", printable(text))
            }
            _ => "elicit".to_owned(),
        },
        Verb::Read { server, .. } => format!("read from {server}"),
        Verb::Set { .. } => "set".to_owned(),
        Verb::Wait(Wait::For(ms)) => format!("wait {ms} ms"),
        Verb::Wait(Wait::Until(_)) => "wait until a time".to_owned(),
        Verb::Do { .. } => "do".to_owned(),
    };
    if let Verb::Call { target: Target::Fixed(Callee::Tool { .. }) | Target::OneOf { .. }, .. } = &step.verb {
        words.push_str(match step.effects {
            Some(EffectClass::ReadOnly) => " [read_only]",
            Some(EffectClass::Idempotent) => " [idempotent]",
            Some(EffectClass::AtMostOnce) => " [at_most_once]",
            None => " [as the tool says, else at_most_once]",
        });
    }
    let notes = [
        step.when.as_ref().map(|_| "when true".to_owned()),
        step.for_each.as_ref().map(|each| format!("for each item, {} at a time", each.concurrency)),
        step.repeat.as_ref().map(|repeat| match (repeat.max, repeat.within_ms) {
            (Some(max), _) => format!("repeated, at most {max} times"),
            (None, Some(ms)) => format!("repeated, within {ms} ms"),
            (None, None) => "repeated".to_owned(),
        }),
        step.undo.as_ref().map(|_| "undone if the run fails later".to_owned()),
    ];
    for note in notes.into_iter().flatten() {
        words.push_str(", ");
        words.push_str(&note);
    }
    words
}

fn called(callee: &Callee, plan: &Plan) -> String {
    match callee {
        Callee::Tool { server, tool } => format!("{server}.{tool}"),
        Callee::Workflow { name } => match plan.workflows.get(name).and_then(|callee| callee.agent.as_deref()) {
            Some(agent) => format!("agent {agent}"),
            None => format!("workflow {name}"),
        },
    }
}

fn reached(key: &str, def: &ServerDef) -> String {
    match &def.transport {
        Transport::Http { url, .. } => url.clone(),
        Transport::Stdio { .. } => CommandLine::of(key, def).map(|line| line.shown).unwrap_or_default(),
    }
}

fn bounds(limits: &Limits) -> String {
    let cost = limits.cost_usd.map(|usd| format!(", ${usd}")).unwrap_or_default();
    let minutes = limits.duration_ms / 60_000;
    format!(
        "{} calls, {} tokens{cost}, {minutes} min of work, {} workflows deep",
        limits.calls, limits.tokens, limits.depth
    )
}
