//! Answers as OpenAI's clients read them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use antiphon_models::{SampleAnswer, StopReason};
use serde_json::{Value, json};

use super::ask::Style;

static ANSWERS: AtomicU64 = AtomicU64::new(1);

/// An answer on its way out.
pub(super) struct Completion {
    id: String,
    created: u64,
    answer: SampleAnswer,
    style: Style,
}

impl Completion {
    pub(super) fn new(mut answer: SampleAnswer, style: Style) -> Self {
        if style.one_call {
            answer.calls.truncate(1);
        }
        Self { id: format!("chatcmpl-{}", ANSWERS.fetch_add(1, Ordering::Relaxed)), created: now(), answer, style }
    }

    /// In one piece.
    pub(super) fn whole(&self) -> Value {
        let mut message = json!({ "role": "assistant", "content": self.content() });
        if !self.answer.calls.is_empty() {
            message["tool_calls"] = self.calls().collect();
        }
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.answer.model,
            "choices": [{ "index": 0, "message": message, "logprobs": null, "finish_reason": self.finish() }],
            "usage": self.usage(),
        })
    }

    /// As the events of a stream. It is whole when the first of them is sent: an answer that is not recorded is none.
    pub(super) fn events(&self) -> String {
        let mut deltas = vec![json!({ "role": "assistant", "content": self.content() })];
        if !self.answer.calls.is_empty() {
            let calls = self.calls().enumerate().map(|(index, mut call)| {
                call["index"] = index.into();
                call
            });
            deltas.push(json!({ "tool_calls": calls.collect::<Vec<_>>() }));
        }
        let choice = |delta: Value, finish: Value| json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
        let mut chunks: Vec<Value> = deltas.into_iter().map(|delta| self.chunk(choice(delta, Value::Null))).collect();
        chunks.push(self.chunk(choice(json!({}), self.finish().into())));
        if self.style.usage {
            let mut last = self.chunk(json!([]));
            last["usage"] = self.usage();
            chunks.push(last);
        }
        let events: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
        events + "data: [DONE]\n\n"
    }

    fn chunk(&self, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.answer.model,
            "choices": choices,
        })
    }

    /// What was asked for, without what the model said around it.
    fn content(&self) -> Value {
        match &self.answer.output {
            _ if !self.answer.calls.is_empty() && self.answer.text.is_empty() => Value::Null,
            _ if !self.answer.calls.is_empty() => self.answer.text.as_str().into(),
            Value::String(text) if !self.style.json => text.as_str().into(),
            value => value.to_string().into(),
        }
    }

    fn calls(&self) -> impl Iterator<Item = Value> {
        self.answer.calls.iter().map(|call| {
            let arguments = Value::Object(call.arguments.clone()).to_string();
            json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": arguments } })
        })
    }

    fn finish(&self) -> &str {
        match &self.answer.stop {
            StopReason::EndTurn | StopReason::StopSequence => "stop",
            StopReason::MaxTokens => "length",
            StopReason::ToolUse => "tool_calls",
            StopReason::Other(reason) => reason,
        }
    }

    fn usage(&self) -> Value {
        let usage = self.answer.usage;
        json!({
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.total(),
        })
    }
}

/// `GET /v1/models`.
pub(super) fn models(names: &[String]) -> Value {
    let models =
        names.iter().map(|name| json!({ "id": name, "object": "model", "created": 0, "owned_by": "antiphon" }));
    json!({ "object": "list", "data": models.collect::<Vec<_>>() })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
