//! The seam between whoever samples and whatever answers.

use std::fmt;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::SampleRequest;

/// Something that answers sampling.
#[async_trait]
pub trait Model: Send + Sync {
    /// The name that the project gives it.
    fn name(&self) -> &str;

    /// Answers a request, in the shape that it asks for. An answer of another shape is asked for once more, then refused.
    ///
    /// # Errors
    /// [`ModelErrorKind`] tells how it failed. Messages are for people and hold no secrets.
    async fn sample(&self, request: &SampleRequest, context: &SampleContext) -> Result<SampleAnswer, ModelError>;
}

/// What bounds one sample.
#[derive(Clone, Debug, Default)]
pub struct SampleContext {
    /// Fires when the answer is not wanted any more: the model stops generating.
    pub cancelled: CancellationToken,
    /// When the answer must be there at the latest.
    pub deadline: Option<Instant>,
}

/// A model's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleAnswer {
    /// The label, the parsed value, or the text.
    pub output: Value,
    /// What the model said, word for word.
    pub text: String,
    /// The model that answered, as the server names it: not always the one that was asked for.
    pub model: String,
    /// The tokens that it took, a repair included.
    pub usage: Usage,
    /// What that costs, in US dollars; 0 when the model has no price.
    pub cost_usd: f64,
}

/// Tokens used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Read by the model.
    pub prompt_tokens: u64,
    /// Written by the model.
    pub completion_tokens: u64,
    /// The server did not count: these are guesses, at four bytes a token.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

impl Usage {
    /// Read and written together.
    pub fn total(&self) -> u64 {
        self.prompt_tokens + self.completion_tokens
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.estimated |= other.estimated;
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// The kind.
    pub kind: ModelErrorKind,
    /// For people; free of secrets.
    pub message: String,
}

impl ModelError {
    /// An error of this kind.
    pub fn new(kind: ModelErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// The kinds of [`ModelError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelErrorKind {
    /// The request itself is wrong: no model can answer it.
    InvalidRequest,
    /// The model can't be reached, is overloaded, or went away: another one may do.
    Unavailable,
    /// No answer in time.
    Timeout,
    /// The model's server refused the request.
    Model,
    /// The answer does not have the shape that was asked for, even after a repair.
    InvalidOutput,
    /// It was cancelled.
    Cancelled,
}

impl fmt::Display for ModelErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidRequest => "invalid_request",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Model => "model",
            Self::InvalidOutput => "invalid_output",
            Self::Cancelled => "cancelled",
        })
    }
}
