//! The filters, tests and functions of the language: MiniJinja's, with some replaced, and bounds.

use std::cmp::Ordering;
use std::sync::OnceLock;

use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value, filters, functions};

use super::operators::{MAX_INDEX, check_numbers, sized};
use super::replaced;
use super::value::{self, Budget, MAX_BYTES, Stop, words};

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

/// The one environment: it holds no templates.
pub(super) fn environment() -> &'static Environment<'static> {
    static ENVIRONMENT: OnceLock<Environment<'static>> = OnceLock::new();
    ENVIRONMENT.get_or_init(|| {
        let mut env = Environment::new();
        env.set_undefined_behavior(UndefinedBehavior::Strict);
        env.set_debug(false);
        env.add_filter("from_json", replaced::from_json);
        env.add_filter("join", replaced::join);
        env.add_filter("lines", replaced::lines);
        env.add_filter("string", |value: &Value| replaced::text(value));
        env.add_filter("tojson", replaced::tojson);
        env.add_filter("dictsort", replaced::dictsort);
        env.add_filter("groupby", |state: &mut State<'_, '_>, value: Value, by: Option<String>, options: Kwargs| {
            let attribute = by.as_deref().or(options.peek("attribute").ok());
            replaced::comparable(state, &value, attribute)?;
            filters::groupby(value, by.as_deref(), options)
        });
        env.add_filter("sort", |state: &mut State<'_, '_>, value: Value, options: Kwargs| {
            replaced::comparable(state, &value, options.peek("attribute").ok())?;
            filters::sort(state, value, options)
        });
        env.add_filter("min", |state: &mut State<'_, '_>, value: Value, options: Kwargs| {
            replaced::comparable(state, &value, options.peek("attribute").ok())?;
            filters::min(state, value, options)
        });
        env.add_filter("max", |state: &mut State<'_, '_>, value: Value, options: Kwargs| {
            replaced::comparable(state, &value, options.peek("attribute").ok())?;
            filters::max(state, value, options)
        });
        for name in ["<", "lt", "lessthan"] {
            env.add_test(name, |a: &Value, b: &Value| replaced::compared(a, b).map(Ordering::is_lt));
        }
        for name in ["<=", "le"] {
            env.add_test(name, |a: &Value, b: &Value| replaced::compared(a, b).map(Ordering::is_le));
        }
        for name in [">", "gt", "greaterthan"] {
            env.add_test(name, |a: &Value, b: &Value| replaced::compared(a, b).map(Ordering::is_gt));
        }
        for name in [">=", "ge"] {
            env.add_test(name, |a: &Value, b: &Value| replaced::compared(a, b).map(Ordering::is_ge));
        }
        env
    })
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
