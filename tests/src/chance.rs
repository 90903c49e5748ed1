//! Killing at random moments, repeatably; and what a database had when it happened.

use std::path::{Path, PathBuf};

/// A small generator: the moments must be random, and repeatable.
pub struct Random(u64);

impl Random {
    /// Seeded by `ANTIPHON_SEED`, else by the clock; the seed is told.
    #[expect(clippy::print_stderr, reason = "a failed test can be repeated")]
    pub fn told() -> Self {
        let now = std::time::UNIX_EPOCH.elapsed().expect("the clock is set").as_nanos() as u64;
        let seed = number("ANTIPHON_SEED", now) | 1;
        eprintln!("ANTIPHON_SEED={seed}");
        Self(seed)
    }

    /// A number below this one.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Copies a database that nobody has open, beside it, to be looked at.
pub fn copy(database: &Path) -> PathBuf {
    let copy = database.with_file_name("copy.db");
    for suffix in ["", "-wal"] {
        let from = PathBuf::from(format!("{}{suffix}", database.display()));
        let to = PathBuf::from(format!("{}{suffix}", copy.display()));
        let _ = std::fs::remove_file(&to);
        if from.exists() {
            std::fs::copy(from, to).expect("a copy");
        }
    }
    let _ = std::fs::remove_file(format!("{}-shm", copy.display()));
    copy
}
