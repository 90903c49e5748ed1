//! What is sent.

use serde_json::{Value, json};

use super::names::Names;
use super::refusal::Refusal;
use crate::{Message, Role, SampleRequest, Shape, ToolChoice, prompt};

/// How many stop texts servers take; more are looked for here.
const MOST_STOPS: usize = 4;

/// Which optional parts of the protocol a server takes. Everything is tried first; what it refuses is left out from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    /// It knows tools. If not, they are explained in words.
    pub(super) tools: bool,
    response_format: bool,
    stream_options: bool,
    /// `max_completion_tokens`, as OpenAI's newer models want it, in place of `max_tokens`.
    completion_tokens: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { tools: true, response_format: true, stream_options: true, completion_tokens: false }
    }
}

impl Dialect {
    /// The dialect to try next after a refusal; `None` when the refusal is about something else.
    pub(super) fn without_what_offends(self, refusal: &Refusal, body: &Value) -> Option<Self> {
        let mentions = |what: &str| refusal.message.contains(what);
        // llama.cpp calls it a failure of its own, when it was started without templates.
        if self.tools && body.get("tools").is_some() && mentions("tool") && matches!(refusal.status, 400..=599) {
            return Some(Self { tools: false, ..self });
        }
        if !matches!(refusal.status, 400 | 404 | 415 | 422 | 501) {
            return None;
        }
        if mentions("max_completion_tokens") && !self.completion_tokens {
            Some(Self { completion_tokens: true, ..self })
        } else if mentions("stream_options") && self.stream_options {
            Some(Self { stream_options: false, ..self })
        } else if body.get("response_format").is_some()
            && ["response_format", "schema", "grammar"].into_iter().any(mentions)
        {
            Some(Self { response_format: false, ..self })
        } else {
            None
        }
    }
}

/// The conversation in a dialect: `repair` is what came of a first answer, if that had to be refused.
pub(super) fn messages(request: &SampleRequest, repair: &[Message], dialect: Dialect) -> Vec<Message> {
    if dialect.tools {
        prompt::messages(request).into_iter().chain(repair.iter().cloned()).collect()
    } else {
        prompt::in_words(request).into_iter().chain(repair.iter().cloned().map(prompt::worded)).collect()
    }
}

/// The body of a streamed chat completion.
pub(super) fn body(
    model: &str,
    request: &SampleRequest,
    repair: &[Message],
    dialect: Dialect,
    names: &Names<'_>,
) -> Value {
    let messages = messages(request, repair, dialect);
    let mut body = json!({
        "model": model,
        "messages": messages.iter().flat_map(|message| turns(message, names)).collect::<Vec<_>>(),
        "stream": true,
    });
    let limit = if dialect.completion_tokens { "max_completion_tokens" } else { "max_tokens" };
    body[limit] = request.max_tokens.into();
    if let Some(temperature) = request.temperature {
        body["temperature"] = temperature.into();
    }
    if !request.stop.is_empty() {
        body["stop"] = request.stop.iter().take(MOST_STOPS).cloned().collect();
    }
    if dialect.stream_options {
        body["stream_options"] = json!({ "include_usage": true });
    }
    let native = dialect.tools && !request.callable().is_empty();
    let schema = match native {
        false => request.reply_schema(),
        // Beside a constrained answer no tool could be called, so it is constrained only when a first one was wrong.
        true if request.tool_choice != ToolChoice::Required
            && repair.first().is_some_and(|said| said.calls.is_empty()) =>
        {
            request.shape.reply_schema()
        }
        true => None,
    };
    if dialect.tools && !request.tools.is_empty() {
        body["tools"] = request
            .tools
            .iter()
            .map(|tool| {
                let mut function = json!({ "name": names.sent(&tool.name), "parameters": tool.input_schema });
                if let Some(description) = &tool.description {
                    function["description"] = description.as_str().into();
                }
                json!({ "type": "function", "function": function })
            })
            .collect();
        let choice = if schema.is_some() { ToolChoice::None } else { request.tool_choice };
        if choice != ToolChoice::Auto {
            body["tool_choice"] = json!(choice);
        }
    }
    if let Some(schema) = schema.filter(|_| dialect.response_format) {
        // `strict` refuses schemas with optional properties, so only our own may be.
        let strict = matches!(request.shape, Shape::Choose(_)) && (native || request.callable().is_empty());
        body["response_format"] = json!({
            "type": "json_schema",
            "json_schema": { "name": "answer", "strict": strict, "schema": schema },
        });
    }
    body
}

/// A message as the messages that it is on the wire: each result is one of its own.
fn turns(message: &Message, names: &Names<'_>) -> Vec<Value> {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    let mut turns: Vec<Value> = message
        .results
        .iter()
        .map(|result| {
            let error = if result.is_error { "Error: " } else { "" };
            json!({ "role": "tool", "tool_call_id": result.id, "content": format!("{error}{}", result.text) })
        })
        .collect();
    if !message.calls.is_empty() {
        let calls = message.calls.iter().map(|call| {
            let arguments = Value::Object(call.arguments.clone()).to_string();
            let function = json!({ "name": names.sent(&call.name), "arguments": arguments });
            json!({ "id": call.id, "type": "function", "function": function })
        });
        let said = (!message.text.is_empty()).then_some(&message.text);
        turns.push(json!({ "role": role, "content": said, "tool_calls": calls.collect::<Vec<_>>() }));
    } else if turns.is_empty() || !message.text.is_empty() {
        turns.push(json!({ "role": role, "content": message.text }));
    }
    turns
}
