//! Requests and answers as MCP spells them: `CreateMessageRequestParams` and `CreateMessageResult`, as JSON.
//!
//! Servers ask so ([`request`], answered by [`result`]), and so a request is put to the caller's own model ([`params`],
//! answered by [`answer`]). `includeContext` and `metadata` are not looked at: the first is deprecated, the second is any
//! provider's own.

use serde_json::{Map, Value, json};

use crate::parse::{max_tokens_of, temperature_of};
use crate::request::invalid;
use crate::{
    DEFAULT_MAX_TOKENS, Message, ModelError, ModelErrorKind, Preferences, Reply, Role, SampleAnswer, SampleRequest,
    Shape, StopReason, ToolCall, ToolChoice, ToolResult, ToolSpec, Usage, prompt,
};

/// The key of a request's `_meta` by which it wants JSON that conforms to this schema: MCP has no word for that.
const SCHEMA: &str = "antiphon/schema";

/// What a server asks, and what kind of model it would like.
///
/// # Errors
/// [`ModelErrorKind::InvalidRequest`]: malformed, or with content that models are not sent (images, audio). For JSON-RPC,
/// that is `-32602`.
pub fn request(params: &Value) -> Result<(SampleRequest, Preferences), ModelError> {
    let list = params.get("messages").and_then(Value::as_array).ok_or_else(|| invalid("`messages` must be a list"))?;
    let mut messages: Vec<Message> = Vec::with_capacity(list.len());
    for entry in list {
        let turn = turn(entry, &messages)?;
        messages.push(turn);
    }
    check_turns(&messages)?;
    let tools = present(params, "tools").map_or(Ok(Vec::new()), tools)?;
    let request = SampleRequest {
        system: present(params, "systemPrompt").map(|system| text_of(system, "systemPrompt")).transpose()?,
        max_tokens: present(params, "maxTokens")
            .map_or(Ok(DEFAULT_MAX_TOKENS), |value| max_tokens_of(value, "maxTokens"))?,
        temperature: present(params, "temperature").map(temperature_of).transpose()?,
        tool_choice: tool_choice(params, &tools)?,
        tools,
        stop: strings(params, "stopSequences")?,
        shape: params
            .get("_meta")
            .and_then(|meta| meta.get(SCHEMA))
            .map_or(Ok(Shape::Text), |schema| Shape::schema(schema.clone()))?,
        ..SampleRequest::conversation(messages)
    };
    let preferences = match present(params, "modelPreferences") {
        Some(preferences) => serde_json::from_value(preferences.clone())
            .map_err(|error| invalid(format!("`modelPreferences`: {error}")))?,
        None => Preferences::default(),
    };
    Ok((request, preferences))
}

/// A request for the caller's model. `tools`: the caller declared `sampling.tools`; if not, tools are explained in words.
pub fn params(request: &SampleRequest, preferences: &Preferences, tools: bool) -> Value {
    let mut system = Vec::new();
    let mut messages = Vec::new();
    for message in if tools { prompt::messages(request) } else { prompt::in_words(request) } {
        match message.role {
            Role::System => system.push(message.text),
            Role::User => messages.push(json!({ "role": "user", "content": content(message) })),
            Role::Assistant => messages.push(json!({ "role": "assistant", "content": content(message) })),
        }
    }
    let mut params = json!({ "messages": messages, "maxTokens": request.max_tokens });
    let mut set = |key: &str, value: Value| params[key] = value;
    if !system.is_empty() {
        set("systemPrompt", system.join("\n\n").into());
    }
    if let Some(temperature) = request.temperature {
        set("temperature", temperature.into());
    }
    if !request.stop.is_empty() {
        set("stopSequences", request.stop.clone().into());
    }
    if !preferences.is_empty() {
        set("modelPreferences", json!(preferences));
    }
    if tools && !request.tools.is_empty() {
        let offered = request.tools.iter().map(|tool| {
            let mut offered = json!({ "name": tool.name, "inputSchema": tool.input_schema });
            if let Some(description) = &tool.description {
                offered["description"] = description.as_str().into();
            }
            offered
        });
        set("tools", offered.collect());
        set("toolChoice", json!({ "mode": request.tool_choice }));
    }
    params
}

/// A request that comes back to [`request`]: the shape of its answer is told, rather than asked for in words.
pub fn params_with_shape(request: &SampleRequest, preferences: &Preferences) -> Value {
    let mut told = params(&SampleRequest { shape: Shape::Text, ..request.clone() }, preferences, true);
    if let Shape::Schema { schema, .. } = &request.shape {
        told["_meta"][SCHEMA] = schema.clone();
    }
    told
}

