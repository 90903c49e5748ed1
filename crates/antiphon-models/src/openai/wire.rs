//! What is sent and what comes back, read tolerantly: servers that call themselves compatible differ in everything that is
//! not the text.

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::http::Refusal;
use crate::{Message, Role, SampleRequest, Shape, Usage};

/// Which optional parts of the protocol a server takes. Everything is tried first; what it refuses is left out from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dialect {
    response_format: bool,
    stream_options: bool,
    /// `max_completion_tokens`, as OpenAI's newer models want it, in place of `max_tokens`.
    completion_tokens: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { response_format: true, stream_options: true, completion_tokens: false }
    }
}

impl Dialect {
    /// The dialect to try next after a refusal; `None` when the refusal is about something else.
    pub(super) fn without_what_offends(self, refusal: &Refusal, body: &Value) -> Option<Self> {
        if !matches!(refusal.status, 400 | 404 | 415 | 422 | 501) {
            return None;
        }
        let mentions = |what: &str| refusal.message.contains(what);
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

/// The body of a streamed chat completion.
pub(super) fn body(model: &str, messages: &[Message], request: &SampleRequest, dialect: Dialect) -> Value {
    let mut body = json!({
        "model": model,
        "messages": messages.iter().map(message).collect::<Vec<_>>(),
        "stream": true,
    });
    let limit = if dialect.completion_tokens { "max_completion_tokens" } else { "max_tokens" };
    body[limit] = request.max_tokens.into();
    if let Some(temperature) = request.temperature {
        body["temperature"] = temperature.into();
    }
    if dialect.stream_options {
        body["stream_options"] = json!({ "include_usage": true });
    }
    if dialect.response_format
        && let Some(schema) = request.shape.reply_schema()
    {
        // `strict` refuses schemas with optional properties, so only our own may be.
        let strict = matches!(request.shape, Shape::Choose(_));
        body["response_format"] = json!({
            "type": "json_schema",
            "json_schema": { "name": "answer", "strict": strict, "schema": schema },
        });
    }
    body
}

fn message(message: &Message) -> Value {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    json!({ "role": role, "content": message.text })
}

/// One event of the stream; or a whole answer, of a server that does not stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Chunk {
    #[serde(deserialize_with = "null_is_default")]
    pub(super) choices: Vec<Choice>,
    pub(super) model: Option<String>,
    pub(super) usage: Option<Counted>,
    /// Some servers report a failure inside a stream that began well.
    pub(super) error: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Choice {
    delta: Option<Said>,
    message: Option<Said>,
    /// An empty string means none, to some.
    pub(super) finish_reason: Option<String>,
}

impl Choice {
    pub(super) fn text(self) -> String {
        self.delta.or(self.message).and_then(|said| said.content).unwrap_or_default()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    content: Option<String>,
}

/// Tokens as the server counts them.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Counted {
    #[serde(deserialize_with = "null_is_default")]
    prompt_tokens: u64,
    #[serde(deserialize_with = "null_is_default")]
    completion_tokens: u64,
}

impl Counted {
    pub(super) fn usage(self) -> Usage {
        Usage { prompt_tokens: self.prompt_tokens, completion_tokens: self.completion_tokens, estimated: false }
    }
}

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
