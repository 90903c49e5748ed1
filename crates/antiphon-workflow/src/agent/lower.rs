//! From an agent to a workflow: a block of one turn, repeated until its model answers instead of calling.
//!
//! ```text
//! turn      do, repeated until done, at most max_turns
//!   think   sample: the conversation so far, with tools
//!   act     call, for each that the model wants: a failure is told to the model
//!   next    set: the conversation after it, and the answer
//! answer    set
//! ```
//! Of agents that may hand over to each other, each has such a block inside `turn`; the one whose turn it is runs.

use std::collections::BTreeSet;

use antiphon_kernel::{
    Dep, Expr, ForEach, Function, Graph, Output, Repeat, Source, Step, Target, Tolerate, Verb, Workflow,
};
use indexmap::IndexMap;
use serde_json::Value;

use super::parts::{Parts, handoff_name, holders};
use super::{Found, input, tool};
use crate::diagnostic::Diagnostic;
use crate::graph::StepGraph;
use crate::lower::Uses;
use crate::resolve::World;

/// How many of the calls that a model wants at once are made at once.
const CONCURRENCY: u32 = 8;

/// The conversation so far.
const MESSAGES: &str = "previous.messages if previous else [{'role': 'user', 'content': input.prompt}]";

/// A lowered agent.
pub(crate) struct Lowered {
    pub(crate) workflow: Workflow,
    /// What it turns to itself.
    pub(crate) uses: Uses,
    /// Keys of the other agents that may come to hold its conversation.
    pub(crate) holders: BTreeSet<String>,
    /// Its steps, for people.
    pub(crate) graph: StepGraph,
}

/// Lowers an agent, and says which of its names mean nothing.
pub(crate) fn lower<'a>(found: Found<'a>, world: &World<'a>, diagnostics: &mut Vec<Diagnostic>) -> Option<Lowered> {
    let holders = holders(found, world, diagnostics)?;
    let turn = match holders.as_slice() {
        [(holder, parts)] => one_turn(holder, parts),
        holders => Graph {
            steps: holders.iter().map(|(holder, parts)| turn_of(&found, holder, parts)).collect(),
            output: Some(Output::Of(holders.iter().map(|(holder, _)| holder.name.to_owned()).collect())),
        },
    };
    let repeat = Repeat {
        until: Some(expression("output.done", &[], &["output"])),
        max: Some(found.agent.max_turns),
        within_ms: None,
        every_ms: None,
        exhausted: antiphon_kernel::Exhausted::Fail,
    };
    let turn = Step { repeat: Some(repeat), ..Step::plain("turn", Verb::Do { body: turn }) };
    let answer = Verb::Set { value: expression("steps.turn.output.answer", &["turn"], &[]) };
    let answer = after(Step::plain("answer", answer), &["turn"]);
    let workflow = Workflow {
        name: tool(found.name),
        agent: Some(found.name.to_owned()),
        input_schema: input(),
        output_schema: None,
        body: Graph { steps: vec![turn, answer], output: Some(Output::Of(vec!["answer".to_owned()])) },
    };
    let graph = StepGraph::of_plan(&workflow.body);
    let others = holders.iter().skip(1).map(|(holder, _)| holder.key()).collect();
    let (_, own) = holders.into_iter().next()?;
    Some(Lowered { workflow, uses: own.uses, holders: others, graph })
}

/// A turn of one of several holders: it runs if the conversation is his.
fn turn_of(first: &Found<'_>, holder: &Found<'_>, parts: &Parts<'_>) -> Step {
    let active = format!("(previous.active if previous else '{}') == '{}'", first.name, holder.name);
    Step {
        when: Some(expression(&active, &[], &["previous"])),
        ..Step::plain(holder.name, Verb::Do { body: one_turn(holder, parts) })
    }
}

fn one_turn(holder: &Found<'_>, parts: &Parts<'_>) -> Graph {
    let mut steps = vec![think(holder, parts)];
    if !parts.among.is_empty() {
        steps.push(act(parts));
    }
    steps.push(next(holder, parts));
    Graph { steps, output: Some(Output::Of(vec!["next".to_owned()])) }
}