/// A `CreateMessageResult`.
pub fn result(answer: &SampleAnswer) -> Value {
    let message = Message::calls(answer.text.clone(), answer.calls.clone());
    json!({
        "role": "assistant",
        "content": content(message),
        "model": answer.model,
        "stopReason": answer.stop.as_str(),
    })
}

/// What a `CreateMessageResult` answers to a request. Nobody counted its tokens: the usage is a guess.
///
/// # Errors
/// [`ModelErrorKind::InvalidOutput`]: malformed, or not of the shape that was asked for.
pub fn answer(request: &SampleRequest, result: &Value) -> Result<SampleAnswer, ModelError> {
    let wrong = |why: String| ModelError::new(ModelErrorKind::InvalidOutput, why);
    let content = result
        .get("content")
        .ok_or_else(|| wrong("it must be a CreateMessageResult: an object with `content`".to_owned()))?;
    let Message { mut text, mut calls, .. } =
        blocks(Role::Assistant, content, &request.messages).map_err(|error| wrong(error.message))?;
    let usage = Usage::guess(&prompt::messages(request), &text);
    let output = if calls.is_empty() {
        match request.read(&text).map_err(|why| wrong(format!("the answer {why}")))? {
            Reply::Output(output) => {
                text = request.words(text, &output);
                output
            }
            Reply::Calls(read) => {
                calls = read;
                text = String::new();
                Value::Null
            }
        }
    } else {
        request.check_calls(&calls).map_err(|why| wrong(format!("the answer {why}")))?;
        Value::Null
    };
    let stop = match result.get("stopReason").and_then(Value::as_str) {
        _ if !calls.is_empty() => StopReason::ToolUse,
        reason => reason.map_or(StopReason::EndTurn, StopReason::from),
    };
    Ok(SampleAnswer {
        output,
        usage,
        model: result.get("model").and_then(Value::as_str).unwrap_or("caller").to_owned(),
        text,
        calls,
        cost_usd: 0.0,
        stop,
    })
}

/// One block stands alone, as both eras read it; more are a list.
fn content(message: Message) -> Value {
    let text = |text: String| json!({ "type": "text", "text": text });
    let said = (!message.text.is_empty()).then(|| text(message.text));
    let calls = message
        .calls
        .into_iter()
        .map(|call| json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments }));
    let results = message.results.into_iter().map(|result| {
        json!({
            "type": "tool_result", "toolUseId": result.id, "content": [text(result.text)], "isError": result.is_error,
        })
    });
    let mut blocks: Vec<Value> = said.into_iter().chain(calls).chain(results).collect();
    match (blocks.pop(), blocks.is_empty()) {
        (None, _) => text(String::new()),
        (Some(block), true) => block,
        (Some(last), false) => {
            blocks.push(last);
            blocks.into()
        }
    }
}

fn turn(entry: &Value, earlier: &[Message]) -> Result<Message, ModelError> {
    let role = match entry.get("role").and_then(Value::as_str) {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        _ => return Err(invalid("each of `messages` needs the role `user` or `assistant`")),
    };
    blocks(role, entry.get("content").ok_or_else(|| invalid("each of `messages` needs `content`"))?, earlier)
}

fn blocks(role: Role, content: &Value, earlier: &[Message]) -> Result<Message, ModelError> {
    let blocks = content.as_array().map_or(std::slice::from_ref(content), Vec::as_slice);
    let mut texts = Vec::new();
    let mut message = Message::new(role, "");
    for block in blocks {
        match block.get("type").and_then(Value::as_str) {
            Some("text") => texts.push(text_of(block.get("text").unwrap_or(&Value::Null), "text")?),
            Some("tool_use") if role == Role::Assistant => message.calls.push(call(block)?),
            Some("tool_result") if role == Role::User => message.results.push(tool_result(block, earlier)?),
            Some(kind @ ("tool_use" | "tool_result")) => {
                return Err(invalid(format!("`{kind}` content is in a message of the wrong role")));
            }
            Some(kind) => return Err(invalid(format!("unsupported modality: models are sent text, not {kind}"))),
            None => return Err(invalid("the `content` of a message needs a `type`")),
        }
    }
    message.text = texts.join("\n");
    Ok(message)
}

fn call(block: &Value) -> Result<ToolCall, ModelError> {
    let field = |key: &str| {
        block
            .get(key)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .ok_or_else(|| invalid(format!("`tool_use` needs `{key}`")))
    };
    let arguments = match block.get("input") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(arguments)) => arguments.clone(),
        Some(_) => return Err(invalid("the `input` of `tool_use` must be an object")),
    };
    Ok(ToolCall { id: field("id")?, name: field("name")?, arguments })
}

