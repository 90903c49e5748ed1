//! When runs that are not in memory have to be woken.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::api::RunId;
use crate::clock::Clock;
use crate::timers::Timers;

/// How long a run stays frozen before it is tried again, in milliseconds.
const THAW: u64 = 5_000;

/// One timer a run.
#[derive(Default)]
pub(crate) struct Alarm {
    timers: Mutex<Timers<RunId>>,
    changed: Notify,
}

impl Alarm {
    fn lock(&self) -> MutexGuard<'_, Timers<RunId>> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, id: RunId, due: u64) {
        self.lock().set(id, due);
        self.changed.notify_one();
    }

    /// Wakes a run that could not go on.
    pub(crate) fn again(&self, id: RunId, clock: &Clock) {
        self.set(id, clock.now().saturating_add(THAW));
    }

    pub(crate) fn clear(&self, id: &RunId) {
        self.lock().clear(id);
    }

    /// The next run whose time has come.
    pub(crate) async fn next(&self, clock: &Clock) -> RunId {
        loop {
            let due = {
                let mut timers = self.lock();
                if let Some(id) = timers.pop(clock.now()) {
                    return id;
                }
                timers.next()
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = clock.until(due.unwrap_or_default()), if due.is_some() => {}
            }
        }
    }
}
