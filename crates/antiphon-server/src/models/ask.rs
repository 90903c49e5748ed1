//! What an OpenAI client asks, as a [`SampleRequest`].
//!
//! What changes the meaning of the answer is honoured or refused; what only tunes it (`top_p`, `seed`, …) is left to the model.

use antiphon_models::{
    DEFAULT_MAX_TOKENS, Hint, Message, ModelError, ModelErrorKind, Preferences, Role, SampleRequest, Shape, ToolCall,
    ToolChoice, ToolResult, ToolSpec,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A request, and how it wants its answer.
pub(super) struct Ask {
    pub(super) request: SampleRequest,
    pub(super) preferences: Preferences,
    pub(super) style: Style,
}

/// How an answer is wanted.
#[derive(Clone, Copy)]
pub(super) struct Style {
    /// As a stream of events.
    pub(super) stream: bool,
    /// With an event that tells the tokens.
    pub(super) usage: bool,
    /// Its content is JSON, whatever value it is.
    pub(super) json: bool,
    /// With one call at the most.
    pub(super) one_call: bool,
}

#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    messages: Vec<Value>,
    max_tokens: Option<u32>,
    max_completion_tokens: Option<u32>,
    temperature: Option<f64>,
    stop: Option<Value>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    parallel_tool_calls: Option<bool>,
    response_format: Option<Value>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    n: Option<u32>,
    logprobs: Option<bool>,
    modalities: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

impl Ask {
    /// Reads a body.
    pub(super) fn read(body: &[u8]) -> Result<Self, ModelError> {
        let body: Body = serde_json::from_slice(body).map_err(|error| invalid(format!("the body: {error}")))?;
        if body.n.is_some_and(|n| n != 1) {
            return Err(invalid("`n` must be 1"));
        }
        if body.logprobs == Some(true) {
            return Err(invalid("`logprobs` are not known here"));
        }
        if body.modalities.iter().flatten().any(|modality| modality != "text") {
            return Err(invalid("unsupported modality: answers are text"));
        }
        let tools = body.tools.unwrap_or_default().iter().map(tool).collect::<Result<Vec<_>, _>>()?;
        let (tools, tool_choice) = chosen(body.tool_choice.as_ref(), tools)?;
        let max_tokens = body.max_completion_tokens.or(body.max_tokens).unwrap_or(DEFAULT_MAX_TOKENS);
        if max_tokens == 0 {
            return Err(invalid("`max_tokens` must be positive"));
        }
        if body.temperature.is_some_and(|temperature| !(0.0..=2.0).contains(&temperature)) {
            return Err(invalid("`temperature` must be between 0 and 2"));
        }
        let (system, messages) = conversation(&body.messages)?;
        let shape = body.response_format.as_ref().map_or(Ok(Shape::Text), shape)?;
        let json = !matches!(shape, Shape::Text);
        let hints =
            body.model.into_iter().filter(|name| !name.is_empty()).map(|name| Hint { name: Some(name) }).collect();
        Ok(Self {
            request: SampleRequest {
                system,
                shape,
                max_tokens,
                temperature: body.temperature,
                tools,
                tool_choice,
                stop: body.stop.as_ref().map_or(Ok(Vec::new()), stop)?,
                ..SampleRequest::conversation(messages)
            },
            preferences: Preferences { hints, ..Preferences::default() },
            style: Style {
                stream: body.stream == Some(true),
                usage: body.stream_options.is_some_and(|options| options.include_usage == Some(true)),
                json,
                one_call: body.parallel_tool_calls == Some(false),
            },
        })
    }
}

fn invalid(message: impl Into<String>) -> ModelError {
    ModelError::new(ModelErrorKind::InvalidRequest, message)
}

/// The instructions that a conversation begins with, and the rest of it.
fn conversation(list: &[Value]) -> Result<(Option<String>, Vec<Message>), ModelError> {
    let mut system = Vec::new();
    let mut messages: Vec<Message> = Vec::with_capacity(list.len());
    for entry in list {
        let role =
            entry.get("role").and_then(Value::as_str).ok_or_else(|| invalid("each of `messages` needs a `role`"))?;
        match role {
            "system" | "developer" if messages.is_empty() => system.push(text(entry)?),
            "system" | "developer" => messages.push(Message::new(Role::System, text(entry)?)),
            "user" => messages.push(Message::new(Role::User, text(entry)?)),
            "assistant" => messages.push(Message::calls(text(entry)?, calls(entry)?)),
            "tool" => {
                let result = result(entry, &messages)?;
                match messages.last_mut().filter(|last| !last.results.is_empty()) {
                    Some(turn) => turn.results.push(result),
                    None => messages.push(Message::results(vec![result])),
                }
            }
            other => return Err(invalid(format!("messages can't have the role `{other}`"))),
        }
    }
    if messages.is_empty() {
        return Err(invalid("`messages` has nothing to answer"));
    }
    Ok(((!system.is_empty()).then(|| system.join("\n\n")), messages))
}

/// A text, or parts that are texts.
fn text(entry: &Value) -> Result<String, ModelError> {
    match entry.get("content") {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => {
            parts.iter().map(part).collect::<Result<Vec<_>, _>>().map(|parts| parts.join("\n"))
        }
        Some(_) => Err(invalid("the `content` of a message must be a text or a list of parts")),
    }
}

fn part(part: &Value) -> Result<&str, ModelError> {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or("untyped");
    match part.get(kind).and_then(Value::as_str) {
        Some(text) if matches!(kind, "text" | "refusal") => Ok(text),
        _ => Err(invalid(format!("unsupported modality: models are sent text, not {kind}"))),
    }
}

fn calls(entry: &Value) -> Result<Vec<ToolCall>, ModelError> {
    let list = match entry.get("tool_calls") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(list) => list.as_array().ok_or_else(|| invalid("`tool_calls` must be a list"))?,
    };
    let call = |call: &Value| {
        let arguments = match call.pointer("/function/arguments")? {
            Value::String(arguments) if arguments.trim().is_empty() => Map::new(),
            Value::String(arguments) => serde_json::from_str(arguments).ok()?,
            _ => return None,
        };
        let text = |value: Option<&Value>| value?.as_str().map(str::to_owned);
        Some(ToolCall { id: text(call.get("id"))?, name: text(call.pointer("/function/name"))?, arguments })
    };
    let wrong = "each of `tool_calls` needs an `id` and a `function` with `name` and `arguments`, an object's JSON";
    list.iter().map(|entry| call(entry).ok_or_else(|| invalid(wrong))).collect()
}

