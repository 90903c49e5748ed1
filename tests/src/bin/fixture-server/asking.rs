//! Tools that ask back: pushed in the legacy era, `input_required` in the modern one.

use rmcp::model::{ErrorData, InputRequest, InputRequests, InputRequiredResult, ProtocolVersion};
use serde_json::{Value, json};

use crate::server::internal;
use crate::tools::{Answer, Call, done};

/// The key of the only question in a round.
const QUESTION: &str = "question";

pub fn is_modern(call: &Call<'_>) -> bool {
    call.context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28)
}

pub async fn elicit_name(call: &Call<'_>) -> Answer {
    let params = name_form(call.str("question", "What is your name?"));
    if is_modern(call) {
        return match answer(call) {
            Some(result) => done(named(&result)),
            None => ask("elicitation/create", params),
        };
    }
    let params = serde_json::from_value(params).map_err(internal)?;
    let result = call.context.peer.create_elicitation(params).await.map_err(internal)?;
    done(named(&serde_json::to_value(result).map_err(internal)?))
}

pub async fn sample_me(call: &Call<'_>) -> Answer {
    let prompt = call.str("prompt", "Say something.");
    let params = prompted(prompt);
    if is_modern(call) {
        return match answer(call) {
            Some(result) => done(said(&result)),
            None => ask("sampling/createMessage", params),
        };
    }
    let params = serde_json::from_value(params).map_err(internal)?;
    #[expect(deprecated, reason = "legacy clients still answer it")]
    let result = call.context.peer.create_message(params).await.map_err(internal)?;
    done(said(&serde_json::to_value(result).map_err(internal)?))
}

/// The parameters of an elicitation that asks for a name.
pub fn name_form(message: &str) -> Value {
    json!({
        "mode": "form",
        "message": message,
        "requestedSchema": {
            "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"],
        },
    })
}

/// The parameters of a sampling with this prompt.
pub fn prompted(prompt: &str) -> Value {
    json!({
        "messages": [{ "role": "user", "content": { "type": "text", "text": prompt } }],
        "maxTokens": 100,
    })
}

/// A question by itself.
pub fn questions(method: &str, params: &Value) -> Result<InputRequests, ErrorData> {
    let request: InputRequest =
        serde_json::from_value(json!({ "method": method, "params": params })).map_err(internal)?;
    Ok([(QUESTION.to_owned(), request)].into())
}

fn ask(method: &str, params: Value) -> Answer {
    let state = Some(format!("asked {method}"));
    Ok(InputRequiredResult::new(Some(questions(method, &params)?), state).into())
}

fn answer(call: &Call<'_>) -> Option<Value> {
    call.answers.as_ref()?.get(QUESTION).cloned()
}

pub fn named(result: &Value) -> Value {
    json!({ "action": result["action"], "name": result["content"]["name"] })
}

pub fn said(result: &Value) -> Value {
    json!({ "model": result["model"], "text": result["content"]["text"] })
}
