//! What the resources, prompts and plain tools say.

use rmcp::model::ErrorData;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// One red pixel.
pub const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8DwHwAFAAH/iZk9HQAAAABJRU5ErkJggg==";
/// No sound at all.
pub const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA=";

/// A resource that changes when `touch` is called.
pub const WATCHED: &str = "test://watched-resource";

/// A value of the protocol, spelled out.
pub fn read<T: DeserializeOwned>(value: Value) -> Result<T, ErrorData> {
    serde_json::from_value(value).map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

/// The result of a request, complete.
pub fn complete<T: DeserializeOwned>(mut value: Value) -> Result<T, ErrorData> {
    value["resultType"] = "complete".into();
    read(value)
}

pub fn text(text: impl Into<String>) -> Value {
    json!({ "type": "text", "text": text.into() })
}

pub fn image() -> Value {
    json!({ "type": "image", "data": PNG, "mimeType": "image/png" })
}

fn embedded(uri: &str, mime_type: &str, text: &str) -> Value {
    json!({ "type": "resource", "resource": { "uri": uri, "mimeType": mime_type, "text": text } })
}

/// The result of a tool that always says the same.
pub fn plain_tool(name: &str) -> Option<Value> {
    Some(match name {
        "test_simple_text" => json!({ "content": [text("This is a simple text response for testing.")] }),
        "test_image_content" => json!({ "content": [image()] }),
        "test_audio_content" => json!({ "content": [{ "type": "audio", "data": WAV, "mimeType": "audio/wav" }] }),
        "test_embedded_resource" => json!({
            "content": [embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")],
        }),
        "test_multiple_content_types" => json!({ "content": [
            text("Multiple content types test:"),
            image(),
            embedded("test://mixed-content-resource", "application/json", r#"{"test":"data","value":123}"#),
        ] }),
        "test_error_handling" => {
            json!({ "isError": true, "content": [text("This tool intentionally returns an error for testing")] })
        }
        "json_schema_2020_12_tool" => json!({ "content": [text("taken")] }),
        _ => return None,
    })
}

pub fn resources() -> Value {
    json!({ "resources": [
        { "uri": "test://static-text", "name": "static-text", "description": "Text", "mimeType": "text/plain" },
        { "uri": "test://static-binary", "name": "static-binary", "description": "A picture", "mimeType": "image/png" },
        {
            "uri": WATCHED, "name": "watched", "title": "Watched", "description": "Changes when touched",
            "mimeType": "text/plain", "size": 7, "annotations": { "audience": ["user"], "priority": 0.5 },
            "icons": [{ "src": "https://example.com/icon.png", "mimeType": "image/png", "sizes": ["48x48"] }],
            "_meta": { "example.com/kept": true },
        },
    ], "ttlMs": 1000, "cacheScope": "public" })
}

pub fn templates() -> Value {
    json!({ "resourceTemplates": [{
        "uriTemplate": "test://template/{id}/data", "name": "template", "description": "Data by id",
        "mimeType": "application/json",
    }], "ttlMs": 1000, "cacheScope": "public" })
}

pub fn resource(uri: &str) -> Option<Value> {
    let contents = match uri {
        "test://static-text" => {
            json!({ "uri": uri, "mimeType": "text/plain", "text": "This is the content of the static text resource." })
        }
        "test://static-binary" => json!({ "uri": uri, "mimeType": "image/png", "blob": PNG }),
        WATCHED => json!({ "uri": uri, "mimeType": "text/plain", "text": "watched" }),
        _ => {
            let id = uri.strip_prefix("test://template/")?.strip_suffix("/data")?;
            let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
            json!({ "uri": uri, "mimeType": "application/json", "text": data.to_string() })
        }
    };
    Some(json!({ "contents": [contents], "ttlMs": 1000, "cacheScope": "public" }))
}

pub fn prompts() -> Value {
    let argument = |name: &str| json!({ "name": name, "description": format!("The {name}"), "required": true });
    json!({ "prompts": [
        { "name": "test_simple_prompt", "description": "A simple prompt" },
        {
            "name": "test_prompt_with_arguments", "description": "A prompt with arguments",
            "arguments": [argument("arg1"), argument("arg2")],
        },
        {
            "name": "test_prompt_with_embedded_resource", "description": "A prompt with a resource in it",
            "arguments": [argument("resourceUri")],
        },
        { "name": "test_prompt_with_image", "description": "A prompt with a picture in it" },
        { "name": "test_input_required_result_prompt", "description": "A prompt that asks for its context" },
    ], "ttlMs": 1000, "cacheScope": "public" })
}

/// A prompt that needs no input from its caller.
pub fn prompt(name: &str, argument: impl Fn(&str) -> String) -> Option<Value> {
    let says = |content: Value| json!({ "role": "user", "content": content });
    let messages = match name {
        "test_simple_prompt" => vec![text("This is a simple prompt for testing.")],
        "test_prompt_with_arguments" => {
            let (arg1, arg2) = (argument("arg1"), argument("arg2"));
            vec![text(format!("Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"))]
        }
        "test_prompt_with_embedded_resource" => vec![
            embedded(&argument("resourceUri"), "text/plain", "Embedded resource content for testing."),
            text("Please process the embedded resource above."),
        ],
        "test_prompt_with_image" => vec![image(), text("Please analyze the image above.")],
        _ => return None,
    };
    Some(json!({ "messages": messages.into_iter().map(says).collect::<Vec<_>>() }))
}
