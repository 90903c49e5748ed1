//! The graph logic of a run, as a pure function: `step(&Plan, &mut State, &Event) -> Vec<Command>`.
//!
//! No clock, no I/O, no randomness: the same events give the same state and the same commands. Whoever drives it (an
//! engine) records each event before acting on what follows from it.

mod command;
mod event;
pub mod expr;
mod plan;
mod run;
mod value;
mod view;

pub use command::{Allowance, Asking, CallSpec, Command, Entry, Job, Question, Scope, Slot, StepFacts, Want, What};
pub use event::{Action, Answer, Evaluated, Event, EventKind, Hop, OpId, Price, SamplingTerms, Terms, Usage};
pub use plan::*;
pub use run::{State, step, view};
pub use value::{Record, ValueRef};
pub use view::{Outcome, RunStatus, RunView, StepError, StepPhase, StepStatus, StepView, Used};
