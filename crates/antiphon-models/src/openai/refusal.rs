//! What a server, or the way to it, says when there is no answer.

use std::error::Error;
use std::time::Duration;

use async_openai::error::OpenAIError;
use futures::StreamExt;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use secrecy::ExposeSecret;
use serde_json::Value;

use super::ModelConfig;
use crate::ModelErrorKind;

/// How often a request is sent, all in all.
const ATTEMPTS: u32 = 3;

/// The pause before the second attempt; it doubles.
const BACKOFF: Duration = Duration::from_millis(250);

/// The longest pause that a server may ask for; beyond it, another model is the better choice.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(20);

/// How much of an error's body is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// A request that the server, or the way to it, did not honour.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refusal {
    /// The HTTP status; 0 when there is none.
    pub(super) status: u16,
    /// For people.
    pub(super) message: String,
    pub(super) kind: ModelErrorKind,
    /// How long the server asks to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// It was refused before any token was read.
    pub(super) free: bool,
}

impl Refusal {
    fn new(kind: ModelErrorKind, message: String) -> Self {
        Self { status: 0, message, kind, retry_after: None, free: false }
    }

    pub(super) fn unreachable(error: &reqwest::Error) -> Self {
        let refusal = Self::new(ModelErrorKind::Unavailable, format!("it can't be reached: {}", root_cause(error)));
        Self { free: error.is_connect(), ..refusal }
    }

    pub(super) fn silent(timeout: Duration) -> Self {
        Self::new(ModelErrorKind::Timeout, format!("silent for {} s", timeout.as_secs_f32()))
    }

    pub(super) fn too_long(bytes: usize) -> Self {
        Self::new(ModelErrorKind::Model, format!("its answer is longer than {bytes} bytes"))
    }

    pub(super) fn no_answer() -> Self {
        Self::new(ModelErrorKind::Model, "it answered without a choice".to_owned())
    }

    /// Our own limit of requests a minute leaves no room before the deadline.
    pub(super) fn no_turn(wait: Duration) -> Self {
        let message = format!("its requests_per_minute are used up for {} s, beyond the deadline", wait.as_secs());
        Self { retry_after: Some(Duration::MAX), free: true, ..Self::new(ModelErrorKind::Unavailable, message) }
    }

    /// A failure within an answer that began well. Gateways put the status here that they would have sent.
    pub(super) fn in_stream(error: &Value) -> Self {
        let status =
            error.get("code").and_then(Value::as_u64).and_then(|code| StatusCode::from_u16(code.try_into().ok()?).ok());
        let kind = if status.is_some_and(passes) { ModelErrorKind::Unavailable } else { ModelErrorKind::Model };
        let refusal = Self::new(kind, format!("it broke off: {}", message_in(error)));
        Self { retry_after: Some(Duration::MAX), ..refusal }
    }

    pub(super) async fn read(response: Response) -> Self {
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let mut body = Vec::new();
        let mut stream = response.bytes_stream();
        while let Some(Ok(bytes)) = stream.next().await {
            body.extend_from_slice(&bytes[..bytes.len().min(MAX_ERROR_BYTES - body.len())]);
            if body.len() == MAX_ERROR_BYTES {
                break;
            }
        }
        let value = serde_json::from_slice::<Value>(&body).unwrap_or_default();
        // Some wrap it in a list.
        let error = value.get(0).unwrap_or(&value);
        let error = error.get("error").unwrap_or(error);
        let said = match error {
            Value::Null => String::from_utf8_lossy(&body).chars().take(super::SHOWN).collect(),
            error => message_in(error),
        };
        // An exhausted account answers 429 too, and will again.
        let retry_after = if said.contains("quota") { Some(Duration::MAX) } else { retry_after };
        let kind = if passes(status) { ModelErrorKind::Unavailable } else { ModelErrorKind::Model };
        let message = overflow(error, &said).unwrap_or_else(|| format!("{status}: {said}"));
        Self { status: status.as_u16(), message, kind, retry_after, free: true }
    }

    /// How long to wait before the attempt after this one; `None` when it is not worth it.
    pub(super) fn pause(&self, attempt: u32) -> Option<Duration> {
        let pause = self.retry_after.unwrap_or(BACKOFF * 2_u32.pow(attempt - 1));
        let worth_it = self.kind == ModelErrorKind::Unavailable && attempt < ATTEMPTS && pause <= MAX_RETRY_AFTER;
        worth_it.then_some(pause)
    }
}

impl From<Refusal> for OpenAIError {
    fn from(refusal: Refusal) -> Self {
        Self::Boxed(Box::new(refusal))
    }
}

fn passes(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429) || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
}

/// In seconds; a date is not worth reading, since clocks differ.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The message in an error object, whatever else is in it and of whatever types.
fn message_in(error: &Value) -> String {
    match error.get("message").unwrap_or(error) {
        Value::String(message) => message.clone(),
        other => other.to_string(),
    }
}

/// A prompt that is too long, in words that say what to do.
fn overflow(error: &Value, said: &str) -> Option<String> {
    let is = |key: &str, value: &str| error.get(key).is_some_and(|found| found == value);
    let said_so = ["context length", "context size", "context window"].iter().any(|words| said.contains(words));
    if !(is("type", "exceed_context_size_error") || is("code", "context_length_exceeded") || said_so) {
        return None;
    }
    let count = |key: &str| error.get(key).and_then(Value::as_u64);
    let prompt = count("n_prompt_tokens").map_or_else(String::new, |tokens| format!(" of {tokens} tokens"));
    let context = count("n_ctx").map_or_else(String::new, |tokens| format!(" of {tokens} tokens"));
    Some(format!(
        "the prompt{prompt} does not fit its context{context}: shorten it, or name a model with a longer context. It said: {said}"
    ))
}

/// The refusal inside an error, if it is one.
pub(super) fn refusal(error: &OpenAIError) -> Option<&Refusal> {
    match error {
        OpenAIError::Boxed(inner) => inner.downcast_ref(),
        _ => None,
    }
}

/// The kind of an error, and the end of a sentence about the model.
pub(super) fn explain(error: &OpenAIError) -> (ModelErrorKind, String) {
    match (refusal(error), error) {
        (Some(refusal), _) => (refusal.kind, refusal.message.clone()),
        (_, OpenAIError::JSONDeserialize(error, said)) => {
            (ModelErrorKind::Model, format!("it does not speak the protocol ({error}): {}", super::shown(said)))
        }
        (_, OpenAIError::Reqwest(error)) => {
            (ModelErrorKind::Unavailable, format!("the connection failed: {}", root_cause(error)))
        }
        (_, OpenAIError::StreamError(error)) => {
            (ModelErrorKind::Unavailable, format!("the connection was lost: {error}"))
        }
        (_, other) => (ModelErrorKind::Model, other.to_string()),
    }
}

/// Servers like to repeat the key that they refuse.
pub(super) fn redact(message: String, config: &ModelConfig) -> String {
    let secrets = config.api_key.iter().chain(config.headers.iter().map(|(_, value)| value)).chain(&config.secrets);
    let secrets = secrets.map(ExposeSecret::expose_secret).filter(|secret| !secret.is_empty());
    secrets.fold(message, |message, secret| message.replace(secret, "[secret]"))
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
