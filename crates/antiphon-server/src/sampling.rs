//! A `sample` step's request, put to the caller's model as every other model is asked, and what it answers.

use antiphon_models::{Preferences, SampleRequest, Shape, mcp};
use serde_json::{Value, json};

/// The parameters of `sampling/createMessage`. `tools`: the caller's model takes tools; to another they are explained in words.
/// `note` says what was wrong with the last answer.
///
/// # Errors
/// The request is none that a model can answer.
pub(crate) fn params(request: &Value, tools: bool, note: Option<&str>) -> Result<Value, String> {
    let request = SampleRequest::parse(request).map_err(|error| error.to_string())?;
    let mut params = mcp::params(&request, &Preferences::default(), tools);
    if let Some(note) = note {
        let note = format!("Your last answer did not fit: {note}");
        let system = params.get("systemPrompt").and_then(Value::as_str).map(|system| format!("{system}\n\n{note}"));
        params["systemPrompt"] = system.unwrap_or(note).into();
    }
    Ok(params)
}

/// A server's request with tools, for a caller whose model takes none: they are explained in words.
pub(crate) fn in_words(request: &Value) -> Value {
    match mcp::request(&request["params"]) {
        Ok((asked, preferences)) => {
            json!({ "method": request["method"], "params": mcp::params(&asked, &preferences, false) })
        }
        Err(_) => request.clone(),
    }
}

/// The `CreateMessageResult` with what the step wants, read from it: `output`, the label or value, or `calls` of its tools.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn answer(request: &Value, mut result: Value) -> Result<Value, String> {
    let request = SampleRequest::parse(request).map_err(|error| error.to_string())?;
    let answer = mcp::answer(&request, &result).map_err(|error| error.to_string())?;
    let Some(fields) = result.as_object_mut() else {
        return Err("it must be a CreateMessageResult: an object with `content`".to_owned());
    };
    // What the step's shape makes of the text counts, never what the caller says of it.
    fields.remove("output");
    fields.remove("calls");
    if !answer.calls.is_empty() {
        fields.insert("content".to_owned(), mcp::result(&answer)["content"].take());
        fields.insert("calls".to_owned(), json!(answer.calls));
        fields.insert("output".to_owned(), Value::Null);
    } else if !matches!(request.shape, Shape::Text) {
        fields.insert("output".to_owned(), answer.output);
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn labels_and_their_meanings_reach_the_callers_model_and_a_label_comes_back() {
        let request = json!({
            "prompt": "It crashes",
            "system": "You sort issues.",
            "choose": { "bug": "something fails", "question": "asks how" },
            "examples": [{ "input": "How do I?", "output": "question" }],
            "max_tokens": 8,
            "temperature": 0.5,
        });
        let params = params(&request, true, Some("the answer is not one of the labels")).unwrap();
        assert_eq!((&params["maxTokens"], &params["temperature"]), (&json!(8), &json!(0.5)));
        assert_eq!(params["messages"].as_array().unwrap().len(), 3, "the example's two turns, and the prompt");
        let asked = params["messages"][2]["content"]["text"].as_str().unwrap();
        assert!(asked.starts_with("It crashes\n") && asked.contains("- bug: something fails\n"), "{asked}");
        let system = params["systemPrompt"].as_str().unwrap();
        for part in ["You sort issues.", "bug: something fails", "Your last answer did not fit: the answer is not one"]
        {
            assert!(system.contains(part), "{system}");
        }

        let said =
            |text: &str| json!({ "role": "assistant", "content": { "type": "text", "text": text }, "output": "x" });
        assert_eq!(answer(&request, said("Bug.")).unwrap()["output"], "bug");
        assert!(answer(&request, said("perhaps")).unwrap_err().contains("is not one of the labels"));
        assert!(answer(&request, json!("bug")).is_err());
        // Plain text needs no reading, and takes none of the caller's.
        assert_eq!(answer(&json!({ "prompt": "Hi" }), said("Hello")).unwrap().get("output"), None);
    }

    #[test]
    fn tools_reach_the_callers_model_and_its_calls_come_back() {
        let spec = json!({ "name": "files__read", "input_schema": { "type": "object" } });
        let call = json!({ "id": "c1", "name": "files__read", "arguments": { "path": "a" } });
        let request = json!({
            "messages": [
                { "role": "user", "content": "Read a" },
                { "role": "assistant", "content": "", "tool_calls": [call] },
                { "role": "tool", "id": "c1", "name": "files__read", "content": "It says b" },
            ],
            "tools": [spec],
        });
        let native = params(&request, true, None).unwrap();
        assert_eq!(native["tools"][0]["name"], "files__read", "{native}");
        assert_eq!(native["messages"][1]["content"]["type"], "tool_use", "{native}");
        assert_eq!(native["messages"][2]["content"]["type"], "tool_result", "{native}");
        let words = params(&request, false, None).unwrap();
        assert!(words.get("tools").is_none() && words.to_string().contains("It says b"), "{words}");
        assert!(!words["messages"].to_string().contains("tool_use"), "{words}");

        let content = json!({ "type": "tool_use", "id": "c2", "name": "files__read", "input": { "path": "b" } });
        let said = |content: Value| json!({ "role": "assistant", "model": "m", "content": content });
        let told_apart = answer(&request, said(content)).unwrap();
        assert_eq!(told_apart["calls"][0]["arguments"], json!({ "path": "b" }), "{told_apart}");
        let text = json!({ "type": "text", "text": r#"{"tool": "files__read", "arguments": {"path": "b"}}"# });
        let found = answer(&request, said(text)).unwrap();
        assert_eq!(found["calls"][0]["name"], "files__read", "{found}");
        assert_eq!(found["content"]["type"], "tool_use", "{found}");
        let text = json!({ "type": "text", "text": "b" });
        assert!(answer(&request, said(text)).unwrap().get("calls").is_none());
    }
}
