//! JSON Schema: what is wrong, where, and defaults.

use antiphon_kernel::expr::{validate, with_defaults};
use serde_json::{Value, json};

#[test]
fn the_first_error_is_named_with_its_place() {
    let schema = json!({
        "type": "object",
        "properties": { "score": { "type": "integer", "maximum": 10 }, "tags": { "type": "array", "items": { "type": "string" } } },
        "required": ["score"],
        "additionalProperties": false,
    });
    let table = [
        (json!({ "score": 3, "tags": ["a"] }), Ok(())),
        (json!({}), Err("\"score\" is a required property")),
        (json!({ "score": 12 }), Err("`/score`: 12 is greater than the maximum of 10")),
        (json!({ "score": 1, "tags": ["a", 2] }), Err("`/tags/1`: 2 is not of type \"string\"")),
        (json!({ "score": "x".repeat(100) }), Err("`/score`: value is not of type \"integer\"")),
        (json!({ "score": 1, "more": 1 }), Err("Additional properties are not allowed ('more' was unexpected)")),
    ];
    for (value, expected) in table {
        assert_eq!(validate(&schema, &value), expected.map_err(str::to_owned), "{value}");
    }
}

#[test]
fn a_schema_may_be_wrong_and_never_reaches_out() {
    for schema in [
        json!({ "type": "strng" }),
        json!({ "$ref": "http://127.0.0.1:9/x.json" }),
        json!({ "$ref": "file:///etc/hostname" }),
        json!(3),
    ] {
        let message = validate(&schema, &json!(1)).err().unwrap_or_default();
        assert!(message.starts_with("the schema itself is not valid: "), "{schema}: {message}");
    }
}

#[test]
fn many_schemas_are_fine() {
    for n in 0..200 {
        assert_eq!(validate(&json!({ "minimum": n }), &json!(200)), Ok(()));
    }
}

#[test]
fn defaults_fill_in_what_is_missing() {
    let schema =
        json!({ "properties": { "a": { "default": 1 }, "b": { "type": "string" }, "c": { "default": null } } });
    assert_eq!(with_defaults(&schema, json!({ "b": "x" })), json!({ "b": "x", "a": 1, "c": null }));
    assert_eq!(with_defaults(&schema, json!({ "a": null })), json!({ "a": null, "c": null }));
    assert_eq!(with_defaults(&schema, Value::Null), Value::Null);
    assert_eq!(with_defaults(&json!(true), json!({})), json!({}));
}
