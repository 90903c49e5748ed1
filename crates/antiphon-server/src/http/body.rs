//! Bodies of requests: not too long, and what they tell of missing headers.

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use rmcp::model::{ClientJsonRpcMessage, ErrorCode};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::MAX_MESSAGE_BYTES;
use crate::lines::{refusal, too_long, unreadable};

/// A body that is too long is read so far, since many clients read no answer before they have sent everything.
const MAX_READ_BYTES: usize = 64 * 1024 * 1024;

const MCP_METHOD: &str = "mcp-method";
const MCP_NAME: &str = "mcp-name";

/// The request with its body read, and the body; else what to answer.
pub(super) async fn read(request: Request, strict: bool) -> Result<(Request, Bytes), Response> {
    let (mut parts, body) = request.into_parts();
    let body = collect(body).await?;
    if !strict && let Some(name) = missing_name(&parts.headers, &body) {
        parts.headers.insert(MCP_NAME, name);
    }
    Ok((Request::from_parts(parts, Body::from(body.clone())), body))
}

/// Says it as JSON-RPC does when rmcp could not read the body: rmcp calls that an unsupported media type, and names no id.
pub(super) fn explain(response: Response, body: &[u8]) -> Response {
    if response.status() != StatusCode::UNSUPPORTED_MEDIA_TYPE {
        return response;
    }
    match serde_json::from_slice::<ClientJsonRpcMessage>(body) {
        Ok(_) => response,
        Err(_) => {
            let nothing_known = || refusal(None, ErrorCode::INVALID_REQUEST, "this is not a JSON-RPC message");
            refused(StatusCode::BAD_REQUEST, &unreadable(body).unwrap_or_else(nothing_known))
        }
    }
}

/// A request that names something; of its arguments, which may be long, nothing is read but where they end.
#[derive(Deserialize)]
struct Named<'a> {
    method: String,
    #[serde(borrow)]
    params: NamedParams<'a>,
}

#[derive(Deserialize)]
struct NamedParams<'a> {
    name: String,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Started {
    workflow: String,
}

/// The tool or prompt that a message is about, by the name that callers use; of `run_start`, the workflow.
pub(super) fn called(body: &[u8]) -> Option<String> {
    let Named { method, params: NamedParams { name, arguments } } = serde_json::from_slice(body).ok()?;
    match (method.as_str(), name.as_str()) {
        ("tools/call", "run_start") => Some(serde_json::from_str::<Started>(arguments?.get()).ok()?.workflow),
        ("tools/call" | "prompts/get", _) => Some(name),
        _ => None,
    }
}

fn refused(status: StatusCode, message: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], message.to_string()).into_response()
}

async fn collect(mut body: Body) -> Result<Bytes, Response> {
    let mut kept = Vec::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| (StatusCode::BAD_REQUEST, format!("the body broke off: {error}")).into_response())?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length <= MAX_MESSAGE_BYTES {
            kept.extend_from_slice(&data);
        } else if length > MAX_READ_BYTES {
            break;
        } else {
            kept = Vec::new();
        }
    }
    if length > MAX_MESSAGE_BYTES {
        let message = refusal(None, ErrorCode::INVALID_REQUEST, &too_long(length));
        let mut response = refused(StatusCode::PAYLOAD_TOO_LARGE, &message);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return Err(response);
    }
    Ok(kept.into())
}

/// `Mcp-Name` of a `tasks/…` request that came without it.
fn missing_name(headers: &HeaderMap, body: &[u8]) -> Option<HeaderValue> {
    let method = headers.get(MCP_METHOD)?.to_str().ok()?;
    if !method.starts_with("tasks/") || headers.contains_key(MCP_NAME) {
        return None;
    }
    let body: Value = serde_json::from_slice(body).ok()?;
    body.pointer("/params/taskId")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_what_it_calls() {
        let of = |body: &str| called(body.as_bytes());
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"workflow":7}}}"#;
        assert_eq!(of(call).as_deref(), Some("a"));
        assert_eq!(of(&call.replace("\"a\"", "\"run_start\"")), None, "that is for whoever reads its arguments");
        assert_eq!(of(&call.replace("\"a\"", "\"run_start\"").replace('7', "\"b\"")).as_deref(), Some("b"));
        assert_eq!(of(r#"{"method":"prompts/get","params":{"name":"p"}}"#).as_deref(), Some("p"));
        assert_eq!(of(r#"{"method":"tasks/get","params":{"name":"p"}}"#), None);
        assert_eq!(of(r#"{"method":"tools/list"}"#), None);
        assert_eq!(of("nothing"), None);
    }
}
