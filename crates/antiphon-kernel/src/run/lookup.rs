//! Finding things: the plan's step behind a spot, and what an expression at a spot may see.

use std::collections::BTreeMap;

use super::state::{Active, Ended, GraphRef, Iteration, Parent, Scope, Spot, StepState};
use super::{Run, paths};
use crate::{Expr, Graph, Plan, Slot, Step, StepFacts, StepStatus, ValueRef, Verb};

/// The graph that a reference names. The engine only drives plans that made it, so it is always there; `None` guards
/// against a plan and a state that do not belong together.
pub(super) fn graph<'p>(plan: &'p Plan, reference: &GraphRef) -> Option<&'p Graph> {
    let mut graph = &plan.workflows.get(&reference.workflow)?.body;
    let mut at = reference.at.iter().peekable();
    while let Some(id) = at.next() {
        let step = graph.steps.iter().find(|step| &step.id == id)?;
        graph = match (&step.verb, at.peek().is_some_and(|next| *next == GraphRef::UNDO)) {
            (_, true) => {
                at.next();
                step.undo.as_deref()?
            }
            (Verb::Do { body }, false) => body,
            _ => return None,
        };
    }
    Some(graph)
}

/// Where it says how a step ended.
pub(super) enum Ending<'s> {
    /// In its scope.
    Here(&'s Ended),
    /// Among what is kept of steps whose scope is gone.
    Kept(&'s StepFacts),
}

impl Ending<'_> {
    pub(super) fn status(&self) -> StepStatus {
        match self {
            Self::Here(ended) => ended.status,
            Self::Kept(facts) => facts.status,
        }
    }
}

