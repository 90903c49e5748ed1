//! What kind of answer is wanted, and how to find it in what a model says.

use std::sync::Arc;

use indexmap::IndexMap;
use jsonschema::Validator;
use serde_json::{Value, json};

use crate::ModelError;
use crate::json::spelled;
use crate::request::invalid;

/// The key that carries the label of a `choose`: servers constrain objects, not bare strings.
const CHOICE: &str = "choice";

/// What kind of answer is wanted.
#[derive(Clone, Debug)]
pub enum Shape {
    /// Any text.
    Text,
    /// One of these labels.
    Choose(IndexMap<String, String>),
    /// A value that conforms to a JSON Schema.
    Schema {
        /// The schema.
        schema: Value,
        /// The same, compiled.
        validator: Arc<Validator>,
    },
}

impl Shape {
    /// One of these labels, each with its meaning (which may be empty).
    ///
    /// # Errors
    /// [`crate::ModelErrorKind::InvalidRequest`] when there is none.
    pub fn choose(labels: IndexMap<String, String>) -> Result<Self, ModelError> {
        if labels.is_empty() {
            return Err(invalid("`choose` needs at least one label"));
        }
        Ok(Self::Choose(labels))
    }

    /// A value that conforms to this JSON Schema.
    ///
    /// # Errors
    /// [`crate::ModelErrorKind::InvalidRequest`] when it is not one.
    pub fn schema(schema: Value) -> Result<Self, ModelError> {
        let validator = jsonschema::validator_for(&schema)
            .map_err(|error| invalid(format!("`schema` is not a JSON Schema: {error}")))?;
        Ok(Self::Schema { schema, validator: Arc::new(validator) })
    }

    /// The JSON Schema to constrain a model's reply with; `None` for text.
    pub fn reply_schema(&self) -> Option<Value> {
        match self {
            Self::Text => None,
            Self::Choose(labels) => Some(json!({
                "type": "object",
                "properties": { CHOICE: { "type": "string", "enum": labels.keys().collect::<Vec<_>>() } },
                "required": [CHOICE],
                "additionalProperties": false,
            })),
            Self::Schema { schema, .. } => Some(schema.clone()),
        }
    }

    /// How a model should spell this output.
    pub fn reply(&self, output: &Value) -> String {
        match (self, output) {
            (Self::Choose(_), label) => spelled(&json!({ CHOICE: label })),
            (Self::Text, Value::String(text)) => text.clone(),
            (_, value) => spelled(value),
        }
    }

    /// Whether a value is an answer of this shape.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn check(&self, output: &Value) -> Result<(), String> {
        match self {
            Self::Text => Ok(()),
            Self::Choose(labels) => match output.as_str() {
                Some(label) if labels.contains_key(label) => Ok(()),
                _ => Err(format!("is not one of the labels {}", quoted(labels.keys()))),
            },
            Self::Schema { validator, .. } => {
                let errors: Vec<_> = validator.iter_errors(output).take(3).map(|error| at(&error)).collect();
                if errors.is_empty() {
                    Ok(())
                } else {
                    Err(format!("does not conform to the schema: {}", errors.join("; ")))
                }
            }
        }
    }

    /// Finds the output in what a model said: JSON may stand alone, in a fence, or among prose.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn read(&self, said: &str) -> Result<Value, String> {
        let said = after_thinking(said);
        match self {
            Self::Text => Ok(Value::String(said.to_owned())),
            Self::Choose(labels) => read_label(labels, said),
            Self::Schema { .. } => {
                let mut why = "is not JSON".to_owned();
                for value in json_values(said) {
                    match self.check(&value) {
                        Ok(()) => return Ok(value),
                        Err(error) => why = error,
                    }
                }
                Err(why)
            }
        }
    }
}

/// A label is taken from the JSON that was asked for, or when it stands alone, or when it is the only one mentioned.
fn read_label(labels: &IndexMap<String, String>, said: &str) -> Result<Value, String> {
    let named = json_values(said).find_map(|value| {
        let label = value.get(CHOICE).unwrap_or(&value).as_str()?;
        labels.get_key_value(label.trim()).map(|(label, _)| label)
    });
    let bare = said.trim_matches(|c: char| c.is_whitespace() || "\"'`*.".contains(c));
    let alone = || labels.keys().find(|label| label.eq_ignore_ascii_case(bare));
    let only = || {
        let words: Vec<_> = said.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).collect();
        let mut mentioned = labels.keys().filter(|label| words.iter().any(|word| word.eq_ignore_ascii_case(label)));
        mentioned.next().filter(|_| mentioned.next().is_none())
    };
    named
        .or_else(alone)
        .or_else(only)
        .map(|label| Value::String(label.clone()))
        .ok_or_else(|| format!("is not one of the labels {}", quoted(labels.keys())))
}

/// Reasoning models may put their thoughts first, between tags.
pub(crate) fn after_thinking(said: &str) -> &str {
    let said = said.trim();
    match said.strip_prefix("<think>") {
        Some(thoughts) => thoughts.split_once("</think>").map_or("", |(_, rest)| rest.trim()),
        None => said,
    }
}

/// The JSON values in a text, the whole text first, then those that start at a brace or bracket.
pub(crate) fn json_values(said: &str) -> impl Iterator<Item = Value> {
    let whole = serde_json::from_str(said).ok();
    let mut rest = if whole.is_some() { "" } else { said };
    let inside = std::iter::from_fn(move || {
        while let Some(start) = rest.find(['{', '[']) {
            let mut stream = serde_json::Deserializer::from_str(&rest[start..]).into_iter::<Value>();
            let found = stream.next().and_then(Result::ok);
            let length = if found.is_some() { stream.byte_offset() } else { 1 };
            rest = &rest[start + length..];
            if found.is_some() {
                return found;
            }
        }
        None
    });
    whole.into_iter().chain(inside)
}

pub(crate) fn at(error: &jsonschema::ValidationError<'_>) -> String {
    let place = error.instance_path().as_str();
    if place.is_empty() { error.to_string() } else { format!("at {place}: {error}") }
}

pub(crate) fn quoted<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