fn think(holder: &Found<'_>, parts: &Parts<'_>) -> Step {
    let agent = holder.agent;
    let mut request = IndexMap::from([
        ("messages".to_owned(), Source::Expression(MESSAGES.to_owned())),
        ("system".to_owned(), agent.instructions.source.clone()),
        ("schema".to_owned(), Source::Expression("input.schema | default(none)".to_owned())),
        ("max_tokens".to_owned(), literal(agent.max_tokens)),
    ]);
    let mut add = |key: &str, source: Option<Source>| {
        if let Some(source) = source {
            request.insert(key.to_owned(), source);
        }
    };
    add("temperature", agent.temperature.map(literal));
    add("prefer", agent.prefer.as_ref().map(|prefer| prefer.source.clone()));
    add("examples", agent.examples.as_ref().map(|examples| examples.source.clone()));
    add("tools", (!parts.tools.is_empty()).then(|| literal(parts.tools.clone())));
    let request = apply(Function::Request, request, &[], &["previous", "input"]);
    let models = parts.models.clone();
    let of_servers = parts.tools.iter().any(|tool| tool.get("server").is_some());
    let (caller, max_tokens) = (agent.caller, agent.max_tokens);
    Step::plain("think", Verb::Sample { models, caller, request, max_tokens, tools: of_servers })
}

fn act(parts: &Parts<'_>) -> Step {
    let wanted = match parts.handoffs.as_slice() {
        [] => CALLS.to_owned(),
        handoffs => {
            let names: Vec<_> = handoffs.iter().map(|other| format!("'{}'", handoff_name(other.name))).collect();
            format!("({CALLS}) | rejectattr('name', 'in', [{}]) | list", names.join(", "))
        }
    };
    let target = Target::OneOf { choice: expression("item.name", &[], &["item"]), among: parts.among.clone() };
    let call = Verb::Call { target, with: expression("item.arguments", &[], &["item"]) };
    let each = ForEach {
        items: expression(&wanted, &["think"], &[]),
        name: "item".to_owned(),
        concurrency: CONCURRENCY,
        tolerate: Tolerate::WithinLimits,
    };
    after(Step { for_each: Some(each), ..Step::plain("act", call) }, &["think"])
}

/// What the model wants called.
const CALLS: &str = "steps.think.calls | default([])";

fn next(holder: &Found<'_>, parts: &Parts<'_>) -> Step {
    let expression = |text: &str| Source::Expression(text.to_owned());
    let mut turn = IndexMap::from([
        ("agent".to_owned(), literal(holder.name)),
        ("messages".to_owned(), expression(MESSAGES)),
        ("text".to_owned(), expression("steps.think.text | default('')")),
        ("answer".to_owned(), expression("steps.think.output")),
        ("calls".to_owned(), expression(CALLS)),
    ]);
    let mut steps = vec!["think"];
    if !parts.among.is_empty() {
        turn.insert("results".to_owned(), expression("steps.act.output"));
        turn.insert("errors".to_owned(), expression("steps.act.errors"));
        turn.insert("max_result_tokens".to_owned(), literal(holder.agent.max_result_tokens));
        steps.push("act");
    }
    if !parts.handoffs.is_empty() {
        let named = |other: &Found<'_>| (handoff_name(other.name), Value::from(other.name));
        turn.insert("handoffs".to_owned(), literal(parts.handoffs.iter().map(named).collect::<Value>()));
    }
    let value = apply(Function::Turn, turn, &steps, &["previous", "input"]);
    after(Step::plain("next", Verb::Set { value }), &steps)
}

/// A step that uses what others yield.
fn after(mut step: Step, others: &[&str]) -> Step {
    let dep = Dep { uses: true, asks: false };
    step.deps = others.iter().map(|id| ((*id).to_owned(), dep)).collect();
    step
}

fn expression(text: &str, steps: &[&str], vars: &[&str]) -> Expr {
    reading(Source::Expression(text.to_owned()), steps, vars)
}

fn apply(function: Function, to: IndexMap<String, Source>, steps: &[&str], vars: &[&str]) -> Expr {
    reading(Source::Apply(function, to), steps, vars)
}

fn reading(source: Source, steps: &[&str], vars: &[&str]) -> Expr {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Expr { source, steps: set(steps), vars: set(vars) }
}

fn literal(value: impl Into<Value>) -> Source {
    Source::Literal(value.into())
}
