//! Models: what answers a `sample`.
//!
//! [`Model`] is the seam; [`OpenAiModel`] speaks to any OpenAI-compatible server; [`Models`] finds a model by the name that
//! a plan gives it. A [`SampleRequest`] says what is wanted in the workflow language's own words (`choose`, `schema`,
//! `examples`, `tools`), [`prompt`] turns it into messages, so every model is asked in the same way, and
//! [`SampleRequest::read`] finds the answer in what the model says. [`mcp`] is how the protocol spells both.

mod json;
pub mod mcp;
mod model;
mod openai;
mod parse;
mod preferences;
pub mod prompt;
mod registry;
mod reply;
mod request;
mod shape;
mod tools;

pub use model::{
    Model, ModelError, ModelErrorKind, Price, Progress, SampleAnswer, SampleContext, StopReason, Traits, Usage,
};
pub use openai::{ModelConfig, OpenAiModel};
pub use preferences::{Hint, Preferences};
pub use registry::Models;
pub use reply::Reply;
pub use request::{DEFAULT_MAX_TOKENS, Example, Message, Role, SampleRequest};
pub use shape::Shape;
pub use tools::{ToolCall, ToolChoice, ToolResult, ToolSpec};
