//! Exit codes: what a script may rely on.

use std::process::ExitCode;

/// How the command ended, as the shell sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything went well.
    Ok = 0,
    /// The run failed.
    Failed = 1,
    /// The command line, a file or the input is wrong; nothing was started.
    Usage = 2,
    /// The run waits for an answer that nobody here can give.
    NeedsInput = 3,
    /// The run waits because a call may have happened.
    InDoubt = 4,
    /// The run was cancelled.
    Cancelled = 5,
    /// The run is paused.
    Paused = 6,
    /// The database, the owner's socket or the machine let us down.
    Internal = 70,
}

impl Exit {
    /// Every code with its meaning: `--help` prints it, the documentation repeats it.
    pub const TABLE: [(Self, &'static str); 8] = [
        (Self::Ok, "done"),
        (Self::Failed, "the run failed"),
        (Self::Usage, "the command line, a file or the input is wrong"),
        (Self::NeedsInput, "the run waits for an answer"),
        (Self::InDoubt, "the run waits because a call may have happened"),
        (Self::Cancelled, "the run was cancelled"),
        (Self::Paused, "the run is paused"),
        (Self::Internal, "the database, the socket or the machine let us down"),
    ];

    /// The table as `--help` shows it.
    pub fn help() -> String {
        let lines = Self::TABLE.map(|(exit, meaning)| format!("  {:>2}  {meaning}", exit as u8));
        format!("Exit codes:\n{}", lines.join("\n"))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
