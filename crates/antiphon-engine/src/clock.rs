//! What time it is.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The longest sleep without a look at the clock: a machine that was suspended, or whose clock was set, is late by this at most.
const DOZE: Duration = Duration::from_secs(30);

/// The engine's clock: milliseconds since the Unix epoch.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Arc::new(system_now))
    }

    /// Starts with the system's time, then goes with tokio's clock, which tests can pause.
    pub fn tokio() -> Self {
        let (start, base) = (Instant::now(), system_now());
        Self(Arc::new(move || base.saturating_add(millis(start.elapsed()))))
    }

    /// Now.
    pub fn now(&self) -> u64 {
        (self.0)()
    }

    /// Sleeps until then.
    pub(crate) async fn until(&self, due: u64) {
        while let left @ 1.. = due.saturating_sub(self.now()) {
            tokio::time::sleep(Duration::from_millis(left).min(DOZE)).await;
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

fn system_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
