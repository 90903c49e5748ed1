//! Servers that die, hang, lie or leave, passed through beside one that is well: it stays usable, and callers are told which one
//! it was.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod cancelled;
mod gone;
mod hanging;
mod lists;
mod owner;
mod world;
