//! The committed JSON Schemas are those that the code makes, and they agree with the reader.
#![expect(clippy::unwrap_used, reason = "tests")]

use crate::common;
use std::fs;
use std::path::Path;

use serde_json::Value;

#[test]
fn committed_schemas_are_fresh() {
    for (name, schema) in
        [("workflow", antiphon_workflow::json_schema()), ("antiphon", antiphon_workflow::config_schema())]
    {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../schema/{name}.schema.json"));
        let fresh = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            fs::write(&path, &fresh).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == fresh,
            "schema/{name}.schema.json is stale: run the tests with UPDATE_SCHEMA=1, and commit it"
        );
    }
}

fn toml_as_json(path: &Path) -> Option<Value> {
    let table: toml::Table = toml::from_str(&fs::read_to_string(path).unwrap()).ok()?;
    serde_json::to_value(table).ok()
}

#[test]
fn good_files_fit_the_schemas() {
    let workflow = jsonschema::validator_for(&antiphon_workflow::json_schema()).unwrap();
    let config = jsonschema::validator_for(&antiphon_workflow::config_schema()).unwrap();
    let good = common::folder("good");
    for folder in [good.clone(), good.join("triage"), good.join("agents")] {
        for file in common::files(&folder) {
            let validator = if file.ends_with("antiphon.toml") { &config } else { &workflow };
            if let Err(error) = validator.validate(&toml_as_json(&file).unwrap()) {
                panic!("{}: {error} at {}", file.display(), error.instance_path());
            }
        }
    }
}

/// What the schema can see is wrong, an editor says while one types.
#[test]
fn broken_files_break_the_schema() {
    let workflow = jsonschema::validator_for(&antiphon_workflow::json_schema()).unwrap();
    for name in ["unknown_key", "wrong_type", "bad_value", "no_verb", "several_verbs", "no_bound", "no_steps"] {
        let value = toml_as_json(&common::folder("broken").join(format!("{name}.toml"))).unwrap();
        assert!(!workflow.is_valid(&value), "{name}");
    }
}
