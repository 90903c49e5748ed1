//! The embedded engine, over real SQLite files, with a scripted world.
#![expect(clippy::unwrap_used, reason = "tests")]

mod recovery;
mod runs;
mod storage;
mod support;
mod throughput;