fn result(entry: &Value, earlier: &[Message]) -> Result<ToolResult, ModelError> {
    let id = entry.get("tool_call_id").and_then(Value::as_str);
    let id = id.ok_or_else(|| invalid("a message of the role `tool` needs a `tool_call_id`"))?;
    let call = earlier.iter().rev().flat_map(|message| &message.calls).find(|call| call.id == id);
    let call =
        call.ok_or_else(|| invalid(format!("no call before the message of the role `tool` has the id {id:?}")))?;
    Ok(ToolResult { id: id.to_owned(), name: call.name.clone(), text: text(entry)?, is_error: false })
}

fn tool(entry: &Value) -> Result<ToolSpec, ModelError> {
    let function = entry.get("function").filter(|_| entry.get("type").is_some_and(|kind| kind == "function"));
    let function = function.ok_or_else(|| invalid("each of `tools` must be of the type `function`"))?;
    let name = function.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let input_schema = match function.get("parameters") {
        None | Some(Value::Null) => json!({ "type": "object" }),
        Some(schema @ Value::Object(_)) => schema.clone(),
        Some(_) => return Err(invalid("the `parameters` of a function must be a JSON Schema")),
    };
    Ok(ToolSpec {
        name: name.ok_or_else(|| invalid("each function of `tools` needs a `name`"))?.to_owned(),
        description: function.get("description").and_then(Value::as_str).map(str::to_owned),
        input_schema,
    })
}

/// A tool that is called by name is the only one there is.
fn chosen(choice: Option<&Value>, mut tools: Vec<ToolSpec>) -> Result<(Vec<ToolSpec>, ToolChoice), ModelError> {
    let choice = match choice {
        None | Some(Value::Null) => ToolChoice::Auto,
        Some(Value::String(mode)) => match mode.as_str() {
            "auto" => ToolChoice::Auto,
            "required" => ToolChoice::Required,
            "none" => ToolChoice::None,
            other => return Err(invalid(format!("`tool_choice` can't be `{other}`"))),
        },
        Some(named) => {
            let name = named.pointer("/function/name").and_then(Value::as_str);
            let name = name.ok_or_else(|| invalid("`tool_choice` must be a mode, or name a function"))?;
            tools.retain(|tool| tool.name == name);
            ToolChoice::Required
        }
    };
    if choice == ToolChoice::Required && tools.is_empty() {
        return Err(invalid("`tool_choice` wants a call, but there is no such tool"));
    }
    Ok((tools, choice))
}

fn shape(format: &Value) -> Result<Shape, ModelError> {
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(Shape::Text),
        Some("json_object") => Shape::schema(json!({ "type": "object" })),
        Some("json_schema") => {
            let schema = format.pointer("/json_schema/schema");
            Shape::schema(schema.ok_or_else(|| invalid("`response_format.json_schema` needs a `schema`"))?.clone())
        }
        _ => Err(invalid("the `type` of `response_format` must be `text`, `json_object` or `json_schema`")),
    }
}

fn stop(value: &Value) -> Result<Vec<String>, ModelError> {
    let texts = match value {
        Value::Null => Vec::new(),
        Value::String(text) => vec![text.clone()],
        list => Vec::deserialize(list).map_err(|_| invalid("`stop` must be a text or a list of texts"))?,
    };
    // An empty one would end every answer before it begins.
    Ok(texts.into_iter().filter(|text: &String| !text.is_empty()).collect())
}
