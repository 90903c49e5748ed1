//! What `.ci/clients` installs.
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::path::PathBuf;

use crate::repository;

/// What `.ci/clients` installs, or `None` with a message. In CI its absence is a failure.
pub fn installed(path: PathBuf) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing: run .ci/clients", path.display());
    eprintln!("skipped: {} is missing; .ci/clients installs it", path.display());
    None
}

/// Python with the official MCP package.
pub fn python() -> Option<PathBuf> {
    installed(repository().join("target/clients/bin/python"))
}
