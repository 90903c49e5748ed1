//! Samples: the first model of the list that answers.

use antiphon_engine::{CallFailure, CallOutcome};
use antiphon_kernel::{ErrorKind, Record, Usage};
use antiphon_models::{ModelErrorKind, Models, SampleAnswer, SampleContext, SampleRequest};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Asks the candidates in order. The next one is asked when one can't answer, not when the request itself is wrong.
///
/// What a failed sample has used is not known and not counted: models tell it with their answers.
pub(crate) async fn run(
    models: &Models,
    candidates: &[String],
    request: &Value,
    cancelled: &CancellationToken,
    deadline: Option<Instant>,
) -> Result<CallOutcome, CallFailure> {
    let fail = |kind, message| Err(CallFailure { kind, message, in_doubt: false });
    let request = match SampleRequest::parse(request) {
        Ok(request) => request,
        Err(error) => return fail(kind_of(error.kind), error.message),
    };
    let context = SampleContext { cancelled: cancelled.clone(), deadline, ..SampleContext::default() };
    let mut kind = ErrorKind::Model;
    let mut reasons = Vec::new();
    for name in candidates {
        let answered = match models.get(name) {
            Ok(model) => model.sample(&request, &context).await,
            Err(error) => Err(error),
        };
        let error = match answered {
            Ok(answer) => return Ok(done(answer)),
            Err(error) => error,
        };
        kind = kind_of(error.kind);
        tracing::warn!(model = %name, "{error}");
        reasons.push(if candidates.len() == 1 { error.message } else { format!("`{name}`: {}", error.message) });
        if matches!(error.kind, ModelErrorKind::InvalidRequest | ModelErrorKind::Cancelled) {
            break;
        }
    }
    let message = match reasons.as_slice() {
        [] => "the step names no model".to_owned(),
        [reason] => reason.clone(),
        reasons => format!("no model answered: {}", reasons.join("; ")),
    };
    fail(kind, message)
}

fn kind_of(kind: ModelErrorKind) -> ErrorKind {
    match kind {
        ModelErrorKind::Unavailable | ModelErrorKind::Cancelled => ErrorKind::Unavailable,
        ModelErrorKind::Timeout => ErrorKind::Timeout,
        ModelErrorKind::InvalidOutput => ErrorKind::InvalidOutput,
        // What is sent comes of the step's templates.
        ModelErrorKind::InvalidRequest => ErrorKind::Template,
        ModelErrorKind::Model => ErrorKind::Model,
    }
}

fn done(answer: SampleAnswer) -> CallOutcome {
    let usage = Usage { tokens: answer.usage.total(), cost_usd: answer.cost_usd };
    let text = (answer.output.as_str() != Some(answer.text.as_str())).then(|| answer.text.clone());
    let record = Record {
        output: answer.output,
        text,
        blocks: vec![json!({ "type": "text", "text": answer.text })],
        model: Some(answer.model),
        usage: serde_json::to_value(answer.usage).ok(),
        ..Record::default()
    };
    CallOutcome::Done { record, usage: Some(usage) }
}
