//! What an expression amounts to: a value to compute with, JSON, text, true or false.

use minijinja::Value;
use minijinja::machinery::ast::Expr;
use minijinja::value::ValueKind;
use serde_json::Value as Json;

use super::eval::{Eval, Evaluated};
use super::syntax::snippet;
use super::value::{Nothing, Stop, Val, copy, from_json, json_text, to_json, weigh, words};

impl<'a> Eval<'a> {
    /// A result of MiniJinja's, or what was wrong with the expression.
    pub(super) fn finish(&self, expr: &Expr<'_>, result: Result<Value, Stop>) -> Evaluated<'a> {
        let name = |message: &str| format!("{}: {message}", self.quote(expr));
        match result {
            Ok(value) if value.is_undefined() => Err(Stop::nothing(name("there is no such thing"))),
            // Looking inside is what yields the error that an invalid value carries.
            Ok(value) if value.kind() == ValueKind::Invalid => {
                Stop::error(name(&value.try_iter().err().map_or_else(String::new, |error| words(&error))))
            }
            Ok(value) => Ok(Val::Own(value)),
            Err(Stop::Error(message)) => Stop::error(name(&message)),
            Err(Stop::Nothing(missing)) => {
                Err(Stop::Nothing(Nothing { message: name(&missing.message), step: missing.step }))
            }
        }
    }

    pub(super) fn quote(&self, expr: &Expr<'_>) -> String {
        format!("`{}`", snippet(self.source, expr))
    }

    fn unset<T>(&self, expr: &Expr<'_>, reason: &str) -> Result<T, Stop> {
        Err(Stop::nothing(format!("{}: {reason}", self.quote(expr))))
    }

    /// A value to compute with.
    pub(super) fn own(&mut self, expr: &'a Expr<'a>) -> Result<Value, Stop> {
        let value = self.expr(expr)?;
        self.value(expr, value)
    }

    pub(super) fn value(&mut self, expr: &Expr<'_>, value: Val<'a>) -> Result<Value, Stop> {
        match value {
            Val::Own(value) => Ok(value),
            Val::Json(json) => from_json(json, self.budget),
            Val::Unset(reason) => self.unset(expr, &reason),
            Val::Step(step) => {
                let mut fields = vec![(Value::from("status"), Value::from(step.status()))];
                for (name, field) in step.record()?.as_object().into_iter().flatten() {
                    fields.push((Value::from(name.as_str()), from_json(field, self.budget)?));
                }
                Ok(Value::from_pairs(fields))
            }
            Val::Steps | Val::Loop { .. } => Stop::error(format!("{}: this is not a value", self.quote(expr))),
        }
    }

    /// A value to compare with: what is not set is `none`.
    pub(super) fn or_none(&mut self, expr: &'a Expr<'a>) -> Result<Value, Stop> {
        match self.expr(expr)? {
            Val::Unset(_) => Ok(Value::from(())),
            value => self.value(expr, value),
        }
    }

    /// The value as JSON: a plain path is copied as it stands.
    pub(super) fn json(&mut self, expr: &'a Expr<'a>) -> Result<Json, Stop> {
        match self.expr(expr)? {
            Val::Json(json) => copy(json, self.budget),
            value => {
                let value = self.value(expr, value)?;
                self.converted(expr, &value, false)
            }
        }
    }

    /// The value as text: strings raw, everything else as compact JSON.
    pub(super) fn text(&mut self, expr: &'a Expr<'a>) -> Result<String, Stop> {
        let value = match self.expr(expr)? {
            Val::Json(json) => {
                self.budget.aside(|budget| weigh(json, budget))?;
                return Ok(json_text(json));
            }
            value => self.value(expr, value)?,
        };
        match value.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => self.converted(expr, &value, true).map(|json| json_text(&json)),
        }
    }

    fn converted(&mut self, expr: &Expr<'_>, value: &Value, aside: bool) -> Result<Json, Stop> {
        let json = if aside { self.budget.aside(|budget| to_json(value, budget)) } else { to_json(value, self.budget) };
        json.map_err(|stop| match stop {
            Stop::Nothing(missing) => Stop::nothing(format!("{}: {}", self.quote(expr), missing.message)),
            Stop::Error(message) => Stop::Error(format!("{}: {message}", self.quote(expr))),
        })
    }

    pub(super) fn truth(&mut self, expr: &'a Expr<'a>) -> Result<bool, Stop> {
        let value = self.expr(expr)?;
        self.is_true(expr, &value)
    }

    pub(super) fn is_true(&mut self, expr: &Expr<'_>, value: &Val<'a>) -> Result<bool, Stop> {
        Ok(match value {
            Val::Own(value) => value.is_true(),
            Val::Unset(_) => false,
            Val::Json(Json::Null) => false,
            Val::Json(Json::Bool(bool)) => *bool,
            Val::Json(Json::Number(number)) => number.as_f64() != Some(0.0),
            Val::Json(Json::String(text)) => !text.is_empty(),
            Val::Json(Json::Array(items)) => !items.is_empty(),
            Val::Json(Json::Object(entries)) => !entries.is_empty(),
            Val::Step(step) => step.record().map(|_| true)?,
            Val::Steps | Val::Loop { .. } => return Stop::error(format!("{}: this is not a value", self.quote(expr))),
        })
    }
}
