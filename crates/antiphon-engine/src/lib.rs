//! Runs that survive: the [`Engine`] trait, and the embedded engine over SQLite.
//!
//! An engine drives the kernel: it records each event, carries out each command, and touches the world through
//! [`Effects`] alone. It knows nothing of MCP.

mod api;
mod effects;

pub use api::{Engine, EngineError, Filter, Owner, Page, Run, RunId, StartRun, Started};
pub use effects::{CallContext, CallFailure, CallOutcome, Effects, Prepared, Progress, RunInfo};
