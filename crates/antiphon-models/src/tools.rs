//! Tools that a model may call, its calls, and what came of them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A tool that a model may call. Whoever asked runs it: a model only says that it wants to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// What the model calls it.
    pub name: String,
    /// What it does, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The JSON Schema of its arguments.
    pub input_schema: Value,
}

/// Whether a model calls tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// At least one.
    Required,
    /// None: it answers.
    None,
}

/// A call that a model wants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Tells it apart from the other calls of its conversation; its result carries the same.
    pub id: String,
    /// The name of a [`ToolSpec`].
    pub name: String,
    /// What the tool is given.
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

/// What came of a [`ToolCall`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolResult {
    /// The call's id.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// What the tool said.
    pub text: String,
    /// The call failed, and the text says why.
    pub is_error: bool,
}
