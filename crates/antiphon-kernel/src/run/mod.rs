//! The rules of a run: what each event changes, and what is to be done next.
//!
//! A run is a set of *scopes* (the root, a block's round, a nested workflow, an undo). A scope holds its steps; a step that has
//! started holds its *iterations* (one, or one an item); an iteration lives through rounds and attempts. Work that the
//! driver owes an answer for is an *op*, named by path, never by order.

mod ask;
mod attempt;
mod back;
mod budget;
mod call;
mod end;
mod iterate;
mod lookup;
mod paths;
mod sampling;
mod schedule;
mod show;
mod state;

use crate::{Command, Entry, ErrorKind, Event, EventKind, Hop, Outcome, Plan, ValueRef};

pub use show::view;
pub use state::State;
use state::{Op, Parent, Purpose, Spot};

/// Applies one event and says what is to be done next. Events that come too late, or twice, change nothing.
pub fn step(plan: &Plan, state: &mut State, event: &Event) -> Vec<Command> {
    state.now = state.now.max(event.at);
    let mut run = Run { plan, state, out: Vec::new() };
    if run.state.outcome.is_none() {
        run.apply(&event.kind);
        run.unpark();
        run.settle_clock();
    }
    run.out
}

/// The state under change, and the commands so far.
struct Run<'a> {
    plan: &'a Plan,
    state: &'a mut State,
    out: Vec<Command>,
}

