//! A `sample` step's request, put to the caller's model as every other model is asked, and what it answers.

use antiphon_models::{Role, SampleRequest, Shape, prompt};
use serde_json::{Value, json};

/// The parameters of `sampling/createMessage`. `note` says what was wrong with the last answer.
///
/// # Errors
/// The request is none that a model can answer.
pub(crate) fn params(request: &Value, note: Option<&str>) -> Result<Value, String> {
    let request = SampleRequest::parse(request).map_err(|error| error.to_string())?;
    let mut system = Vec::new();
    let mut messages = Vec::new();
    for message in prompt::messages(&request) {
        let role = match message.role {
            Role::System => {
                system.push(message.text);
                continue;
            }
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        messages.push(json!({ "role": role, "content": { "type": "text", "text": message.text } }));
    }
    system.extend(note.map(|note| format!("Your last answer did not fit: {note}")));
    let mut params = json!({ "messages": messages, "maxTokens": request.max_tokens });
    if !system.is_empty() {
        params["systemPrompt"] = json!(system.join("\n\n"));
    }
    if let Some(temperature) = request.temperature {
        params["temperature"] = json!(temperature);
    }
    Ok(params)
}

/// The `CreateMessageResult` with `output`: the label or value that the step wants, read from its text.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn answer(request: &Value, mut result: Value) -> Result<Value, String> {
    let request = SampleRequest::parse(request).map_err(|error| error.to_string())?;
    let said = text(&result);
    let Some(result_fields) = result.as_object_mut() else {
        return Err("it must be a CreateMessageResult: an object with `content`".to_owned());
    };
    // What the step's shape makes of the text counts, never what the caller says of it.
    result_fields.remove("output");
    if !matches!(request.shape, Shape::Text) {
        let output = request.shape.read(&said).map_err(|why| format!("the answer {why}"))?;
        result_fields.insert("output".to_owned(), output);
    }
    Ok(result)
}

fn text(result: &Value) -> String {
    let blocks = match result.get("content") {
        Some(Value::Array(blocks)) => blocks.as_slice(),
        Some(block) => std::slice::from_ref(block),
        None => &[],
    };
    let texts: Vec<&str> = blocks.iter().filter_map(|block| block.get("text")?.as_str()).collect();
    texts.join("\n")
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
        let params = params(&request, Some("the answer is not one of the labels")).unwrap();
        assert_eq!((&params["maxTokens"], &params["temperature"]), (&json!(8), &json!(0.5)));
        assert_eq!(params["messages"].as_array().unwrap().len(), 3, "the example's two turns, and the prompt");
        assert_eq!(params["messages"][2]["content"], json!({ "type": "text", "text": "It crashes" }));
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
}
