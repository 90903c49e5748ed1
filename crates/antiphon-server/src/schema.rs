//! JSON Schemas of tools.

use rmcp::model::JsonObject;
use serde_json::{Value, json};

/// The schema as an object.
pub(crate) fn object(schema: &Value) -> Option<JsonObject> {
    schema.as_object().cloned()
}

/// The output schema of a workflow's tool: what the file declares, or the handle that a caller gets instead when the run takes
/// long or needs an answer.
///
/// Clients check a result against the schema, so it must admit both. `None` for a schema that can't be nested, because it refers
/// to places of its own by a path other than its definitions.
pub(crate) fn or_handle(declared: &Value) -> Option<JsonObject> {
    let mut declared = object(declared)?;
    if !refers_to_definitions_only(&Value::Object(declared.clone())) {
        return None;
    }
    let mut schema = JsonObject::new();
    for root_only in ["$schema", "$defs", "definitions"] {
        if let Some(value) = declared.remove(root_only) {
            schema.insert(root_only.to_owned(), value);
        }
    }
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("anyOf".to_owned(), json!([declared, handle()]));
    Some(schema)
}

/// The shape of a handle.
pub(crate) fn handle() -> Value {
    json!({
        "type": "object",
        "description": "The run goes on; follow it with run_status",
        "properties": {
            "run": {
                "type": "object",
                "properties": {
                    "id": { "type": "string" },
                    "workflow": { "type": "string" },
                    "status": { "enum": ["working", "input_required", "succeeded", "failed", "cancelled"] },
                    "needs": { "type": "array", "items": { "type": "object" } },
                },
                "required": ["id", "status", "needs"],
            },
        },
        "required": ["run"],
    })
}

fn refers_to_definitions_only(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => map.iter().all(|(key, value)| match value {
            Value::String(target) if key == "$ref" || key == "$dynamicRef" => {
                !target.starts_with('#') || target.starts_with("#/$defs/") || target.starts_with("#/definitions/")
            }
            _ => refers_to_definitions_only(value),
        }),
        Value::Array(items) => items.iter().all(refers_to_definitions_only),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_stay_at_the_root() {
        let declared = json!({
            "type": "object",
            "properties": { "score": { "$ref": "#/$defs/score" } },
            "$defs": { "score": { "type": "integer" } },
        });
        let schema = Value::Object(or_handle(&declared).unwrap_or_default());
        assert_eq!(schema["$defs"], json!({ "score": { "type": "integer" } }));
        assert_eq!(
            schema["anyOf"][0],
            json!({ "type": "object", "properties": { "score": { "$ref": "#/$defs/score" } } })
        );
    }

    #[test]
    fn a_schema_that_refers_to_its_own_root_is_not_offered() {
        assert_eq!(or_handle(&json!({ "type": "object", "properties": { "child": { "$ref": "#" } } })), None);
    }
}
