//! Whether an answer fits its question.

use antiphon_kernel::{Action, Answer, Asking, Question, expr};
use serde_json::{Value, json};

use crate::api::EngineError;

/// The answer as it is recorded: without what does not count, with a form's defaults filled in.
pub(crate) fn fit(question: &Question, answer: Answer) -> Result<Answer, EngineError> {
    let Answer { action: Action::Accept, content } = answer else {
        return Ok(Answer { content: None, ..answer });
    };
    let content = match &question.ask {
        Asking::Form { schema, .. } => form(schema, content),
        Asking::Url { .. } => Ok(None),
        Asking::Sample { .. } => message(content),
        Asking::Relayed { request, .. } => relayed(request, content),
        Asking::Doubt { .. } => doubt(content),
    };
    let content = content.map_err(|message| EngineError::InvalidAnswer { key: question.key.clone(), message })?;
    Ok(Answer { action: Action::Accept, content })
}

/// A plain yes needs no fields.
fn form(schema: &Value, content: Option<Value>) -> Result<Option<Value>, String> {
    let plain = schema.get("properties").and_then(Value::as_object).is_none_or(serde_json::Map::is_empty);
    if plain {
        return Ok(None);
    }
    let content = expr::with_defaults(schema, content.unwrap_or_else(|| json!({})));
    expr::validate(schema, &content)?;
    Ok(Some(content))
}

fn message(content: Option<Value>) -> Result<Option<Value>, String> {
    match content {
        Some(content) if content.get("content").is_some() => Ok(Some(content)),
        _ => Err("it must be a CreateMessageResult: an object with `content`".into()),
    }
}

fn relayed(request: &Value, content: Option<Value>) -> Result<Option<Value>, String> {
    match request.get("method").and_then(Value::as_str) {
        Some("sampling/createMessage") => message(content),
        Some("elicitation/create") => match request.pointer("/params/requestedSchema") {
            Some(schema) => form(schema, content),
            None => Ok(content),
        },
        _ => Ok(content),
    }
}

fn doubt(content: Option<Value>) -> Result<Option<Value>, String> {
    let schema = json!({
        "type": "object",
        "properties": { "choice": { "enum": ["retry", "skip", "result"] } },
        "required": ["choice"],
        "if": { "properties": { "choice": { "const": "result" } } },
        "then": { "required": ["result"] },
    });
    let content = content.unwrap_or_else(|| json!({}));
    expr::validate(&schema, &content)?;
    Ok(Some(content))
}
