//! A `sample` step's request, as `sampling/createMessage` for the caller's model.

use serde_json::{Map, Value, json};

/// For a step that does not say how long the answer may be.
const DEFAULT_MAX_TOKENS: u64 = 1024;

/// The parameters. `request` has `prompt` or `messages`, and `system`, `choose`, `schema`, `examples`, `max_tokens`,
/// `temperature`, each as the file has it. `note` says what was wrong with the last answer.
pub(crate) fn params(request: &Value, note: Option<&str>) -> Value {
    let mut messages = Vec::new();
    let mut system: Vec<String> = text_of(request.get("system")).into_iter().collect();
    for example in items(request.get("examples")) {
        messages.push(message("user", example.get("input").unwrap_or(&Value::Null)));
        messages.push(message("assistant", example.get("output").unwrap_or(&Value::Null)));
    }
    for given in items(request.get("messages")) {
        let content = given.get("content").unwrap_or(&Value::Null);
        match given.get("role").and_then(Value::as_str) {
            Some("system") => system.extend(text_of(Some(content))),
            Some("assistant") => messages.push(message("assistant", content)),
            _ => messages.push(message("user", content)),
        }
    }
    if let Some(prompt) = request.get("prompt") {
        messages.push(message("user", prompt));
    }
    // MCP's sampling has no grammar, so the shape of the answer is asked for in words; the engine checks it.
    system.extend(shape(request));
    system.extend(note.map(|note| format!("Your last answer did not fit: {note}")));

    let mut params = Map::new();
    params.insert("messages".to_owned(), Value::Array(messages));
    if !system.is_empty() {
        params.insert("systemPrompt".to_owned(), json!(system.join("\n\n")));
    }
    let max_tokens = request.get("max_tokens").and_then(Value::as_u64).unwrap_or(DEFAULT_MAX_TOKENS);
    params.insert("maxTokens".to_owned(), json!(max_tokens));
    if let Some(temperature) = request.get("temperature").filter(|value| value.is_number()) {
        params.insert("temperature".to_owned(), temperature.clone());
    }
    Value::Object(params)
}

fn shape(request: &Value) -> Option<String> {
    if let Some(labels) = request.get("choose") {
        let list: Vec<String> = match labels {
            Value::Object(meanings) => meanings
                .iter()
                .map(|(label, meaning)| format!("- {label}: {}", text_of(Some(meaning)).unwrap_or_default()))
                .collect(),
            _ => {
                items(Some(labels)).filter_map(|label| text_of(Some(label))).map(|label| format!("- {label}")).collect()
            }
        };
        return Some(format!("Answer with exactly one of these labels and nothing else:\n{}", list.join("\n")));
    }
    let schema = request.get("schema").filter(|schema| !schema.is_null())?;
    Some(format!("Answer with JSON that conforms to this JSON Schema, and nothing else:\n{schema}"))
}

fn message(role: &str, content: &Value) -> Value {
    let content = match content {
        Value::Object(block) if block.contains_key("type") => content.clone(),
        Value::Array(blocks) if blocks.iter().all(|block| block.get("type").is_some()) => content.clone(),
        other => json!({ "type": "text", "text": text_of(Some(other)).unwrap_or_default() }),
    };
    json!({ "role": role, "content": content })
}

/// Text as it is, anything else as JSON.
fn text_of(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn items(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_with_labels_says_what_they_mean() {
        let request = json!({
            "prompt": "It crashes", "system": "You sort issues.",
            "choose": { "bug": "something fails", "question": "asks how" },
            "examples": [{ "input": "How do I?", "output": "question" }],
            "max_tokens": 8, "temperature": 0.5,
        });
        assert_eq!(
            params(&request, None),
            json!({
                "messages": [
                    { "role": "user", "content": { "type": "text", "text": "How do I?" } },
                    { "role": "assistant", "content": { "type": "text", "text": "question" } },
                    { "role": "user", "content": { "type": "text", "text": "It crashes" } },
                ],
                "systemPrompt": "You sort issues.\n\nAnswer with exactly one of these labels and nothing else:\n- bug: something fails\n- question: asks how",
                "maxTokens": 8,
                "temperature": 0.5,
            })
        );
    }

    #[test]
    fn messages_keep_their_roles_and_a_system_message_becomes_the_system_prompt() {
        let request = json!({ "messages": [
            { "role": "system", "content": "Be brief." },
            { "role": "user", "content": [{ "type": "text", "text": "Hello" }] },
            { "role": "assistant", "content": "Hi" },
        ] });
        assert_eq!(
            params(&request, None),
            json!({
                "messages": [
                    { "role": "user", "content": [{ "type": "text", "text": "Hello" }] },
                    { "role": "assistant", "content": { "type": "text", "text": "Hi" } },
                ],
                "systemPrompt": "Be brief.",
                "maxTokens": 1024,
            })
        );
    }
}
