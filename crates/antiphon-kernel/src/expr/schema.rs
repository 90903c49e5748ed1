//! JSON Schema.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use jsonschema::{ValidationError, Validator};
use serde_json::Value;

/// How many compiled schemas a thread keeps.
const KEPT: usize = 64;

/// How long an offending value may be to be shown.
const SHOWN: usize = 80;

/// Checks a value against a JSON Schema. References to other documents are not followed.
///
/// # Errors
/// What is wrong first, with its JSON pointer; or that the schema itself is wrong.
pub fn validate(schema: &Value, value: &Value) -> Result<(), String> {
    let validator = compiled(schema)?;
    validator.validate(value).map_err(|error| explain(&error))
}

fn explain(error: &ValidationError<'_>) -> String {
    let shown = error.instance().to_string();
    let what = if shown.len() <= SHOWN { error.to_string() } else { error.masked().to_string() };
    match error.instance_path().as_str() {
        "" => what,
        pointer => format!("`{pointer}`: {what}"),
    }
}

fn compiled(schema: &Value) -> Result<Rc<Validator>, String> {
    thread_local! {
        static VALIDATORS: RefCell<BTreeMap<String, Rc<Validator>>> = const { RefCell::new(BTreeMap::new()) };
    }
    let key = schema.to_string();
    VALIDATORS.with_borrow_mut(|validators| {
        if let Some(validator) = validators.get(&key) {
            return Ok(Rc::clone(validator));
        }
        let validator = jsonschema::options().offline().build(schema);
        let validator = Rc::new(validator.map_err(|error| format!("the schema itself is not valid: {error}"))?);
        if validators.len() >= KEPT {
            validators.clear();
        }
        validators.insert(key, Rc::clone(&validator));
        Ok(validator)
    })
}

/// The value with the `default`s of the schema's top-level properties that it does not have.
pub fn with_defaults(schema: &Value, mut value: Value) -> Value {
    if let (Some(entries), Some(properties)) =
        (value.as_object_mut(), schema.get("properties").and_then(Value::as_object))
    {
        for (name, property) in properties {
            if let Some(default) = property.get("default")
                && !entries.contains_key(name)
            {
                entries.insert(name.clone(), default.clone());
            }
        }
    }
    value
}
