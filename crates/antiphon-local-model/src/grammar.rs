//! Grammars: what the answer must look like, token by token.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};

use crate::vocabulary::Vocabulary;

/// What an answer must look like: one of these.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grammar(pub(crate) Vec<Arm>);

/// One of the things that an answer may be: JSON that conforms to a schema, between texts that are as they are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Arm {
    pub(crate) before: String,
    pub(crate) schema: Value,
    pub(crate) after: &'static str,
}

/// Compiles grammars for one vocabulary.
pub(crate) struct Grammars(ParserFactory);

impl Grammars {
    /// For this vocabulary.
    ///
    /// # Errors
    /// llguidance can't use it.
    pub(crate) fn new(vocabulary: &Arc<Vocabulary>) -> candle_core::Result<Self> {
        let abilities = InferenceCapabilities { ff_tokens: true, ..InferenceCapabilities::default() };
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory =
            ParserFactory::new(&vocabulary.environment(), abilities, &slices).map_err(candle_core::Error::msg)?;
        factory.quiet();
        Ok(Self(factory))
    }

    /// Compiles a grammar. Schemas may say more than a grammar can: `None` when it can't say anything of one, and what is
    /// written must be checked in any case.
    pub(crate) fn compile(&self, grammar: &Grammar) -> Option<Matcher> {
        let matcher = Matcher::new(self.0.create_parser(TopLevelGrammar::from_lark(lark(&grammar.0))));
        if let Some(error) = matcher.get_error() {
            tracing::debug!(%error, "the answer is not constrained");
            return None;
        }
        Some(matcher)
    }
}

/// How JSON is spelled: in one way only, so that there is nothing to choose where nothing is said.
fn spelled(schema: &Value) -> Value {
    let spelling = json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": ", "coerce_one_of": true, "lenient": true });
    match schema {
        Value::Object(map) => {
            let mut map = map.clone();
            map.insert("x-guidance".to_owned(), spelling);
            Value::Object(map)
        }
        // `true`: anything.
        _ => json!({ "x-guidance": spelling }),
    }
}

/// Each arm has a `%json` of its own, so that references in its schema lead to its own definitions.
fn lark(arms: &[Arm]) -> String {
    let quoted = |text: &str| if text.is_empty() { String::new() } else { Value::from(text).to_string() };
    let names: Vec<String> = (0..arms.len()).map(|index| format!("arm{index}")).collect();
    let rules = arms.iter().zip(&names).map(|(Arm { before, schema, after }, name)| {
        let (before, after, schema) = (quoted(before), quoted(after), spelled(schema));
        format!("{name}: {before} {name}_json {after}\n{name}_json: %json {schema}\n")
    });
    format!("start: {}\n{}", names.join(" | "), rules.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_become_rules() {
        let call = Arm {
            before: r#"{"tool": "a\"b", "arguments": "#.to_owned(),
            schema: json!({ "type": "object" }),
            after: "}",
        };
        let answer = Arm { before: String::new(), schema: json!(true), after: "" };
        insta::assert_snapshot!(lark(&[call, answer]));
    }
}
