//! Questions of a run, as requests that a caller can answer, and what comes back.

use antiphon_engine::{Engine, EngineError, RunId};
use antiphon_kernel::{Action, Answer, Asking, Question};
use rmcp::model::InputRequest;
use serde_json::{Value, json};

use crate::caller::Answers;
use crate::sampling;

/// The question as a request, if this caller can answer it. `note` says what was wrong with the last answer.
pub(crate) async fn request(
    engine: &dyn Engine,
    question: &Question,
    can: Answers,
    note: Option<&str>,
) -> Result<Option<InputRequest>, EngineError> {
    let request = match &question.ask {
        Asking::Form { message, schema } if can.form => form(&noted(message, note), schema.clone()),
        Asking::Doubt { message, .. } if can.form => form(&noted(message, note), doubt_schema()),
        // The identifier belongs to 2025-11-25; later clients ignore it.
        Asking::Url { message, url } if can.url => json!({
            "method": "elicitation/create",
            "params": { "mode": "url", "message": noted(message, note), "url": url, "elicitationId": question.key },
        }),
        Asking::Sample { request, tools } if can.sampling => {
            let request = engine.request(request, tools.as_ref()).await?;
            match sampling::params(&request, can.sampling_tools, note) {
                Ok(params) => json!({ "method": "sampling/createMessage", "params": params }),
                Err(error) => {
                    tracing::debug!(key = %question.key, error, "no model can answer this");
                    return Ok(None);
                }
            }
        }
        Asking::Relayed { request, .. } if relayable(request, can) => match request.pointer("/params/tools") {
            Some(_) if !can.sampling_tools => sampling::in_words(request),
            _ => request.clone(),
        },
        _ => return Ok(None),
    };
    match serde_json::from_value(request) {
        Ok(request) => Ok(Some(request)),
        Err(error) => {
            tracing::debug!(key = %question.key, %error, "this question has no form in MCP");
            Ok(None)
        }
    }
}

/// Gives the run what the caller answered: the result of the request that [`request`] made. `false` if the question is not open
/// any more.
///
/// # Errors
/// [`EngineError::InvalidAnswer`] if it does not fit, and the engine's own.
pub(crate) async fn give(
    engine: &dyn Engine,
    run: &RunId,
    question: &Question,
    response: Value,
) -> Result<bool, EngineError> {
    let answer = match &question.ask {
        Asking::Sample { request, tools } => {
            let request = engine.request(request, tools.as_ref()).await?;
            sampling::answer(&request, response).map(accepted)
        }
        Asking::Relayed { request, .. } if method(request) != "elicitation/create" => Ok(accepted(response)),
        _ => elicited(&question.ask, response),
    };
    match answer {
        Ok(answer) => engine.input(run, &question.key, answer).await,
        Err(message) => Err(EngineError::InvalidAnswer { key: question.key.clone(), message }),
    }
}

fn accepted(content: Value) -> Answer {
    Answer { action: Action::Accept, content: Some(content) }
}

/// The answer in an `ElicitResult`.
fn elicited(ask: &Asking, response: Value) -> Result<Answer, String> {
    let action = match response.get("action").and_then(Value::as_str) {
        Some("accept") => Action::Accept,
        Some("decline") => Action::Decline,
        Some("cancel") => Action::Cancel,
        _ => return Err("`action` must be `accept`, `decline` or `cancel`".to_owned()),
    };
    let content = response.get("content").filter(|content| !content.is_null()).cloned();
    match (ask, action) {
        (Asking::Doubt { .. }, Action::Accept) => doubt_answer(content),
        (_, Action::Accept) => Ok(Answer { action, content }),
        _ => Ok(Answer { action, content: None }),
    }
}

/// What is asked, for people.
pub(crate) fn message(question: &Question) -> String {
    match &question.ask {
        Asking::Form { message, .. } | Asking::Doubt { message, .. } => message.clone(),
        Asking::Url { message, url } => format!("{message} ({url})"),
        Asking::Sample { .. } => format!("`{}` asks the caller's model", question.path),
        Asking::Relayed { server, request } => {
            let asked = request.pointer("/params/message").and_then(Value::as_str).unwrap_or(method(request));
            format!("the server `{server}` asks: {asked}")
        }
    }
}

/// The form of the answer, if it has one.
pub(crate) fn schema(question: &Question) -> Option<Value> {
    match &question.ask {
        Asking::Form { schema, .. } => Some(schema.clone()),
        Asking::Doubt { .. } => Some(doubt_schema()),
        Asking::Relayed { request, .. } => request.pointer("/params/requestedSchema").cloned(),
        Asking::Url { .. } | Asking::Sample { .. } => None,
    }
}

fn form(message: &str, mut schema: Value) -> Value {
    if let Some(schema) = schema.as_object_mut() {
        schema.entry("type").or_insert_with(|| json!("object"));
        schema.entry("properties").or_insert_with(|| json!({}));
    }
    json!({ "method": "elicitation/create", "params": { "mode": "form", "message": message, "requestedSchema": schema } })
}

fn noted(message: &str, note: Option<&str>) -> String {
    match note {
        Some(note) => format!("{message}\n(The last answer did not fit: {note})"),
        None => message.to_owned(),
    }
}

fn relayable(request: &Value, can: Answers) -> bool {
    match method(request) {
        "elicitation/create" => match request.pointer("/params/mode").and_then(Value::as_str) {
            Some("url") => can.url,
            _ => can.form,
        },
        "sampling/createMessage" => can.sampling,
        "roots/list" => can.roots,
        _ => false,
    }
}

fn method(request: &Value) -> &str {
    request.get("method").and_then(Value::as_str).unwrap_or_default()
}

/// Elicitation forms are flat, so the result of a call in doubt travels as JSON text.
fn doubt_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "choice": {
                "type": "string",
                "title": "What to do",
                "description": "retry: make the call again; skip: go on without it; result: it did happen, and this is its result",
                "enum": ["retry", "skip", "result"],
            },
            "result": { "type": "string", "title": "Its result, as JSON", "description": "Only for `result`" },
        },
        "required": ["choice"],
    })
}

fn doubt_answer(content: Option<Value>) -> Result<Answer, String> {
    let mut content = content.ok_or("`content.choice` must be `retry`, `skip` or `result`")?;
    if content.get("choice").and_then(Value::as_str) == Some("result") {
        let result = match content.get("result") {
            Some(Value::String(text)) => {
                serde_json::from_str(text).map_err(|error| format!("`result` is not JSON: {error}"))?
            }
            Some(value) => value.clone(),
            None => return Err("`result` is missing: give the call's result as JSON".to_owned()),
        };
        content["result"] = result;
    }
    Ok(Answer { action: Action::Accept, content: Some(content) })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_result_of_a_call_in_doubt_is_read_from_its_text() {
        let answer = doubt_answer(Some(json!({ "choice": "result", "result": "{\"id\": 7}" }))).unwrap();
        assert_eq!(answer.content, Some(json!({ "choice": "result", "result": { "id": 7 } })));
        assert!(doubt_answer(Some(json!({ "choice": "result", "result": "{" }))).unwrap_err().contains("not JSON"));
        assert!(doubt_answer(Some(json!({ "choice": "result" }))).unwrap_err().contains("missing"));
    }
}