impl<'p> Run<'p> {
    pub(super) fn graph_of(&self, scope: &str) -> Option<&'p Graph> {
        graph(self.plan, &self.state.scopes.get(scope)?.graph)
    }

    pub(super) fn step_of(&self, spot: &Spot) -> Option<&'p Step> {
        let scope = self.state.scopes.get(&spot.scope)?;
        graph(self.plan, &scope.graph)?.steps.get(scope.steps.get_index_of(&spot.step)?)
    }

    pub(super) fn scope(&mut self, scope: &str) -> Option<&mut Scope> {
        self.state.scopes.get_mut(scope)
    }

    pub(super) fn active(&mut self, spot: &Spot) -> Option<&mut Active> {
        match self.state.scopes.get_mut(&spot.scope)?.steps.get_mut(&spot.step)? {
            StepState::Active(active) => Some(active),
            _ => None,
        }
    }

    pub(super) fn iteration(&mut self, spot: &Spot) -> Option<&mut Iteration> {
        self.active(spot)?.iterations.get_mut(&spot.index.unwrap_or(0))
    }

    /// The path of an iteration, with its round when the step repeats.
    pub(super) fn path(&mut self, spot: &Spot) -> String {
        let path = paths::iteration(spot);
        let repeats = self.step_of(spot).is_some_and(|step| step.repeat.is_some());
        match self.iteration(spot) {
            Some(iteration) if repeats => format!("{path}:{}", iteration.round),
            _ => path,
        }
    }

    /// The op of the present attempt's call.
    pub(super) fn attempt_path(&mut self, spot: &Spot) -> String {
        let path = self.path(spot);
        let attempt = self.iteration(spot).map_or(1, |iteration| iteration.attempt);
        format!("{path}#{attempt}")
    }

    /// The agent that a spot is part of.
    pub(super) fn agent_of(&self, spot: &Spot) -> Option<&'p str> {
        let scope = self.state.scopes.get(&spot.scope)?;
        self.plan.workflows.get(&scope.graph.workflow)?.agent.as_deref()
    }

    /// Who called whom, from the root to a scope: workflows and agents, by their names.
    pub(super) fn route(&self, scope: &str) -> Vec<&'p str> {
        let mut route = Vec::new();
        let mut next = self.state.scopes.get(scope);
        while let Some(scope) = next {
            if scope.graph.at.is_empty()
                && let Some(workflow) = self.plan.workflows.get(&scope.graph.workflow)
            {
                route.push(workflow.agent.as_deref().unwrap_or(&workflow.name));
            }
            next = match &scope.parent {
                Parent::Step(spot) | Parent::Call { spot, .. } => self.state.scopes.get(&spot.scope),
                Parent::Undo(of) => self.state.scopes.get(of),
                Parent::Run => None,
            };
        }
        route.reverse();
        route
    }

    /// How a step that can be mentioned in `scope` ended; `None` while it has not.
    pub(super) fn ended(&self, scope: &str, id: &str) -> Option<StepFacts> {
        self.ending(scope, id).map(|ending| match ending {
            Ending::Here(ended) => facts(ended),
            Ending::Kept(facts) => facts.clone(),
        })
    }

    /// Likewise, where it is kept.
    pub(super) fn ending(&self, scope: &str, id: &str) -> Option<Ending<'_>> {
        let mut scope = self.state.scopes.get(scope)?;
        loop {
            match scope.steps.get(id) {
                Some(StepState::Ended(ended)) => return Some(Ending::Here(ended)),
                Some(_) => return None,
                None => {}
            }
            if let Some(facts) = scope.facts.get(id) {
                return Some(Ending::Kept(facts));
            }
            match &scope.parent {
                Parent::Step(spot) => scope = self.state.scopes.get(&spot.scope)?,
                _ => return None,
            }
        }
    }

    /// What expressions at a spot may see: only what they mention.
    pub(super) fn sees(&self, spot: &Spot, exprs: &[&Expr], output: Option<&ValueRef>) -> crate::Scope {
        let mut sees = crate::Scope::default();
        for id in exprs.iter().flat_map(|expr| &expr.steps) {
            if let Some(facts) = self.ended(&spot.scope, id) {
                sees.steps.insert(id.clone(), facts);
            }
        }
        let around = self.vars_at(spot);
        for name in exprs.iter().flat_map(|expr| &expr.vars) {
            match (name.as_str(), output) {
                ("output", Some(record)) => {
                    sees.vars.insert(name.clone(), Slot::OutputOf(record.clone()));
                }
                _ => {
                    if let Some(slot) = around.get(name) {
                        sees.vars.insert(name.clone(), slot.clone());
                    }
                }
            }
        }
        sees
    }

    /// The variables at a spot: the scope's, and the iteration's own.
    pub(super) fn vars_at(&self, spot: &Spot) -> BTreeMap<String, Slot> {
        let Some(scope) = self.state.scopes.get(&spot.scope) else { return BTreeMap::new() };
        let mut vars = scope.vars.clone();
        let Some(StepState::Active(active)) = scope.steps.get(&spot.step) else { return vars };
        let Some(step) = self.step_of(spot) else { return vars };
        if let (Some(each), Some(items), Some(index)) = (&step.for_each, &active.items, spot.index) {
            vars.insert(each.name.clone(), Slot::Item { list: items.list.clone(), index: index as usize });
            vars.insert("index".to_owned(), Slot::Value(ValueRef::inline(index)));
        }
        if let (Some(_), Some(iteration)) = (&step.repeat, active.iterations.get(&spot.index.unwrap_or(0))) {
            vars.insert("round".to_owned(), Slot::Value(ValueRef::inline(iteration.round)));
            let previous = match &iteration.previous {
                Some(record) => Slot::OutputOf(record.clone()),
                None => Slot::Value(ValueRef::inline(serde_json::Value::Null)),
            };
            vars.insert("previous".to_owned(), previous);
        }
        vars
    }
}

/// What expressions may know of a step that has ended.
fn facts(ended: &Ended) -> StepFacts {
    StepFacts {
        status: ended.status,
        error: ended.error.clone(),
        action: ended.action.clone(),
        record: ended.record.clone().filter(|_| ended.status == StepStatus::Succeeded),
    }
}
