//! What people see and are asked, on a terminal.

pub mod consent;
pub mod form;
pub mod live;
pub mod time;

use std::fmt::Arguments;
use std::io::{IsTerminal, Write, stderr, stdin};

use dialoguer::console::Term;
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

/// A line for people. Standard error may be full or gone: what is being done goes on all the same.
pub fn note(text: Arguments<'_>) {
    let _unheard = writeln!(stderr(), "{text}");
}

/// Likewise, while live lines may be on the screen.
#[cfg(feature = "local-model")]
pub fn above(text: Arguments<'_>) {
    live::above(|| note(text));
}

/// Whether a person can be asked here: questions are written to standard error and read from standard input.
pub fn can_ask() -> bool {
    stdin().is_terminal() && stderr().is_terminal()
}

/// How the terminal was before a prompt, which hides the cursor and reads keys one by one.
pub struct Before(Option<Termios>);

impl Before {
    /// As it is now.
    pub fn prompt() -> Self {
        Self(tcgetattr(stdin()).ok())
    }

    /// Makes it so again, for a prompt that nobody waits for any more.
    pub fn restore(&self) {
        if let Some(settings) = &self.0 {
            // A terminal that is gone needs nothing.
            let _ = tcsetattr(stdin(), SetArg::TCSADRAIN, settings);
            let _ = Term::stderr().show_cursor();
        }
    }
}
