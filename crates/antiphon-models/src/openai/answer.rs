//! An answer, put together from its pieces.

use serde_json::Value;

use super::chunk::{CallPart, Chunk};
use super::names::Names;
use super::refusal::Refusal;
use crate::reply::arguments_of;
use crate::{Reply, SampleRequest, StopReason, ToolCall, Usage};

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// What a server has said so far.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) text: String,
    calls: Vec<Pieces>,
    /// As the server names itself.
    pub(super) model: Option<String>,
    /// What it counted, if it counts.
    pub(super) counted: Option<Usage>,
    /// How many pieces had something in them.
    pub(super) pieces: u64,
    choices: usize,
    finish: Option<String>,
    /// The server met one of the request's stop texts.
    stopped: bool,
    /// It went on beyond one.
    pub(super) overran: bool,
}

/// A call whose arguments come in pieces.
#[derive(Default)]
struct Pieces {
    index: Option<usize>,
    id: String,
    name: String,
    arguments: String,
}

impl Answer {
    /// Takes the next piece.
    pub(super) fn take(&mut self, chunk: Chunk, stop: &[String]) -> Result<(), Refusal> {
        if let Some(error) = chunk.error {
            return Err(Refusal::in_stream(&error));
        }
        self.model = self.model.take().or(chunk.model.filter(|name| !name.is_empty()));
        self.counted = chunk.usage.map(super::chunk::Counted::usage).or(self.counted);
        for mut choice in chunk.choices {
            self.choices += 1;
            let said = choice.said();
            let text = said.text();
            self.pieces += u64::from(!text.is_empty() || !said.tool_calls.is_empty());
            self.text.push_str(&text);
            self.overran |= cut_at(&mut self.text, text.len(), stop);
            said.tool_calls.into_iter().for_each(|part| self.call(part));
            self.finish = choice.finish_reason.filter(|reason| !reason.is_empty()).or(self.finish.take());
            self.stopped |= choice
                .stop_reason
                .as_ref()
                .and_then(Value::as_str)
                .is_some_and(|met| stop.iter().any(|text| text == met));
        }
        if self.bytes() > MAX_ANSWER_BYTES { Err(Refusal::too_long(MAX_ANSWER_BYTES)) } else { Ok(()) }
    }

    /// A piece belongs to the call with its index; servers that count none, or always from 0, tell calls apart by their ids.
    fn call(&mut self, part: CallPart) {
        let id = part.id.unwrap_or_default();
        let name = part.function.name.unwrap_or_default();
        let same = |call: &Pieces| match part.index {
            Some(_) if call.index == part.index => id.is_empty() || call.id.is_empty() || call.id == id,
            Some(_) => false,
            None => {
                if id.is_empty() {
                    name.is_empty()
                } else {
                    call.id == id
                }
            }
        };
        let place = self.calls.iter().rposition(same).unwrap_or_else(|| {
            self.calls.push(Pieces { index: part.index, ..Pieces::default() });
            self.calls.len() - 1
        });
        let call = &mut self.calls[place];
        if !id.is_empty() {
            call.id = id;
        }
        // A name comes whole; some repeat it with every piece.
        if !name.is_empty() {
            call.name = name;
        }
        match part.function.arguments {
            Some(Value::String(piece)) => call.arguments.push_str(&piece),
            Some(Value::Null) | None => {}
            Some(whole) => call.arguments = whole.to_string(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.text.len() + self.calls.iter().map(|call| call.name.len() + call.arguments.len()).sum::<usize>()
    }

    /// Whether there was anything at all.
    pub(super) fn began(&self) -> bool {
        self.choices > 0
    }

    /// Whether the server told calls apart.
    pub(super) fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    /// It was cut at `max_tokens`.
    pub(super) fn cut(&self) -> bool {
        self.finish.as_deref() == Some("length")
    }

    /// The calls that the server told apart.
    ///
    /// # Errors
    /// The first whose arguments are no JSON object, as the end of a sentence.
    pub(super) fn calls(&self, request: &SampleRequest, names: &Names<'_>) -> Result<Vec<ToolCall>, String> {
        let read = |call: &Pieces| {
            let name = names.own(&call.name);
            let arguments = arguments_of(&Value::String(call.arguments.clone()))
                .ok_or_else(|| format!("calls `{name}` with arguments that are not a JSON object"))?;
            Ok(ToolCall { id: call.id.clone(), name, arguments })
        };
        let mut calls = self.calls.iter().map(read).collect::<Result<Vec<_>, String>>()?;
        request.number(&mut calls);
        Ok(calls)
    }

    /// Text and calls, for people and for a model that is to mend them.
    pub(super) fn all(&self) -> String {
        let said = (!self.text.is_empty()).then(|| self.text.clone());
        let calls = self.calls.iter().map(|call| format!("{}({})", call.name, call.arguments));
        said.into_iter().chain(calls).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn stop(&self, reply: &Reply) -> StopReason {
        match (reply, self.finish.as_deref()) {
            (Reply::Calls(_), _) => StopReason::ToolUse,
            _ if self.stopped || self.overran => StopReason::StopSequence,
            (_, None | Some("stop" | "tool_calls" | "function_call")) => StopReason::EndTurn,
            (_, Some("length")) => StopReason::MaxTokens,
            (_, Some(other)) => StopReason::Other(other.to_owned()),
        }
    }
}

/// Ends a text, whose last `new` bytes are new, before the first of these.
fn cut_at(text: &mut String, new: usize, stop: &[String]) -> bool {
    let longest = stop.iter().map(String::len).max().unwrap_or(0);
    let from = text.floor_char_boundary(text.len().saturating_sub(new + longest));
    let first = stop.iter().filter_map(|stop| text[from..].find(stop.as_str())).min();
    if let Some(at) = first {
        text.truncate(from + at);
    }
    first.is_some()
}
