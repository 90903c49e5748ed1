//! What people see of the command line, without servers: the real binary in a scratch project.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod files;
mod hosts;
mod owner;
mod runs;
mod support;
