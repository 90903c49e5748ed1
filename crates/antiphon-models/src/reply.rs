//! What a model's words come to: calls of the request's tools, or an answer in its shape.
//!
//! Servers that know tools tell calls apart by themselves. For all others there is a protocol in plain JSON,
//! `{"tool": …, "arguments": …}` or `{"answer": …}`, which [`prompt::in_words`](crate::prompt::in_words) explains to the
//! model. It is read leniently: small models put JSON in fences, in tags or among prose, spell its keys as they learned them, and
//! may answer in mere words.

use serde_json::{Map, Value, json};

use crate::json;
use crate::shape::{after_thinking, at, json_values, quoted};
use crate::{SampleRequest, Shape, ToolCall, ToolChoice, ToolSpec};

/// The key of a call's tool, and other keys that models use for it.
const TOOL: &str = "tool";
const TOOL_ALIASES: [&str; 2] = ["name", "function"];

/// The key of a call's arguments, and other keys that models use for them.
const ARGUMENTS: &str = "arguments";
const ARGUMENTS_ALIASES: [&str; 2] = ["parameters", "input"];

/// The key of an answer in words, where a call could be.
const ANSWER: &str = "answer";

/// What a model's words come to.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// It wants tools called.
    Calls(Vec<ToolCall>),
    /// It answers: a label, a value, a text.
    Output(Value),
}

impl SampleRequest {
    /// Reads what a model said.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence: for [`prompt::repair`](crate::prompt::repair), and for people.
    pub fn read(&self, said: &str) -> Result<Reply, String> {
        if !self.callable().is_empty() {
            let calls = self.calls_in(said)?;
            if !calls.is_empty() {
                return self.check_calls(&calls).map(|()| Reply::Calls(calls));
            }
            if self.tool_choice == ToolChoice::Required {
                return Err(format!("calls none of the tools {}", quoted(self.tool_names())));
            }
        }
        match answer_in(said) {
            Some(answer) if self.in_protocol() => Ok(Reply::Output(Value::String(answer))),
            _ => self.shape.read(said).map(Reply::Output),
        }
    }

    /// The words of an answer: what was said, but for the protocol around it.
    pub fn words(&self, said: String, output: &Value) -> String {
        match output {
            Value::String(answer) if self.in_protocol() => answer.clone(),
            _ => said,
        }
    }

    /// Whether words are an answer of the protocol, rather than mere words.
    fn in_protocol(&self) -> bool {
        !self.callable().is_empty() && matches!(self.shape, Shape::Text)
    }

    /// Whether these calls are of tools that there are, with arguments that conform to the tools' schemas.
    ///
    /// # Errors
    /// What is wrong with them, as the end of a sentence.
    pub fn check_calls(&self, calls: &[ToolCall]) -> Result<(), String> {
        calls.iter().try_for_each(|call| {
            let tool =
                self.callable().iter().find(|tool| tool.name == call.name).ok_or_else(|| self.unknown(&call.name))?;
            // Whoever published a schema that is none checks the arguments in its own way.
            let Ok(validator) = jsonschema::validator_for(&tool.input_schema) else { return Ok(()) };
            let arguments = Value::Object(call.arguments.clone());
            let errors: Vec<_> = validator.iter_errors(&arguments).take(3).map(|error| at(&error)).collect();
            if errors.is_empty() {
                Ok(())
            } else {
                Err(format!("calls `{}` with arguments that do not conform: {}", call.name, errors.join("; ")))
            }
        })
    }

    /// The JSON Schema to constrain a model's words with, calls in the plain protocol included; `None` when any text may be
    /// the answer, or when a schema can't be put inside another.
    pub fn reply_schema(&self) -> Option<Value> {
        let calls = self.callable().iter().map(call_schema);
        let answer = match self.answer_schema() {
            Some(schema) if !self.callable().is_empty() && refers(&schema) => return None,
            schema => schema,
        };
        let mut arms: Vec<Value> = calls.chain(answer).collect();
        if arms.len() <= 1 { arms.pop() } else { Some(json!({ "anyOf": arms })) }
    }

    /// The JSON Schema of what the model says when it calls no tool; `None` when that is any text, or when it has to call one.
    pub fn answer_schema(&self) -> Option<Value> {
        match (self.callable(), self.tool_choice) {
            ([_, ..], ToolChoice::Required) => None,
            ([_, ..], _) if self.in_protocol() => Some(json!({
                "type": "object",
                "properties": { ANSWER: { "type": "string" } },
                "required": [ANSWER],
                "additionalProperties": false,
            })),
            _ => self.shape.reply_schema(),
        }
    }

    /// The calls in a text, whether or not their arguments conform.
    pub(crate) fn calls_in(&self, said: &str) -> Result<Vec<ToolCall>, String> {
        let mut calls = Vec::new();
        for value in json_values(after_thinking(said)) {
            let values = match value {
                Value::Array(values) => values,
                value => vec![value],
            };
            for value in &values {
                calls.extend(self.call_in(value)?);
            }
        }
        self.number(&mut calls);
        Ok(calls)
    }

