//! What a server has answered, in the shape that a caller's era wants.

use antiphon_client::ClientError;
use rmcp::ErrorData;
use rmcp::model::{
    CallToolResult, CompleteResult, CreateTaskResult, GetPromptResult, InputRequiredResult, ReadResourceResult,
    ResourceContents, ResultType, ServerResult,
};
use serde::de::DeserializeOwned;

/// How a request that may take rounds was answered.
#[derive(Debug)]
pub(super) enum Said<T> {
    Complete(T),
    Asks(InputRequiredResult),
    Task(CreateTaskResult),
}

/// A complete result of some request.
pub(super) trait Complete: DeserializeOwned {
    /// What rmcp has read, if it has read this.
    fn of(result: ServerResult) -> Result<Self, Box<ServerResult>>;
    /// A legacy server says no type, and a modern caller wants one. rmcp strips it for legacy callers.
    fn typed(&mut self);
}

macro_rules! complete {
    ($($variant:ident)*) => { $(
        impl Complete for $variant {
            fn of(result: ServerResult) -> Result<Self, Box<ServerResult>> {
                match result {
                    ServerResult::$variant(result) => Ok(result),
                    other => Err(Box::new(other)),
                }
            }

            fn typed(&mut self) {
                self.result_type.get_or_insert(ResultType::COMPLETE);
            }
        }
    )* };
}

complete! { CallToolResult GetPromptResult ReadResourceResult CompleteResult }

/// Tells the kinds of result apart. What rmcp has read is taken as it is; what came as JSON is read once.
pub(super) fn said<T: Complete>(result: ServerResult) -> Result<Said<T>, serde_json::Error> {
    let other = match result {
        ServerResult::InputRequiredResult(asks) => return Ok(Said::Asks(asks)),
        ServerResult::CreateTaskResult(task) => return Ok(Said::Task(task)),
        ServerResult::CustomResult(value) => value.0,
        result => match T::of(result) {
            Ok(mut result) => {
                result.typed();
                return Ok(Said::Complete(result));
            }
            Err(other) => serde_json::to_value(other)?,
        },
    };
    match other.get("resultType").and_then(serde_json::Value::as_str).unwrap_or("complete") {
        "input_required" => serde_json::from_value(other).map(Said::Asks),
        "task" => serde_json::from_value(other).map(Said::Task),
        _ => {
            let mut result: T = serde_json::from_value(other)?;
            result.typed();
            Ok(Said::Complete(result))
        }
    }
}

/// A result that takes no rounds.
pub(super) fn read<T: DeserializeOwned>(result: ServerResult) -> Result<T, serde_json::Error> {
    let value = match result {
        ServerResult::CustomResult(value) => value.0,
        result => serde_json::to_value(result)?,
    };
    serde_json::from_value(value)
}

/// What was read under a marked URI has marked URIs.
pub(super) fn mark(read: &mut ReadResourceResult, mark: &str) {
    for part in &mut read.contents {
        if let ResourceContents::TextResourceContents { uri, .. } | ResourceContents::BlobResourceContents { uri, .. } =
            part
        {
            uri.insert_str(0, mark);
        }
    }
}

/// The server's own error as it is; ours names the server.
pub(super) fn refusal(error: ClientError) -> ErrorData {
    match error.answer {
        Some(answer) => (*answer).clone(),
        None => ErrorData::internal_error(error.to_string(), None),
    }
}
