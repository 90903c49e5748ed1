//! A workflow file, and `antiphon.toml`.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use toml::de::DeValue;

use crate::code::{BAD_NAME, MISSING_KEY, WRONG_VERB};
use crate::diagnostic::{Diagnostic, Place};
use crate::keys::OF_FILE;
use crate::parsed::{File, Tables};
use crate::read::{self, Context, Item, Table};
use crate::serve::{self, ServePart};
use crate::template::Names;
use crate::{shape, step, tables};

/// Reads a workflow file. What is wrong is reported to the context; the file is whole if nothing was an error.
pub(crate) fn workflow(cx: &Context<'_>) -> File {
    let (document, whole) = read::parse(cx);
    let root = Table::root(cx, &document);
    let (name, name_place) = name(cx, &root);
    if !whole {
        // What is missing from the tree would be reported as a mistake of its own.
        let (body, tables) = Default::default();
        let (text, input_schema) = (cx.text.clone(), no_input());
        return File { text, name, name_place, description: None, input_schema, output_schema: None, body, tables };
    }
    let description = root.take("description").and_then(|item| item.string()).map(str::to_owned);
    let input = root.take("input");
    let input_schema = input.as_ref().and_then(input_schema).unwrap_or_else(no_input);
    let output_schema = root.take("schema").and_then(|item| shape::read(&item, None));
    let tables = tables::read(&root);
    if let Some(item) = root.take("serve") {
        let message = "`[serve]` is about a whole project";
        cx.report(Diagnostic::new(WRONG_VERB, &item.key_place(), message).help("write it in `antiphon.toml`"));
    }
    let names = Names { vars: ["input", "run"].map(str::to_owned).into(), inputs: inputs(input.as_ref()) };
    let (steps, output) = (root.take("steps"), root.take("output"));
    if steps.is_none() {
        cx.report(Diagnostic::new(MISSING_KEY, &root.place(), "this workflow has no steps").help("add `[steps.NAME]`"));
    }
    let body = step::body(cx, steps.as_ref(), output.as_ref(), &names);
    root.finish();
    File { text: cx.text.clone(), name, name_place, description, input_schema, output_schema, body, tables }
}

/// Reads an `antiphon.toml`.
pub(crate) fn config(cx: &Context<'_>) -> (Tables, Option<ServePart>) {
    let (document, whole) = read::parse(cx);
    if !whole {
        return (Tables { unreadable: Some(cx.place(0..0)), ..Tables::default() }, None);
    }
    let root = Table::root(cx, &document);
    let tables = tables::read(&root);
    let serve = root.take("serve").and_then(|item| serve::read(&item));
    root.finish();
    (tables, serve)
}

/// The workflow's name, by default the file's stem.
fn name(cx: &Context<'_>, root: &Table<'_>) -> (String, Place) {
    let item = root.take("name");
    let given = item.as_ref().and_then(Item::string);
    let file = cx.text.path.rsplit(['/', '\\']).next().unwrap_or_default();
    let name = given.unwrap_or_else(|| file.strip_suffix(".toml").unwrap_or(file));
    let place = item.as_ref().map_or_else(|| cx.place(0..0), Item::place);
    if !tables::is_name(name) {
        let help = "names are made of letters, digits, `_` and `-`; set it with `name = \"…\"`";
        cx.report(Diagnostic::new(BAD_NAME, &place, format!("`{name}` can't be a workflow's name")).help(help));
    }
    (name.to_owned(), place)
}

fn no_input() -> Value {
    json!({ "type": "object", "properties": {}, "additionalProperties": false })
}

/// The input's schema. In the short form everything is declared, so anything else is a mistake.
fn input_schema(item: &Item<'_>) -> Option<Value> {
    let mut schema = shape::read(item, Some(OF_FILE))?;
    if item.get().is_table() {
        schema["additionalProperties"] = Value::Bool(false);
    }
    Some(schema)
}

/// The names of all inputs, when they are known: not those of a schema file.
fn inputs(item: Option<&Item<'_>>) -> Option<Arc<BTreeSet<String>>> {
    let Some(item) = item else { return Some(Arc::default()) };
    let DeValue::Table(table) = item.get() else { return None };
    Some(Arc::new(table.keys().map(|key| key.get_ref().to_string()).collect()))
}
