//! Values: JSON that is small travels inside events and state, JSON that is large travels by hash.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A JSON value, or the name of one that the engine stores.
///
/// The kernel never looks inside a blob. Whoever drives the kernel decides from which size a value becomes one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueRef {
    /// The value itself.
    Inline(Arc<Value>),
    /// A value kept outside, named by its content.
    Blob {
        /// Lower-case hexadecimal SHA-256 of the value's compact JSON.
        sha256: Arc<str>,
        /// Length of that JSON, in bytes.
        bytes: u64,
    },
}

impl ValueRef {
    /// A value that travels inline.
    pub fn inline(value: impl Into<Value>) -> Self {
        Self::Inline(Arc::new(value.into()))
    }

    /// The value, when it is inline.
    pub fn as_inline(&self) -> Option<&Value> {
        match self {
            Self::Inline(value) => Some(value),
            Self::Blob { .. } => None,
        }
    }
}

/// What a step that succeeded left behind: the JSON object behind `steps.ID.…`.
///
/// It is stored as one value, so that a result is written once and fetched once. `status`, `error` and `action` are not
/// in it: the kernel knows them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The value to build on (`.output`).
    pub output: Value,
    /// The text of a call or sample (`.text`), when it is not simply `output`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// MCP content blocks (`.blocks`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<Value>,
    /// The tools that a sample's model wants called: objects of `id`, `name`, `arguments`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Value>,
    /// The model that answered a sample (`.model`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Who could have answered a sample, and why it was who did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<Value>,
    /// Tokens that a sample used (`.usage`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Value>,
    /// Tolerated failures of a `for_each` (`.errors`): objects of `index`, `item`, `kind`, `message`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Value>,
}

impl Record {
    /// A record with an output and nothing else.
    pub fn of(output: impl Into<Value>) -> Self {
        Self { output: output.into(), ..Self::default() }
    }
}
