//! How many threads compute.
//!
//! candle keeps threads of its own for its matrices, as many as the machine has cores, that wait for each other by spinning;
//! it can be told otherwise by a variable of the environment only, before the first of them starts. On a machine that does
//! something else besides, all of them may wait for one that does not run; so one core is left to the rest.

use std::num::NonZeroUsize;
use std::thread::available_parallelism;

/// The variable from which candle takes the number of its threads.
const CANDLE: &str = "CANDLE_NUM_THREADS";

/// Settles how many threads compute: `wanted`, or one fewer than there are cores for this process, but at least one. Called
/// first thing in `main`; later, or when the variable `CANDLE_NUM_THREADS` is set, it changes nothing.
pub fn settle(wanted: Option<NonZeroUsize>) {
    if std::env::var_os(CANDLE).is_some() || !alone() {
        return;
    }
    let threads = wanted.map_or_else(sensible, NonZeroUsize::get).to_string();
    #[expect(unsafe_code, reason = "candle has no other way to be told")]
    // SAFETY: this thread is the only one, so nobody reads the environment at the same time.
    unsafe {
        std::env::set_var(CANDLE, threads);
    }
}

/// How many threads compute.
pub(crate) fn settled() -> usize {
    let said = std::env::var(CANDLE).ok().and_then(|threads| threads.parse().ok());
    said.filter(|threads| *threads > 0).unwrap_or_else(num_cpus::get_physical)
}

/// One core is left to everything else.
fn sensible() -> usize {
    let available = available_parallelism().map_or(1, NonZeroUsize::get);
    (num_cpus::get_physical().min(available)).saturating_sub(1).max(1)
}

/// Whether this is the only thread of the process, as far as can be told.
fn alone() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_not_alone_and_changes_nothing() {
        settle(NonZeroUsize::new(7));
        assert_ne!(std::env::var(CANDLE).as_deref(), Ok("7"));
        assert!(settled() > 0);
        assert!(sensible() > 0);
    }
}
