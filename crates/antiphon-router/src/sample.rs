//! Samples: the first model of a choice that answers.

use std::borrow::Cow;

use antiphon_engine::{CallFailure, CallOutcome};
use antiphon_kernel::{Allowance, CallSpec, ErrorKind, Record, Usage};
use antiphon_models::{ModelError, ModelErrorKind, Models, Preferences, SampleAnswer, SampleContext, SampleRequest};
use serde_json::{Value, json};

use crate::choice::{self, Choice, Wish};

/// An answer of fewer tokens is not worth asking for, unless no more were wanted.
const SHORTEST_ANSWER: u32 = 16;

/// What became of asking the models of a choice.
pub(crate) struct Asked {
    /// The answer, or the last failure.
    pub(crate) answer: Result<SampleAnswer, ErrorKind>,
    /// What those have used that failed.
    pub(crate) wasted: Usage,
    /// Who failed, and why.
    pub(crate) failed: Vec<(String, String)>,
}

/// A step's sample.
pub(crate) async fn run(
    models: &Models,
    names: &[String],
    call: &CallSpec,
    request: &Value,
    context: &SampleContext,
) -> CallOutcome {
    let (workflows, cost_usd) = (workflows(call), call.allowance.and_then(|allowance| allowance.cost_usd));
    let prefer = request.get("prefer");
    let request = match SampleRequest::parse(request) {
        Ok(request) => request,
        Err(error) => return CallOutcome::Failed(failure(kind_of(error.kind), error.message)),
    };
    let choice = choice::choose(models, names, &Wish { workflows, cost_usd, ..Wish::of_step(&request, prefer) });
    let asked = ask(models, &choice, &choice.order, &request, call.allowance, context).await;
    let route = asked.account(&choice);
    match asked.answer {
        Ok(answer) => {
            let usage = asked.wasted.and(used(&answer));
            CallOutcome::Done { record: Record { route: Some(route), ..record(answer) }, usage: Some(usage) }
        }
        Err(kind) => CallOutcome::FailedAfter(failure(kind, asked.message(&choice)), asked.wasted),
    }
}

/// Asks these models of a choice in order. The next one is asked when one can't answer, not when the request itself is wrong;
/// what one has used in vain, the next ones have to do without.
pub(crate) async fn ask(
    models: &Models,
    choice: &Choice,
    order: &[String],
    request: &SampleRequest,
    allowance: Option<Allowance>,
    context: &SampleContext,
) -> Asked {
    let nobody = if choice.order.is_empty() && choice.lacks_money() { ErrorKind::Budget } else { ErrorKind::Model };
    let mut asked = Asked { answer: Err(nobody), wasted: Usage::default(), failed: Vec::new() };
    for name in order {
        let Some(request) = shortened(request, allowance, asked.wasted) else {
            let why = "not asked: what those before it used in vain leaves too little for it".to_owned();
            asked.failed.push((name.clone(), why));
            continue;
        };
        let answered = match models.get(name) {
            Ok(model) => model.sample(&request, context).await,
            Err(error) => Err(error),
        };
        match answered {
            Ok(answer) => {
                asked.answer = Ok(answer);
                break;
            }
            Err(error) => {
                tracing::warn!(model = %name, "{error}");
                let last = matches!(error.kind, ModelErrorKind::InvalidRequest | ModelErrorKind::Cancelled);
                asked.answer = Err(kind_of(error.kind));
                asked.wasted = asked.wasted.and(spent(&error));
                asked.failed.push((name.clone(), error.message));
                if last {
                    break;
                }
            }
        }
    }
    asked
}

/// The request with an answer as long as what is left allows; `None` if that is hardly any.
fn shortened<'a>(
    request: &'a SampleRequest,
    allowance: Option<Allowance>,
    wasted: Usage,
) -> Option<Cow<'a, SampleRequest>> {
    let Some(allowance) = allowance.filter(|_| wasted.tokens > 0) else { return Some(Cow::Borrowed(request)) };
    let prompt = Wish::of(request, Preferences::default()).prompt;
    let left = allowance.tokens.saturating_sub(wasted.tokens).saturating_sub(prompt);
    let left = u32::try_from(left).unwrap_or(u32::MAX).min(request.max_tokens);
    (left >= SHORTEST_ANSWER.min(request.max_tokens))
        .then(|| Cow::Owned(SampleRequest { max_tokens: left, ..request.clone() }))
}

/// The workflows on the way to a call.
pub(crate) fn workflows(call: &CallSpec) -> Vec<String> {
    call.route.iter().map(|hop| hop.workflow.clone()).collect()
}

impl Asked {
    /// For the record: who could have answered, and why it was who did.
    pub(crate) fn account(&self, choice: &Choice) -> Value {
        let mut account = json!(choice);
        if !self.failed.is_empty() {
            account["failed"] = self.failed.iter().map(|(model, why)| json!({ "model": model, "why": why })).collect();
        }
        account
    }

    /// Why there is no answer.
    pub(crate) fn message(&self, choice: &Choice) -> String {
        match self.failed.as_slice() {
            [] if choice.considered.is_empty() => "no model is declared that could answer".to_owned(),
            [] => {
                let all =
                    choice.considered.iter().map(|considered| format!("`{}` {}", considered.model, considered.why));
                format!("no model can answer this: {}", all.collect::<Vec<_>>().join("; "))
            }
            [(_, why)] if choice.order.len() == 1 => why.clone(),
            all => {
                let all: Vec<String> = all.iter().map(|(model, why)| format!("`{model}`: {why}")).collect();
                format!("no model answered: {}", all.join("; "))
            }
        }
    }
}

/// Usages add up.
pub(crate) trait And {
    /// Both together.
    fn and(self, other: Self) -> Self;
}

impl And for Usage {
    fn and(self, other: Self) -> Self {
        Self {
            tokens: self.tokens + other.tokens,
            cost_usd: self.cost_usd + other.cost_usd,
            waited_ms: self.waited_ms + other.waited_ms,
        }
    }
}

pub(crate) fn used(answer: &SampleAnswer) -> Usage {
    Usage { tokens: answer.usage.total(), cost_usd: answer.cost_usd, waited_ms: answer.usage.waited_ms }
}

pub(crate) fn spent(error: &ModelError) -> Usage {
    Usage { tokens: error.usage.total(), cost_usd: error.cost_usd, waited_ms: error.usage.waited_ms }
}

pub(crate) fn failure(kind: ErrorKind, message: impl Into<String>) -> CallFailure {
    CallFailure { kind, message: message.into(), in_doubt: false }
}

pub(crate) fn kind_of(kind: ModelErrorKind) -> ErrorKind {
    match kind {
        ModelErrorKind::Unavailable | ModelErrorKind::Cancelled => ErrorKind::Unavailable,
        ModelErrorKind::Timeout => ErrorKind::Timeout,
        ModelErrorKind::InvalidOutput => ErrorKind::InvalidOutput,
        // What is sent comes of the step's templates.
        ModelErrorKind::InvalidRequest => ErrorKind::Template,
        ModelErrorKind::Model => ErrorKind::Model,
    }
}

fn record(answer: SampleAnswer) -> Record {
    let text = (answer.output.as_str() != Some(answer.text.as_str())).then(|| answer.text.clone());
    Record {
        output: answer.output,
        text,
        blocks: vec![json!({ "type": "text", "text": answer.text })],
        calls: answer.calls.iter().map(|call| json!(call)).collect(),
        model: Some(answer.model),
        usage: serde_json::to_value(answer.usage).ok(),
        ..Record::default()
    }
}
