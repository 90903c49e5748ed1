//! Why a command ended without doing what was asked.

use std::fmt;

use antiphon_engine::EngineError;
use miette::{Report, miette};

use crate::exit::Exit;

/// An error for the person at the terminal, and the exit code that it means.
#[derive(Debug)]
pub struct Fault {
    /// The exit code.
    pub exit: Exit,
    /// What was wrong, where, and what to do; at least one.
    pub reports: Vec<Report>,
}

impl Fault {
    /// The command line, a file or the input is wrong.
    pub fn usage(what: impl fmt::Display, help: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, miette!(help = help.to_string(), "{what}"))
    }

    /// The machine let us down.
    pub fn internal(what: impl fmt::Display) -> Self {
        Self::new(Exit::Internal, miette!("{what}"))
    }

    /// Likewise, with advice.
    pub fn internal_with(what: impl fmt::Display, help: impl fmt::Display) -> Self {
        Self::new(Exit::Internal, miette!(help = help.to_string(), "{what}"))
    }

    /// Diagnostics with places in files.
    pub fn check(reports: Vec<Report>) -> Self {
        Self { exit: Exit::Usage, reports }
    }

    /// One error.
    pub fn new(exit: Exit, report: Report) -> Self {
        Self { exit, reports: vec![report] }
    }

    /// What was wrong, in one line for a log or a peer.
    pub fn message(&self) -> String {
        self.reports.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    /// What to do about it, when there is one error with advice.
    pub fn help(&self) -> Option<String> {
        self.reports.first().and_then(|report| report.help()).map(|help| help.to_string())
    }
}

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Storage(_) | EngineError::Stopping => Self::internal(error),
            EngineError::NotFound(_) => Self::usage(error, "`antiphon runs` lists this project's runs"),
            EngineError::KernelVersion { .. } => {
                Self::internal_with(error, "finish it with the antiphon that started it, or cancel it there")
            }
            EngineError::InvalidInput { .. } => {
                Self::usage(error, "write --input key=value; the workflow's [input] says what it takes")
            }
            EngineError::InvalidAnswer { .. } | EngineError::KeyReused => Self::new(Exit::Usage, miette!("{error}")),
        }
    }
}
