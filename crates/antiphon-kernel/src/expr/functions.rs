//! The filters, tests, functions and operators of the language: MiniJinja's, those replaced that would guess, and bounds.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, Expression, State, UndefinedBehavior, Value, filters, functions};

use super::value::{self, Budget, MAX_BYTES, MAX_ITEMS, Stop, words};

/// What may stand after `|`.
pub(super) const FILTERS: &[&str] = &[
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "format",
    "from_json",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
    "zip",
];

/// What may stand after `is`.
pub(super) const TESTS: &[&str] = &[
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "even",
    "false",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "int",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
    "upper",
    "==",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
];

/// What may be called.
pub(super) const FUNCTIONS: &[&str] = &["range", "dict"];

/// Filters that take text: anything else is made text first.
const OF_TEXT: &[&str] = &["capitalize", "indent", "lines", "lower", "replace", "split", "title", "trim", "upper"];

/// Filters whose numbers say how much to make.
const SIZED: &[&str] = &["batch", "indent", "round", "slice"];

/// The largest such number.
const MAX_SIZE: i64 = 10_000;

/// The largest number that may stand in a `range` or a slice.
const MAX_INDEX: i64 = 1_000_000_000;

/// MiniJinja's own operators, as expressions over `a`, `b`, `c` and `d`.
const OPERATORS: &[(&str, &str)] = &[
    ("+", "a + b"),
    ("-", "a - b"),
    ("*", "a * b"),
    ("/", "a / b"),
    ("//", "a // b"),
    ("%", "a % b"),
    ("**", "a ** b"),
    ("in", "b in a"),
    ("neg", "-a"),
    ("slice", "a[b:c:d]"),
];

/// The one environment: it holds no templates.
pub(super) fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_debug(false);
        env.add_filter("from_json", from_json);
        env.add_filter("join", join);
        env.add_filter("lines", lines);
        env.add_filter("string", |value: &Value| text(value));
        env.add_filter("tojson", tojson);
        env.add_filter("dictsort", dictsort);
        env.add_filter("groupby", |state: &mut State<'_, '_>, value: Value, by: Option<String>, options: Kwargs| {
            let attribute = by.as_deref().or(options.peek("attribute").ok());
            comparable(state, &value, attribute)?;
            filters::groupby(value, by.as_deref(), options)
        });
        env.add_filter("sort", |state: &mut State<'_, '_>, value: Value, options: Kwargs| {
            comparable(state, &value, options.peek("attribute").ok())?;
            filters::sort(state, value, options)
        });
        env.add_filter("min", |state: &mut State<'_, '_>, value: Value, options: Kwargs| {
            comparable(state, &value, options.peek("attribute").ok())?;
            filters::min(state, value, options)
        });
        env.add_filter("max", |state: &mut State<'_, '_>, value: Value, options: Kwargs| {
            comparable(state, &value, options.peek("attribute").ok())?;
            filters::max(state, value, options)
        });
        for name in ["<", "lt", "lessthan"] {
            env.add_test(name, |a: &Value, b: &Value| compared(a, b).map(Ordering::is_lt));
        }
        for name in ["<=", "le"] {
            env.add_test(name, |a: &Value, b: &Value| compared(a, b).map(Ordering::is_le));
        }
        for name in [">", "gt", "greaterthan"] {
            env.add_test(name, |a: &Value, b: &Value| compared(a, b).map(Ordering::is_gt));
        }
        for name in [">=", "ge"] {
            env.add_test(name, |a: &Value, b: &Value| compared(a, b).map(Ordering::is_ge));
        }
        env
    })
}

/// Applies one of MiniJinja's operators.
pub(super) fn operate(operator: &str, operands: &[Value]) -> Result<Value, String> {
    static COMPILED: OnceLock<BTreeMap<&str, Expression<'static, 'static>>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(|| {
        let compile = |(name, source): &(&'static str, &'static str)| {
            environment().compile_expression(source).ok().map(|expression| (*name, expression))
        };
        OPERATORS.iter().filter_map(compile).collect()
    });
    check_operands(operator, operands)?;
    let expression = compiled.get(operator).ok_or_else(|| format!("there is no operator `{operator}`"))?;
    let context = Value::from_pairs(["a", "b", "c", "d"].into_iter().zip(operands.iter().cloned()));
    let result = expression.eval(context).map_err(|error| words(&error))?;
    sized(result)
}

