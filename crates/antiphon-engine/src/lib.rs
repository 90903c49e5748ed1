//! Runs that survive: the [`Engine`] trait, and the embedded engine over SQLite.
//!
//! An engine drives the kernel: it records each event, carries out each command, and touches the world through
//! [`Effects`] alone. It knows nothing of MCP.

mod actor;
mod alarm;
mod answers;
mod api;
mod blobs;
mod calls;
mod clock;
mod core;
mod dispatch;
mod effects;
mod engine;
mod journal;
mod keeper;
mod plans;
mod registry;
mod route;
mod tape;
mod timers;
mod turn;

pub use api::{Engine, EngineError, Filter, Owner, Page, Run, RunId, StartRun, Started, Until};
pub use clock::Clock;
pub use effects::{CallContext, CallFailure, CallOutcome, Effects, Prepared, Progress, RunInfo};
pub use engine::{EngineOptions, SqliteEngine};
pub use route::{LIMIT, ROUTE, RouteKey};
