//! A sample's request, as a step's evaluated value spells it.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::request::invalid;
use crate::{
    DEFAULT_MAX_TOKENS, Example, Message, ModelError, Role, SampleRequest, Shape, ToolCall, ToolChoice, ToolResult,
    ToolSpec,
};

impl SampleRequest {
    /// Reads a step's request: a map with `prompt` or `messages`, and `system`, `choose`, `schema`, `examples`, `max_tokens`,
    /// `temperature`, `tools`, `tool_choice`, `stop`.
    ///
    /// Each of `tools` is `{name, description, input_schema}`: tools of servers are looked up before. In `messages`, an
    /// assistant's turn may have `tool_calls`, and turns of the role `tool` tell what came of them.
    ///
    /// # Errors
    /// [`ModelErrorKind::InvalidRequest`](crate::ModelErrorKind::InvalidRequest), naming the key.
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
        let tools = map.get("tools").map(tools_of).transpose()?.unwrap_or_default();
        let tool_choice = map.get("tool_choice").map(tool_choice_of).transpose()?.unwrap_or_default();
        if tool_choice == ToolChoice::Required && tools.is_empty() {
            return Err(invalid("`tool_choice` is `required`, but there are no `tools`"));
        }
        Ok(Self {
            system: map.get("system").map(|system| string(system, "system")).transpose()?,
            shape,
            examples,
            max_tokens: map
                .get("max_tokens")
                .map_or(Ok(DEFAULT_MAX_TOKENS), |value| max_tokens_of(value, "max_tokens"))?,
            temperature: map.get("temperature").map(temperature_of).transpose()?,
            tools,
            tool_choice,
            stop: map.get("stop").map(stop_of).transpose()?.unwrap_or_default(),
            ..Self::conversation(messages)
        })
    }
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
    let mut messages: Vec<Message> = Vec::with_capacity(list.len());
    for entry in list {
        if entry.get("role").is_some_and(|role| role == "tool") {
            // Results of parallel calls are one turn.
            let result = result_of(entry)?;
            match messages.last_mut().filter(|last| !last.results.is_empty()) {
                Some(turn) => turn.results.push(result),
                None => messages.push(Message::results(vec![result])),
            }
        } else {
            messages.push(turn(entry)?);
        }
    }
    match messages.last() {
        Some(last) if last.role == Role::User => Ok(messages),
        Some(_) => Err(invalid("the last of `messages` must have the role `user` or `tool`")),
        None => Err(invalid("`messages` is empty")),
    }
}

fn turn(value: &Value) -> Result<Message, ModelError> {
    let role = match value.get("role").and_then(Value::as_str) {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        _ => return Err(invalid("each of `messages` needs the role `user`, `assistant`, `system` or `tool`")),
    };
    let calls = match value.get("tool_calls") {
        None | Some(Value::Null) => Vec::new(),
        Some(_) if role != Role::Assistant => {
            return Err(invalid("only messages of the role `assistant` have `tool_calls`"));
        }
        Some(calls) => calls_of(calls)?,
    };
    match value.get("content") {
        None | Some(Value::Null) if !calls.is_empty() => Ok(Message::calls("", calls)),
        None => Err(invalid("each of `messages` needs `content`")),
        Some(content) => Ok(Message { calls, ..Message::new(role, content_text(content)?) }),
    }
}

fn calls_of(value: &Value) -> Result<Vec<ToolCall>, ModelError> {
    Vec::deserialize(value)
        .map_err(|error| invalid(format!("`tool_calls` must be a list of {{ id, name, arguments }}: {error}")))
}

fn result_of(value: &Value) -> Result<ToolResult, ModelError> {
    let field = |key: &str| {
        let text = value.get(key).and_then(Value::as_str).map(str::to_owned);
        text.ok_or_else(|| invalid(format!("a message of the role `tool` needs `{key}`, a string")))
    };
    Ok(ToolResult {
        id: field("id")?,
        name: field("name")?,
        text: match value.get("content") {
            None | Some(Value::Null) => String::new(),
            // What a tool answers may be any value.
            Some(content) => content_text(content).unwrap_or_else(|_| content.to_string()),
        },
        is_error: value.get("is_error").is_some_and(|is_error| *is_error == true),
    })
}

/// A string, an MCP text block, or a list of these.
pub(crate) fn content_text(content: &Value) -> Result<String, ModelError> {
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

pub(crate) fn max_tokens_of(value: &Value, key: &str) -> Result<u32, ModelError> {
    value
        .as_u64()
        .and_then(|tokens| u32::try_from(tokens).ok())
        .filter(|tokens| *tokens > 0)
        .ok_or_else(|| invalid(format!("`{key}` must be a positive integer, not {value}")))
}

pub(crate) fn temperature_of(value: &Value) -> Result<f64, ModelError> {
    value
        .as_f64()
        .filter(|temperature| (0.0..=2.0).contains(temperature))
        .ok_or_else(|| invalid(format!("`temperature` must be between 0 and 2, not {value}")))
}

fn tools_of(value: &Value) -> Result<Vec<ToolSpec>, ModelError> {
    let list = value.as_array().ok_or_else(|| invalid("`tools` must be a list"))?;
    let mut names = BTreeSet::new();
    let mut tools = Vec::with_capacity(list.len());
    for (index, entry) in list.iter().enumerate() {
        let wrong = |why: &str| invalid(format!("`tools[{index}]` {why}"));
        let tool = ToolSpec::deserialize(entry)
            .map_err(|error| wrong(&format!("needs `name` and `input_schema`: {error}")))?;
        if tool.name.is_empty() || !names.insert(tool.name.clone()) {
            return Err(wrong("needs a `name` of its own"));
        }
        if !tool.input_schema.is_object() {
            return Err(wrong("needs an object as `input_schema`"));
        }
        tools.push(tool);
    }
    Ok(tools)
}

fn tool_choice_of(value: &Value) -> Result<ToolChoice, ModelError> {
    ToolChoice::deserialize(value)
        .map_err(|_| invalid(format!("`tool_choice` must be `auto`, `required` or `none`, not {value}")))
}

fn stop_of(value: &Value) -> Result<Vec<String>, ModelError> {
    let stop = match value {
        Value::String(text) => vec![text.clone()],
        list => Vec::deserialize(list).map_err(|_| invalid("`stop` must be a list of texts"))?,
    };
    if stop.iter().any(String::is_empty) {
        return Err(invalid("`stop` has an empty text, which would end every answer"));
    }
    Ok(stop)
}
