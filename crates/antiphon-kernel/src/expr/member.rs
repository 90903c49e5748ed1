//! Members of values: attributes and subscripts.

use minijinja::Value;
use minijinja::machinery::ast::Expr;
use serde_json::Value as Json;

use super::eval::{Eval, Evaluated};
use super::syntax::snippet;
use super::value::{Budget, Stop, Val, kind, to_json};

/// How many keys a message lists.
const LISTED: usize = 8;

/// A subscript.
pub(super) enum Key<'k> {
    Name(&'k str),
    Index(i64),
}

impl<'a> Eval<'a> {
    pub(super) fn item(&mut self, expr: &'a Expr<'a>, base: &'a Expr<'a>, subscript: &'a Expr<'a>) -> Evaluated<'a> {
        let value = self.expr(base)?;
        let key = self.expr(subscript)?;
        let key = self.value(subscript, key)?;
        match (key.as_str(), key.is_integer().then(|| key.as_i64()).flatten()) {
            (Some(name), _) => self.member(expr, base, value, &Key::Name(name)),
            (_, Some(index)) => self.member(expr, base, value, &Key::Index(index)),
            _ => Stop::error(format!("{}: a subscript must be a string or an integer", self.quote(expr))),
        }
    }

    pub(super) fn member(
        &mut self,
        expr: &'a Expr<'a>,
        base: &'a Expr<'a>,
        value: Val<'a>,
        key: &Key<'_>,
    ) -> Evaluated<'a> {
        match (value, key) {
            (Val::Unset(reason), _) => Ok(Val::Unset(reason)),
            (Val::Steps, Key::Name(id)) => self.names.step(id).map(Val::Step),
            (Val::Step(step), Key::Name(field)) => step.field(field),
            (Val::Loop { index, length }, Key::Name(field)) => match *field {
                "index" => Ok(Val::Own(Value::from(index + 1))),
                "index0" => Ok(Val::Own(Value::from(index))),
                "revindex" => Ok(Val::Own(Value::from(length - index))),
                "revindex0" => Ok(Val::Own(Value::from(length - index - 1))),
                "first" => Ok(Val::Own(Value::from(index == 0))),
                "last" => Ok(Val::Own(Value::from(index + 1 == length))),
                "length" => Ok(Val::Own(Value::from(length))),
                _ => Stop::error(format!("`loop` has no `{field}`")),
            },
            (Val::Json(json), key) => match member_of(json, key) {
                Some(member) => Ok(Val::Json(member)),
                None => Err(Stop::nothing(self.no_member(expr, base, json, key))),
            },
            (Val::Own(value), key) => {
                let found = match key {
                    Key::Name(name) => value.get_attr(name),
                    Key::Index(index) => value.get_item(&Value::from(*index)),
                };
                match found {
                    Ok(member) if !member.is_undefined() => Ok(Val::Own(member)),
                    _ => {
                        let json = to_json(&value, &mut Budget::default())?;
                        Err(Stop::nothing(self.no_member(expr, base, &json, key)))
                    }
                }
            }
            (Val::Steps | Val::Step(_) | Val::Loop { .. }, Key::Index(_)) => {
                Stop::error(format!("{}: this has no numbered items", self.quote(expr)))
            }
        }
    }

    /// Why there is no such member.
    fn no_member(&self, expr: &Expr<'_>, base: &Expr<'_>, json: &Json, key: &Key<'_>) -> String {
        let whole = self.quote(expr);
        let base = snippet(self.source, base);
        let base = match base.strip_prefix("steps.").and_then(|rest| rest.strip_suffix(".output")) {
            Some(id) if !id.contains(['.', '[']) => format!("the output of `{id}`"),
            _ if base == "input" => "the input".to_owned(),
            _ => format!("`{base}`"),
        };
        match (json, key) {
            (Json::Object(entries), key) => {
                let name = key.to_string();
                if entries.is_empty() {
                    return format!("{whole}: {base} has no `{name}`; it is empty");
                }
                let names: Vec<String> = entries.keys().take(LISTED).map(|name| format!("`{name}`")).collect();
                let more = if entries.len() > LISTED { ", …" } else { "" };
                format!("{whole}: {base} has no `{name}`; it has {}{more}", names.join(", "))
            }
            (Json::Array(items), Key::Index(index)) => {
                format!("{whole}: {base} has no item {index}: its length is {}", items.len())
            }
            (Json::Array(_), Key::Name(name)) => format!("{whole}: {base} is a list, and a list has no `{name}`"),
            (other, key) => format!("{whole}: {base} is {}, and has no `{key}`", kind(other)),
        }
    }
}

fn member_of<'j>(json: &'j Json, key: &Key<'_>) -> Option<&'j Json> {
    match (json, key) {
        (Json::Object(entries), Key::Name(name)) => entries.get(*name),
        (Json::Object(entries), Key::Index(index)) => entries.get(&index.to_string()),
        (Json::Array(items), Key::Index(index)) => {
            let from_end = || usize::try_from(index.unsigned_abs()).ok().and_then(|back| items.len().checked_sub(back));
            items.get(if *index < 0 { from_end()? } else { usize::try_from(*index).ok()? })
        }
        _ => None,
    }
}

impl std::fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Index(index) => write!(f, "{index}"),
        }
    }
}
