//! Calls: prepared, dispatched, answered; tried again, in doubt, attached to a server's task.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Run;
use super::sampling::is_sampling;
use super::state::{Asked, Iteration, IterationEnd, Landed, Phase, Purpose, Spot, Wanted, Why};
use crate::{
    Answer, Asking, By, CallSpec, Callee, Command, EffectClass, Entry, ErrorKind, Hop, OnDoubt, Price, Retry,
    StepError, StepStatus, Terms, Usage, ValueRef, Verb, What,
};

/// How often a call may ask before it is refused.
const MAX_ROUNDS: u32 = 10;
/// Pause before a call that said "again" is made again, or a lost poll resumed, in milliseconds.
const AGAIN_MS: u64 = 1_000;
/// The longest backoff, in milliseconds.
const MAX_BACKOFF_MS: u64 = 60_000;

impl Run<'_> {
    fn spec(&mut self, spot: &Spot, what: What) -> Option<CallSpec> {
        let step = self.step_of(spot)?;
        let (path, deadline, route) = (self.path(spot), self.deadline(spot), self.hops(&spot.scope));
        let allowance = self.iteration(spot).and_then(|iteration| iteration.reserved.allowance());
        let allowance = allowance.filter(|_| self.enforces());
        let iteration = self.iteration(spot)?;
        Some(CallSpec {
            what,
            args: iteration.args.clone().unwrap_or_else(|| ValueRef::inline(Value::Null)),
            attempt: iteration.attempt,
            key: format!("{path}#{}", iteration.key),
            path,
            declared: step.effects,
            deadline,
            route,
            tools: iteration.tools.clone(),
            allowance,
        })
    }

    /// When what an iteration does now has to end.
    pub(super) fn deadline(&self, spot: &Spot) -> Option<u64> {
        let timeout = self.step_of(spot).and_then(|step| step.timeout_ms).unwrap_or(u64::MAX);
        Some(self.state.now.saturating_add(timeout.min(self.working_left())))
    }

    /// The way to a call: who led to the run, and whom the run has called since.
    pub(super) fn hops(&self, scope: &str) -> Vec<Hop> {
        let own = self.route(scope).into_iter().map(|name| Hop { workflow: name.to_owned(), ..Hop::default() });
        self.state.route.iter().cloned().chain(own).collect()
    }

    /// The call that an iteration makes: its plan says what kind, its callee whom.
    fn spec_of(&mut self, spot: &Spot) -> Option<CallSpec> {
        let what = match &self.step_of(spot)?.verb {
            Verb::Sample { models, .. } => What::Sample { models: models.clone() },
            Verb::Read { server, .. } => What::Read { server: server.clone() },
            _ => match self.iteration(spot)?.callee.clone()? {
                Callee::Tool { server, tool } => What::Tool { server, tool },
                Callee::Workflow { .. } => return None,
            },
        };
        self.spec(spot, what)
    }

    pub(super) fn prepare(&mut self, spot: &Spot) {
        if let Err(error) = self.charge_call() {
            return self.fail_iteration(spot, error);
        }
        self.owe_prepare(spot);
    }

    fn owe_prepare(&mut self, spot: &Spot) {
        self.set_phase(spot, Phase::Preparing);
        let Some(call) = self.spec_of(spot) else { return };
        let op = format!("{}?prepare", self.attempt_path(spot));
        self.owe(op.clone(), spot.clone(), Purpose::Prepare, Command::Prepare { op, call });
    }

    pub(super) fn prepared(&mut self, spot: &Spot, class: EffectClass, price: Option<Price>, tools: Option<ValueRef>) {
        let sample = self.step_of(spot).is_some_and(|step| matches!(step.verb, Verb::Sample { .. }));
        if let Some(iteration) = self.iteration(spot) {
            iteration.class = Some(class);
            iteration.price = Some(price.unwrap_or_default());
            iteration.tools = tools;
        }
        match sample {
            true => self.sample(spot),
            false => self.call(spot, Entry::Fresh),
        }
    }

    pub(super) fn read(&mut self, spot: &Spot) {
        if let Err(error) = self.charge_call() {
            return self.fail_iteration(spot, error);
        }
        if let Some(iteration) = self.iteration(spot) {
            iteration.class = Some(EffectClass::ReadOnly);
        }
        self.call(spot, Entry::Fresh);
    }

    pub(super) fn sample(&mut self, spot: &Spot) {
        let Some(Verb::Sample { models, caller, tools, .. }) = self.step_of(spot).map(|step| &step.verb) else {
            return;
        };
        let Some(iteration) = self.iteration(spot) else { return };
        let to_caller = iteration.passed_on || (models.is_empty() && *caller);
        let prepared = iteration.price.is_some();
        if to_caller && self.state.no_caller {
            let message = "whoever called was to answer, and can't sample".to_owned();
            return self.fail_iteration(spot, StepError { kind: ErrorKind::Unavailable, message });
        }
        // Prices and tools come first, where they count.
        if !prepared && (*tools || (self.plan.limits.cost_usd.is_some() && !to_caller)) {
            return self.owe_prepare(spot);
        }
        match self.reserve(spot) {
            Ok(false) => return self.park(spot),
            reserved => {
                if let Err(error) = reserved.and_then(|_| self.charge_call()) {
                    self.release(spot);
                    return self.fail_iteration(spot, error);
                }
            }
        }
        if let Some(iteration) = self.iteration(spot) {
            iteration.class = Some(EffectClass::Idempotent);
        }
        match to_caller {
            true => self.ask_caller(spot),
            false => self.call(spot, Entry::Fresh),
        }
    }

    /// No model of ours has answered a sample: whoever called is asked, if they can.
    fn pass_on(&mut self, spot: &Spot, mut error: StepError) {
        if self.state.no_caller {
            error.message.push_str("; whoever called would be next, and can't sample");
            return self.fail_iteration(spot, error);
        }
        if let Some(iteration) = self.iteration(spot) {
            iteration.passed_on = true;
        }
        self.sample(spot);
    }

    fn call(&mut self, spot: &Spot, entry: Entry) {
        let Some(call) = self.spec_of(spot) else { return };
        let Some(iteration) = self.iteration(spot) else { return };
        let class = iteration.class.unwrap_or(EffectClass::AtMostOnce);
        let attached = iteration.handle.is_some();
        iteration.phase = if attached { Phase::Polling } else { Phase::Calling };
        let op = self.attempt_path(spot);
        let command = Command::Call { op: op.clone(), call, class, entry };
        self.owe(op, spot.clone(), Purpose::Call { class, attached }, command);
    }

    pub(super) fn call_done(&mut self, spot: &Spot, record: ValueRef, usage: Usage) {
        if self.held_up(spot, || Landed::Done { record: record.clone(), usage }) {
            return;
        }
        self.settle_usage(spot, usage);
        self.withdraw_of(spot);
        self.attempt_done(spot, record);
    }

    /// The call became a task: it is polled from now on.
    pub(super) fn detached(&mut self, spot: &Spot, handle: &Value) {
        let Some(iteration) = self.iteration(spot) else { return };
        iteration.handle = Some(handle.clone());
        self.call(spot, Entry::Attach { handle: handle.clone(), answers: BTreeMap::new(), sampled: BTreeSet::new() });
    }

    /// The call wants answers before it goes on.
    pub(super) fn needs_input(
        &mut self,
        spot: &Spot,
        requests: &BTreeMap<String, Value>,
        state: Option<ValueRef>,
        terms: &Terms,
    ) {
        let Some(iteration) = self.iteration(spot) else { return };
        iteration.phase = Phase::Asking;
        let rounds = iteration.asked.rounds + 1;
        if rounds > MAX_ROUNDS && iteration.handle.is_none() {
            let message = format!("it asked for input more than {MAX_ROUNDS} times");
            return self.call_failed(spot, ErrorKind::Rpc, message, false);
        }
        let answers = requests.keys().map(|name| (name.clone(), None)).collect();
        let earlier = std::mem::take(&mut iteration.asked);
        let sampled =
            requests.iter().filter(|(_, request)| is_sampling(request)).map(|(name, _)| name.clone()).collect();
        iteration.asked = Asked { rounds, state, answers, sampled, ..earlier };
        if requests.is_empty() {
            let op = format!("{}!again", self.attempt_path(spot));
            return self.timer(op, spot, Purpose::Again, AGAIN_MS);
        }
        for (name, request) in requests {
            let wanted = Wanted {
                key: format!("{}?{rounds}.{name}", self.attempt_path(spot)),
                path: format!("{}?{rounds}.{name}", self.path(spot)),
                spot: spot.clone(),
                server: self.server_of(spot),
                request: request.clone(),
                terms: terms.clone(),
                why: Why::Needed { name: name.clone() },
            };
            match is_sampling(request) {
                true => self.sampling_asked(wanted),
                false => self.admit(wanted),
            }
            // A refusal ends the call.
            if self.iteration(spot).is_none_or(|iteration| iteration.phase != Phase::Asking) {
                return;
            }
        }
    }

    /// Makes a call again with what it asked for.
    pub(super) fn again(&mut self, spot: &Spot) {
        let Some(iteration) = self.iteration(spot) else { return };
        let answers: BTreeMap<String, Answer> =
            iteration.asked.answers.iter().filter_map(|(name, answer)| Some((name.clone(), answer.clone()?))).collect();
        let sampled = iteration.asked.sampled.clone();
        let entry = match &iteration.handle {
            Some(handle) => Entry::Attach { handle: handle.clone(), answers, sampled },
            None => {
                // Its server begins from the beginning, and what it calls again on the way was called.
                iteration.asked.calls.iter_mut().for_each(|called| called.claimed = false);
                let (state, round) = (iteration.asked.state.clone(), iteration.asked.rounds.max(1));
                Entry::Answers { answers, sampled, state, round }
            }
        };
        self.call(spot, entry);
    }

    /// A server that was started anew knows no `requestState` from before: what can be repeated begins from the beginning, once,
    /// and pays no model again. `false` if that is not what happened.
    pub(super) fn begin_anew(&mut self, spot: &Spot, kind: ErrorKind) -> bool {
        let stopping = self.scope(&spot.scope).is_none_or(|scope| scope.stopping);
        let Some(iteration) = self.iteration(spot) else { return false };
        let repeatable = !matches!(iteration.class, None | Some(EffectClass::AtMostOnce));
        let forgotten = kind == ErrorKind::Rpc && iteration.phase == Phase::Calling && iteration.asked.state.is_some();
        if !forgotten || !repeatable || stopping || iteration.asked.begun_anew {
            return false;
        }
        let asked = std::mem::take(&mut iteration.asked).of_repetition();
        iteration.asked = Asked { samples: asked.samples, calls: asked.calls, begun_anew: true, ..Asked::default() };
        self.drop_attempt_timer(spot);
        if let Some(iteration) = self.iteration(spot) {
            iteration.attempt += 1;
        }
        self.dispatch(spot);
        true
    }

    pub(super) fn call_failed(&mut self, spot: &Spot, kind: ErrorKind, message: String, in_doubt: bool) {
        let error = || StepError { kind, message: message.clone() };
        if self.held_up(spot, || Landed::Failed { error: error(), in_doubt }) {
            return;
        }
        self.release(spot);
        self.drop_attempt_timer(spot);
        let Some(step) = self.step_of(spot) else { return };
        let stopping = self.scope(&spot.scope).is_none_or(|scope| scope.stopping);
        let error = StepError { kind, message };
        let Some(iteration) = self.iteration(spot) else { return };
        iteration.phase = Phase::Busy;
        // A task that can't be reached is still a task.
        if iteration.handle.is_some() && kind == ErrorKind::Unavailable && !stopping {
            iteration.asked.answers.clear();
            let op = format!("{}!again", self.attempt_path(spot));
            self.set_phase(spot, Phase::Polling);
            return self.timer(op, spot, Purpose::Again, AGAIN_MS);
        }
        let unknown = in_doubt && iteration.class == Some(EffectClass::AtMostOnce);
        if unknown && !stopping {
            return self.doubt(spot, error);
        }
        if !unknown {
            self.withdraw_of(spot);
        }
        if stopping {
            if unknown {
                let path = self.path(spot);
                self.state.may_have_happened.push(path);
            }
            return self.end_iteration(spot, IterationEnd::cancelled());
        }
        let Some(iteration) = self.iteration(spot) else { return };
        if iteration.overdue {
            return self.exhausted(spot);
        }
        if let Some(backoff) = backoff(step.retry.as_ref(), iteration, &error, in_doubt) {
            *iteration = Iteration {
                attempt: iteration.attempt + 1,
                key: iteration.key + u32::from(!in_doubt),
                phase: Phase::Waiting,
                handle: None,
                // A repetition of the same call gets the same answers.
                asked: if in_doubt { iteration.asked.clone().of_repetition() } else { Asked::default() },
                ..iteration.clone()
            };
            let op = format!("{}!backoff", self.attempt_path(spot));
            return self.timer(op, spot, Purpose::Backoff, backoff);
        }
        let no_model = matches!(kind, ErrorKind::Model | ErrorKind::Unavailable | ErrorKind::Budget);
        if matches!(step.verb, Verb::Sample { caller: true, .. }) && no_model && !iteration.passed_on {
            return self.pass_on(spot, error);
        }
        self.fail_iteration(spot, error);
    }

    /// The server of a call that became a task is told that nobody waits for it any more.
    pub(super) fn cancel_task(&mut self, spot: &Spot) {
        let Some(handle) = self.iteration(spot).and_then(|iteration| iteration.handle.take()) else { return };
        let Some(call) = self.spec_of(spot) else { return };
        let (op, entry) = (format!("{}!cancel", self.attempt_path(spot)), Entry::Cancel { handle });
        self.out.push(Command::Call { op, call, class: EffectClass::Idempotent, entry });
    }

    /// It may have happened. What then?
    fn doubt(&mut self, spot: &Spot, error: StepError) {
        self.withdraw_of(spot);
        match self.step_of(spot).map(|step| step.on_doubt) {
            Some(OnDoubt::Ask) => {
                let Some(call) = self.spec_of(spot) else { return };
                let what = match &call.what {
                    What::Tool { server, tool } => format!("{server}.{tool}"),
                    What::Read { server } => server.clone(),
                    What::Sample { .. } | What::Sampling { .. } => "the model".to_owned(),
                };
                let message = format!(
                    "The call of `{what}` by step `{}` may have happened: {}. Retry it, skip the step, or give its result.",
                    call.path, error.message
                );
                self.set_phase(spot, Phase::Doubting);
                let key = format!("{}?doubt", self.attempt_path(spot));
                let ask = Asking::Doubt { message, call: Box::new(call) };
                self.open_question(key, spot, By::Human, ask, Why::Doubt { error });
            }
            Some(OnDoubt::Skip) => {
                let path = self.path(spot);
                self.state.may_have_happened.push(path);
                let note = format!("its call may have happened: {}", error.message);
                self.end_iteration(spot, super::iterate::without(StepStatus::Skipped, &note));
            }
            _ => {
                let path = self.path(spot);
                self.state.may_have_happened.push(path);
                let message = format!("the call may have happened: {}", error.message);
                self.fail_iteration(spot, StepError { kind: ErrorKind::InDoubt, message });
            }
        }
    }

    /// The doubt was resolved by a person.
    pub(super) fn resolved(&mut self, spot: &Spot, error: StepError, answer: &Answer) {
        let choice = |name: &str| answer.content.as_ref().and_then(|content| content.get(name));
        match choice("choice").and_then(Value::as_str) {
            Some("retry") => {
                if let Some(iteration) = self.iteration(spot) {
                    iteration.attempt += 1;
                    iteration.handle = None;
                    let Asked { samples, calls, .. } = std::mem::take(&mut iteration.asked).of_repetition();
                    iteration.asked = Asked { samples, calls, ..Asked::default() };
                }
                self.dispatch(spot);
            }
            Some("result") => {
                let output = choice("result").cloned().unwrap_or(Value::Null);
                self.attempt_done(spot, ValueRef::inline(serde_json::json!({ "output": output })));
            }
            Some("skip") => {
                let path = self.path(spot);
                self.state.may_have_happened.push(path);
                let note = "its call may have happened, and it was decided to skip it";
                self.end_iteration(spot, super::iterate::without(StepStatus::Skipped, note));
            }
            _ => {
                let path = self.path(spot);
                self.state.may_have_happened.push(path);
                let message = format!("the call may have happened, and nobody decided: {}", error.message);
                self.fail_iteration(spot, StepError { kind: ErrorKind::InDoubt, message });
            }
        }
    }

    fn server_of(&mut self, spot: &Spot) -> String {
        match self.spec_of(spot).map(|call| call.what) {
            Some(What::Tool { server, .. } | What::Read { server }) => server,
            _ => String::new(),
        }
    }
}

/// The pause before another attempt, if there may be one. Where the file does not say, a call that may be repeated is
/// tried twice more when its server could not be reached.
fn backoff(retry: Option<&Retry>, iteration: &Iteration, error: &StepError, in_doubt: bool) -> Option<u64> {
    let repeatable = !matches!(iteration.class, None | Some(EffectClass::AtMostOnce));
    let (attempts, base) = match retry {
        Some(retry) if retry.on.contains(&error.kind) => (retry.attempts, retry.backoff_ms),
        None if error.kind == ErrorKind::Unavailable && (repeatable || !in_doubt) => (3, 500),
        _ => return None,
    };
    let doublings = iteration.attempt.saturating_sub(1).min(16);
    (iteration.attempt < attempts).then(|| base.saturating_mul(1 << doublings).min(MAX_BACKOFF_MS))
}
