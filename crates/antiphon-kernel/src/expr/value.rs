//! Values on their way between JSON and MiniJinja, and the bounds on them.

use minijinja::Value;
use minijinja::value::{Serde, ValueKind};
use serde_json::{Map, Value as Json};

use super::scope::Step;
use super::syntax::MAX_DEPTH;

/// The largest result, and the largest text on the way to it, in bytes.
pub(super) const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The longest list that an evaluation may make.
pub(super) const MAX_ITEMS: usize = 1_000_000;

/// Steps of evaluation that one job may take: well under a second.
const FUEL: u64 = 10_000_000;

/// Why there is no value.
#[derive(Debug)]
pub(super) enum Stop {
    /// Something that was mentioned is not there. A guard catches it.
    Nothing(Nothing),
    /// Something is wrong. Nothing catches it.
    Error(String),
}

/// Something that is not there.
#[derive(Debug)]
pub(super) struct Nothing {
    /// For people.
    pub message: String,
    /// The step that did not succeed, when that is why.
    pub step: Option<String>,
}

impl Stop {
    pub(super) fn error<T>(message: impl Into<String>) -> Result<T, Self> {
        Err(Self::Error(message.into()))
    }

    pub(super) fn nothing(message: impl Into<String>) -> Self {
        Self::Nothing(Nothing { message: message.into(), step: None })
    }
}

/// What is left of a job's fuel and of the size of its result.
pub(super) struct Budget {
    fuel: u64,
    bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { fuel: FUEL, bytes: MAX_BYTES }
    }
}

impl Budget {
    /// Takes steps of evaluation.
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), Stop> {
        match self.fuel.checked_sub(steps as u64) {
            Some(left) => self.fuel = left,
            None => return Stop::error("out of fuel: this evaluates too much at once"),
        }
        Ok(())
    }

    /// Lets something be measured that is not the result itself.
    pub(super) fn aside<T>(&mut self, inner: impl FnOnce(&mut Self) -> T) -> T {
        let bytes = std::mem::replace(&mut self.bytes, MAX_BYTES);
        let result = inner(self);
        self.bytes = bytes;
        result
    }

    /// Takes bytes of the result.
    fn weigh(&mut self, bytes: usize) -> Result<(), Stop> {
        match self.bytes.checked_sub(bytes) {
            Some(left) => self.bytes = left,
            None => return too_large(),
        }
        Ok(())
    }
}

pub(super) fn too_large<T>() -> Result<T, Stop> {
    Stop::error(format!("the result is larger than {} MiB", MAX_BYTES >> 20))
}

/// What an expression evaluates to. JSON stays borrowed until something computes with it.
#[derive(Clone)]
pub(super) enum Val<'a> {
    /// The bare `steps`.
    Steps,
    /// `steps.ID`.
    Step(&'a Step<'a>),
    /// A part of what is in scope, exactly as it is.
    Json(&'a Json),
    /// Computed.
    Own(Value),
    /// The `loop` of a `{% for %}`.
    Loop {
        /// From 0.
        index: usize,
        /// Of all rounds.
        length: usize,
    },
    /// What may be asked for but is not there, and why: false in a test, equal to `none`, an error anywhere else.
    Unset(String),
}

/// JSON, for MiniJinja to compute with.
pub(super) fn from_json(json: &Json, budget: &mut Budget) -> Result<Value, Stop> {
    from_json_at(json, budget, 0)
}

fn from_json_at(json: &Json, budget: &mut Budget, depth: u32) -> Result<Value, Stop> {
    budget.spend(1)?;
    check_depth(depth)?;
    Ok(match json {
        Json::Null => Value::from(()),
        Json::Bool(bool) => Value::from(*bool),
        Json::Number(number) => Value::from(Serde(number)),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => {
            let items: Result<Vec<_>, _> = items.iter().map(|item| from_json_at(item, budget, depth + 1)).collect();
            Value::from(items?)
        }
        Json::Object(entries) => {
            let entries = entries.iter().map(|(key, item)| Ok((key.as_str(), from_json_at(item, budget, depth + 1)?)));
            Value::from_pairs(entries.collect::<Result<Vec<_>, Stop>>()?)
        }
    })
}

