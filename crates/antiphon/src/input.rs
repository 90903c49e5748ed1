//! `--input`: from `key=value`, `@file.json` or `-` to the JSON that a schema wants.

use std::io::Read;

use serde_json::{Map, Value};

use crate::fault::Fault;

/// The input that the arguments describe: later ones win. `schema` decides how a `key=value` is read.
pub fn parse(args: &[String], schema: &Value) -> Result<Value, Fault> {
    let mut input = Map::new();
    for arg in args {
        if arg == "-" || arg.starts_with('@') {
            input.extend(object(arg)?);
        } else if let Some((key, text)) = arg.split_once('=') {
            let value = typed(key, text, property(schema, key)?)?;
            input.insert(key.to_owned(), value);
        } else {
            return Err(Fault::usage(
                format!("--input {arg}: neither key=value, nor @file.json, nor -"),
                "write --input key=value, name a JSON file as @file.json, or pipe JSON in with --input -",
            ));
        }
    }
    Ok(Value::Object(input))
}

/// A value read from `key=value`, as the property's schema wants it.
pub fn typed(key: &str, text: &str, property: Option<&Value>) -> Result<Value, Fault> {
    let types = property.map(types).unwrap_or_default();
    let takes = |name: &str| types.contains(&name);
    // A string is taken as it stands; whoever wants another type of several writes JSON.
    if types == ["string"] {
        return Ok(Value::String(text.to_owned()));
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value) if types.is_empty() || types.iter().any(|name| is(&value, name)) => Ok(value),
        _ if types.is_empty() || takes("string") => Ok(Value::String(text.to_owned())),
        _ => {
            let hint = match takes("array") || takes("object") {
                true => format!("write it as JSON, for example '{key}=[1, 2]'"),
                false => format!("write {key}=…, with a value of that type"),
            };
            Err(Fault::usage(format!("{key}={text}: not a value of type {}", types.join(" or ")), hint))
        }
    }
}

fn object(arg: &str) -> Result<Map<String, Value>, Fault> {
    let (name, text) = match arg.strip_prefix('@') {
        Some(path) => (path, std::fs::read_to_string(path)),
        None => {
            let mut text = String::new();
            ("standard input", std::io::stdin().read_to_string(&mut text).map(|_| text))
        }
    };
    let text =
        text.map_err(|e| Fault::usage(format!("can't read {name}: {e}"), "name a file that holds a JSON object"))?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Fault::usage(format!("{name} is not a JSON object"), "write the input as { \"key\": value, … }")),
        Err(e) => Err(Fault::usage(format!("{name} is not JSON: {e}"), "write the input as { \"key\": value, … }")),
    }
}

/// The schema of a property; an error if the schema lists its properties, is closed, and this is not one.
fn property<'a>(schema: &'a Value, key: &str) -> Result<Option<&'a Value>, Fault> {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Ok(None) };
    if let Some(property) = properties.get(key) {
        return Ok(Some(property));
    }
    if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
        return Ok(None);
    }
    let known: Vec<&str> = properties.keys().map(String::as_str).collect();
    let help = match known.is_empty() {
        true => "it takes no input".to_owned(),
        false => format!("it takes {}", known.join(", ")),
    };
    Err(Fault::usage(format!("there is no input `{key}`"), help))
}

fn types(property: &Value) -> Vec<&str> {
    match property.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => match property.get("enum").and_then(Value::as_array) {
            Some(values) if values.iter().all(Value::is_string) => vec!["string"],
            _ => Vec::new(),
        },
    }
}

fn is(value: &Value, name: &str) -> bool {
    match name {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "properties": {
                "name": { "type": "string" },
                "count": { "type": "integer" },
                "deep": { "type": "boolean" },
                "tags": { "type": "array" },
                "kind": { "enum": ["a", "b"] },
                "maybe": { "type": ["string", "null"] },
            },
            "additionalProperties": false,
        })
    }

    fn parsed(args: &[&str]) -> Result<Value, String> {
        let args: Vec<String> = args.iter().map(|&arg| arg.into()).collect();
        parse(&args, &schema()).map_err(|fault| fault.message())
    }

    #[test]
    fn the_schema_decides_the_type() {
        let input = parsed(&["name=7", "count=7", "deep=true", "tags=[1]", "kind=a", "maybe=null"]).unwrap();
        let want = json!({ "name": "7", "count": 7, "deep": true, "tags": [1], "kind": "a", "maybe": null });
        assert_eq!(input, want);
        assert_eq!(parsed(&["name=a=b"]).unwrap(), json!({ "name": "a=b" }));
        assert_eq!(parsed(&["maybe=text"]).unwrap(), json!({ "maybe": "text" }));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        assert_eq!(parsed(&["count=many"]).unwrap_err(), "count=many: not a value of type integer");
        assert_eq!(parsed(&["colour=red"]).unwrap_err(), "there is no input `colour`");
        assert_eq!(parsed(&["plain"]).unwrap_err(), "--input plain: neither key=value, nor @file.json, nor -");
        assert!(parsed(&["@/no/such/file.json"]).unwrap_err().starts_with("can't read /no/such/file.json"));
    }

    #[test]
    fn without_a_schema_json_is_json_and_the_rest_is_text() {
        let input = parse(&["a=1".into(), "b=one".into()], &json!({ "type": "object" })).unwrap();
        assert_eq!(input, json!({ "a": 1, "b": "one" }));
    }
}
