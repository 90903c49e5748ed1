//! A sample's request. How a step spells one is in [`parse`](SampleRequest::parse).

use serde_json::Value;

use crate::{ModelError, ModelErrorKind, Shape, ToolCall, ToolChoice, ToolResult, ToolSpec};

/// How long an answer may be when a request does not say: small models loop, so there is always a bound.
pub const DEFAULT_MAX_TOKENS: u32 = 1_024;

/// What a model is asked.
#[derive(Clone, Debug)]
pub struct SampleRequest {
    /// The conversation; the last message is what to answer.
    pub messages: Vec<Message>,
    /// Instructions.
    pub system: Option<String>,
    /// What kind of answer is wanted, once no tool is called any more.
    pub shape: Shape,
    /// Model answers, shown to the model.
    pub examples: Vec<Example>,
    /// The most tokens that one answer may have.
    pub max_tokens: u32,
    /// How freely to choose words, from 0; the model's own default when absent.
    pub temperature: Option<f64>,
    /// What it may call; names are unique.
    pub tools: Vec<ToolSpec>,
    /// Whether it calls them.
    pub tool_choice: ToolChoice,
    /// The answer ends before any of these texts.
    pub stop: Vec<String>,
}

impl SampleRequest {
    /// A single question that wants text.
    pub fn text(prompt: impl Into<String>) -> Self {
        Self::conversation(vec![Message::new(Role::User, prompt)])
    }

    /// A conversation that wants a text next.
    pub fn conversation(messages: Vec<Message>) -> Self {
        Self {
            messages,
            system: None,
            shape: Shape::Text,
            examples: Vec::new(),
            max_tokens: DEFAULT_MAX_TOKENS,
            temperature: None,
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            stop: Vec::new(),
        }
    }

    /// The tools that may be called now: none when the choice is [`ToolChoice::None`].
    pub fn callable(&self) -> &[ToolSpec] {
        if self.tool_choice == ToolChoice::None { &[] } else { &self.tools }
    }

    /// Whether the model's last turn called nothing but what it had called before, with the same arguments: it has its answers.
    pub fn goes_round(&self) -> bool {
        let mut turns = self.messages.iter().rev().filter(|message| !message.calls.is_empty());
        let Some(last) = turns.next() else { return false };
        let before: Vec<&ToolCall> = turns.flat_map(|message| &message.calls).collect();
        last.calls.iter().all(|call| before.iter().any(|old| old.name == call.name && old.arguments == call.arguments))
    }
}

/// A turn of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; empty when there is nothing but calls or results.
    pub text: String,
    /// What the assistant calls.
    pub calls: Vec<ToolCall>,
    /// What came of the calls of the turn before, told by the user's side.
    pub results: Vec<ToolResult>,
}

impl Message {
    /// A turn of words.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self { role, text: text.into(), calls: Vec::new(), results: Vec::new() }
    }

    /// The assistant's calls, with what it says beside.
    pub fn calls(text: impl Into<String>, calls: Vec<ToolCall>) -> Self {
        Self { calls, ..Self::new(Role::Assistant, text) }
    }

    /// What came of calls.
    pub fn results(results: Vec<ToolResult>) -> Self {
        Self { results, ..Self::new(Role::User, "") }
    }

    /// How many bytes it takes, about.
    pub(crate) fn size(&self) -> usize {
        let calls =
            self.calls.iter().map(|call| call.name.len() + Value::Object(call.arguments.clone()).to_string().len());
        let results = self.results.iter().map(|result| result.text.len());
        self.text.len() + calls.chain(results).sum::<usize>()
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Instructions.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
}

/// One model answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// What was asked.
    pub input: String,
    /// What the answer is: a label, a value, a text.
    pub output: Value,
}

pub(crate) fn invalid(message: impl Into<String>) -> ModelError {
    ModelError::new(ModelErrorKind::InvalidRequest, message)
}
