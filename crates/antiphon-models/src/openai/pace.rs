//! When a model may be asked: how many at a time, how many a minute, and whether it was there when last asked.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

const MINUTE: Duration = Duration::from_secs(60);

/// How long others are asked before a model that was not there.
const AWAY: Duration = Duration::from_secs(30);

/// The same, at the most, when the server says itself when it is back.
const LONG_AWAY: Duration = Duration::from_secs(300);

pub(super) struct Pace {
    /// Fair: who waits longest is next.
    slots: Semaphore,
    /// The last starts, as many as a minute may have; some are yet to come.
    starts: Option<(usize, Mutex<VecDeque<Instant>>)>,
    away_until: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(concurrency: usize, per_minute: Option<NonZeroU32>) -> Self {
        Self {
            slots: Semaphore::new(concurrency.max(1)),
            starts: per_minute.map(|limit| (limit.get() as usize, Mutex::default())),
            away_until: Mutex::default(),
        }
    }

    /// Waits until fewer than `concurrency` others run.
    pub(super) async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed, so never none.
        self.slots.acquire().await.ok()
    }

    /// Waits until one more request fits into the minute.
    ///
    /// # Errors
    /// When that is after the deadline: how long it would have been.
    pub(super) async fn turn(&self, deadline: Option<Instant>) -> Result<(), Duration> {
        let Some((limit, starts)) = &self.starts else { return Ok(()) };
        let at = {
            let mut starts = lock(starts);
            let now = Instant::now();
            let full = starts.len() >= *limit;
            let at = starts.front().filter(|_| full).map_or(now, |oldest| now.max(*oldest + MINUTE));
            if deadline.is_some_and(|deadline| at >= deadline) {
                return Err(at - now);
            }
            if full {
                starts.pop_front();
            }
            starts.push_back(at);
            at
        };
        sleep_until(at).await;
        Ok(())
    }

    /// It answered.
    pub(super) fn here(&self) {
        *lock(&self.away_until) = None;
    }

    /// It can't be reached, or is overloaded, and perhaps says for how long.
    pub(super) fn away(&self, back_in: Option<Duration>) {
        *lock(&self.away_until) = Some(Instant::now() + back_in.unwrap_or(AWAY).clamp(AWAY, LONG_AWAY));
    }

    pub(super) fn healthy(&self) -> bool {
        lock(&self.away_until).is_none_or(|until| until <= Instant::now())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_minute_has_so_many_requests() {
        let pace = Pace::new(1, NonZeroU32::new(2));
        let start = Instant::now();
        let mut waited = Vec::new();
        for _ in 0..6 {
            assert_eq!(pace.turn(None).await, Ok(()));
            waited.push(start.elapsed().as_secs());
        }
        assert_eq!(waited, [0, 0, 60, 60, 120, 120]);
        // Who can't wait so long is told at once, and takes nobody's place.
        assert_eq!(pace.turn(Some(Instant::now() + Duration::from_secs(59))).await, Err(MINUTE));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(pace.turn(Some(Instant::now() + Duration::from_secs(2))).await, Ok(()));
        assert_eq!(start.elapsed().as_secs(), 180);
    }

    #[tokio::test(start_paused = true)]
    async fn a_model_that_was_away_is_tried_again_after_a_while() {
        let pace = Pace::new(1, None);
        assert!(pace.healthy());
        pace.away(None);
        assert!(!pace.healthy());
        tokio::time::advance(AWAY).await;
        assert!(pace.healthy());
        pace.away(Some(Duration::MAX));
        tokio::time::advance(AWAY).await;
        assert!(!pace.healthy());
        pace.here();
        assert!(pace.healthy());
    }
}
