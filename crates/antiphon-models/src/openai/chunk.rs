//! What comes back, read tolerantly: servers that call themselves compatible differ in everything that is not the text.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::Usage;

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
    /// The stop text that was met, as vLLM tells it; others put numbers here.
    pub(super) stop_reason: Option<Value>,
}

impl Choice {
    pub(super) fn said(&mut self) -> Said {
        self.delta.take().or(self.message.take()).unwrap_or_default()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Said {
    /// A text, or parts that have one.
    content: Option<Value>,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) tool_calls: Vec<CallPart>,
}

impl Said {
    pub(super) fn text(&self) -> String {
        let part = |part: &Value| part.as_str().or_else(|| part.get("text")?.as_str()).unwrap_or_default().to_owned();
        match &self.content {
            Some(Value::Array(parts)) => parts.iter().map(part).collect(),
            Some(content) => part(content),
            None => String::new(),
        }
    }
}

/// A call, or a piece of one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CallPart {
    pub(super) index: Option<usize>,
    pub(super) id: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) function: FunctionPart,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FunctionPart {
    pub(super) name: Option<String>,
    /// A piece of JSON as text; some send the object.
    pub(super) arguments: Option<Value>,
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
        Usage {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens,
            estimated: false,
            waited_ms: 0,
        }
    }
}

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
