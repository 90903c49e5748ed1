//! What people see and are asked, on a terminal.

pub mod consent;
pub mod form;
pub mod live;
pub mod time;

use std::io::{IsTerminal, stderr, stdin};

/// Whether a person can be asked here: questions are written to standard error and read from standard input.
pub fn can_ask() -> bool {
    stdin().is_terminal() && stderr().is_terminal()
}
