//! The kernel's own functions: what an agent asks of its model, and what becomes of the conversation.
//!
//! They move values and look into none: what a tool or another agent said is text in the conversation, whatever it says.

use serde_json::{Map, Value as Json, json};

use super::value::json_text;
use crate::Function;

/// About how many bytes of text a token is.
const BYTES_OF_TOKEN: u64 = 4;

/// Applies a function. Entries that are missing count as null.
pub(super) fn apply(function: Function, entries: Map<String, Json>) -> Json {
    match function {
        Function::Request => request(entries),
        Function::Turn => turn(entries),
    }
}

fn request(mut entries: Map<String, Json>) -> Json {
    entries.retain(|_, value| !value.is_null());
    if entries.contains_key("schema") {
        entries.shift_remove("examples");
    }
    Json::Object(entries)
}

fn turn(mut entries: Map<String, Json>) -> Json {
    let mut take = |name: &str| entries.get_mut(name).map(Json::take).unwrap_or_default();
    let (mut active, text, answer) = (take("agent"), take("text"), take("answer"));
    let (mut messages, calls) = (list(take("messages")), list(take("calls")));
    if calls.is_empty() {
        messages.push(json!({ "role": "assistant", "content": text }));
        return json!({ "active": active, "done": true, "answer": answer, "messages": messages });
    }
    let (results, errors, handoffs) = (take("results"), list(take("errors")), take("handoffs"));
    let most = take("max_result_tokens").as_u64();
    let has_tools = !results.is_null();
    let mut results = list(results).into_iter();
    messages.push(json!({ "role": "assistant", "content": text, "tool_calls": calls }));
    let (mut made, mut handed_over) = (0, false);
    for call in &calls {
        let name = call["name"].as_str().unwrap_or_default();
        let (content, is_error) = match handoffs.get(name) {
            Some(_) if handed_over => ("the conversation was handed over already".to_owned(), true),
            Some(to) => {
                handed_over = true;
                active = to.clone();
                (format!("the conversation is handed over to `{}`", json_text(to)), false)
            }
            None if !has_tools => (format!("`{name}` can't be called here; nothing can"), true),
            None => {
                let result = results.next().unwrap_or_default();
                let failed = errors.iter().find(|error| error["index"] == made);
                made += 1;
                match failed {
                    Some(error) => (json_text(&error["message"]), true),
                    None if result.is_null() => ("(no result)".to_owned(), false),
                    None => (json_text(&result), false),
                }
            }
        };
        let content = match most {
            Some(most) => cut(content, most),
            None => content,
        };
        messages
            .push(json!({ "role": "tool", "id": call["id"], "name": name, "content": content, "is_error": is_error }));
    }
    json!({ "active": active, "done": false, "answer": null, "messages": messages })
}

/// As much of a result as a conversation takes, and a word on what is missing.
fn cut(mut text: String, most: u64) -> String {
    let most = usize::try_from(most.saturating_mul(BYTES_OF_TOKEN)).unwrap_or(usize::MAX);
    let all = text.len();
    if all > most {
        text.truncate(text.floor_char_boundary(most));
        let left_out = all - text.len();
        text.push_str(&format!("\n[cut: {left_out} of {all} bytes are left out here (`max_result_tokens`)]"));
    }
    text
}

fn list(value: Json) -> Vec<Json> {
    match value {
        Json::Array(items) => items,
        _ => Vec::new(),
    }
}
