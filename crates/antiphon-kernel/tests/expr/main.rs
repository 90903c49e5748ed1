//! The expression language: what a source refers to, what it yields, what is refused.
#![expect(clippy::unwrap_used, reason = "tests")]

mod analyze;
mod any;
mod run;
mod schema;
mod support;
