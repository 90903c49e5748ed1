//! The server as its callers see it: raw JSON over a pipe and over HTTP, in both eras.

#![expect(clippy::unwrap_used)]

mod control;
mod durable;
mod engine;
mod handles;
mod http;
mod inline;
mod legacy;
mod rounds;
mod support;
mod tasks;
