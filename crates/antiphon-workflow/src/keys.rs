//! The keys of a step, and which verbs take them.

use crate::read::Outer;

/// The verbs: exactly one a step.
pub(crate) const VERBS: &[&str] = &["call", "sample", "elicit", "read", "set", "wait", "do"];

/// Every key of a step, with the verbs that take it; none means all.
pub(crate) const TAKEN_BY: &[(&str, &[&str])] = &[
    ("needs", &[]),
    ("when", &[]),
    ("for_each", &[]),
    ("as", &[]),
    ("concurrency", &[]),
    ("tolerate", &[]),
    ("repeat", &[]),
    ("retry", &["call", "sample", "read"]),
    ("timeout", &[]),
    ("expect", &[]),
    ("on_error", &[]),
    ("undo", &["call"]),
    ("effects", &["call"]),
    ("on_doubt", &["call"]),
    ("with", &["call"]),
    ("prompt", &["sample"]),
    ("messages", &["sample"]),
    ("system", &["sample"]),
    ("choose", &["sample"]),
    ("schema", &["call", "sample"]),
    ("examples", &["sample"]),
    ("max_tokens", &["sample"]),
    ("temperature", &["sample"]),
    ("prefer", &["sample"]),
    ("fields", &["elicit"]),
    ("url", &["elicit"]),
    ("by", &["elicit"]),
    ("uri", &["read"]),
    ("output", &["do"]),
];

/// The verbs that take a key: `None` if no step has such a key, empty if all take it.
pub(crate) fn verbs_of(key: &str) -> Option<&'static [&'static str]> {
    TAKEN_BY.iter().find(|(name, _)| *name == key).map(|(_, verbs)| *verbs)
}

/// Keys of a step that are no verb's arguments: what stands by mistake in a `with`.
pub(crate) const MODIFIERS: &[&str] = &[
    "needs",
    "when",
    "for_each",
    "concurrency",
    "tolerate",
    "repeat",
    "retry",
    "timeout",
    "expect",
    "on_error",
    "undo",
    "effects",
    "on_doubt",
];

/// What was meant for the step, but stands in one of its tables.
pub(crate) const OF_STEP: Outer = Outer {
    keys: &[
        "call",
        "sample",
        "elicit",
        "read",
        "set",
        "wait",
        "needs",
        "when",
        "for_each",
        "as",
        "concurrency",
        "tolerate",
        "repeat",
        "retry",
        "timeout",
        "expect",
        "on_error",
        "undo",
        "effects",
        "on_doubt",
        "prompt",
        "messages",
        "system",
        "max_tokens",
        "temperature",
        "by",
        "uri",
    ],
    what: "step",
};

/// What was meant for the file, but stands in one of its tables.
pub(crate) const OF_FILE: Outer = Outer { keys: &["name", "description"], what: "file" };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_agree() {
        for key in OF_STEP.keys.iter().chain(MODIFIERS) {
            assert!(VERBS.contains(key) || verbs_of(key).is_some(), "{key}");
        }
    }
}
