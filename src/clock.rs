//! The one place that reads a clock.
//!
//! Everything that waits or expires uses [`now`], tokio's monotonic instant, which a test can pause. The wall
//! clock is read here alone, for what people and other machines see: log lines, metrics, `Retry-After` dates.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Now, on the clock that everything here waits and expires by.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Instant {
    Instant::now()
}

/// Now, on the wall clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Seconds since 1970 on the wall clock; 0 where the clock stands before that.
#[must_use]
pub fn unix_seconds() -> u64 {
    wall().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Where `instant` falls on the wall clock, for showing it; it moves when the wall clock is set.
#[must_use]
pub fn wall_at(instant: Instant) -> SystemTime {
    let (now, wall) = (now(), wall());
    if instant >= now {
        wall.checked_add(instant - now).unwrap_or(wall)
    } else {
        wall.checked_sub(now - instant).unwrap_or(UNIX_EPOCH)
    }
}

/// How long from the wall clock's now until `at`; zero where that has passed.
#[must_use]
pub fn until(at: SystemTime) -> Duration {
    at.duration_since(wall()).unwrap_or_default()
}
