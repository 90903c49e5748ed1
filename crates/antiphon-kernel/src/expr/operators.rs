//! MiniJinja's operators, bounded, and an order that does not guess.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use minijinja::value::ValueKind;
use minijinja::{Expression, Value};

use super::filters::environment;
use super::value::{self, Budget, MAX_BYTES, MAX_ITEMS, words};

/// The largest number that may stand in a `range` or a slice.
pub(super) const MAX_INDEX: i64 = 1_000_000_000;

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

pub(super) fn check_numbers(numbers: &[Value], max: i64) -> Result<(), String> {
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

/// Orders numbers with numbers and strings with strings. MiniJinja would order anything.
pub(super) fn compare(a: &Value, b: &Value) -> Result<Ordering, String> {
    let same = a.kind() == b.kind() && matches!(a.kind(), ValueKind::Number | ValueKind::String);
    if same { Ok(a.cmp(b)) } else { Err(format!("{} and {} can't be ordered", kind(a), kind(b))) }
}

/// What a value is, in a message.
pub(super) fn kind(value: &Value) -> String {
    match value::to_json(value, &mut Budget::default()) {
        Ok(json) => value::kind(&json),
        Err(_) => "something undefined".to_owned(),
    }
}
