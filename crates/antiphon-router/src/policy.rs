//! On which terms a server may ask models and people.

use std::time::Duration;

use antiphon_client::Consent;
use antiphon_kernel::{Price, SamplingTerms};
use antiphon_models::Models;

use crate::choice;

/// Samples in one call, if the policy does not say.
const ROUNDS: u32 = 10;
/// The longest answer, in tokens, whatever a server asks for.
const MAX_TOKENS: u64 = 4_096;
/// Stands for whoever called us.
pub(crate) const CALLER: &str = "caller";

/// `sampling` of a server. Without one, nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SamplingPolicy {
    /// Whether it may.
    pub consent: Consent,
    /// Who answers, in order: names of models, `auto` (by what the request prefers), `caller` (whoever called us).
    pub models: Vec<String>,
    /// The most tokens in one run.
    pub tokens: Option<u64>,
    /// The most samples in one run.
    pub calls: Option<u64>,
    /// The most samples in one call; 10 if `None`.
    pub rounds: Option<u32>,
    /// The most that its samples may cost in one run, in US dollars.
    pub cost_usd: Option<f64>,
    /// For how long models may work for it in one run.
    pub duration: Option<Duration>,
}

impl SamplingPolicy {
    /// Whether there is anybody who may and can answer: a server is offered nothing else.
    pub(crate) fn can_answer(&self, models: &Models) -> bool {
        self.consent.granted()
            && (self.models.iter().any(|name| name == CALLER) || !choice::named(models, &self.models).is_empty())
    }

    /// The terms, as the kernel keeps to them; `None` if it may not.
    pub(crate) fn terms(&self, models: &Models) -> Option<SamplingTerms> {
        self.can_answer(models).then(|| SamplingTerms {
            asks: self.consent == Consent::Ask,
            models: self.models.clone(),
            max_tokens: MAX_TOKENS,
            tokens: self.tokens,
            calls: self.calls,
            rounds: self.rounds.unwrap_or(ROUNDS),
            cost_usd: self.cost_usd,
            duration_ms: self.duration.map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)),
            price: price(models, &self.models),
        })
    }
}

/// The most that any of these models charges.
pub(crate) fn price(models: &Models, names: &[String]) -> Option<Price> {
    let prices = choice::named(models, names).into_iter().filter_map(|name| models.get(&name).ok()?.traits().price);
    prices
        .map(|price| Price { input: price.input, output: price.output })
        .reduce(|a, b| Price { input: a.input.max(b.input), output: a.output.max(b.output) })
}
