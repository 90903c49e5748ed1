//! Right or wrong: strict about what was asked for, fair about how it is spelled.

use std::collections::{BTreeMap, BTreeSet};

use antiphon_models::{Reply, ToolCall};
use serde_json::{Map, Value};

use crate::cases::{Case, Category, Truth};

/// What is wrong with an answer; nothing if it is right.
pub fn fault(case: &Case, reply: &Reply) -> Option<String> {
    let truth = &case.truth;
    let right = match (case.category, reply) {
        (Category::Routing, Reply::Output(label)) => *label == truth.right,
        (Category::Extraction, Reply::Output(Value::Object(found))) => {
            fields(truth.right.as_object().unwrap(), found, &truth.also)
        }
        (Category::Tools, Reply::Calls(calls)) => called(truth, calls),
        (Category::Tools, Reply::Output(_)) => truth.right == "none",
        (Category::Summary, Reply::Output(Value::String(text))) => sums_up(truth, text),
        _ => false,
    };
    (!right).then(|| match reply {
        Reply::Output(output) => output.to_string(),
        Reply::Calls(calls) => format!("{calls:?}"),
    })
}

/// One call, of this tool, with these arguments and no others.
fn called(truth: &Truth, calls: &[ToolCall]) -> bool {
    let [call] = calls else { return false };
    truth.right["tool"] == call.name
        && fields(truth.right["arguments"].as_object().unwrap(), &call.arguments, &truth.also)
}

/// Every field; what should not be there is absent or null.
fn fields(right: &Map<String, Value>, found: &Map<String, Value>, also: &BTreeMap<String, Vec<Value>>) -> bool {
    let names: BTreeSet<&String> = right.keys().chain(found.keys()).collect();
    names.into_iter().all(|name| {
        let found = found.get(name).unwrap_or(&Value::Null);
        let spellings = also.get(name).into_iter().flatten();
        spellings.chain([right.get(name).unwrap_or(&Value::Null)]).any(|right| same(right, found))
    })
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::String(a), Value::String(b)) => plain(a) == plain(b),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}

/// Without case, and without punctuation at the ends.
fn plain(text: &str) -> String {
    text.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase()
}

fn sums_up(truth: &Truth, text: &str) -> bool {
    let (lower, words) = (text.to_lowercase(), text.split_whitespace().count());
    let has = |word: &String| lower.contains(word.as_str());
    truth.says.iter().all(|spellings| spellings.iter().any(has))
        && !truth.never.iter().any(has)
        && (1..=truth.words).contains(&words)
}
