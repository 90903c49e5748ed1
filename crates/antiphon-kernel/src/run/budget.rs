//! The ledger: set aside at dispatch, settled at completion, so that what runs side by side can't use the same tokens twice.

use serde_json::Value;

use super::Run;
use super::state::{Iteration, Parked, Phase, Reserved, Spot, State, Wanted};
use crate::{Allowance, Answer, ErrorKind, LimitMode, Price, Source, StepError, Usage, ValueRef, Verb};

/// An answer of fewer tokens is not worth asking for, unless no more were wanted.
const SHORTEST_ANSWER: u64 = 16;

/// Whether there is enough left.
pub(super) enum Fit {
    /// For this.
    Now(Reserved),
    /// Not before others have settled.
    Later,
    /// Not any more.
    Never(StepError),
}

impl Run<'_> {
    /// Counts one call, if there is one left, and some working time.
    pub(super) fn charge_call(&mut self) -> Result<(), StepError> {
        let limits = &self.plan.limits;
        if self.state.used.calls >= limits.calls {
            self.over("calls", format!("all {} calls of the run are used (`limits.calls`)", limits.calls))?;
        }
        if self.working_left() == 0 {
            let message = format!("the run has worked for {} ms (`limits.duration`)", limits.duration_ms);
            self.over("duration", message)?;
        }
        self.state.used.calls += 1;
        Ok(())
    }

    /// A limit is passed: an error, or, where limits are only watched, a note.
    fn over(&mut self, limit: &str, message: String) -> Result<(), StepError> {
        match self.plan.limits.mode {
            LimitMode::Enforce => Err(spent(message)),
            LimitMode::Audit => {
                self.state.overrun.entry(limit.to_owned()).or_insert(message);
                Ok(())
            }
        }
    }

    /// Sets aside what a step's sample may take. `false` if others have to settle first.
    pub(super) fn reserve(&mut self, spot: &Spot) -> Result<bool, StepError> {
        let wanted = self.wanted_by(spot);
        match self.fit(wanted) {
            Fit::Never(error) => Err(error),
            Fit::Later => Ok(false),
            Fit::Now(reserved) => {
                self.set_aside(reserved);
                if let Some(iteration) = self.iteration(spot) {
                    iteration.reserved = reserved;
                }
                Ok(true)
            }
        }
    }

    fn wanted_by(&mut self, spot: &Spot) -> Reserved {
        let Some(Verb::Sample { max_tokens, request, .. }) = self.step_of(spot).map(|step| &step.verb) else {
            return Reserved::default();
        };
        let Some(iteration) = self.iteration(spot) else { return Reserved::default() };
        // What the caller's model charges is the caller's.
        let price = iteration.price.filter(|_| !iteration.passed_on);
        Reserved::of(prompt_of(iteration), *max_tokens, mended(&request.source), price)
    }

    /// What a sample used that whoever called has answered, or has not: nobody counted it.
    pub(super) fn settle_answer(&mut self, spot: &Spot, answer: &Answer) {
        let prompt = self.iteration(spot).map_or(0, |iteration| prompt_of(iteration));
        let said = answer.content.as_ref().and_then(|said| said.get("content"));
        let used = said.map_or(0, |said| prompt + tokens(length(said)));
        self.settle_usage(spot, Usage { tokens: used, cost_usd: 0.0, waited_ms: 0 });
    }

    /// Whether something is set aside for an attempt.
    pub(super) fn has_reserved(&mut self, spot: &Spot) -> bool {
        self.iteration(spot).is_some_and(|iteration| iteration.reserved.tokens > 0)
    }

    pub(super) fn enforces(&self) -> bool {
        self.plan.limits.mode == LimitMode::Enforce
    }

    /// Whether the run has so much left. When what the dearest model would cost is more than that, whoever is asked has to fit
    /// into it.
    fn fit(&mut self, wanted: Reserved) -> Fit {
        let limits = &self.plan.limits;
        let (used, reserved) = (self.state.used, self.state.reserved);
        let tokens_left = limits.tokens.saturating_sub(used.tokens);
        if wanted.tokens + reserved.tokens > tokens_left {
            if wanted.tokens <= tokens_left && limits.mode == LimitMode::Enforce {
                return Fit::Later;
            }
            let message = format!(
                "the sample may use {} tokens, and {tokens_left} of {} are left (`limits.tokens`)",
                wanted.tokens, limits.tokens
            );
            if let Err(error) = self.over("tokens", message) {
                return Fit::Never(error);
            }
        }
        let Some(limit) = limits.cost_usd else { return Fit::Now(wanted) };
        if self.enforces() {
            return wanted.within(limit - used.cost_usd, reserved.cost_usd);
        }
        if used.cost_usd + wanted.cost_usd > limit {
            let (cost, left) = (wanted.cost_usd, limit - used.cost_usd);
            let message = format!(
                "the sample may cost {cost:.4} US dollars, and {left:.4} of {limit} are left (`limits.cost_usd`)"
            );
            self.state.overrun.entry("cost_usd".to_owned()).or_insert(message);
        }
        Fit::Now(wanted)
    }

    /// Whether the run and the server have enough left for what the server asks of a model, and how many tokens its answer may
    /// have: fewer than it asks for, when that is what is left.
    pub(super) fn fit_sampling(&mut self, wanted: &Wanted) -> (Fit, u64) {
        let Some(terms) = &wanted.terms.sampling else { return (Fit::Now(Reserved::default()), 0) };
        let params = wanted.request.get("params").unwrap_or(&Value::Null);
        let asked = params.get("maxTokens").and_then(Value::as_u64).unwrap_or(terms.max_tokens);
        let (prompt, answer) = (tokens(length(params)), asked.min(terms.max_tokens).max(1));
        let mended = params.get("tools").is_some() || params.pointer("/_meta/antiphon~1schema").is_some();
        let reserved = |answer| Reserved::of(prompt, answer, mended, terms.price);
        let never = |message| (Fit::Never(spent(message)), 0);

        let edge = self.state.edges.get(&wanted.server).cloned().unwrap_or_default();
        if terms.calls.is_some_and(|limit| edge.calls >= limit) {
            return never(format!("all {} samples of this server are used (`sampling.limits.calls`)", edge.calls));
        }
        if self.working_left_of(&wanted.server, terms.duration_ms) == Some(0) {
            let worked = edge.working_ms;
            return never(format!("models have worked {worked} ms for this server (`sampling.limits.duration`)"));
        }
        let whole = reserved(answer);
        let of_edge = terms.tokens.map_or(u64::MAX, |limit| limit.saturating_sub(edge.tokens));
        if whole.tokens + edge.reserved_tokens > of_edge && edge.reserved_tokens > 0 {
            return (Fit::Later, 0);
        }
        let of_run = match self.plan.limits.mode {
            LimitMode::Enforce => self.plan.limits.tokens.saturating_sub(self.state.used.tokens),
            LimitMode::Audit => u64::MAX,
        };
        if whole.tokens + self.state.reserved.tokens > of_run && self.state.reserved.tokens > 0 {
            return (Fit::Later, 0);
        }
        let left = of_edge.min(of_run);
        let granted = if whole.tokens <= left { answer } else { shortened(left, reserved(0).tokens, answer, mended) };
        if granted < answer.min(SHORTEST_ANSWER) {
            let limit = if of_edge <= of_run { "sampling.limits.tokens" } else { "limits.tokens" };
            return never(format!("it may use {} tokens, and {left} are left (`{limit}`)", whole.tokens));
        }
        let of_run = self.fit(reserved(granted));
        match (of_run, terms.cost_usd) {
            (Fit::Now(wanted), Some(limit)) => (wanted.within(limit - edge.cost_usd, edge.reserved_cost_usd), granted),
            (fit, _) => (fit, granted),
        }
    }

    pub(super) fn set_aside(&mut self, reserved: Reserved) {
        self.state.reserved.tokens += reserved.tokens;
        self.state.reserved.cost_usd += reserved.cost_usd;
    }

    /// Takes back what was set aside.
    pub(super) fn put_back(&mut self, reserved: Reserved) {
        let all = &mut self.state.reserved;
        all.tokens = all.tokens.saturating_sub(reserved.tokens);
        // Sums of fractions do not come out even.
        all.cost_usd = if all.tokens == 0 { 0.0 } else { (all.cost_usd - reserved.cost_usd).max(0.0) };
    }

    /// Takes back what was set aside for an attempt.
    pub(super) fn release(&mut self, spot: &Spot) {
        let reserved = self.iteration(spot).map(|iteration| std::mem::take(&mut iteration.reserved));
        self.put_back(reserved.unwrap_or_default());
    }

    /// What was set aside for an attempt counts as used: nobody will say what was.
    pub(super) fn forfeit(&mut self, spot: &Spot) {
        let reserved = self.iteration(spot).map_or_else(Reserved::default, |iteration| iteration.reserved);
        self.release(spot);
        self.use_up(reserved.into());
    }

    pub(super) fn settle_usage(&mut self, spot: &Spot, usage: Usage) {
        self.release(spot);
        self.use_up(usage);
    }

    /// Likewise of an attempt that failed.
    pub(super) fn settle_failed(&mut self, spot: &Spot, kind: ErrorKind, usage: Option<Usage>) {
        match usage {
            Some(usage) => self.settle_usage(spot, usage),
            None if kind == ErrorKind::Timeout => self.forfeit(spot),
            None => self.release(spot),
        }
    }

    pub(super) fn use_up(&mut self, usage: Usage) {
        self.state.used.tokens += usage.tokens;
        self.state.used.cost_usd += usage.cost_usd;
        self.state.used.waited_ms += usage.waited_ms;
    }

    /// Lets samples go on that waited for others to settle, in the order in which they came.
    pub(super) fn unpark(&mut self) {
        while let Some(first) = self.state.parked.first().cloned() {
            let fit = match &first {
                Parked::Step(spot) => {
                    let wanted = self.wanted_by(spot);
                    self.fit(wanted)
                }
                Parked::Sampling(wanted) => self.fit_sampling(wanted).0,
            };
            if matches!(fit, Fit::Later) {
                return;
            }
            self.state.parked.remove(0);
            match first {
                Parked::Step(spot) => self.sample(&spot),
                Parked::Sampling(wanted) => self.dispatch_sampling(*wanted),
            }
        }
    }

    /// Makes a step's sample wait until others have settled.
    pub(super) fn park(&mut self, spot: &Spot) {
        self.set_phase(spot, Phase::Waiting);
        self.state.parked.push(Parked::Step(spot.clone()));
    }

    pub(super) fn too_deep(&self, route: &str) -> StepError {
        spent(format!("calls would nest deeper than {} (`limits.depth`): {route}", self.plan.limits.depth))
    }

    /// Milliseconds of working time that are left.
    pub(super) fn working_left(&self) -> u64 {
        let running = self.state.working_since.map_or(0, |since| self.state.now.saturating_sub(since));
        self.plan.limits.duration_ms.saturating_sub(self.state.used.working_ms + running)
    }

    /// Working time runs while a call is in flight.
    pub(super) fn settle_clock(&mut self) {
        match (self.state.calling > 0, self.state.working_since) {
            (true, None) => self.state.working_since = Some(self.state.now),
            (false, Some(since)) => {
                self.state.used.working_ms += self.state.now.saturating_sub(since);
                self.state.working_since = None;
            }
            _ => {}
        }
        let State { edges, samplings, ops, now, .. } = &mut *self.state;
        for (server, edge) in edges {
            let working = samplings.iter().any(|(op, one)| one.wanted.server == *server && ops.contains_key(op));
            match (working, edge.working_since) {
                (true, None) => edge.working_since = Some(*now),
                (false, Some(since)) => {
                    edge.working_ms += now.saturating_sub(since);
                    edge.working_since = None;
                }
                _ => {}
            }
        }
    }

    /// Milliseconds that models may still work for a server, if that is limited.
    pub(super) fn working_left_of(&self, server: &str, limit: Option<u64>) -> Option<u64> {
        let edge = self.state.edges.get(server);
        let running = edge.and_then(|edge| edge.working_since).map_or(0, |since| self.state.now.saturating_sub(since));
        Some(limit?.saturating_sub(edge.map_or(0, |edge| edge.working_ms) + running))
    }
}

