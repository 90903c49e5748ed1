//! What results leave in a run's record.

use antiphon_kernel::Record;
use serde_json::{Value, json};

/// What of a tool's own account of its failure is kept, in characters.
const MAX_ERROR_CHARS: usize = 4_000;

/// The record of a `CallToolResult`: `output` is its structured content, else its text as it stands.
///
/// # Errors
/// The text of a result with `isError`.
pub(crate) fn of_tool(mut result: Value) -> Result<Record, String> {
    let blocks = match result.get_mut("content").map(Value::take) {
        Some(Value::Array(blocks)) => blocks,
        _ => Vec::new(),
    };
    let structured = result.get_mut("structuredContent").map(Value::take);
    let text = text_of(&blocks);
    if result.get("isError") == Some(&Value::Bool(true)) {
        let account = if text.is_empty() { structured.map(|value| value.to_string()) } else { Some(text) };
        return Err(account.map_or_else(|| "the tool failed without saying why".to_owned(), |text| cut(&text)));
    }
    Ok(match structured {
        Some(output) => Record { output, text: Some(text), blocks, ..Record::default() },
        None => Record { output: Value::String(text), blocks, ..Record::default() },
    })
}

/// The `CallToolResult` of a record: what a server is told that has called it.
pub(crate) fn to_tool(mut record: Value) -> Value {
    let mut take = |key: &str| record.get_mut(key).map(Value::take).unwrap_or_default();
    let (output, blocks) = (take("output"), take("blocks"));
    let content = match (blocks, &output) {
        (Value::Array(blocks), _) if !blocks.is_empty() => Value::Array(blocks),
        (_, Value::String(text)) => json!([{ "type": "text", "text": text }]),
        (_, output) => json!([{ "type": "text", "text": output.to_string() }]),
    };
    match output.is_object() {
        true => json!({ "content": content, "structuredContent": output }),
        false => json!({ "content": content }),
    }
}

/// The record of a `ReadResourceResult`: `output` is its text, or the list of its contents if some of them are not text.
pub(crate) fn of_resource(mut result: Value) -> Record {
    let contents = match result.get_mut("contents").map(Value::take) {
        Some(Value::Array(contents)) => contents,
        _ => Vec::new(),
    };
    let texts: Option<Vec<&str>> = contents.iter().map(|content| content.get("text")?.as_str()).collect();
    let text = texts.map(|texts| texts.join("\n"));
    let blocks = contents.iter().map(|content| json!({ "type": "resource", "resource": content })).collect();
    let output = text.map_or(Value::Array(contents), Value::String);
    Record { output, blocks, ..Record::default() }
}

/// The text blocks, one below the other.
fn text_of(blocks: &[Value]) -> String {
    let texts = blocks.iter().filter(|block| block.get("type").is_some_and(|kind| kind == "text"));
    texts.filter_map(|block| block.get("text")?.as_str()).collect::<Vec<_>>().join("\n")
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_ERROR_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn text_is_the_output_and_stays_text() {
        let blocks = json!([
            { "type": "text", "text": "{\"a\": 1}" },
            { "type": "image", "data": "", "mimeType": "image/png" },
            { "type": "text", "text": "second" },
        ]);
        let record = of_tool(json!({ "content": blocks })).unwrap();
        assert_eq!(record.output, json!("{\"a\": 1}\nsecond"));
        assert_eq!(record.text, None);
        assert_eq!(Value::Array(record.blocks), blocks);
    }

    #[test]
    fn structured_content_is_the_output_even_if_null() {
        let content = json!([{ "type": "text", "text": "for people" }]);
        let record = of_tool(json!({ "content": content, "structuredContent": { "n": 1 } })).unwrap();
        assert_eq!(record.output, json!({ "n": 1 }));
        assert_eq!(record.text.as_deref(), Some("for people"));
        assert_eq!(of_tool(json!({ "content": [], "structuredContent": null })).unwrap().output, Value::Null);
    }

    #[test]
    fn a_record_becomes_the_result_that_it_was() {
        for result in [
            json!({ "content": [{ "type": "text", "text": "two" }] }),
            json!({ "content": [{ "type": "text", "text": "{\"n\":1}" }], "structuredContent": { "n": 1 } }),
        ] {
            assert_eq!(to_tool(serde_json::to_value(of_tool(result.clone()).unwrap()).unwrap()), result);
        }
        let listed = to_tool(json!({ "output": [1, 2] }));
        assert_eq!(listed, json!({ "content": [{ "type": "text", "text": "[1,2]" }] }));
    }

    #[test]
    fn a_tool_that_fails_says_why() {
        let text = json!([{ "type": "text", "text": "no such build" }]);
        assert_eq!(of_tool(json!({ "content": text, "isError": true })).unwrap_err(), "no such build");
        let structured = json!({ "content": [], "structuredContent": { "code": 7 }, "isError": true });
        assert_eq!(of_tool(structured).unwrap_err(), r#"{"code":7}"#);
        let silent = json!({ "content": [], "isError": true });
        assert_eq!(of_tool(silent).unwrap_err(), "the tool failed without saying why");
        let long = json!([{ "type": "text", "text": "é".repeat(5_000) }]);
        let message = of_tool(json!({ "content": long, "isError": true })).unwrap_err();
        assert_eq!(message.chars().count(), 4_001);
    }

    #[test]
    fn resources() {
        let texts = json!({ "contents": [{ "uri": "a:1", "text": "one" }, { "uri": "a:2", "text": "two" }] });
        assert_eq!(of_resource(texts).output, json!("one\ntwo"));
        let mixed = json!([{ "uri": "a:1", "text": "one" }, { "uri": "a:2", "blob": "AA==" }]);
        let record = of_resource(json!({ "contents": mixed }));
        assert_eq!(record.output, mixed);
        assert_eq!(record.blocks[1], json!({ "type": "resource", "resource": { "uri": "a:2", "blob": "AA==" } }));
    }
}
