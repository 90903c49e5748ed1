//! The seam between whoever samples and whatever answers.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Message, SampleRequest, ToolCall};

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

    /// What its maker calls it, such as `qwen2.5-coder-1.5b`: MCP's hints name models so.
    fn id(&self) -> &str {
        self.name()
    }

    /// What is known of it when one among several is to be chosen.
    fn traits(&self) -> Traits {
        Traits::default()
    }

    /// Whether it was there when last asked, or that is long enough ago to try again: others are asked before a model that
    /// was not.
    fn healthy(&self) -> bool {
        true
    }
}

/// What is known of a model when one among several is to be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traits {
    /// How dear it is, 0 to 1.
    pub cost: f64,
    /// How fast it is, 0 to 1.
    pub speed: f64,
    /// How clever it is, 0 to 1.
    pub intelligence: f64,
    /// How many tokens prompt and answer may have together, where that is known.
    pub context: Option<u64>,
    /// It can be given tools.
    pub tools: bool,
    /// What it is asked does not leave this machine.
    pub local: bool,
    /// What it charges; nothing when absent.
    pub price: Option<Price>,
}

impl Default for Traits {
    fn default() -> Self {
        Self { cost: 0.5, speed: 0.5, intelligence: 0.5, context: None, tools: true, local: false, price: None }
    }
}

/// What a model charges, in US dollars per million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// For what it reads.
    pub input: f64,
    /// For what it writes.
    pub output: f64,
}

impl Price {
    /// What so many tokens cost, in US dollars.
    pub fn of(self, usage: Usage) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^52")]
        let dollars = |tokens: u64, per_million: f64| tokens as f64 * per_million / 1e6;
        dollars(usage.prompt_tokens, self.input) + dollars(usage.completion_tokens, self.output)
    }
}

/// What bounds one sample.
#[derive(Clone, Debug, Default)]
pub struct SampleContext {
    /// Fires when the answer is not wanted any more: the model stops generating.
    pub cancelled: CancellationToken,
    /// When the answer must be there at the latest.
    pub deadline: Option<Instant>,
    /// Is told how the answer grows.
    pub progress: Progress,
}

/// Whoever wants to know how many tokens of an answer there are.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<dyn Fn(u64) + Send + Sync>>);

impl Progress {
    /// Calls this with the number of tokens so far, often: it must return at once.
    pub fn to(listener: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    /// Tells how many tokens of the answer there are, those of an attempt that had to be repaired included.
    pub fn report(&self, tokens: u64) {
        if let Some(listener) = &self.0 {
            listener(tokens);
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Progress(heard)" } else { "Progress(unheard)" })
    }
}

/// A model's answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampleAnswer {
    /// The label, the parsed value, or the text; null when it calls tools instead.
    pub output: Value,
    /// What the model said, word for word; when it calls tools, what it said beside.
    pub text: String,
    /// The tools that it wants called before it answers.
    pub calls: Vec<ToolCall>,
    /// The model that answered, as the server names it: not always the one that was asked for.
    pub model: String,
    /// The tokens that it took, a repair included.
    pub usage: Usage,
    /// What that costs, in US dollars; 0 when the model has no price.
    pub cost_usd: f64,
    /// Why it ended here.
    pub stop: StopReason,
}

/// Why an answer ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StopReason {
    /// The model had said what it had to say.
    #[default]
    EndTurn,
    /// One of the request's `stop` texts was next.
    StopSequence,
    /// It was cut at `max_tokens`.
    MaxTokens,
    /// It waits for its tools.
    ToolUse,
    /// What the server said that is none of these.
    Other(String),
}

impl StopReason {
    /// As MCP spells it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::EndTurn => "endTurn",
            Self::StopSequence => "stopSequence",
            Self::MaxTokens => "maxTokens",
            Self::ToolUse => "toolUse",
            Self::Other(reason) => reason,
        }
    }
}

impl From<&str> for StopReason {
    fn from(reason: &str) -> Self {
        match reason {
            "endTurn" => Self::EndTurn,
            "stopSequence" => Self::StopSequence,
            "maxTokens" => Self::MaxTokens,
            "toolUse" => Self::ToolUse,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// What an answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Read by the model.
    pub prompt_tokens: u64,
    /// Written by the model.
    pub completion_tokens: u64,
    /// The server did not count: these are guesses, at four bytes a token.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// How long others were answered first, in milliseconds: where that is known, which is in this process.
    #[serde(skip_serializing_if = "is_zero")]
    pub waited_ms: u64,
}

impl Usage {
    /// What a conversation and its answer take, at four bytes a token.
    pub fn guess(prompt: &[Message], said: &str) -> Self {
        Self {
            prompt_tokens: prompt.iter().map(|message| tokens(message.size())).sum(),
            completion_tokens: tokens(said.len()),
            estimated: true,
            waited_ms: 0,
        }
    }

    /// Read and written together.
    pub fn total(&self) -> u64 {
        self.prompt_tokens + self.completion_tokens
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Tokens in so many bytes, by the usual rule of thumb.
pub(crate) fn tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.estimated |= other.estimated;
        self.waited_ms += other.waited_ms;
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ModelError {
    /// The kind.
    pub kind: ModelErrorKind,
    /// For people; free of secrets.
    pub message: String,
    /// The tokens that it took all the same.
    pub usage: Usage,
    /// What they cost, in US dollars.
    pub cost_usd: f64,
}

impl ModelError {
    /// An error of this kind that took nothing.
    pub fn new(kind: ModelErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), usage: Usage::default(), cost_usd: 0.0 }
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
