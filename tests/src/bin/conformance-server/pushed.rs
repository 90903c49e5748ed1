//! Tools that ask in the middle of a call: by a request to a legacy caller, by a round with a modern one.

use rmcp::model::{CallToolResponse, ErrorData, InputRequiredResult};
use serde_json::{Value, json};

use crate::content::{complete, read, text};
use crate::server::Call;

/// The key of the one question, in a round.
const QUESTION: &str = "question";

/// Asks, and tells the answer. `None`: this is no such tool.
pub async fn call(call: &Call<'_>) -> Option<Result<CallToolResponse, ErrorData>> {
    let (method, params) = match call.name {
        "test_sampling" => ("sampling/createMessage", prompted(&call.str("prompt"), 100)),
        "test_elicitation" => ("elicitation/create", form(&call.str("message"), user())),
        "test_elicitation_sep1034_defaults" => {
            ("elicitation/create", form("Please provide values (all have defaults)", defaults()))
        }
        "test_elicitation_sep1330_enums" => ("elicitation/create", form("Please choose", enums())),
        "test_list_roots" => ("roots/list", json!({})),
        _ => return None,
    };
    Some(asked(call, method, params).await)
}

async fn asked(call: &Call<'_>, method: &str, params: Value) -> Result<CallToolResponse, ErrorData> {
    let answer = if call.is_modern() {
        match call.answer(QUESTION) {
            Some(answer) => answer,
            None => {
                let request = read(json!({ QUESTION: { "method": method, "params": params } }))?;
                return Ok(InputRequiredResult::new(Some(request), None).into());
            }
        }
    } else {
        match push(call, method, params).await {
            Ok(answer) => answer,
            Err(error) => {
                let refusal = json!({ "isError": true, "content": [text(format!("{method}: {error}"))] });
                return Ok(CallToolResponse::Complete(complete(refusal)?));
            }
        }
    };
    let said = match method {
        "sampling/createMessage" => {
            format!("LLM response: {}", answer["content"]["text"].as_str().unwrap_or_default())
        }
        "roots/list" => format!("Roots: {}", answer["roots"]),
        _ if call.name == "test_elicitation" => {
            format!("User response: action={}, content={}", answer["action"].as_str().unwrap_or("?"), answer["content"])
        }
        _ => {
            let action = answer["action"].as_str().unwrap_or("?");
            format!("Elicitation completed: action={action}, content={}", answer["content"])
        }
    };
    Ok(CallToolResponse::Complete(complete(json!({ "content": [text(said)] }))?))
}

#[expect(deprecated, reason = "legacy clients still answer these")]
async fn push(call: &Call<'_>, method: &str, params: Value) -> Result<Value, String> {
    let peer = &call.context.peer;
    let wrong = |error: serde_json::Error| error.to_string();
    match method {
        "sampling/createMessage" => {
            let params = serde_json::from_value(params).map_err(wrong)?;
            let answer = peer.create_message(params).await.map_err(|error| error.to_string())?;
            serde_json::to_value(answer).map_err(wrong)
        }
        "roots/list" => {
            let answer = peer.list_roots().await.map_err(|error| error.to_string())?;
            serde_json::to_value(answer).map_err(wrong)
        }
        _ => {
            let params = serde_json::from_value(params).map_err(wrong)?;
            let answer = peer.create_elicitation(params).await.map_err(|error| error.to_string())?;
            serde_json::to_value(answer).map_err(wrong)
        }
    }
}

pub fn prompted(prompt: &str, max_tokens: u32) -> Value {
    json!({ "messages": [{ "role": "user", "content": text(prompt) }], "maxTokens": max_tokens })
}

pub fn form(message: &str, schema: Value) -> Value {
    json!({ "message": message, "requestedSchema": schema })
}

fn user() -> Value {
    json!({
        "type": "object",
        "properties": {
            "username": { "type": "string", "description": "User's response" },
            "email": { "type": "string", "description": "User's email address" },
        },
        "required": ["username", "email"],
    })
}

fn defaults() -> Value {
    json!({ "type": "object", "properties": {
        "name": { "type": "string", "description": "User's name", "default": "John Doe" },
        "age": { "type": "integer", "description": "User's age", "default": 30 },
        "score": { "type": "number", "description": "User's score", "default": 95.5 },
        "status": {
            "type": "string", "description": "User's status",
            "enum": ["active", "inactive", "pending"], "default": "active",
        },
        "verified": { "type": "boolean", "description": "Whether the user is verified", "default": true },
    } })
}

fn enums() -> Value {
    let options = json!(["option1", "option2", "option3"]);
    let titled = json!([
        { "const": "value1", "title": "First Option" },
        { "const": "value2", "title": "Second Option" },
        { "const": "value3", "title": "Third Option" },
    ]);
    json!({ "type": "object", "properties": {
        "untitledSingle": { "type": "string", "enum": options },
        "titledSingle": { "type": "string", "oneOf": titled },
        "legacyEnum": {
            "type": "string", "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": { "type": "array", "items": { "type": "string", "enum": options } },
        "titledMulti": { "type": "array", "items": { "anyOf": titled } },
    } })
}
