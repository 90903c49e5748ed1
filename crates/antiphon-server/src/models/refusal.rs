//! Errors as OpenAI's clients know them.

use antiphon_models::{ModelError, ModelErrorKind};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

/// Common clients send a request again when it fails, unless they are told not to.
const SHOULD_RETRY: &str = "x-should-retry";

/// Why a sample is not answered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelRefusal {
    /// Whoever asks may not: no consent, or a used-up budget.
    #[error("{0}")]
    Denied(String),
    /// No model could.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl ModelRefusal {
    fn parts(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Denied(_) => (StatusCode::FORBIDDEN, "permission_error", "denied"),
            Self::Model(error) => match error.kind {
                ModelErrorKind::InvalidRequest => (StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_request"),
                ModelErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "server_error", "unavailable"),
                ModelErrorKind::Timeout => (StatusCode::GATEWAY_TIMEOUT, "server_error", "timeout"),
                // Not of 5xx: some clients would ask again, and pay again.
                ModelErrorKind::Model => (StatusCode::UNPROCESSABLE_ENTITY, "model_error", "model"),
                ModelErrorKind::InvalidOutput => (StatusCode::UNPROCESSABLE_ENTITY, "model_error", "invalid_output"),
                ModelErrorKind::Cancelled => (StatusCode::SERVICE_UNAVAILABLE, "server_error", "cancelled"),
            },
        }
    }

    /// As the last event of a stream that began well.
    pub(super) fn event(&self) -> String {
        let (_, kind, code) = self.parts();
        format!("data: {}\n\n", object(kind, code, &self.to_string()))
    }
}

impl IntoResponse for ModelRefusal {
    fn into_response(self) -> Response {
        let (status, kind, code) = self.parts();
        shown(status, kind, code, &self.to_string())
    }
}

/// None of these passes by itself: what may has been tried again already.
pub(super) fn shown(status: StatusCode, kind: &str, code: &str, message: &str) -> Response {
    let headers = [(CONTENT_TYPE.as_str(), "application/json"), (SHOULD_RETRY, "false")];
    (status, headers, object(kind, code, message).to_string()).into_response()
}

fn object(kind: &str, code: &str, message: &str) -> Value {
    json!({ "error": { "message": message, "type": kind, "param": null, "code": code } })
}
