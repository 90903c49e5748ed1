//! The workflow language: TOML texts become a checked step graph and route graph, lowered into the kernel's `Plan`.
//!
//! Pure: no I/O, no clock. The caller supplies the texts, and a function that reads what they mention.

mod agent;
mod assemble;
mod auth;
mod back;
mod code;
mod diagnostic;
mod duration;
pub mod env;
mod file;
mod graph;
mod keys;
mod lint;
mod load;
mod lower;
mod oauth;
mod parsed;
mod project;
mod read;
mod render;
mod resolve;
mod routes;
mod schema;
mod secrets;
mod serve;
mod shape;
mod step;
mod tables;
mod template;
mod verbs;

pub use auth::{AuthDef, trustworthy};
pub use code::{CODES, Code};
pub use diagnostic::Diagnostic;
pub use graph::{EdgeKind, StepGraph, StepNode};
pub use project::*;
pub use render::{dot, mermaid, routes_dot, routes_mermaid};
pub use routes::{Party, Route, RouteGraph};
pub use schema::{config_schema, json_schema};
pub use secrets::sounds_secret;
