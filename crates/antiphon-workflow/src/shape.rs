//! The short form of JSON Schema: a property each, required unless `default` or `required = false`.

use serde_json::{Map, Value, json};
use toml::de::DeValue;

use crate::code::{BAD_SCHEMA, UNREADABLE};
use crate::diagnostic::{Diagnostic, suggest};
use crate::read::{Item, Outer};

/// The types of JSON Schema.
const TYPES: &[&str] = &["string", "number", "integer", "boolean", "array", "object", "null"];

/// Reads a schema: a table in the short form, or the path of a JSON Schema file.
pub(crate) fn read(item: &Item<'_>, outer: Option<Outer>) -> Option<Value> {
    let schema = match item.get() {
        DeValue::String(path) => from_file(item, path)?,
        DeValue::Table(_) => properties(item, outer)?,
        _ => {
            item.expected(
                "a table of properties, or the path of a JSON Schema file",
                "write `name = { type = \"string\" }`",
            );
            return None;
        }
    };
    Some(schema)
}

fn from_file(item: &Item<'_>, path: &str) -> Option<Value> {
    let path = item.cx.beside(path);
    let help = "a string names a JSON Schema file, relative to this file's folder";
    let text = match (item.cx.read)(&path) {
        Ok(text) => text,
        Err(error) => {
            item.refuse(UNREADABLE, format!("`{path}` can't be read: {error}"), help);
            return None;
        }
    };
    let schema = match serde_json::from_str::<Value>(&text) {
        Ok(schema) if schema.is_object() => schema,
        Ok(_) => {
            item.refuse(BAD_SCHEMA, format!("`{path}` is not a JSON object"), help);
            return None;
        }
        Err(error) => {
            item.refuse(BAD_SCHEMA, format!("`{path}` is not JSON: {error}"), help);
            return None;
        }
    };
    valid(item, &schema).then_some(schema)
}

fn properties(item: &Item<'_>, outer: Option<Outer>) -> Option<Value> {
    let mut table = item.table()?;
    if let Some(outer) = outer {
        table = table.inside(outer);
    }
    let mut properties = Map::new();
    let mut required = Vec::new();
    let mut sound = true;
    for property in table.items() {
        if !property.get().is_table() {
            if !table.misplaced(&property) {
                property.expected("a property", "write `name = { type = \"string\" }`");
            }
            sound = false;
            continue;
        }
        let Some(Value::Object(mut schema)) = property.json() else {
            sound = false;
            continue;
        };
        let is_required = match schema.get("required") {
            Some(Value::Bool(_)) => schema.shift_remove("required") != Some(Value::Bool(false)),
            _ => true,
        };
        if is_required && !schema.contains_key("default") {
            required.push(Value::from(property.key));
        }
        let schema = Value::Object(schema);
        sound &= valid(&property, &schema);
        properties.insert(property.key.to_owned(), schema);
    }
    sound.then(|| json!({ "type": "object", "properties": properties, "required": required }))
}

/// Whether a schema is of the plainest kind, a type and perhaps a fitting default. Nearly all are, and the schema of schemas
/// costs two megabytes and some milliseconds when it is first asked: no start should pay for it without a need.
fn is_plain(schema: &Value) -> bool {
    let Some(words) = schema.as_object() else { return false };
    let kind = words.get("type").and_then(Value::as_str).unwrap_or_default();
    words.iter().all(|(word, value)| match word.as_str() {
        "type" => TYPES.contains(&kind),
        "description" | "title" => value.is_string(),
        "default" => match kind {
            "string" => value.is_string(),
            "number" => value.is_number(),
            "integer" => value.is_i64() || value.is_u64(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            _ => false,
        },
        _ => false,
    })
}

/// Whether a schema can be used, and its default fits it; says so if not.
fn valid(item: &Item<'_>, schema: &Value) -> bool {
    if is_plain(schema) {
        return true;
    }
    let validator = match jsonschema::validator_for(schema) {
        Ok(validator) => validator,
        Err(error) => {
            let at = error.instance_path().to_string();
            let (message, help) = match error.instance().as_str().filter(|_| at.ends_with("/type")) {
                Some(kind) => {
                    (format!("`{}` has an unknown type, `{kind}`", item.key), suggest(kind, TYPES.iter().copied()))
                }
                None if at.is_empty() => (format!("`{}` is not a valid JSON Schema: {error}", item.key), None),
                None => (format!("`{}` is not a valid JSON Schema: at `{at}`, {error}", item.key), None),
            };
            item.refuse(BAD_SCHEMA, message, help.unwrap_or_else(|| "the words are those of JSON Schema".to_owned()));
            return false;
        }
    };
    let Some(default) = schema.get("default") else { return true };
    if let Err(error) = validator.validate(default) {
        item.cx.report(
            Diagnostic::new(
                BAD_SCHEMA,
                &item.place(),
                format!("the default of `{}` does not fit its own schema: {error}", item.key),
            )
            .help("mend the default, or the type"),
        );
        return false;
    }
    true
}

/// The schema that `elicitation/create` allows is flat; says so if it is not.
pub(crate) fn is_flat(item: &Item<'_>, schema: &Value) -> bool {
    let nested = schema["properties"].as_object().and_then(|properties| {
        properties.iter().find(|(_, property)| {
            let items = &property["items"];
            match property["type"].as_str() {
                Some("string" | "number" | "integer" | "boolean") => false,
                Some("array") => items.get("enum").is_none() && items.get("anyOf").is_none(),
                _ => property.get("enum").is_none() && property.get("oneOf").is_none(),
            }
        })
    });
    if let Some((name, _)) = nested {
        item.refuse(
            BAD_SCHEMA,
            format!("the field `{name}` can't be asked for"),
            "a form has texts, numbers, booleans and choices (`enum`): ask for each part as a field of its own",
        );
    }
    nested.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plain_is_valid() {
        let defaults = [
            json!("x"),
            json!(1),
            json!(-1),
            json!(1.0),
            json!(1.5),
            json!(true),
            json!([1]),
            json!({ "a": 1 }),
            json!(null),
        ];
        let mut plain = 0;
        for kind in TYPES.iter().chain(&["text", ""]) {
            for default in &defaults {
                for schema in [
                    json!({ "type": kind, "title": "T", "description": "D" }),
                    json!({ "type": kind, "default": default }),
                    json!({ "type": kind, "description": default }),
                    json!({ "type": [kind], "default": default }),
                    json!({ "type": kind, "enum": [default] }),
                    json!({ "default": default }),
                ] {
                    if is_plain(&schema) {
                        plain += 1;
                        let validator = jsonschema::validator_for(&schema);
                        let fits = validator.is_ok_and(|valid| schema.get("default").is_none_or(|x| valid.is_valid(x)));
                        assert!(fits, "{schema}");
                    }
                }
            }
        }
        assert!(plain > 50, "{plain} were plain");
    }
}
