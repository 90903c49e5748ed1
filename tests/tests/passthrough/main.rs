//! What a server offers, passed through Antiphon: the same as without it.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod eras;
mod names;
mod same;
mod talk;
mod tasks;
