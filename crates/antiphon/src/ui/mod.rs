//! What people see and are asked, on a terminal.

pub mod consent;
pub mod form;
pub mod live;
pub mod time;

use std::fmt::Arguments;
use std::io::{IsTerminal, Write, stderr, stdin};

/// A line for people. Standard error may be full or gone: what is being done goes on all the same.
pub fn note(text: Arguments<'_>) {
    let _unheard = writeln!(stderr(), "{text}");
}

/// Whether a person can be asked here: questions are written to standard error and read from standard input.
pub fn can_ask() -> bool {
    stdin().is_terminal() && stderr().is_terminal()
}