impl Run<'_> {
    fn apply(&mut self, event: &EventKind) {
        if matches!(event, EventKind::Started { .. }) == self.state.started {
            return;
        }
        match event {
            EventKind::Started { key, input, route, caller_samples } => {
                self.state.no_caller = !caller_samples;
                self.start(key, input, route);
            }
            EventKind::Evaluated { op, results } => {
                if let Some(op) = self.take(op) {
                    self.evaluated(op, results);
                }
            }
            EventKind::Prepared { op, class, price, tools, .. } => {
                if let Some(op) = self.take(op) {
                    self.prepared(&op.spot, *class, *price, tools.clone());
                }
            }
            EventKind::Done { op: id, record, usage } => {
                if let Some(op) = self.take(id) {
                    let usage = usage.unwrap_or_default();
                    match op.purpose {
                        Purpose::Sampling => self.sampling_done(id, record, usage),
                        _ => self.call_done(&op.spot, record.clone(), usage),
                    }
                }
            }
            EventKind::Failed { op: id, kind, message, in_doubt, usage } => {
                if let Some(op) = self.take(id) {
                    let in_doubt = *in_doubt && matches!(op.purpose, Purpose::Call { .. });
                    match op.purpose {
                        Purpose::Sampling => self.sampling_failed(id, *kind, message, *usage),
                        _ => {
                            self.settle_failed(&op.spot, *kind, *usage);
                            if !self.begin_anew(&op.spot, *kind) {
                                self.call_failed(&op.spot, *kind, message.clone(), in_doubt);
                            }
                        }
                    }
                }
            }
            EventKind::Asked { op, name, request, terms } => self.asked(op, name, request, terms),
            EventKind::NeedsInput { op: id, requests, state, terms } => {
                if let Some(op) = self.take(id) {
                    match op.purpose {
                        Purpose::Sampling => self.sampling_needs(id, requests, state.clone()),
                        _ => self.needs_input(&op.spot, requests, state.clone(), terms),
                    }
                }
            }
            EventKind::Detached { op: id, handle } => {
                if let Some(op) = self.take(id) {
                    match op.purpose {
                        Purpose::Sampling => self.sampling_failed(id, ErrorKind::Model, "it became a task", None),
                        _ => self.detached(&op.spot, handle),
                    }
                }
            }
            EventKind::Input { key, answer } => self.answered(key, answer),
            EventKind::Timer { op } => {
                if let Some(op) = self.take(op) {
                    self.due(op);
                }
            }
            EventKind::Cancel { reason } => self.cancel(reason),
            EventKind::Resumed => self.resume(),
        }
    }

    fn start(&mut self, key: &str, input: &ValueRef, route: &[Hop]) {
        self.state.started = true;
        self.state.key = key.to_owned();
        self.state.route = route.to_vec();
        let root = self.plan.root.clone();
        let depth = u32::try_from(route.len()).unwrap_or(u32::MAX).saturating_add(1);
        if depth > self.plan.limits.depth {
            let own = self.plan.workflows.get(&root).and_then(|workflow| workflow.agent.as_deref()).unwrap_or(&root);
            let names: Vec<&str> = route.iter().map(|hop| hop.workflow.as_str()).chain([own]).collect();
            let error = self.too_deep(&names.join(" → "));
            return self.finish(Outcome::Failed { path: None, error });
        }
        self.open_workflow(paths::ROOT.to_owned(), root, input.clone(), Parent::Run, depth);
    }

    fn evaluated(&mut self, op: Op, results: &[crate::Evaluated]) {
        let spot = op.spot;
        match op.purpose {
            Purpose::When => self.decided(&spot, results),
            Purpose::Items => self.listed(&spot, results),
            Purpose::Args => self.argued(&spot, results),
            Purpose::Until => self.until_known(&spot, results),
            Purpose::Expect => self.expect_known(&spot, results),
            Purpose::Fallback => self.fallback_known(&spot, results),
            Purpose::Collect => self.collected(&spot, results),
            Purpose::Output => self.output_known(&spot.scope, results),
            _ => {}
        }
    }

    fn due(&mut self, op: Op) {
        let spot = op.spot;
        match op.purpose {
            Purpose::Timeout => self.timed_out(&spot),
            Purpose::Within => self.within_passed(&spot),
            Purpose::Every => self.start_round(&spot),
            Purpose::Backoff => self.dispatch(&spot),
            Purpose::Again => self.again(&spot),
            Purpose::Wait => self.attempt_done(&spot, ValueRef::inline(serde_json::json!({ "output": null }))),
            Purpose::Grace => self.grace_passed(),
            _ => {}
        }
    }

    /// After a crash: everything owed is asked for again. A call that must not be repeated is in doubt.
    fn resume(&mut self) {
        self.state.working_since = None;
        self.state.edges.values_mut().for_each(|edge| edge.working_since = None);
        for (id, op) in self.state.ops.clone() {
            match op.purpose {
                // What came before it has dropped it.
                _ if !self.state.ops.contains_key(&id) => {}
                Purpose::Call { class: crate::EffectClass::AtMostOnce, attached: false } => {
                    self.take(&id);
                    let message = "the run was interrupted while the call was under way".to_owned();
                    self.call_failed(&op.spot, ErrorKind::Unavailable, message, true);
                }
                // Nobody will say what it used: that counts as used, and what is left has to do.
                Purpose::Call { .. } if self.has_reserved(&op.spot) => {
                    self.take(&id);
                    self.forfeit(&op.spot);
                    self.sample(&op.spot);
                }
                Purpose::Sampling if matches!(op.command, Some(Command::Call { entry: Entry::Fresh, .. })) => {
                    self.sampling_lost(&id);
                }
                Purpose::Call { .. } => {
                    self.ask_again(&op.spot, op.command.as_ref());
                    self.out.extend(op.command);
                }
                _ => self.out.extend(op.command),
            }
        }
    }

    /// Registers work that the driver owes an answer for, and commands it.
    fn owe(&mut self, id: String, spot: Spot, purpose: Purpose, command: Command) {
        if matches!(purpose, Purpose::Call { attached: false, .. } | Purpose::Sampling) {
            self.state.calling += 1;
        }
        self.out.push(command.clone());
        self.state.ops.insert(id, Op { spot, purpose, command: Some(command) });
    }

    /// Takes an op out: whoever answers second finds nothing.
    fn take(&mut self, id: &str) -> Option<Op> {
        let op = self.state.ops.remove(id)?;
        if matches!(op.purpose, Purpose::Call { attached: false, .. } | Purpose::Sampling) {
            self.state.calling -= 1;
        }
        Some(op)
    }

    fn timer(&mut self, id: String, spot: &Spot, purpose: Purpose, after_ms: u64) {
        let due = self.state.now.saturating_add(after_ms);
        self.timer_at(id, spot, purpose, due);
    }

    fn timer_at(&mut self, id: String, spot: &Spot, purpose: Purpose, due: u64) {
        self.owe(id.clone(), spot.clone(), purpose, Command::Timer { op: id, due });
    }

    fn drop_timer(&mut self, id: &str) {
        if self.take(id).is_some() {
            self.out.push(Command::CancelTimer { op: id.to_owned() });
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        for (id, op) in std::mem::take(&mut self.state.ops) {
            if matches!(op.command, Some(Command::Timer { .. })) {
                self.out.push(Command::CancelTimer { op: id });
            }
        }
        self.state.calling = 0;
        self.state.outcome = Some(outcome.clone());
        self.out.push(Command::Finish(outcome));
    }
}
