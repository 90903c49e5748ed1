//! What goes wrong with servers.

use std::sync::Arc;

use rmcp::model::ErrorData;

/// A request to a server failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("server `{server}` {message}")]
pub struct ClientError {
    /// Which server.
    pub server: Arc<str>,
    /// How it failed.
    pub kind: ErrorKind,
    /// What happened, as a predicate of the server ("did not answer within 60s"). Free of secrets.
    pub message: String,
    /// The request may have reached the server, and what came of it is unknown.
    pub in_doubt: bool,
    /// Of [`ErrorKind::Rpc`]: the server's error, where it is one.
    pub answer: Option<Arc<ErrorData>>,
}

/// How a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The server answered with a JSON-RPC error.
    Rpc,
    /// It can't be reached, or the connection was lost.
    Unavailable,
    /// It was silent for too long.
    Timeout,
    /// Its answer can't be read, or is not what the protocol asks for.
    InvalidOutput,
    /// It refuses our credentials, or asks for what it is not granted.
    Denied,
    /// The caller did not want it any more.
    Cancelled,
}

impl ClientError {
    /// A failure with a known outcome: nothing happened, or the server said what did.
    pub(crate) fn new(server: &str, kind: ErrorKind, message: impl Into<String>) -> Self {
        /// What servers say is quoted, but they may say a lot.
        const MAX_CHARS: usize = 2_000;
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(MAX_CHARS) {
            message.truncate(end);
            message.push('…');
        }
        Self { server: server.into(), kind, message, in_doubt: false, answer: None }
    }

    /// The code of the server's error, where it is one.
    pub fn code(&self) -> Option<i32> {
        self.answer.as_ref().map(|error| error.code.0)
    }

    /// The same, with the outcome unknown if `sent`.
    pub(crate) fn in_doubt_if(mut self, sent: bool) -> Self {
        self.in_doubt = sent;
        self
    }
}
