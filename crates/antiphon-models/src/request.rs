//! A sample's request, as a step's evaluated value spells it.

use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::{ModelError, ModelErrorKind, Shape};

/// How long an answer may be when a request does not say: small models loop, so there is always a bound.
pub const DEFAULT_MAX_TOKENS: u32 = 1_024;

/// What a model is asked.
#[derive(Clone, Debug)]
pub struct SampleRequest {
    /// The conversation; the last message is what to answer.
    pub messages: Vec<Message>,
    /// Instructions.
    pub system: Option<String>,
    /// What kind of answer is wanted.
    pub shape: Shape,
    /// Model answers, shown to the model.
    pub examples: Vec<Example>,
    /// The most tokens that one answer may have.
    pub max_tokens: u32,
    /// How freely to choose words, from 0; the model's own default when absent.
    pub temperature: Option<f64>,
}

/// A turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub text: String,
}

impl Message {
    /// A turn.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self { role, text: text.into() }
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

impl SampleRequest {
    /// A single question that wants text.
    pub fn text(prompt: impl Into<String>) -> Self {
        Self {
            messages: vec![Message::new(Role::User, prompt)],
            system: None,
            shape: Shape::Text,
            examples: Vec::new(),
            max_tokens: DEFAULT_MAX_TOKENS,
            temperature: None,
        }
    }

    /// Reads a step's request: a map with `prompt` or `messages`, and `system`, `choose`, `schema`, `examples`, `max_tokens`,
    /// `temperature`.
    ///
    /// # Errors
    /// [`ModelErrorKind::InvalidRequest`], naming the key.
    pub fn parse(value: &Value) -> Result<Self, ModelError> {
        let map = value.as_object().ok_or_else(|| invalid("a sample's request must be a map"))?;
        let messages = match (map.get("prompt"), map.get("messages")) {
            (Some(prompt), None) => vec![Message::new(Role::User, string(prompt, "prompt")?)],
            (None, Some(messages)) => conversation(messages)?,
            (Some(_), Some(_)) => return Err(invalid("a sample has `prompt` or `messages`, not both")),
            (None, None) => return Err(invalid("a sample needs `prompt` or `messages`")),
        };
        let shape = match (map.get("choose"), map.get("schema")) {
            (Some(labels), None) => Shape::choose(labels_of(labels)?)?,
            (None, Some(schema)) => Shape::schema(schema.clone())?,
            (Some(_), Some(_)) => return Err(invalid("a sample has `choose` or `schema`, not both")),
            (None, None) => Shape::Text,
        };
        let examples = match map.get("examples") {
            Some(list) => examples_of(list, &shape)?,
            None => Vec::new(),
        };
        Ok(Self {
            messages,
            system: map.get("system").map(|system| string(system, "system")).transpose()?,
            shape,
            examples,
            max_tokens: map.get("max_tokens").map_or(Ok(DEFAULT_MAX_TOKENS), max_tokens_of)?,
            temperature: map.get("temperature").map(temperature_of).transpose()?,
        })
    }
}

pub(crate) fn invalid(message: impl Into<String>) -> ModelError {
    ModelError::new(ModelErrorKind::InvalidRequest, message)
}

/// Prompts are text; what a template yields need not be, and is then shown as JSON.
fn string(value: &Value, key: &str) -> Result<String, ModelError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Null => Err(invalid(format!("`{key}` is null"))),
        other => Ok(other.to_string()),
    }
}

fn conversation(value: &Value) -> Result<Vec<Message>, ModelError> {
    let list = value.as_array().ok_or_else(|| invalid("`messages` must be a list"))?;
    let messages = list.iter().map(turn).collect::<Result<Vec<_>, _>>()?;
    match messages.last() {
        Some(last) if last.role == Role::User => Ok(messages),
        Some(_) => Err(invalid("the last of `messages` must have the role `user`")),
        None => Err(invalid("`messages` is empty")),
    }
}

fn turn(value: &Value) -> Result<Message, ModelError> {
    let role = match value.get("role").and_then(Value::as_str) {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        _ => return Err(invalid("each of `messages` needs the role `user`, `assistant` or `system`")),
    };
    let content = value.get("content").ok_or_else(|| invalid("each of `messages` needs `content`"))?;
    Ok(Message::new(role, content_text(content)?))
}

/// A string, an MCP text block, or a list of these.
fn content_text(content: &Value) -> Result<String, ModelError> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(blocks) => Ok(blocks.iter().map(content_text).collect::<Result<Vec<_>, _>>()?.join("\n")),
        Value::Object(block) if block.get("type").is_some_and(|kind| kind == "text") => {
            Ok(block.get("text").and_then(Value::as_str).unwrap_or_default().to_owned())
        }
        Value::Object(block) => {
            let kind = block.get("type").and_then(Value::as_str).unwrap_or("untyped");
            Err(invalid(format!("models are sent text; a message has {kind} content")))
        }
        _ => Err(invalid("the `content` of a message must be text")),
    }
}

/// `{label: meaning}`, or a list of labels that speak for themselves.
fn labels_of(value: &Value) -> Result<IndexMap<String, String>, ModelError> {
    match value {
        Value::Object(map) => {
            map.iter().map(|(label, meaning)| Ok((label.clone(), string(meaning, "choose")?))).collect()
        }
        Value::Array(list) => list
            .iter()
            .map(|label| match label {
                Value::String(label) => Ok((label.clone(), String::new())),
                _ => Err(invalid("the labels of `choose` must be strings")),
            })
            .collect(),
        _ => Err(invalid("`choose` must be a map from label to meaning")),
    }
}

fn examples_of(value: &Value, shape: &Shape) -> Result<Vec<Example>, ModelError> {
    let list = value.as_array().ok_or_else(|| invalid("`examples` must be a list of { input, output }"))?;
    list.iter().enumerate().map(|(index, example)| example_of(example, shape, index)).collect()
}

fn example_of(value: &Value, shape: &Shape, index: usize) -> Result<Example, ModelError> {
    let empty = Map::new();
    let map = value.as_object().unwrap_or(&empty);
    let (Some(input), Some(output)) = (map.get("input"), map.get("output")) else {
        return Err(invalid(format!("`examples[{index}]` needs `input` and `output`")));
    };
    // An example that breaks its own rule would teach the model to break it.
    shape.check(output).map_err(|why| invalid(format!("`examples[{index}].output` {why}")))?;
    Ok(Example { input: string(input, "input")?, output: output.clone() })
}

fn max_tokens_of(value: &Value) -> Result<u32, ModelError> {
    value
        .as_u64()
        .and_then(|tokens| u32::try_from(tokens).ok())
        .filter(|tokens| *tokens > 0)
        .ok_or_else(|| invalid(format!("`max_tokens` must be a positive integer, not {value}")))
}

fn temperature_of(value: &Value) -> Result<f64, ModelError> {
    value
        .as_f64()
        .filter(|temperature| (0.0..=2.0).contains(temperature))
        .ok_or_else(|| invalid(format!("`temperature` must be between 0 and 2, not {value}")))
}
