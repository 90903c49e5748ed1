//! Supervised connections to MCP servers.
//!
//! A [`Client`] starts its server when it is first needed, over stdio or streamable HTTP, and again when it has died. It
//! speaks both eras of the protocol (2026-07-28, and before that `initialize` with 2025-11-25 and older), and makes calls
//! whose failures say exactly whether the server may have acted on them. A result that asks for input ([`Outcome::NeedsInput`])
//! or that is a task ([`Outcome::Detached`]) is handed back rather than driven on: whoever keeps the run decides, and
//! can do so after a restart.
//!
//! The protocol itself is rmcp's. Ours is what lies below it (a reader that fails the call whose answer can't be read, in
//! place of one that drops it in silence) and above it (supervision, time limits, certainty about outcomes).

mod auth;
mod back;
mod call;
mod calls;
mod catalogue;
mod change;
mod client;
mod config;
mod connection;
mod error;
mod exchange;
mod forward;
mod handler;
mod heard;
mod http;
mod inbox;
mod offer;
mod stdio;
mod supervisor;
mod task;
mod wire;

pub use auth::{Auth, Login, OAuth};
pub use back::{Guest, Passes, WayBack};
pub use call::{Answering, Call, CallContext, Input, OnBehalf, Outcome, Progress, Refused, TaskHandle, What};
pub use catalogue::{Catalogue, Tool};
pub use change::Change;
pub use client::Client;
pub use config::{Consent, Limits, ServerConfig, Session, Transport};
pub use connection::Era;
pub use error::{ClientError, ErrorKind};
pub use forward::{About, Listed, Listing, Watch};
pub use supervisor::State;
