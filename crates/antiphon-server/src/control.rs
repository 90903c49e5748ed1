//! What the command line asks of the owner process, beside MCP.

use async_trait::async_trait;
use rmcp::ErrorData;
use rmcp::model::ErrorCode;
use serde_json::Value;

/// Methods that start with this go to [`Control`].
pub(crate) const PREFIX: &str = "antiphon/";

/// Answers the custom requests (`antiphon/…`) of the owner's own connections. Elsewhere there are no such methods.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// Answers one request. `method` is the whole name, with `antiphon/`; `params` is null when there are none.
    ///
    /// # Errors
    /// Sent to the peer as a JSON-RPC error.
    async fn request(&self, method: &str, params: Value) -> Result<Value, ControlError>;
}

/// A JSON-RPC error.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    /// The code: one of JSON-RPC's, or one outside -32768..=-32000.
    pub code: i32,
    /// For people.
    pub message: String,
    /// For programs.
    pub data: Option<Value>,
}

impl ControlError {
    /// There is no such method (-32601).
    pub fn unknown_method(method: &str) -> Self {
        Self { code: ErrorCode::METHOD_NOT_FOUND.0, message: format!("no method `{method}`"), data: None }
    }

    /// The parameters do not fit the method (-32602).
    pub fn invalid_params(message: impl Into<String>) -> Self {
        Self { code: ErrorCode::INVALID_PARAMS.0, message: message.into(), data: None }
    }

    /// It went wrong on this side (-32603).
    pub fn internal(message: impl Into<String>) -> Self {
        Self { code: ErrorCode::INTERNAL_ERROR.0, message: message.into(), data: None }
    }
}

impl From<ControlError> for ErrorData {
    fn from(error: ControlError) -> Self {
        ErrorData::new(ErrorCode(error.code), error.message, error.data)
    }
}
