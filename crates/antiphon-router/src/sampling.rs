//! What servers ask of models: `sampling/createMessage`, answered on the terms of the server's policy.

use std::collections::BTreeMap;

use antiphon_engine::{CallOutcome, ROUTE};
use antiphon_kernel::{Action, Answer, CallSpec, Entry, ErrorKind, Hop, Record, Terms, Usage, ValueRef};
use antiphon_models::{Models, Preferences, SampleContext, SampleRequest, mcp};
use serde_json::{Value, json};

use crate::back::USAGE;
use crate::choice::{self, Choice, Wish};
use crate::policy::{CALLER, SamplingPolicy};
use crate::sample::{self, And, Asked};

/// The only question that a sampling puts.
const QUESTION: &str = "caller";

/// One sampling, as its server asked it.
pub(crate) struct Sampling<'a> {
    pub(crate) models: &'a Models,
    pub(crate) policy: &'a SamplingPolicy,
    /// The most tokens that the answer may have.
    pub(crate) max_tokens: u64,
    /// Whoever called can't be asked.
    pub(crate) no_caller: bool,
    /// The way to the call that asks.
    pub(crate) route: Vec<Hop>,
    pub(crate) call: &'a CallSpec,
    pub(crate) params: &'a Value,
}

impl Sampling<'_> {
    /// Asks the models before `caller`, then the caller, then those after it.
    pub(crate) async fn answer(&self, entry: Entry, context: &SampleContext) -> CallOutcome {
        let (mut request, preferences) = match mcp::request(self.params) {
            Ok(asked) => asked,
            Err(error) => return CallOutcome::Failed(sample::failure(sample::kind_of(error.kind), error.message)),
        };
        request.max_tokens = request.max_tokens.min(u32::try_from(self.max_tokens).unwrap_or(u32::MAX));
        if self.policy.terms(self.models).is_none() {
            let why = "its `sampling` does not allow it, or nobody is there who could answer";
            return CallOutcome::Failed(sample::failure(ErrorKind::Denied, why));
        }
        let allowance = self.call.allowance;
        let wish = Wish {
            workflows: sample::workflows(self.call),
            cost_usd: allowance.and_then(|allowance| allowance.cost_usd),
            no_caller: self.no_caller,
            ..Wish::of(&request, preferences.clone())
        };
        let choice = choice::choose(self.models, &self.policy.models, &wish);
        let mut sides = choice.order.split(|name| name == CALLER);
        let before = sides.next().unwrap_or_default();
        let after: Vec<String> = sides.flatten().cloned().collect();
        let has_caller = before.len() < choice.order.len();
        let (order, wasted) = match entry {
            Entry::Answers { answers, state, .. } => match said(&answers) {
                Some(result) => return self.said_by_caller(&request, result, &choice),
                None if after.is_empty() => {
                    let why = "the caller declined to sample";
                    return CallOutcome::FailedAfter(sample::failure(ErrorKind::Denied, why), recall(state));
                }
                None => (after, recall(state)),
            },
            _ if before.is_empty() && has_caller => return self.ask_caller(&request, &preferences, Usage::default()),
            _ => (before.to_vec(), Usage::default()),
        };
        let first = order.len() == before.len() && order == before;
        let mut asked = sample::ask(self.models, &choice, &order, &request, allowance, context).await;
        asked.wasted = asked.wasted.and(wasted);
        let passes = matches!(asked.answer, Err(kind) if kind != ErrorKind::Template);
        if passes && first && has_caller && !context.cancelled.is_cancelled() {
            return self.ask_caller(&request, &preferences, asked.wasted);
        }
        self.done(asked, &choice)
    }

    fn done(&self, asked: Asked, choice: &Choice) -> CallOutcome {
        let route = asked.account(choice);
        match asked.answer {
            Ok(answer) => {
                let usage = asked.wasted.and(sample::used(&answer));
                self.record(mcp::result(&answer), answer.model.clone(), json!(answer.usage), route, usage)
            }
            Err(kind) => CallOutcome::FailedAfter(sample::failure(kind, asked.message(choice)), asked.wasted),
        }
    }

    fn record(&self, mut result: Value, model: String, used: Value, route: Value, usage: Usage) -> CallOutcome {
        result["_meta"][USAGE] = used.clone();
        if !self.route.is_empty() {
            result["_meta"][ROUTE] = json!(self.route);
        }
        let record =
            Record { output: result, model: Some(model), usage: Some(used), route: Some(route), ..Record::default() };
        CallOutcome::Done { record, usage: Some(usage) }
    }

    /// Puts the request to whoever called us, in the same words.
    fn ask_caller(&self, request: &SampleRequest, preferences: &Preferences, wasted: Usage) -> CallOutcome {
        let params = mcp::params(request, preferences, true);
        let request = json!({ "method": "sampling/createMessage", "params": params });
        CallOutcome::NeedsInput {
            requests: BTreeMap::from([(QUESTION.to_owned(), request)]),
            state: serde_json::to_value(wasted).ok(),
            terms: Terms::default(),
        }
    }

    fn said_by_caller(&self, request: &SampleRequest, result: &Value, choice: &Choice) -> CallOutcome {
        let answer = match mcp::answer(request, result) {
            Ok(answer) => answer,
            Err(error) => {
                let why = format!("the caller's model: {}", error.message);
                return CallOutcome::FailedAfter(
                    sample::failure(sample::kind_of(error.kind), why),
                    sample::spent(&error),
                );
            }
        };
        let usage = sample::used(&answer);
        // What the caller said is passed on as they said it; calls that were found in its words, as what they are.
        let mut passed = if answer.calls.is_empty() { result.clone() } else { mcp::result(&answer) };
        if let Some(fields) = passed.as_object_mut() {
            fields.retain(|key, _| matches!(key.as_str(), "role" | "content" | "model" | "stopReason"));
        }
        self.record(passed, answer.model, json!(answer.usage), json!(choice), usage)
    }
}

fn said(answers: &BTreeMap<String, Answer>) -> Option<&Value> {
    let answer = answers.get(QUESTION).filter(|answer| answer.action == Action::Accept)?;
    answer.content.as_ref()
}

/// What was used before the caller was asked.
fn recall(state: Option<ValueRef>) -> Usage {
    let state = state.as_ref().and_then(ValueRef::as_inline);
    state.and_then(|state| serde_json::from_value(state.clone()).ok()).unwrap_or_default()
}
