//! A verb, once: its arguments, its beginning, its end. What calls do in between is `call.rs`, what questions do `ask.rs`.

use serde_json::json;

use super::iterate::{broken, without};
use super::state::{Failure, GraphRef, IterationEnd, Parent, Phase, Purpose, Scope, Spot};
use super::{Run, paths};
use crate::{
    Asking, Callee, Command, ErrorKind, Evaluated, Expr, Form, Job, Source, StepError, StepStatus, Target, ValueRef,
    Verb, Wait, Want,
};

impl Run<'_> {
    /// Begins a round's verb: arguments first, since they stay the same over its attempts.
    pub(super) fn start_attempts(&mut self, spot: &Spot) {
        let Some(step) = self.step_of(spot) else { return };
        let value = |expr: &Expr, want| Job::Eval { source: expr.source.clone(), want };
        let (exprs, jobs): (Vec<&Expr>, Vec<Job>) = match &step.verb {
            Verb::Call { target: Target::Fixed(callee), with } => {
                if let Some(iteration) = self.iteration(spot) {
                    iteration.callee = Some(callee.clone());
                }
                (vec![with], vec![self.arguments(callee, with)])
            }
            Verb::Call { target: Target::OneOf { choice, .. }, with } => {
                (vec![choice, with], vec![value(choice, Want::String), value(with, Want::Value)])
            }
            Verb::Sample { request, .. } => (vec![request], vec![value(request, Want::Value)]),
            Verb::Elicit { message, form: Form::Url(url), .. } => {
                (vec![message, url], vec![value(message, Want::String), value(url, Want::String)])
            }
            Verb::Elicit { message, .. } => (vec![message], vec![value(message, Want::String)]),
            Verb::Read { uri, .. } => {
                let source = Source::Map([("uri".to_owned(), uri.source.clone())].into_iter().collect());
                (vec![uri], vec![Job::Eval { source, want: Want::Value }])
            }
            Verb::Set { value: expr } => (vec![expr], vec![value(expr, Want::Record)]),
            Verb::Wait(Wait::Until(until)) => (vec![until], vec![value(until, Want::Time)]),
            Verb::Wait(Wait::For(_)) | Verb::Do { .. } => return self.dispatch(spot),
        };
        let op = format!("{}?args", self.path(spot));
        let scope = self.sees(spot, &exprs, None);
        self.owe(op.clone(), spot.clone(), Purpose::Args, Command::Eval { op, jobs, scope });
    }

    /// The arguments of a call; a workflow's are its input, which has a schema.
    fn arguments(&self, callee: &Callee, with: &Expr) -> Job {
        let source = with.source.clone();
        match callee {
            Callee::Tool { .. } => Job::Eval { source, want: Want::Value },
            Callee::Workflow { name } => {
                let schema = self.plan.workflows.get(name).map_or(json!({}), |workflow| workflow.input_schema.clone());
                Job::Input { source, schema }
            }
        }
    }

    pub(super) fn argued(&mut self, spot: &Spot, results: &[Evaluated]) {
        let Some(step) = self.step_of(spot) else { return };
        let mut values = Vec::with_capacity(results.len());
        for result in results {
            match result {
                Evaluated::Value(value) => values.push(value.clone()),
                Evaluated::Absent { step } => {
                    let note = format!("it comes to nothing, because `{step}` did not succeed");
                    return self.end_iteration(spot, without(StepStatus::Skipped, &note));
                }
                other => return self.fail_iteration(spot, broken(Some(other), "its arguments")),
            }
        }
        let Some(last) = values.last().cloned() else {
            return self.fail_iteration(spot, broken(None, "its arguments"));
        };
        if let Verb::Call { target: Target::OneOf { among, .. }, with } = &step.verb {
            let chosen = self.iteration(spot).and_then(|iteration| iteration.callee.clone());
            if chosen.is_none() {
                let name = values.first().and_then(ValueRef::as_inline).and_then(|name| name.as_str()).unwrap_or("");
                let Some(callee) = Target::chosen(among, name) else {
                    let names = among.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                    let message = format!("`{name}` can't be called here; what can is {names}");
                    return self.fail_iteration(spot, StepError { kind: ErrorKind::Denied, message });
                };
                if let Some(iteration) = self.iteration(spot) {
                    iteration.callee = Some(callee.clone());
                }
                if matches!(callee, Callee::Workflow { .. }) {
                    // The input's schema is known only now.
                    let (jobs, scope) = (vec![self.arguments(&callee, with)], self.sees(spot, &[with], None));
                    let op = format!("{}?args", self.path(spot));
                    return self.owe(op.clone(), spot.clone(), Purpose::Args, Command::Eval { op, jobs, scope });
                }
            }
        }
        if let Verb::Set { .. } = &step.verb {
            return self.judge(spot, last);
        }
        if let (Verb::Elicit { form: Form::Url(_), .. }, [message, url]) = (&step.verb, values.as_slice()) {
            // One value holds both.
            let text = |value: &ValueRef| value.as_inline().cloned().unwrap_or_default();
            let both = ValueRef::inline(json!({ "message": text(message), "url": text(url) }));
            if let Some(iteration) = self.iteration(spot) {
                iteration.args = Some(both);
            }
        } else if let Some(iteration) = self.iteration(spot) {
            iteration.args = Some(last);
        }
        self.dispatch(spot);
    }

    /// Starts an attempt.
    pub(super) fn dispatch(&mut self, spot: &Spot) {
        let Some(step) = self.step_of(spot) else { return };
        if self.scope(&spot.scope).is_none_or(|scope| scope.stopping) {
            return self.end_iteration(spot, IterationEnd::cancelled());
        }
        let Some(iteration) = self.iteration(spot) else { return };
        let (args, callee) = (iteration.args.clone(), iteration.callee.clone());
        let args = args.unwrap_or_else(|| ValueRef::inline(serde_json::Value::Null));
        if let Some(timeout) = step.timeout_ms {
            let op = format!("{}!timeout", self.attempt_path(spot));
            self.timer(op, spot, Purpose::Timeout, timeout);
        }
        match (&step.verb, callee) {
            (Verb::Call { .. }, Some(Callee::Workflow { name })) => self.enter_workflow(spot, name, args),
            (Verb::Call { .. }, _) => self.prepare(spot),
            (Verb::Sample { .. }, _) => self.sample(spot),
            (Verb::Read { .. }, _) => self.read(spot),
            (Verb::Elicit { form, by, .. }, _) => {
                let text = |value: Option<&serde_json::Value>| {
                    value.and_then(|value| value.as_str()).unwrap_or_default().to_owned()
                };
                let value = args.as_inline();
                let ask = match form {
                    Form::Confirm => {
                        Asking::Form { message: text(value), schema: json!({ "type": "object", "properties": {} }) }
                    }
                    Form::Fields(schema) => Asking::Form { message: text(value), schema: schema.clone() },
                    Form::Url(_) => Asking::Url {
                        message: text(value.and_then(|value| value.get("message"))),
                        url: text(value.and_then(|value| value.get("url"))),
                    },
                };
                self.ask_step(spot, *by, ask);
            }
            (Verb::Wait(wait), _) => {
                if let Some(iteration) = self.iteration(spot) {
                    iteration.phase = Phase::Waiting;
                }
                let op = format!("{}!wait", self.path(spot));
                match wait {
                    Wait::For(after) => self.timer(op, spot, Purpose::Wait, *after),
                    Wait::Until(_) => {
                        let due = args.as_inline().and_then(serde_json::Value::as_u64).unwrap_or(0);
                        self.timer_at(op, spot, Purpose::Wait, due);
                    }
                }
            }
            (Verb::Do { .. }, _) => self.enter_block(spot),
            (Verb::Set { .. }, _) => {}
        }
    }

    fn enter_block(&mut self, spot: &Spot) {
        let path = self.path(spot);
        let vars = self.vars_at(spot);
        let Some(scope) = self.state.scopes.get(&spot.scope) else { return };
        let (mut graph, depth) = (scope.graph.clone(), scope.depth);
        graph.at.push(spot.step.clone());
        self.set_phase(spot, Phase::Inside);
        self.forget_trail(spot);
        self.open(path, Scope::new(graph, Parent::Step(spot.clone()), vars, depth));
    }

    fn enter_workflow(&mut self, spot: &Spot, name: String, input: ValueRef) {
        let depth = self.state.scopes.get(&spot.scope).map_or(1, |scope| scope.depth) + 1;
        if depth > self.plan.limits.depth {
            let hops = self.hops(&spot.scope);
            let names: Vec<&str> = hops.iter().map(|hop| hop.workflow.as_str()).collect();
            let error = self.too_deep(&format!("{} → …", names.join(" → ")));
            return self.fail_iteration(spot, error);
        }
        let path = self.path(spot);
        self.set_phase(spot, Phase::Inside);
        self.forget_trail(spot);
        self.open_workflow(path, name, input, Parent::Step(spot.clone()), depth);
    }

    /// A block or nested workflow is over.
    pub(super) fn inner_closed(&mut self, spot: &Spot, result: Result<ValueRef, Option<Failure>>) {
        self.drop_attempt_timer(spot);
        let overdue = self.iteration(spot).is_some_and(|iteration| iteration.overdue);
        match result {
            Ok(record) => self.attempt_done(spot, record),
            Err(_) if overdue => self.exhausted(spot),
            Err(Some(failure)) => self.end_iteration(spot, IterationEnd::Failed(failure)),
            Err(None) => self.end_iteration(spot, IterationEnd::cancelled()),
        }
    }

    /// The verb succeeded.
    pub(super) fn attempt_done(&mut self, spot: &Spot, record: ValueRef) {
        self.drop_attempt_timer(spot);
        self.arm_undo(spot, &record);
        if self.scope(&spot.scope).is_none_or(|scope| scope.stopping) {
            return self.end_iteration(spot, IterationEnd::Succeeded(record));
        }
        self.judge(spot, record);
    }

    fn arm_undo(&mut self, spot: &Spot, record: &ValueRef) {
        let Some(undo) = self.step_of(spot).and_then(|step| step.undo.as_ref()) else { return };
        let Some(scope) = self.state.scopes.get(&spot.scope) else { return };
        let mut graph = scope.graph.clone();
        graph.at.extend([spot.step.clone(), GraphRef::UNDO.to_owned()]);
        let exprs: Vec<&Expr> = undo.steps.iter().flat_map(|step| step.verb.exprs()).collect();
        let sees = self.sees(spot, &exprs, Some(record));
        let path = self.path(spot);
        self.state.armed.push(super::state::Armed {
            path,
            scope: spot.scope.clone(),
            graph,
            vars: sees.vars,
            facts: sees.steps,
        });
    }

    pub(super) fn timed_out(&mut self, spot: &Spot) {
        let timeout = self.step_of(spot).and_then(|step| step.timeout_ms).unwrap_or(0);
        self.cut_short(spot, &format!("no end within {timeout} ms (`timeout`)"));
    }

    /// Ends what an iteration is doing, because its time is over.
    pub(super) fn cut_short(&mut self, spot: &Spot, why: &str) {
        let Some(phase) = self.iteration(spot).map(|iteration| iteration.phase) else { return };
        match phase {
            Phase::Inside => {
                let path = self.path(spot);
                let error = StepError { kind: ErrorKind::Timeout, message: why.to_owned() };
                let failure = self.failure(spot, error);
                self.stop_scope(&path, Some(failure));
            }
            _ => {
                let sent = phase == Phase::Calling;
                if phase == Phase::Doubting {
                    let path = self.path(spot);
                    self.state.may_have_happened.push(path);
                }
                self.abandon(spot);
                self.call_failed(spot, ErrorKind::Timeout, why.to_owned(), sent);
            }
        }
    }

    pub(super) fn fail_iteration(&mut self, spot: &Spot, error: StepError) {
        self.drop_attempt_timer(spot);
        let failure = self.failure(spot, error);
        self.end_iteration(spot, IterationEnd::Failed(failure));
    }

    pub(super) fn set_phase(&mut self, spot: &Spot, phase: Phase) {
        if let Some(iteration) = self.iteration(spot) {
            iteration.phase = phase;
        }
    }

    pub(super) fn drop_attempt_timer(&mut self, spot: &Spot) {
        if self.step_of(spot).is_none_or(|step| step.timeout_ms.is_none()) {
            return;
        }
        let op = format!("{}!timeout", self.attempt_path(spot));
        self.drop_timer(&op);
    }

    /// Drops everything that is owed to an iteration, and tells who is working on it.
    pub(super) fn abandon(&mut self, spot: &Spot) {
        let ops: Vec<String> =
            self.state.ops.iter().filter(|(_, op)| op.spot == *spot).map(|(id, _)| id.clone()).collect();
        let mut called = false;
        for id in ops {
            // The bound of a `repeat` outlives its attempts, and samplings have a way of their own to end.
            let purpose = self.state.ops.get(&id).map(|op| op.purpose);
            if matches!(purpose, Some(Purpose::Within | Purpose::Sampling)) {
                continue;
            }
            match self.take(&id).map(|op| op.purpose) {
                Some(Purpose::Call { .. }) => {
                    called = true;
                    self.forfeit(spot);
                    self.out.push(Command::CancelCall { op: id });
                }
                Some(Purpose::Timeout | Purpose::Every | Purpose::Backoff | Purpose::Again | Purpose::Wait) => {
                    self.out.push(Command::CancelTimer { op: id });
                }
                _ => {}
            }
        }
        if !called {
            self.cancel_task(spot);
        }
        self.withdraw_of(spot);
    }

    /// The path that an iteration's scope has, when it is a block or nested workflow.
    pub(super) fn forget_trail(&mut self, spot: &Spot) {
        let prefix = paths::iteration(spot);
        self.state
            .trail
            .retain(|path, _| path.strip_prefix(prefix.as_str()).is_none_or(|rest| !rest.starts_with([':', '/'])));
    }
}
