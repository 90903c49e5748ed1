//! The ledger: reserved at dispatch, settled at completion.

use serde_json::Value;

use super::Run;
use super::state::Spot;
use crate::{ErrorKind, StepError, Usage, ValueRef, Verb};

impl Run<'_> {
    /// Counts one call, if there is one left, and some working time.
    pub(super) fn charge_call(&mut self) -> Result<(), StepError> {
        let limits = &self.plan.limits;
        if self.state.used.calls >= limits.calls {
            return Err(spent(format!("all {} calls of the run are used (`limits.calls`)", limits.calls)));
        }
        if self.working_left() == 0 {
            let message = format!("the run has worked for {} ms (`limits.duration`)", limits.duration_ms);
            return Err(spent(message));
        }
        self.state.used.calls += 1;
        Ok(())
    }

    /// Sets tokens aside for a sample: what it may answer, and about what it asks.
    pub(super) fn reserve(&mut self, spot: &Spot) -> Result<(), StepError> {
        let limits = &self.plan.limits;
        let Some(Verb::Sample { max_tokens, .. }) = self.step_of(spot).map(|step| &step.verb) else { return Ok(()) };
        let args = self.iteration(spot).and_then(|iteration| iteration.args.clone());
        let wanted = max_tokens + args.map_or(0, |args| bytes(&args) / 4);
        let promised = self.state.used.tokens + self.state.reserved_tokens;
        if promised + wanted > limits.tokens {
            let left = limits.tokens.saturating_sub(promised);
            return Err(spent(format!(
                "the sample may use {wanted} tokens, and {left} of {} are left (`limits.tokens`)",
                limits.tokens
            )));
        }
        if let Some(limit) = limits.cost_usd
            && self.state.used.cost_usd >= limit
        {
            return Err(spent(format!("the run has cost {limit} US dollars (`limits.cost_usd`)")));
        }
        self.state.reserved_tokens += wanted;
        if let Some(iteration) = self.iteration(spot) {
            iteration.reserved = wanted;
        }
        Ok(())
    }

    /// Gives back what an attempt reserved.
    pub(super) fn release(&mut self, spot: &Spot) {
        let reserved = self.iteration(spot).map_or(0, |iteration| std::mem::take(&mut iteration.reserved));
        self.state.reserved_tokens = self.state.reserved_tokens.saturating_sub(reserved);
    }

    pub(super) fn settle_usage(&mut self, spot: &Spot, usage: Usage) {
        self.release(spot);
        self.state.used.tokens += usage.tokens;
        self.state.used.cost_usd += usage.cost_usd;
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
    }
}

fn spent(message: String) -> StepError {
    StepError { kind: ErrorKind::Budget, message }
}

/// About how long a value is as text.
fn bytes(value: &ValueRef) -> u64 {
    fn of(value: &Value) -> u64 {
        match value {
            Value::String(text) => text.len() as u64,
            Value::Array(items) => items.iter().map(of).sum(),
            Value::Object(fields) => fields.iter().map(|(name, value)| name.len() as u64 + of(value)).sum(),
            _ => 4,
        }
    }
    match value {
        ValueRef::Inline(value) => of(value),
        ValueRef::Blob { bytes, .. } => *bytes,
    }
}