/// What MiniJinja computed, as JSON. Anything undefined in it is an error.
pub(super) fn to_json(value: &Value, budget: &mut Budget) -> Result<Json, Stop> {
    to_json_at(value, budget, 0)
}

fn to_json_at(value: &Value, budget: &mut Budget, depth: u32) -> Result<Json, Stop> {
    budget.spend(1)?;
    budget.weigh(1)?;
    check_depth(depth)?;
    let list = |budget: &mut Budget| {
        let items = value.try_iter().map_err(|error| Stop::Error(words(&error)))?;
        items.map(|item| to_json_at(&item, budget, depth + 1)).collect::<Result<Vec<_>, _>>().map(Json::Array)
    };
    Ok(match value.kind() {
        ValueKind::Undefined => return Err(Stop::nothing("a part of it is undefined")),
        ValueKind::None => Json::Null,
        ValueKind::Bool => Json::Bool(value.is_true()),
        ValueKind::Number => match serde_json::to_value(value) {
            Ok(number @ Json::Number(_)) => number,
            _ => return Stop::error(format!("JSON can't express the number {value}")),
        },
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            budget.weigh(text.len())?;
            Json::String(text.to_owned())
        }
        ValueKind::Seq | ValueKind::Iterable => list(budget)?,
        ValueKind::Map => {
            let mut entries = Map::new();
            for key in value.try_iter().map_err(|error| Stop::Error(words(&error)))? {
                let name = match key.kind() {
                    ValueKind::String | ValueKind::Number => key.to_string(),
                    _ => return Stop::error("the keys of a map must be strings"),
                };
                budget.weigh(name.len())?;
                let item = value.get_item(&key).map_err(|error| Stop::Error(words(&error)))?;
                entries.insert(name, to_json_at(&item, budget, depth + 1)?);
            }
            Json::Object(entries)
        }
        _ => return Stop::error("this is not a value"),
    })
}

/// A copy, if it is not too large.
pub(super) fn copy(json: &Json, budget: &mut Budget) -> Result<Json, Stop> {
    weigh(json, budget)?;
    Ok(json.clone())
}

pub(super) fn weigh(json: &Json, budget: &mut Budget) -> Result<(), Stop> {
    budget.weigh(1)?;
    match json {
        Json::String(text) => budget.weigh(text.len()),
        Json::Array(items) => items.iter().try_for_each(|item| weigh(item, budget)),
        Json::Object(entries) => entries.iter().try_for_each(|(key, item)| {
            budget.weigh(key.len())?;
            weigh(item, budget)
        }),
        _ => Ok(()),
    }
}

fn check_depth(depth: u32) -> Result<(), Stop> {
    match depth > 2 * MAX_DEPTH {
        true => Stop::error("the value is nested too deeply"),
        false => Ok(()),
    }
}

/// JSON as text: strings raw, everything else compact.
pub(super) fn json_text(json: &Json) -> String {
    match json {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A computed value as text, likewise.
pub(super) fn text(value: &Value) -> Result<String, Stop> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Ok(json_text(&to_json(value, &mut Budget::default())?)),
    }
}

/// What MiniJinja says is wrong, without its category.
pub(super) fn words(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

/// What a value is, in a message: scalars with their value.
pub(super) fn kind(json: &Json) -> String {
    const SHORT: usize = 40;
    match json {
        Json::Null => "null".to_owned(),
        Json::Bool(bool) => bool.to_string(),
        Json::Number(number) => format!("the number {number}"),
        Json::String(text) if text.chars().count() <= SHORT => format!("the string {text:?}"),
        Json::String(_) => "a string".to_owned(),
        Json::Array(_) => "a list".to_owned(),
        Json::Object(_) => "a map".to_owned(),
    }
}
