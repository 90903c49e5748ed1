//! The tools: what they are called and what they say about themselves.

use serde_json::{Value, json};

/// `tools/list`, as it is sent.
pub fn list() -> Value {
    let nothing = || json!({ "type": "object", "properties": {} });
    let one = |name: &str, kind: &str| json!({ "type": "object", "properties": { name: { "type": kind, "description": name } }, "required": [name] });
    let mut tools = Vec::new();
    for (name, schema) in [
        ("test_simple_text", nothing()),
        ("test_image_content", nothing()),
        ("test_audio_content", nothing()),
        ("test_embedded_resource", nothing()),
        ("test_multiple_content_types", nothing()),
        ("test_tool_with_logging", nothing()),
        ("test_error_handling", nothing()),
        ("test_tool_with_progress", nothing()),
        ("test_sampling", one("prompt", "string")),
        ("test_elicitation", one("message", "string")),
        ("test_elicitation_sep1034_defaults", nothing()),
        ("test_elicitation_sep1330_enums", nothing()),
        ("test_list_roots", nothing()),
        ("test_reconnection", nothing()),
        ("test_trigger_tool_change", nothing()),
        ("test_trigger_prompt_change", nothing()),
        ("test_missing_capability", nothing()),
        ("test_streaming_elicitation", nothing()),
        ("test_logging_tool", nothing()),
        ("test_input_required_result_elicitation", nothing()),
        ("test_input_required_result_sampling", nothing()),
        ("test_input_required_result_list_roots", nothing()),
        ("test_input_required_result_request_state", nothing()),
        ("test_input_required_result_multiple_inputs", nothing()),
        ("test_input_required_result_multi_round", nothing()),
        ("test_input_required_result_tampered_state", nothing()),
        ("test_input_required_result_capabilities", nothing()),
        ("greet", one("name", "string")),
        ("slow_compute", one("seconds", "integer")),
        ("failing_job", nothing()),
        ("protocol_error_job", nothing()),
        ("confirm_delete", one("filename", "string")),
        ("multi_input", nothing()),
        ("test_tool_with_task", nothing()),
        ("touch", one("uri", "string")),
        ("wait_to_be_cancelled", nothing()),
        ("rpc_error", nothing()),
        ("big", one("bytes", "integer")),
    ] {
        tools.push(json!({ "name": name, "description": format!("The tool {name}"), "inputSchema": schema }));
    }
    tools.push(json!({
        "name": "json_schema_2020_12_tool", "description": "Tool with JSON Schema 2020-12 features",
        "inputSchema": full_schema(),
    }));
    tools.push(json!({
        "name": "test_custom_header", "description": "Its region travels as a header, too",
        "inputSchema": {
            "type": "object",
            "properties": {
                "region": { "type": "string", "x-mcp-header": "Region" },
                "query": { "type": "string" },
            },
        },
    }));
    tools.push(json!({
        "name": "echo", "title": "Echo", "description": "Gives back its arguments and what came with them",
        "inputSchema": { "type": "object" },
        "outputSchema": {
            "type": "object", "properties": { "arguments": { "type": "object" }, "meta": { "type": "object" } },
            "required": ["arguments"],
        },
        "annotations": { "title": "Echo", "readOnlyHint": true, "idempotentHint": true, "openWorldHint": false },
        "icons": [{ "src": "https://example.com/echo.png", "mimeType": "image/png", "sizes": ["48x48"] }],
        "_meta": { "example.com/kept": { "deep": [1, 2] } },
    }));
    json!({ "tools": tools, "ttlMs": 1000, "cacheScope": "public" })
}

/// All that JSON Schema 2020-12 allows and that intermediaries like to drop.
fn full_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
            },
        },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": { "type": "string" },
            "email": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": { "properties": { "contactMethod": { "const": "phone" } }, "required": ["contactMethod"] },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false,
    })
}
