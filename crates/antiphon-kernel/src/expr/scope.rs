//! The names that an expression may use, and what stands behind them.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::Value;
use serde_json::{Value as Json, json};

use super::Values;
use super::value::{Nothing, Stop, Val};
use crate::{Scope, Slot, StepFacts, StepStatus, ValueRef};

/// A [`Scope`] with its values at hand.
pub(super) struct Names<'a> {
    vars: BTreeMap<&'a str, Var>,
    steps: BTreeMap<&'a str, Step<'a>>,
}

struct Var {
    /// `None` when the driver did not supply it.
    value: Option<Arc<Json>>,
    part: Part,
}

enum Part {
    Whole,
    Output,
    Item(usize),
}

/// A step that has ended.
pub(super) struct Step<'a> {
    pub id: &'a str,
    facts: &'a StepFacts,
    /// Of one that succeeded; `Some(None)` when the driver did not supply it.
    record: Option<Option<Arc<Json>>>,
    error: Option<Json>,
}

/// The value behind a reference.
pub(super) fn fetch(value: &ValueRef, values: &dyn Values) -> Option<Arc<Json>> {
    match value {
        ValueRef::Inline(value) => Some(Arc::clone(value)),
        ValueRef::Blob { sha256, .. } => values.get(sha256),
    }
}

impl<'a> Names<'a> {
    pub(super) fn new(scope: &'a Scope, values: &dyn Values) -> Self {
        let var = |slot: &Slot| match slot {
            Slot::Value(value) => Var { value: fetch(value, values), part: Part::Whole },
            Slot::OutputOf(record) => Var { value: fetch(record, values), part: Part::Output },
            Slot::Item { list, index } => Var { value: fetch(list, values), part: Part::Item(*index) },
        };
        let step = |id: &'a str, facts: &'a StepFacts| Step {
            id,
            facts,
            record: facts.record.as_ref().map(|record| fetch(record, values)),
            error: facts.error.as_ref().map(|error| json!({ "kind": error.kind.as_str(), "message": error.message })),
        };
        Self {
            vars: scope.vars.iter().map(|(name, slot)| (name.as_str(), var(slot))).collect(),
            steps: scope.steps.iter().map(|(id, facts)| (id.as_str(), step(id, facts))).collect(),
        }
    }

    /// A name of its own, such as `input`.
    pub(super) fn var(&'a self, name: &str) -> Result<Val<'a>, Stop> {
        let Some(var) = self.vars.get(name) else {
            return match name {
                "steps" => Ok(Val::Steps),
                _ => Err(Stop::nothing(format!("`{name}`: there is no such name here"))),
            };
        };
        let value = supplied(var.value.as_ref(), name)?;
        let part = match var.part {
            Part::Whole => Some(value),
            Part::Output => value.get("output"),
            Part::Item(index) => value.get(index),
        };
        part.map(Val::Json).ok_or_else(|| Stop::Error(format!("`{name}`: its value has been lost")))
    }

    /// A step.
    pub(super) fn step(&'a self, id: &str) -> Result<&'a Step<'a>, Stop> {
        self.steps.get(id).ok_or_else(|| Stop::Error(format!("`steps.{id}`: there is no such step here")))
    }
}

fn supplied<'v>(value: Option<&'v Arc<Json>>, name: &str) -> Result<&'v Json, Stop> {
    value.map(Arc::as_ref).ok_or_else(|| Stop::Error(format!("`{name}`: its value has been lost")))
}

impl<'a> Step<'a> {
    /// Whether it has a value.
    pub(super) fn succeeded(&self) -> bool {
        self.record.is_some()
    }

    /// Its record.
    ///
    /// # Errors
    /// [`Stop::Nothing`], because of this step, when it has none.
    pub(super) fn record(&self) -> Result<&Json, Stop> {
        match &self.record {
            Some(record) => supplied(record.as_ref(), self.id),
            None => {
                let message = format!("`steps.{0}`: `{0}` {1}, so it has no value", self.id, how(self.facts.status));
                Err(Stop::Nothing(Nothing { message, step: Some(self.id.to_owned()) }))
            }
        }
    }

    /// How it ended.
    pub(super) fn status(&self) -> &'static str {
        self.facts.status.as_str()
    }

    /// `steps.ID.NAME`.
    pub(super) fn field(&'a self, name: &str) -> Result<Val<'a>, Stop> {
        let or_unset = |value: Option<Val<'a>>, what: &str| {
            value.unwrap_or_else(|| Val::Unset(format!("`{}` {} and has no {what}", self.id, how(self.facts.status))))
        };
        match name {
            "status" => return Ok(Val::Own(Value::from(self.status()))),
            "error" => return Ok(or_unset(self.error.as_ref().map(Val::Json), name)),
            "action" => {
                let action = self.facts.action.as_deref().map(|action| Val::Own(Value::from(action)));
                return Ok(or_unset(action, name));
            }
            _ => {}
        }
        let record = self.record()?;
        match (name, record.get(name)) {
            (_, Some(value)) => Ok(Val::Json(value)),
            ("text", None) => self.text(record),
            ("blocks" | "errors", None) => Ok(Val::Own(Value::from(Vec::<Value>::new()))),
            _ => Err(Stop::nothing(format!("`steps.{0}.{name}`: `{0}` has no `{name}`", self.id))),
        }
    }

    /// The text of a step whose record does not have it as such: its text blocks, else its output.
    fn text(&self, record: &'a Json) -> Result<Val<'a>, Stop> {
        let blocks = record.get("blocks").and_then(Json::as_array).into_iter().flatten();
        let texts: Vec<&str> = blocks
            .filter(|block| block.get("type").is_some_and(|kind| kind == "text"))
            .filter_map(|block| block.get("text").and_then(Json::as_str))
            .collect();
        match record.get("output") {
            _ if !texts.is_empty() => Ok(Val::Own(Value::from(texts.join("\n")))),
            Some(output @ Json::String(_)) => Ok(Val::Json(output)),
            _ => Err(Stop::nothing(format!("`steps.{0}.text`: `{0}` has no text; use its `.output`", self.id))),
        }
    }
}

fn how(status: StepStatus) -> &'static str {
    match status {
        StepStatus::Succeeded => "succeeded",
        StepStatus::Skipped => "was skipped",
        StepStatus::Failed => "failed",
        StepStatus::Cancelled => "was cancelled",
    }
}