fn check_operands(operator: &str, operands: &[Value]) -> Result<(), String> {
    match (operator, operands) {
        ("*", [a, b]) => {
            let size = |value: &Value| value.as_str().map(str::len).or_else(|| value.len());
            let product = match (size(a), size(b)) {
                (Some(size), None) => b.as_usize().map(|times| size.saturating_mul(times)),
                (None, Some(size)) => a.as_usize().map(|times| size.saturating_mul(times)),
                _ => None,
            };
            match product {
                Some(product) if product > MAX_ITEMS => Err("this repeats too much".to_owned()),
                _ => Ok(()),
            }
        }
        ("slice", [_, bounds @ ..]) => check_numbers(bounds, MAX_INDEX),
        _ => Ok(()),
    }
}

fn check_numbers(numbers: &[Value], max: i64) -> Result<(), String> {
    let fits = |n: &Value| !n.is_integer() || n.as_i64().is_some_and(|n| (-max..=max).contains(&n));
    match numbers.iter().find(|n| !fits(n)) {
        Some(number) => Err(format!("{number} is out of range here")),
        None => Ok(()),
    }
}

/// Bounds on what an evaluation makes on the way to its result.
pub(super) fn sized(value: Value) -> Result<Value, String> {
    match value.as_str() {
        Some(text) if text.len() > MAX_BYTES => Err(format!("this text is larger than {} MiB", MAX_BYTES >> 20)),
        None if value.len().is_some_and(|len| len > MAX_ITEMS) => {
            Err(format!("this list has more than {MAX_ITEMS} items"))
        }
        _ => Ok(value),
    }
}

/// Applies a filter: the value, then its arguments, named ones last.
pub(super) fn filter(
    state: &mut State<'_, '_>,
    name: &str,
    args: &mut [Value],
    budget: &mut Budget,
) -> Result<Value, Stop> {
    if !FILTERS.contains(&name) {
        return Stop::error(format!("there is no filter `{name}`"));
    }
    if let Some(value) = args.first_mut()
        && OF_TEXT.contains(&name)
        && value.kind() != ValueKind::String
    {
        *value = Value::from(value::text(value)?);
    }
    check_filter(name, args).map_err(Stop::Error)?;
    budget.spend(cost(name, args))?;
    let result = state.apply_filter(name, args).map_err(|error| stop(&error))?;
    sized(result).map_err(Stop::Error)
}

/// Applies a test, likewise.
pub(super) fn test(state: &mut State<'_, '_>, name: &str, args: &[Value], budget: &mut Budget) -> Result<bool, Stop> {
    if !TESTS.contains(&name) {
        return Stop::error(format!("there is no test `{name}`"));
    }
    budget.spend(cost(name, args))?;
    state.perform_test(name, args).map_err(|error| stop(&error))
}

fn stop(error: &Error) -> Stop {
    match error.kind() {
        ErrorKind::UndefinedError => Stop::nothing("something in it is undefined"),
        _ => Stop::Error(words(error)),
    }
}

/// Roughly, how many values are looked at.
fn cost(name: &str, args: &[Value]) -> usize {
    let size = |value: &Value| value.as_str().map(|text| 1 + text.len() / 64).or_else(|| value.len()).unwrap_or(1);
    let Some((value, rest)) = args.split_first() else { return 1 };
    let rest: usize = rest.iter().map(size).sum();
    match name {
        "map" | "select" | "reject" | "selectattr" | "rejectattr" => size(value).saturating_mul(rest.max(1)),
        _ => size(value).saturating_add(rest),
    }
}

