//! The state of a run and how events change it.

use serde::{Deserialize, Serialize};

use crate::{Command, Event, Plan, RunView};

/// Everything the kernel knows of a run. Serialises, so that a long history can be cut.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {}

/// Applies one event and says what is to be done next.
pub fn step(_plan: &Plan, _state: &mut State, _event: &Event) -> Vec<Command> {
    unimplemented!()
}

/// The run as its owner sees it.
pub fn view(_plan: &Plan, _state: &State) -> RunView {
    unimplemented!()
}
