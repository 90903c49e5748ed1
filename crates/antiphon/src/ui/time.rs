//! Times as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A span, such as `0.4s`, `12s`, `3m04s`, `2h05m` or `3d02h`.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", duration.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// How long ago that was.
pub fn ago(at_ms: u64) -> String {
    format!("{} ago", span(Duration::from_millis(now_ms().saturating_sub(at_ms))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (seconds, text) in
            [(0.44, "0.4s"), (12.0, "12s"), (184.0, "3m04s"), (7500.0, "2h05m"), (266_400.0, "3d02h")]
        {
            assert_eq!(span(Duration::from_secs_f64(seconds)), text);
        }
    }
}
