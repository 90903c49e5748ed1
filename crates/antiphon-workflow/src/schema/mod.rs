//! The files' own JSON Schemas, for editors. Derived from types that say what the reader reads; a test holds both together.

#![expect(dead_code, reason = "these types describe the files; the reader walks the TOML itself")]

mod agent;
mod serve;
mod step;
mod tables;
mod workflow;

use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

/// JSON Schema of a workflow file: `schema/workflow.schema.json`.
pub fn json_schema() -> Value {
    of::<workflow::WorkflowFile>()
}

/// JSON Schema of an `antiphon.toml`: `schema/antiphon.schema.json`.
pub fn config_schema() -> Value {
    of::<workflow::ConfigFile>()
}

fn of<T: JsonSchema>() -> Value {
    let mut schema = SchemaGenerator::default().into_root_schema_for::<T>();
    RecursiveTransform(without_null).transform(&mut schema);
    schema.to_value()
}

/// TOML has no null: what is optional is left out.
fn without_null(schema: &mut Schema) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = &types[..] {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    let Some(Value::Array(branches)) = schema.get_mut("anyOf") else { return };
    branches.retain(|branch| branch != &json!({ "type": "null" }));
    if let [Value::Object(only)] = &branches[..] {
        let only = only.clone();
        schema.remove("anyOf");
        for (key, value) in only {
            if !(key == "description" && schema.get("description").is_some()) {
                schema.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::keys::{TAKEN_BY, VERBS};

    /// An editor offers the keys that the reader takes, and no others.
    #[test]
    fn the_schema_has_the_keys_of_a_step() {
        let schema = super::json_schema();
        let offered: BTreeSet<&str> = schema["$defs"]["Step"]["properties"]
            .as_object()
            .into_iter()
            .flat_map(|keys| keys.keys())
            .map(String::as_str)
            .collect();
        let taken = VERBS.iter().copied().chain(TAKEN_BY.iter().map(|(key, _)| *key));
        assert_eq!(offered, taken.collect());
    }
}