fn check_filter(name: &str, args: &[Value]) -> Result<(), String> {
    match (name, args) {
        (name, [_, rest @ ..]) if SIZED.contains(&name) => {
            let mut numbers = rest.to_vec();
            if let Some(options) = rest.last().filter(|last| last.is_kwargs()) {
                let names = options.try_iter().into_iter().flatten();
                numbers.extend(names.filter_map(|name| options.get_item(&name).ok()));
            }
            check_numbers(&numbers, MAX_SIZE)
        }
        ("replace", [text, from, to, ..]) => {
            let (Some(text), Some(from)) = (text.as_str(), from.as_str()) else { return Ok(()) };
            let added = text.matches(from).count().saturating_mul(to.as_str().map_or(0, str::len));
            if added > MAX_BYTES { Err("this replaces too much".to_owned()) } else { Ok(()) }
        }
        ("format", [pattern, ..]) => {
            let pattern = pattern.as_str().unwrap_or_default();
            let wide = pattern.contains('*') || pattern.split(|c: char| !c.is_ascii_digit()).any(|run| run.len() > 3);
            if wide { Err("a width in the pattern is too large".to_owned()) } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

/// Calls a function.
pub(super) fn call(name: &str, args: &[Value]) -> Result<Value, String> {
    let result = match name {
        "range" => {
            check_numbers(args, MAX_INDEX)?;
            from_args(args).and_then(|(lower, upper, step)| functions::range(lower, upper, step))
        }
        "dict" => from_args(args).and_then(|(value, entries)| functions::dict(value, entries)),
        _ => return Err(format!("there is no function `{name}`")),
    };
    result.map_err(|error| words(&error))
}

/// Orders numbers with numbers and strings with strings. MiniJinja would order anything.
pub(super) fn compare(a: &Value, b: &Value) -> Result<Ordering, String> {
    let same = a.kind() == b.kind() && matches!(a.kind(), ValueKind::Number | ValueKind::String);
    if same { Ok(a.cmp(b)) } else { Err(format!("{} and {} can't be ordered", kind(a), kind(b))) }
}

fn kind(value: &Value) -> String {
    match value::to_json(value, &mut Budget::default()) {
        Ok(json) => value::kind(&json),
        Err(_) => "something undefined".to_owned(),
    }
}

fn refuse(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

fn compared(a: &Value, b: &Value) -> Result<Ordering, Error> {
    compare(a, b).map_err(refuse)
}

/// Refuses a list whose items, or attributes, can't be ordered.
fn comparable(state: &mut State<'_, '_>, list: &Value, attribute: Option<&str>) -> Result<(), Error> {
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

fn dictsort(state: &mut State<'_, '_>, map: Value, options: Kwargs) -> Result<Value, Error> {
    if options.peek::<&str>("by").is_ok_and(|by| by == "value") {
        let values: Vec<Value> = map.try_iter()?.map(|key| map.get_item(&key)).collect::<Result<_, _>>()?;
        comparable(state, &Value::from(values), None)?;
    }
    filters::dictsort(&map, options)
}

fn text(value: &Value) -> Result<String, Error> {
    value::text(value).map_err(from_stop)
}

fn from_stop(stop: Stop) -> Error {
    match stop {
        Stop::Nothing(_) => Error::from(ErrorKind::UndefinedError),
        Stop::Error(message) => refuse(message),
    }
}

/// Its items' texts, with something between them.
fn join(state: &mut State<'_, '_>, list: Value, between: Option<String>, options: Kwargs) -> Result<String, Error> {
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
fn lines(text: &str) -> Vec<String> {
    text.trim_end_matches(['\n', '\r']).lines().map(str::to_owned).collect()
}

/// The value that a text spells.
fn from_json(value: &Value) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return Err(refuse(format!("`from_json` reads a text, and this is {}", kind(value))));
    };
    let json = serde_json::from_str(text).map_err(|error| refuse(format!("this is not JSON: {error}")))?;
    value::from_json(&json, &mut Budget::default()).map_err(from_stop)
}

/// JSON: compact, or with an indent of so many spaces.
fn tojson(value: &Value, indent: Option<usize>, options: Kwargs) -> Result<String, Error> {
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
