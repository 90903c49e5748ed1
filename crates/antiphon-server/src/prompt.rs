//! Workflows as prompts: what a host's user picks from a menu, or writes after a slash. The text asks the model to call the tool.

use rmcp::ErrorData;
use rmcp::model::{GetPromptResult, JsonObject, Prompt, PromptArgument, PromptMessage, Role};
use serde_json::Value;

use crate::catalog::Exposed;

/// The workflow as a prompt: its inputs are the arguments.
pub(crate) fn of(workflow: &Exposed) -> Prompt {
    let arguments: Vec<PromptArgument> =
        properties(workflow).map(|(name, schema)| argument(workflow, name, schema)).collect();
    let prompt = Prompt::new(&workflow.name, Some(&workflow.description), (!arguments.is_empty()).then_some(arguments));
    match &workflow.title {
        Some(title) => prompt.with_title(title),
        None => prompt,
    }
}

fn argument(workflow: &Exposed, name: &str, schema: &Value) -> PromptArgument {
    let mut about = schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut add = |text: String| {
        if !about.is_empty() {
            about.push_str(": ");
        }
        about.push_str(&text);
    };
    match choices(schema) {
        choices if !choices.is_empty() => add(choices.join(", ")),
        // All that a user can write is text.
        _ if !takes_text(schema) => {
            add(format!("JSON, {}", schema.get("type").and_then(Value::as_str).unwrap_or("any")))
        }
        _ => {}
    }
    let argument = PromptArgument::new(name).with_required(required(workflow, name));
    if about.is_empty() { argument } else { argument.with_description(about) }
}

/// `prompts/get`.
///
/// # Errors
/// -32602 for arguments that are missing, unknown, or not what the input wants.
pub(crate) fn get(workflow: &Exposed, arguments: Option<JsonObject>) -> Result<GetPromptResult, ErrorData> {
    let given = arguments.unwrap_or_default();
    let wrong = |message: String| Err(ErrorData::invalid_params(message, None));
    let mut input = JsonObject::new();
    for (name, value) in given {
        let Some((_, schema)) = properties(workflow).find(|(known, _)| **known == name) else {
            return wrong(format!("`{}` takes no argument `{name}`", workflow.name));
        };
        let value = match value {
            // Hosts that show a field for everything leave it empty for nothing.
            Value::String(text) if text.is_empty() && !required(workflow, &name) => continue,
            Value::String(text) if !takes_text(schema) => match serde_json::from_str(&text) {
                Ok(value) => value,
                Err(_) => {
                    return wrong(format!(
                        "the argument `{name}` is not JSON: write it as it stands in a file of JSON"
                    ));
                }
            },
            value => value,
        };
        input.insert(name, value);
    }
    let missing: Vec<&str> = properties(workflow)
        .map(|(name, _)| name.as_str())
        .filter(|name| required(workflow, name) && !input.contains_key(*name))
        .collect();
    if !missing.is_empty() {
        return wrong(format!("`{}` needs: {}", workflow.name, missing.join(", ")));
    }
    let text = format!(
        "Call the tool `{}` once, with exactly these arguments, and tell me what came out:\n\n```json\n{:#}\n```",
        workflow.name,
        Value::Object(input)
    );
    let message = PromptMessage::new_text(Role::User, text);
    Ok(GetPromptResult::new(vec![message]).with_description(&workflow.description))
}

/// What an argument may be completed to.
pub(crate) fn complete(workflow: &Exposed, argument: &str, begun: &str) -> Vec<String> {
    let schema = properties(workflow).find(|(name, _)| *name == argument).map(|(_, schema)| schema);
    let choices = schema.map(choices).unwrap_or_default();
    choices.into_iter().filter(|choice| choice.starts_with(begun)).collect()
}

fn properties(workflow: &Exposed) -> impl Iterator<Item = (&String, &Value)> {
    workflow.input_schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

fn required(workflow: &Exposed, name: &str) -> bool {
    let required = workflow.input_schema.get("required").and_then(Value::as_array);
    required.is_some_and(|all| all.iter().any(|one| one == name))
}

/// Whether text is among what the schema admits; then what a user writes is meant as it stands.
fn takes_text(schema: &Value) -> bool {
    match schema.get("type") {
        Some(Value::String(one)) => one == "string",
        Some(Value::Array(several)) => several.iter().any(|one| one == "string"),
        _ => true,
    }
}

/// The values of a closed set.
fn choices(schema: &Value) -> Vec<String> {
    match schema.get("enum").and_then(Value::as_array) {
        Some(values) => {
            values.iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect()
        }
        None if schema.get("type").is_some_and(|kind| kind == "boolean") => vec!["true".to_owned(), "false".to_owned()],
        None => Vec::new(),
    }
}