    /// The call that a value is, if it is one. Under the protocol's own key it is meant to be one.
    fn call_in(&self, value: &Value) -> Result<Option<ToolCall>, String> {
        // OpenAI's own form, written out as text.
        let value = value.get("function").filter(|function| function.is_object()).unwrap_or(value);
        let arguments = std::iter::once(ARGUMENTS).chain(ARGUMENTS_ALIASES).find_map(|key| value.get(key));
        let name = match value.get(TOOL).and_then(Value::as_str) {
            Some(name) => match self.meant(name) {
                None if arguments.is_some() => return Err(self.unknown(name)),
                known => known,
            },
            None => {
                let name = TOOL_ALIASES.into_iter().find_map(|key| value.get(key)?.as_str());
                name.filter(|_| arguments.is_some()).and_then(|name| self.meant(name))
            }
        };
        let Some(name) = name else { return Ok(None) };
        let arguments = match arguments {
            None => Map::new(),
            Some(arguments) => arguments_of(arguments)
                .ok_or_else(|| format!("calls `{name}` with arguments that are not a JSON object"))?,
        };
        Ok(Some(ToolCall { id: String::new(), name: name.to_owned(), arguments }))
    }

    /// Gives calls without an id one that no other call of the conversation has.
    pub(crate) fn number(&self, calls: &mut [ToolCall]) {
        let earlier: Vec<&str> =
            self.messages.iter().flat_map(|message| &message.calls).map(|call| call.id.as_str()).collect();
        let mut next = earlier.len();
        for index in 0..calls.len() {
            while calls[index].id.is_empty() {
                next += 1;
                let id = format!("call_{next}");
                if !earlier.contains(&id.as_str()) && calls.iter().all(|call| call.id != id) {
                    calls[index].id = id;
                }
            }
        }
    }

    /// The tool of that name; or the only one that is spelled like it but for case and punctuation, which models mend.
    fn meant(&self, name: &str) -> Option<&str> {
        let names = || self.callable().iter().map(|tool| tool.name.as_str());
        let plain = |name: &str| -> String {
            name.chars().map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
        };
        names().find(|known| *known == name).or_else(|| {
            let mut alike = names().filter(|known| plain(known) == plain(name));
            alike.next().filter(|_| alike.next().is_none())
        })
    }

    fn unknown(&self, name: &str) -> String {
        match self.callable() {
            [] => format!("calls `{name}`, but there are no tools to call"),
            _ => format!("calls `{name}`, which is none of the tools {}", quoted(self.tool_names())),
        }
    }

    fn tool_names(&self) -> impl Iterator<Item = &String> {
        self.callable().iter().map(|tool| &tool.name)
    }
}

/// Arguments as an object, or as its JSON in a string; none at all are an empty object.
pub(crate) fn arguments_of(value: &Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(arguments) => Some(arguments.clone()),
        Value::Null => Some(Map::new()),
        Value::String(json) if json.trim().is_empty() => Some(Map::new()),
        Value::String(json) => serde_json::from_str(json).ok(),
        _ => None,
    }
}

/// A call as the model spells it.
pub(crate) fn spelled(call: &ToolCall) -> String {
    json::spelled(&json!({ TOOL: call.name, ARGUMENTS: call.arguments }))
}

/// The words of an answer in the protocol, when that is all that was said. Of one that was cut, as much as there is.
fn answer_in(said: &str) -> Option<String> {
    let said = after_thinking(said);
    let said = said.strip_prefix("```json").or_else(|| said.strip_prefix("```")).unwrap_or(said).trim_start();
    let key = said.strip_prefix('{')?.trim_start().strip_prefix(&json!(ANSWER).to_string())?;
    let text = key.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    let mut escaped = false;
    let end = text.char_indices().find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    let whole = end.map_or(text, |(end, _)| &text[..end]);
    // A cut may go through an escape, of six characters at most.
    let shorter = whole.char_indices().rev().take(6).map(|(at, _)| &whole[..at]);
    std::iter::once(whole).chain(shorter).find_map(|text| serde_json::from_str(&format!("\"{text}\"")).ok())
}

fn call_schema(tool: &ToolSpec) -> Value {
    let arguments = if refers(&tool.input_schema) { json!({ "type": "object" }) } else { tool.input_schema.clone() };
    json!({
        "type": "object",
        "properties": { TOOL: { "type": "string", "enum": [tool.name] }, ARGUMENTS: arguments },
        "required": [TOOL, ARGUMENTS],
        "additionalProperties": false,
    })
}

/// Whether a schema refers to parts of itself by their place, which would be another one inside another schema.
fn refers(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => map.contains_key("$ref") || map.values().any(refers),
        Value::Array(list) => list.iter().any(refers),
        _ => false,
    }
}
