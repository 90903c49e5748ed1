//! The client against real servers: child processes, and HTTP on loopback.
#![expect(clippy::unwrap_used)]

mod http;
mod input_and_tasks;
mod stdio;
mod support;