impl Reserved {
    /// As whoever makes the call is told; `None` if nothing is set aside.
    pub(super) fn allowance(self) -> Option<Allowance> {
        let cost_usd = self.capped.then_some(self.cost_usd);
        (self.tokens > 0).then_some(Allowance { tokens: self.tokens, cost_usd })
    }

    /// The same within what money is left, of which others may need some.
    fn within(self, left: f64, reserved: f64) -> Fit {
        if self.cost_usd <= left - reserved {
            return Fit::Now(self);
        }
        if reserved > 0.0 {
            return Fit::Later;
        }
        Fit::Now(Self { cost_usd: left.max(0.0), capped: true, ..self })
    }

    /// For a prompt and an answer of so many tokens. An answer that may have to be `mended` is asked for twice, and the second
    /// time the first one is part of the prompt.
    fn of(prompt: u64, answer: u64, mended: bool, price: Option<Price>) -> Self {
        let (read, written) = if mended { (2 * prompt + answer, 2 * answer) } else { (prompt, answer) };
        let price = price.unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let cost_usd = (read as f64 * price.input + written as f64 * price.output) / 1e6;
        Self { tokens: read.saturating_add(written), cost_usd, capped: false }
    }
}

impl From<Reserved> for Usage {
    fn from(reserved: Reserved) -> Self {
        Self { tokens: reserved.tokens, cost_usd: reserved.cost_usd, waited_ms: 0 }
    }
}

