//! The files' own JSON Schemas, for editors. Derived from types that say what the reader reads; a test holds both together.

#![expect(dead_code, reason = "these types describe the files; the reader walks the TOML itself")]

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
