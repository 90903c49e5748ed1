//! Errors of the engine, in the words of MCP.

use antiphon_engine::EngineError;
use rmcp::ErrorData;
use rmcp::model::CallToolResult;

use crate::outcome;

/// For `tools/call`: what the caller can mend is a result that says so, the rest a JSON-RPC error.
pub(crate) fn of_call(error: EngineError) -> Result<CallToolResult, ErrorData> {
    match error {
        EngineError::NotFound(_)
        | EngineError::InvalidInput { .. }
        | EngineError::InvalidAnswer { .. }
        | EngineError::KeyReused
        | EngineError::KernelVersion { .. } => Ok(outcome::failure(error.to_string())),
        EngineError::Storage(_) | EngineError::Stopping => Err(internal(&error)),
    }
}

/// For `tasks/*`.
pub(crate) fn of_task(error: EngineError) -> ErrorData {
    match error {
        EngineError::NotFound(_) | EngineError::InvalidAnswer { .. } => {
            ErrorData::invalid_params(error.to_string(), None)
        }
        _ => internal(&error),
    }
}

fn internal(error: &EngineError) -> ErrorData {
    ErrorData::internal_error(error.to_string(), None)
}
