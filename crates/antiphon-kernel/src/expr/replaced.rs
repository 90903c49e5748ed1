//! Filters and tests in place of MiniJinja's: these don't order what has no order, and write JSON as JSON.

use std::cmp::Ordering;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value, filters};

use super::operators::{compare, kind};
use super::value::{self, Budget, MAX_BYTES, Stop};

fn refuse(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

pub(super) fn compared(a: &Value, b: &Value) -> Result<Ordering, Error> {
    compare(a, b).map_err(refuse)
}

/// Refuses a list whose items, or attributes, can't be ordered.
pub(super) fn comparable(state: &mut State<'_, '_>, list: &Value, attribute: Option<&str>) -> Result<(), Error> {
    for attribute in attribute.map_or_else(|| vec![None], |all| all.split(',').map(Some).collect()) {
        let keys = match attribute {
            Some(attribute) => pluck(state, list, attribute.trim())?,
            None => list.clone(),
        };
        let mut first: Option<Value> = None;
        for key in keys.try_iter()? {
            let first = first.get_or_insert_with(|| key.clone());
            compared(first, &key)?;
        }
    }
    Ok(())
}

fn pluck(state: &mut State<'_, '_>, list: &Value, attribute: &str) -> Result<Value, Error> {
    let options: Kwargs = [("attribute", Value::from(attribute))].into_iter().collect();
    state.apply_filter("map", &[list.clone(), options.into()])
}

pub(super) fn dictsort(state: &mut State<'_, '_>, map: Value, options: Kwargs) -> Result<Value, Error> {
    if options.peek::<&str>("by").is_ok_and(|by| by == "value") {
        let values: Vec<Value> = map.try_iter()?.map(|key| map.get_item(&key)).collect::<Result<_, _>>()?;
        comparable(state, &Value::from(values), None)?;
    }
    filters::dictsort(&map, options)
}

pub(super) fn text(value: &Value) -> Result<String, Error> {
    value::text(value).map_err(from_stop)
}

fn from_stop(stop: Stop) -> Error {
    match stop {
        Stop::Nothing(_) => Error::from(ErrorKind::UndefinedError),
        Stop::Error(message) => refuse(message),
    }
}

/// Its items' texts, with something between them.
pub(super) fn join(
    state: &mut State<'_, '_>,
    list: Value,
    between: Option<String>,
    options: Kwargs,
) -> Result<String, Error> {
    let list = match options.get::<Option<&str>>("attribute")? {
        Some(attribute) => pluck(state, &list, attribute)?,
        None => list,
    };
    options.assert_all_used()?;
    if list.kind() == ValueKind::String {
        return Err(refuse("a string can't be joined: it is no list".to_owned()));
    }
    let between = between.unwrap_or_default();
    let mut out = String::new();
    for (at, item) in list.try_iter()?.enumerate() {
        if at > 0 {
            out.push_str(&between);
        }
        out.push_str(&text(&item)?);
        if out.len() > MAX_BYTES {
            return Err(refuse(format!("this text is larger than {} MiB", MAX_BYTES >> 20)));
        }
    }
    Ok(out)
}

/// The lines of a text, without empty ones at its end.
pub(super) fn lines(text: &str) -> Vec<String> {
    text.trim_end_matches(['\n', '\r']).lines().map(str::to_owned).collect()
}

/// The value that a text spells.
pub(super) fn from_json(value: &Value) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return Err(refuse(format!("`from_json` reads a text, and this is {}", kind(value))));
    };
    let json = serde_json::from_str(text).map_err(|error| refuse(format!("this is not JSON: {error}")))?;
    value::from_json(&json, &mut Budget::default()).map_err(from_stop)
}

/// JSON: compact, or with an indent of so many spaces.
pub(super) fn tojson(value: &Value, indent: Option<usize>, options: Kwargs) -> Result<String, Error> {
    const MAX_INDENT: usize = 16;
    let indent = indent.or(options.get("indent")?);
    options.assert_all_used()?;
    let json = value::to_json(value, &mut Budget::default()).map_err(from_stop)?;
    let Some(indent) = indent else { return Ok(json.to_string()) };
    let spaces = " ".repeat(indent.min(MAX_INDENT));
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    serde::Serialize::serialize(&json, &mut serializer).map_err(|error| refuse(error.to_string()))?;
    String::from_utf8(out).map_err(|error| refuse(error.to_string()))
}