/// How long an answer fits into what is left after the prompt.
fn shortened(left: u64, prompt: u64, answer: u64, mended: bool) -> u64 {
    (left.saturating_sub(prompt) / if mended { 3 } else { 1 }).min(answer)
}

/// Whether an answer to this request is asked for again when it does not fit.
fn mended(request: &Source) -> bool {
    let (Source::Map(entries) | Source::Apply(_, entries)) = request else { return true };
    entries.keys().any(|key| matches!(key.as_str(), "choose" | "schema" | "tools"))
}

pub(super) fn spent(message: String) -> StepError {
    StepError { kind: ErrorKind::Budget, message }
}

/// About how many tokens a sample's model reads.
fn prompt_of(iteration: &Iteration) -> u64 {
    let read = [&iteration.args, &iteration.tools];
    tokens(read.into_iter().flatten().map(bytes).sum())
}

/// About how many tokens so many bytes of text are.
fn tokens(bytes: u64) -> u64 {
    bytes / 4
}

/// About how long a value is as text.
fn bytes(value: &ValueRef) -> u64 {
    match value {
        ValueRef::Inline(value) => length(value),
        ValueRef::Blob { bytes, .. } => *bytes,
    }
}

fn length(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(length).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() as u64 + length(value)).sum(),
        _ => 4,
    }
}
