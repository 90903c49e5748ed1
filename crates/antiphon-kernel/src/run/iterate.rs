//! The modifiers around a verb, from the outside in: `when`, `for_each`, `repeat`; and `expect` on the result.

use super::state::{Active, Ended, Failure, Items, Iteration, IterationEnd, Phase, Purpose, Spot, StepState};
use super::{Run, paths};
use crate::{
    Command, ErrorKind, Evaluated, Exhausted, Expr, ForEach, Job, OnError, StepError, StepStatus, Tolerate, ValueRef,
    Want,
};

/// The error of an evaluation that should have yielded a value.
pub(super) fn broken(result: Option<&Evaluated>, what: &str) -> StepError {
    let (kind, message) = match result {
        Some(Evaluated::Error { kind, message }) => (*kind, message.clone()),
        Some(Evaluated::Absent { step }) => {
            (ErrorKind::Template, format!("{what} comes to nothing, because `{step}` did not succeed"))
        }
        _ => (ErrorKind::Template, format!("{what} could not be evaluated")),
    };
    StepError { kind, message }
}

fn yes(results: &[Evaluated]) -> Option<bool> {
    match results.first()? {
        Evaluated::Value(value) => value.as_inline()?.as_bool(),
        _ => None,
    }
}

impl Run<'_> {
    /// Evaluates one expression of a step for a purpose.
    fn ask_eval(
        &mut self,
        op: String,
        spot: &Spot,
        purpose: Purpose,
        expr: &Expr,
        want: Want,
        output: Option<ValueRef>,
    ) {
        let scope = self.sees(spot, &[expr], output.as_ref());
        let jobs = vec![Job::Eval { source: expr.source.clone(), want }];
        self.owe(op.clone(), spot.clone(), purpose, Command::Eval { op, jobs, scope });
    }

    /// A step's turn has come.
    pub(super) fn begin(&mut self, spot: &Spot) {
        let now = self.state.now;
        let Some(step) = self.step_of(spot) else { return };
        if let Some(state) = self.scope(&spot.scope).and_then(|scope| scope.steps.get_mut(&spot.step)) {
            *state = StepState::Active(Active { started_at: now, ..Active::default() });
        }
        match &step.when {
            Some(when) => {
                let op = format!("{}?when", paths::step(&spot.scope, &spot.step));
                self.ask_eval(op, spot, Purpose::When, when, Want::Bool, None);
            }
            None => self.spread(spot),
        }
    }

    pub(super) fn decided(&mut self, spot: &Spot, results: &[Evaluated]) {
        match (yes(results), results.first()) {
            (Some(true), _) => self.spread(spot),
            (Some(false), _) => self.end_step(spot, without(StepStatus::Skipped, "its `when` is false")),
            (None, Some(Evaluated::Absent { step })) => {
                let note = format!("its `when` comes to nothing, because `{step}` did not succeed");
                self.end_step(spot, without(StepStatus::Skipped, &note));
            }
            (None, other) => self.fail_step(spot, broken(other, "`when`")),
        }
    }

    /// One iteration, or one for each item.
    fn spread(&mut self, spot: &Spot) {
        let Some(step) = self.step_of(spot) else { return };
        match &step.for_each {
            Some(each) => {
                let op = format!("{}?items", paths::step(&spot.scope, &spot.step));
                self.ask_eval(op, spot, Purpose::Items, &each.items, Want::List, None);
            }
            None => self.start_iteration(spot.clone()),
        }
    }

    pub(super) fn listed(&mut self, spot: &Spot, results: &[Evaluated]) {
        match results.first() {
            Some(Evaluated::List { len, .. }) if *len > ForEach::MAX_ITEMS => {
                let message = format!("`for_each` got {len} items; it takes at most {}", ForEach::MAX_ITEMS);
                self.fail_step(spot, StepError { kind: ErrorKind::Template, message });
            }
            Some(Evaluated::List { list, len }) => {
                if let Some(active) = self.active(spot) {
                    active.items = Some(Items { list: list.clone(), len: *len as u32, next: 0 });
                }
                self.next_items(spot);
            }
            Some(Evaluated::Absent { step }) => {
                let note = format!("its `for_each` comes to nothing, because `{step}` did not succeed");
                self.end_step(spot, without(StepStatus::Skipped, &note));
            }
            other => self.fail_step(spot, broken(other, "`for_each`")),
        }
    }

    /// Starts items up to the concurrency; collects when all have ended.
    fn next_items(&mut self, spot: &Spot) {
        let Some(each) = self.step_of(spot).and_then(|step| step.for_each.as_ref()) else { return };
        loop {
            let stopping = self.scope(&spot.scope).is_none_or(|scope| scope.stopping);
            let Some(active) = self.active(spot) else { return };
            let Some(items) = &mut active.items else { return };
            let more = items.next < items.len && active.giving_up.is_none() && !stopping;
            if more && active.iterations.len() < each.concurrency.max(1) as usize {
                let index = items.next;
                items.next += 1;
                self.start_iteration(Spot { index: Some(index), ..spot.clone() });
                continue;
            }
            if more || !active.iterations.is_empty() {
                return;
            }
            if let Some(failure) = active.giving_up.clone() {
                return self.end_step(spot, IterationEnd::Failed(failure));
            }
            if stopping {
                return self.end_step(spot, IterationEnd::cancelled());
            }
            return self.collect(spot);
        }
    }

    fn collect(&mut self, spot: &Spot) {
        let Some(active) = self.active(spot) else { return };
        let Some(items) = active.items.clone() else { return };
        let mut records = vec![None; items.len as usize];
        let mut errors = std::collections::BTreeMap::new();
        for (index, end) in &active.done {
            match end {
                IterationEnd::Succeeded(record) => records[*index as usize] = Some(record.clone()),
                IterationEnd::Failed(failure) => {
                    errors.insert(*index, failure.error.clone());
                }
                IterationEnd::Without { .. } => {}
            }
        }
        let op = format!("{}?collect", paths::step(&spot.scope, &spot.step));
        let jobs = vec![Job::Collect { records, items: items.list, errors }];
        let command = Command::Eval { op: op.clone(), jobs, scope: crate::Scope::default() };
        self.owe(op, spot.clone(), Purpose::Collect, command);
    }

    pub(super) fn collected(&mut self, spot: &Spot, results: &[Evaluated]) {
        match results.first() {
            Some(Evaluated::Value(record)) => self.end_step(spot, IterationEnd::Succeeded(record.clone())),
            other => self.fail_step(spot, broken(other, "the list of results")),
        }
    }

    fn start_iteration(&mut self, spot: Spot) {
        let started_at = self.state.now;
        let Some(step) = self.step_of(&spot) else { return };
        if let Some(active) = self.active(&spot) {
            let iteration = Iteration { started_at, ..Iteration::default() };
            active.iterations.insert(spot.index.unwrap_or(0), iteration);
        }
        if let Some(within) = step.repeat.as_ref().and_then(|repeat| repeat.within_ms) {
            self.timer(format!("{}!within", paths::iteration(&spot)), &spot, Purpose::Within, within);
        }
        self.start_round(&spot);
    }

    pub(super) fn start_round(&mut self, spot: &Spot) {
        let Some(iteration) = self.iteration(spot) else { return };
        *iteration = Iteration {
            round: iteration.round + 1,
            attempt: 1,
            key: 1,
            previous: iteration.record.take(),
            started_at: iteration.started_at,
            overdue: iteration.overdue,
            ..Iteration::default()
        };
        self.start_attempts(spot);
    }

    /// The verb succeeded. Is that enough?
    pub(super) fn judge(&mut self, spot: &Spot, record: ValueRef) {
        let Some(step) = self.step_of(spot) else { return };
        let Some(iteration) = self.iteration(spot) else { return };
        iteration.phase = Phase::Busy;
        iteration.record = Some(record.clone());
        match &step.repeat {
            Some(repeat) => match &repeat.until {
                Some(until) => {
                    let op = format!("{}?until", self.path(spot));
                    self.ask_eval(op, spot, Purpose::Until, until, Want::Bool, Some(record));
                }
                None => self.next_round(spot),
            },
            None => self.check_expect(spot),
        }
    }

    pub(super) fn until_known(&mut self, spot: &Spot, results: &[Evaluated]) {
        match yes(results) {
            Some(true) => self.check_expect(spot),
            Some(false) => self.next_round(spot),
            None => {
                self.end_iteration(spot, IterationEnd::Failed(self.failure(spot, broken(results.first(), "`until`"))))
            }
        }
    }

    fn next_round(&mut self, spot: &Spot) {
        let Some(repeat) = self.step_of(spot).and_then(|step| step.repeat.as_ref()) else { return };
        let Some(iteration) = self.iteration(spot) else { return };
        if iteration.overdue {
            return self.exhausted(spot);
        }
        if repeat.max.is_some_and(|max| iteration.round >= max) {
            return match repeat.until {
                Some(_) => self.exhausted(spot),
                None => self.check_expect(spot),
            };
        }
        match repeat.every_ms {
            Some(every) => {
                iteration.phase = Phase::Waiting;
                let op = format!("{}!every", self.path(spot));
                self.timer(op, spot, Purpose::Every, every);
            }
            None => self.start_round(spot),
        }
    }

    /// The time of a `repeat` is over: no further round, and the attempt under way is cut short.
    pub(super) fn within_passed(&mut self, spot: &Spot) {
        let Some(iteration) = self.iteration(spot) else { return };
        iteration.overdue = true;
        if iteration.phase != Phase::Busy {
            self.cut_short(spot, "the time of its `repeat` is over");
        }
    }

    /// A `repeat` reached its bound.
    pub(super) fn exhausted(&mut self, spot: &Spot) {
        let Some(repeat) = self.step_of(spot).and_then(|step| step.repeat.as_ref()) else { return };
        let Some(iteration) = self.iteration(spot) else { return };
        let last = iteration.record.take().or_else(|| iteration.previous.take());
        let round = iteration.round;
        match (repeat.exhausted, last) {
            (Exhausted::Last, Some(record)) => {
                iteration.record = Some(record);
                self.check_expect(spot);
            }
            _ => {
                let bound = match iteration.overdue {
                    true => "its time was over",
                    false => "that is its `max`",
                };
                let message = match self.agent_of(spot) {
                    Some(agent) => format!("the agent `{agent}` has not answered in {round} turns (`max_turns`)"),
                    None => format!("`until` was not true after {round} rounds, and {bound}"),
                };
                let failure = self.failure(spot, StepError { kind: ErrorKind::Exhausted, message });
                self.end_iteration(spot, IterationEnd::Failed(failure));
            }
        }
    }

    fn check_expect(&mut self, spot: &Spot) {
        let Some(step) = self.step_of(spot) else { return };
        let Some(record) = self.iteration(spot).and_then(|iteration| iteration.record.clone()) else { return };
        match &step.expect {
            Some(expect) => {
                let op = format!("{}?expect", self.path(spot));
                self.ask_eval(op, spot, Purpose::Expect, expect, Want::Bool, Some(record));
            }
            None => self.end_iteration(spot, IterationEnd::Succeeded(record)),
        }
    }

    pub(super) fn expect_known(&mut self, spot: &Spot, results: &[Evaluated]) {
        let record = self.iteration(spot).and_then(|iteration| iteration.record.clone());
        let error = match (yes(results), record) {
            (Some(true), Some(record)) => return self.end_iteration(spot, IterationEnd::Succeeded(record)),
            (Some(_), _) => {
                let source = match self.step_of(spot).and_then(|step| step.expect.as_ref()).map(|expr| &expr.source) {
                    Some(crate::Source::Expression(text)) => text.as_str(),
                    _ => "expect",
                };
                StepError { kind: ErrorKind::Expect, message: format!("expected `{source}`, and it is false") }
            }
            (None, _) => broken(results.first(), "`expect`"),
        };
        let failure = self.failure(spot, error);
        self.end_iteration(spot, IterationEnd::Failed(failure));
    }

    pub(super) fn failure(&self, spot: &Spot, error: StepError) -> Failure {
        Failure { path: Some(paths::iteration(spot)), error }
    }

    /// An iteration is over; of a plain step, the step.
    pub(super) fn end_iteration(&mut self, spot: &Spot, end: IterationEnd) {
        let Some(step) = self.step_of(spot) else { return };
        if step.repeat.as_ref().is_some_and(|repeat| repeat.within_ms.is_some()) {
            self.drop_timer(&format!("{}!within", paths::iteration(spot)));
        }
        let Some(active) = self.active(spot) else { return };
        let (Some(each), Some(index)) = (&step.for_each, spot.index) else {
            return self.end_step(spot, end);
        };
        active.iterations.remove(&index);
        active.done.insert(index, end.clone());
        let failed = active.done.values().filter(|end| matches!(end, IterationEnd::Failed(_))).count() as u64;
        let len = u64::from(active.items.as_ref().map_or(0, |items| items.len));
        let tolerated = match each.tolerate {
            Tolerate::None => 0,
            Tolerate::Count(count) => u64::from(count),
            Tolerate::Percent(percent) => len * u64::from(percent) / 100,
            Tolerate::All | Tolerate::WithinLimits => len,
        };
        if let IterationEnd::Failed(failure) = end {
            let spent = each.tolerate == Tolerate::WithinLimits && failure.error.kind == ErrorKind::Budget;
            if failed > tolerated || spent {
                active.giving_up.get_or_insert(failure);
            }
        }
        self.next_items(&Spot { index: None, ..spot.clone() });
    }

    pub(super) fn fail_step(&mut self, spot: &Spot, error: StepError) {
        let failure = self.failure(spot, error);
        self.end_step(spot, IterationEnd::Failed(failure));
    }

    /// A step is over, unless a fallback saves it.
    fn end_step(&mut self, spot: &Spot, end: IterationEnd) {
        let Some(step) = self.step_of(spot) else { return };
        let (now, started_at) = (self.state.now, self.active(spot).map(|active| active.started_at));
        let stopping = self.scope(&spot.scope).is_none_or(|scope| scope.stopping);
        let ended = match end {
            IterationEnd::Succeeded(record) => {
                // A question succeeds by being accepted, and in no other way.
                let asked = matches!(step.verb, crate::Verb::Elicit { .. }) && step.for_each.is_none();
                let action = asked.then(|| crate::Action::Accept.as_str().to_owned());
                Ended { record: Some(record), action, ..Ended::at(StepStatus::Succeeded, started_at, now) }
            }
            IterationEnd::Without { status, note, action } => {
                Ended { note, action, ..Ended::at(status, started_at, now) }
            }
            IterationEnd::Failed(failure) => {
                match &step.on_error {
                    OnError::Fallback(expr) if !stopping => {
                        let ended =
                            Ended { error: Some(failure.error), ..Ended::at(StepStatus::Failed, started_at, now) };
                        let op = format!("{}?fallback", paths::step(&spot.scope, &spot.step));
                        self.ask_eval(op, spot, Purpose::Fallback, expr, Want::Record, None);
                        // The step counts as active until the fallback is known; its error is kept meanwhile.
                        if let Some(active) = self.active(spot) {
                            active.giving_up = ended.error.map(|error| Failure { path: failure.path, error });
                        }
                        return;
                    }
                    OnError::Fail if !stopping => {
                        if let Some(scope) = self.scope(&spot.scope) {
                            scope.failing.get_or_insert(failure.clone());
                        }
                    }
                    _ => {}
                }
                Ended { error: Some(failure.error), ..Ended::at(StepStatus::Failed, started_at, now) }
            }
        };
        self.settle_step(spot, ended);
    }

    pub(super) fn fallback_known(&mut self, spot: &Spot, results: &[Evaluated]) {
        let now = self.state.now;
        let (started_at, failure) = match self.active(spot) {
            Some(active) => (Some(active.started_at), active.giving_up.take()),
            None => return,
        };
        match results.first() {
            Some(Evaluated::Value(record)) => {
                let error = failure.map(|failure| failure.error);
                let ended =
                    Ended { record: Some(record.clone()), error, ..Ended::at(StepStatus::Succeeded, started_at, now) };
                self.settle_step(spot, ended);
            }
            other => {
                let error = broken(other, "the `fallback`");
                let failure = self.failure(spot, error.clone());
                if let Some(scope) = self.scope(&spot.scope) {
                    scope.failing.get_or_insert(failure);
                }
                self.settle_step(spot, Ended { error: Some(error), ..Ended::at(StepStatus::Failed, started_at, now) });
            }
        }
    }

    fn settle_step(&mut self, spot: &Spot, ended: Ended) {
        if let Some(state) = self.scope(&spot.scope).and_then(|scope| scope.steps.get_mut(&spot.step)) {
            *state = StepState::Ended(ended);
        }
        self.cut_idle(&spot.scope);
        self.advance(&spot.scope);
    }
}

impl IterationEnd {
    pub(super) fn cancelled() -> Self {
        Self::Without { status: StepStatus::Cancelled, note: None, action: None }
    }
}

pub(super) fn without(status: StepStatus, note: &str) -> IterationEnd {
    IterationEnd::Without { status, note: Some(note.to_owned()), action: None }
}
