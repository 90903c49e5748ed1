//! What runs when: scopes open, steps start as what they depend on ends, scopes close.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::state::{Ended, Failure, GraphRef, Parent, Purpose, Scope, Spot, StepState};
use super::{Run, paths};
use crate::{Command, Evaluated, Expr, Job, Outcome, Output, Slot, Source, Step, StepStatus, ValueRef};

/// What becomes of a step whose turn it is.
enum Turn {
    NotYet,
    Start,
    Skip(String),
    Cancel,
}

impl Run<'_> {
    /// Opens the scope of a workflow: it sees its input and `run`, nothing of its caller.
    pub(super) fn open_workflow(
        &mut self,
        path: String,
        workflow: String,
        input: ValueRef,
        parent: Parent,
        depth: u32,
    ) {
        let run = Slot::Value(ValueRef::inline(serde_json::json!({ "key": self.state.key })));
        let vars = BTreeMap::from([("input".to_owned(), Slot::Value(input)), ("run".to_owned(), run)]);
        let graph = GraphRef { workflow, at: Vec::new() };
        self.open(path, Scope::new(graph, parent, vars, depth));
    }

    pub(super) fn open(&mut self, path: String, mut scope: Scope) {
        let Some(graph) = super::lookup::graph(self.plan, &scope.graph) else { return };
        scope.steps = graph.steps.iter().map(|step| (step.id.clone(), StepState::Waiting)).collect();
        self.state.scopes.insert(path.clone(), scope);
        self.advance(&path);
    }

    /// Starts every step whose turn has come; closes the scope when all have ended.
    pub(super) fn advance(&mut self, path: &str) {
        let Some(graph) = self.graph_of(path) else { return };
        let mut settled = false;
        while !settled {
            settled = true;
            for (place, step) in graph.steps.iter().enumerate() {
                match self.turn(path, place, step) {
                    Turn::NotYet => continue,
                    Turn::Start => self.begin(&Spot { scope: path.to_owned(), step: step.id.clone(), index: None }),
                    Turn::Skip(note) => self.end_unstarted(path, &step.id, StepStatus::Skipped, Some(note)),
                    Turn::Cancel => self.end_unstarted(path, &step.id, StepStatus::Cancelled, None),
                }
                // Only what has ended can change whose turn it is.
                settled &= self.ending(path, &step.id).is_none();
            }
        }
        let Some(scope) = self.scope(path) else { return };
        if !scope.closing && scope.steps.values().all(|step| matches!(step, StepState::Ended(_))) {
            scope.closing = true;
            self.close(path);
        }
    }

    /// A step starts when everything it refers to has ended; without success of what it uses it is skipped; while its
    /// scope is failing only those start that ask about something that did not succeed.
    fn turn(&self, path: &str, place: usize, step: &Step) -> Turn {
        let Some(scope) = self.state.scopes.get(path) else { return Turn::NotYet };
        if !matches!(scope.steps.get_index(place), Some((_, StepState::Waiting))) {
            return Turn::NotYet;
        }
        if scope.stopping {
            return Turn::Cancel;
        }
        let mut missing = None;
        let mut asks = false;
        for (id, dep) in &step.deps {
            let Some(ending) = self.ending(path, id) else { return Turn::NotYet };
            let status = ending.status();
            if status == StepStatus::Succeeded {
                continue;
            }
            asks |= dep.asks;
            if dep.uses && missing.is_none() {
                missing = Some((id, status));
            }
        }
        match missing {
            _ if scope.failing.is_some() && !asks => Turn::Cancel,
            Some((id, status)) => Turn::Skip(format!("it uses `{id}`, which {}", said(status))),
            None => Turn::Start,
        }
    }

    fn end_unstarted(&mut self, path: &str, id: &str, status: StepStatus, note: Option<String>) {
        let ended = Ended { note, ..Ended::at(status, None, self.state.now) };
        if let Some(step) = self.scope(path).and_then(|scope| scope.steps.get_mut(id)) {
            *step = StepState::Ended(ended);
        }
    }

    /// A scope in which every step has ended: it fails and undoes, or yields its output.
    pub(super) fn close(&mut self, path: &str) {
        let Some(scope) = self.state.scopes.get(path) else { return };
        if scope.failing.is_some() || scope.stopping {
            self.unwind(path);
            return;
        }
        let Some(graph) = self.graph_of(path) else { return };
        let schema = match scope.graph.at.is_empty() {
            true => self.plan.workflows.get(&scope.graph.workflow).and_then(|workflow| workflow.output_schema.clone()),
            false => None,
        };
        let spot = Spot { scope: path.to_owned(), step: String::new(), index: None };
        let record = |id: &String| match scope.steps.get(id) {
            Some(StepState::Ended(ended)) if ended.status == StepStatus::Succeeded => ended.record.clone(),
            _ => None,
        };
        let (job, sees) = match &graph.output {
            Some(Output::Of(steps)) => {
                let none = || ValueRef::inline(serde_json::json!({ "output": null }));
                let record = steps.iter().find_map(record).unwrap_or_else(none);
                return self.closed(path, Ok(record));
            }
            Some(Output::Table(output)) => {
                let exprs: Vec<&Expr> = output.values().collect();
                let entries: Vec<(String, Source)> =
                    output.iter().map(|(name, expr)| (name.clone(), expr.source.clone())).collect();
                (Job::Outputs { entries, schema }, self.sees(&spot, &exprs, None))
            }
            None => {
                let entries =
                    graph.steps.iter().filter_map(|step| Some((step.id.clone(), record(&step.id)?))).collect();
                (Job::Gather { entries, schema }, crate::Scope::default())
            }
        };
        let op = format!("{path}?output");
        let command = Command::Eval { op: op.clone(), jobs: vec![job], scope: sees };
        self.owe(op, spot, Purpose::Output, command);
    }

    pub(super) fn output_known(&mut self, path: &str, results: &[Evaluated]) {
        match results.first() {
            // Cancelled in the last moment.
            _ if self.scope(path).is_none_or(|scope| scope.stopping) => self.unwind(path),
            Some(Evaluated::Value(record)) => self.closed(path, Ok(record.clone())),
            other => {
                let error = super::iterate::broken(other, "the output");
                if let Some(scope) = self.scope(path) {
                    scope.failing = Some(Failure { path: None, error });
                }
                self.unwind(path);
            }
        }
    }

    /// The scope is over. What it means is its parent's affair.
    pub(super) fn closed(&mut self, path: &str, result: Result<ValueRef, Option<Failure>>) {
        self.leave_trail(path);
        let Some(scope) = self.state.scopes.remove(path) else { return };
        match scope.parent {
            Parent::Run => {
                let outcome = match result {
                    Ok(record) => Outcome::Succeeded { record },
                    Err(Some(failure)) => Outcome::Failed { path: failure.path, error: failure.error },
                    Err(None) => Outcome::Cancelled { reason: self.state.cancel.clone().unwrap_or_default() },
                };
                self.finish(outcome);
            }
            Parent::Step(spot) => self.inner_closed(&spot, result),
            Parent::Call { spot, why } => self.frame_closed(path, &spot, why, result),
            Parent::Undo(of) => {
                if let Err(Some(failure)) = result {
                    let undone = path.strip_suffix("/undo").unwrap_or(path);
                    self.state.not_undone.push(format!("{undone}: {}", failure.error.message));
                }
                self.unwind(&of);
            }
        }
    }

    /// Takes back, newest first, what succeeded inside a scope that fails or is cancelled; then closes it.
    fn unwind(&mut self, path: &str) {
        match self.state.armed.iter().rposition(|armed| paths::within(&armed.scope, path)) {
            Some(position) => {
                let armed = self.state.armed.remove(position);
                let mut scope = Scope::new(armed.graph, Parent::Undo(path.to_owned()), armed.vars, 1);
                scope.facts = armed.facts;
                self.open(paths::step(&armed.path, "undo"), scope);
            }
            None => {
                let failure = self.state.scopes.get(path).and_then(|scope| scope.failing.clone());
                self.closed(path, Err(failure));
            }
        }
    }
}

impl Scope {
    pub(super) fn new(graph: GraphRef, parent: Parent, vars: BTreeMap<String, Slot>, depth: u32) -> Self {
        Self {
            graph,
            parent,
            vars,
            facts: BTreeMap::new(),
            steps: IndexMap::default(),
            failing: None,
            stopping: false,
            closing: false,
            depth,
        }
    }
}

impl Ended {
    pub(super) fn at(status: StepStatus, started_at: Option<u64>, ended_at: u64) -> Self {
        Self { status, error: None, note: None, action: None, record: None, started_at, ended_at }
    }
}

/// A status in a sentence about a step.
fn said(status: StepStatus) -> &'static str {
    match status {
        StepStatus::Succeeded => "succeeded",
        StepStatus::Skipped => "was skipped",
        StepStatus::Failed => "failed",
        StepStatus::Cancelled => "was cancelled",
    }
}