fn tool_result(block: &Value, earlier: &[Message]) -> Result<ToolResult, ModelError> {
    let id =
        block.get("toolUseId").and_then(Value::as_str).ok_or_else(|| invalid("`tool_result` needs `toolUseId`"))?;
    let call = earlier.iter().rev().flat_map(|message| &message.calls).find(|call| call.id == id);
    let call = call.ok_or_else(|| invalid(format!("no `tool_use` before the `tool_result` has the id {id:?}")))?;
    let empty = Vec::new();
    let content = block.get("content").and_then(Value::as_array).unwrap_or(&empty);
    let text = match (content.as_slice(), block.get("structuredContent")) {
        ([], Some(structured)) => structured.to_string(),
        (blocks, _) => blocks.iter().map(words).collect::<Result<Vec<_>, _>>()?.join("\n"),
    };
    let is_error = block.get("isError").is_some_and(|is_error| *is_error == true);
    Ok(ToolResult { id: id.to_owned(), name: call.name.clone(), text, is_error })
}

/// What a block of a tool's result says: text, embedded text, or where a resource is.
fn words(block: &Value) -> Result<String, ModelError> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    match block.get("type").and_then(Value::as_str) {
        Some("text") => text(block.get("text")),
        Some("resource") => text(block.pointer("/resource/text")),
        Some("resource_link") => text(block.get("uri")),
        _ => None,
    }
    .ok_or_else(|| {
        let kind = block.get("type").and_then(Value::as_str).unwrap_or("untyped content");
        invalid(format!("unsupported modality: models are sent text, and a `tool_result` has {kind}"))
    })
}

/// Results answer all the calls of the turn before, and stand alone.
fn check_turns(messages: &[Message]) -> Result<(), ModelError> {
    if messages.is_empty() {
        return Err(invalid("`messages` is empty"));
    }
    for (index, message) in messages.iter().enumerate() {
        if !message.results.is_empty() && !message.text.is_empty() {
            return Err(invalid("tool results are mixed with other content"));
        }
        let answered =
            |id: &str| messages.get(index + 1).is_some_and(|next| next.results.iter().any(|result| result.id == id));
        if let Some(call) = message.calls.iter().find(|call| !answered(&call.id)) {
            return Err(invalid(format!("the tool result of the call {:?} is missing", call.id)));
        }
    }
    Ok(())
}

fn tools(value: &Value) -> Result<Vec<ToolSpec>, ModelError> {
    let list = value.as_array().ok_or_else(|| invalid("`tools` must be a list"))?;
    let mut tools: Vec<ToolSpec> = Vec::with_capacity(list.len());
    for entry in list {
        let name = entry.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| invalid("each of `tools` needs a `name`"))?;
        if tools.iter().any(|tool| tool.name == name) {
            return Err(invalid(format!("two of `tools` have the name `{name}`")));
        }
        tools.push(ToolSpec {
            name: name.to_owned(),
            description: entry.get("description").and_then(Value::as_str).map(str::to_owned),
            input_schema: entry
                .get("inputSchema")
                .filter(|schema| schema.is_object())
                .cloned()
                .ok_or_else(|| invalid(format!("the tool `{name}` needs an object as `inputSchema`")))?,
        });
    }
    Ok(tools)
}

fn tool_choice(params: &Value, tools: &[ToolSpec]) -> Result<ToolChoice, ModelError> {
    match present(params, "toolChoice").and_then(|choice| choice.get("mode")) {
        None => Ok(ToolChoice::Auto),
        Some(mode) => match mode.as_str() {
            Some("auto") => Ok(ToolChoice::Auto),
            Some("none") => Ok(ToolChoice::None),
            Some("required") if tools.is_empty() => {
                Err(invalid("`toolChoice` is `required`, but there are no `tools`"))
            }
            Some("required") => Ok(ToolChoice::Required),
            _ => Err(invalid(format!("the `mode` of `toolChoice` must be `auto`, `required` or `none`, not {mode}"))),
        },
    }
}

fn strings(params: &Value, key: &str) -> Result<Vec<String>, ModelError> {
    let Some(value) = present(params, key) else { return Ok(Vec::new()) };
    let list: Vec<String> =
        serde_json::from_value(value.clone()).map_err(|_| invalid(format!("`{key}` must be a list of strings")))?;
    // An empty one would end every answer before it begins.
    Ok(list.into_iter().filter(|text| !text.is_empty()).collect())
}

fn text_of(value: &Value, key: &str) -> Result<String, ModelError> {
    value.as_str().map(str::to_owned).ok_or_else(|| invalid(format!("`{key}` must be a string")))
}

/// Some senders write `null` for what they leave out.
fn present<'a>(params: &'a Value, key: &str) -> Option<&'a Value> {
    params.get(key).filter(|value| !value.is_null())
}
