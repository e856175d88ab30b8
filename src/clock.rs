//! The one place that reads a clock. There are three, each for what it is good for.
//!
//! [`now`] is tokio's monotonic instant: what requests and connections wait by. [`Moment`] is what tokens live by: it
//! also counts the time that the machine slept, and what the wall clock was put forward by, so that no token outlives
//! its expiry in a closed laptop or a paused virtual machine. The wall clock is for what people and other machines see:
//! log lines, metrics, `Retry-After` dates, an expiry that is stored.
//!
//! A test can pause the first two.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

mod moment;
#[cfg(test)]
mod pretence;

pub use moment::{ClockWatch, Jump, Moment, sleep_until, timeout_at};
#[cfg(test)]
pub(crate) use pretence::{set_wall_back, set_wall_forward, suspend};

/// Now, on the clock that requests and connections wait by. It stands still while the machine sleeps.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Instant {
    Instant::now()
}

/// Now, on the wall clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn wall() -> SystemTime {
    #[cfg(test)]
    if let Some(wall) = pretence::wall() {
        return wall;
    }
    SystemTime::now()
}

/// Seconds since 1970 on the wall clock; 0 where the clock stands before that.
#[must_use]
pub fn unix_seconds() -> u64 {
    wall().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Where `moment` falls on the wall clock; it moves when the wall clock is set.
#[must_use]
pub fn wall_at(moment: Moment) -> SystemTime {
    let (now, wall) = (Moment::now(), wall());
    if moment >= now {
        wall.checked_add(moment - now).unwrap_or(wall)
    } else {
        wall.checked_sub(now - moment).unwrap_or(UNIX_EPOCH)
    }
}

/// Where `wall` falls on the clock that tokens live by.
#[must_use]
pub fn moment_at(at: SystemTime) -> Moment {
    let (now, wall) = (Moment::now(), wall());
    match at.duration_since(wall) {
        Ok(ahead) => now + ahead,
        Err(behind) => now - behind.duration(),
    }
}

/// How long from the wall clock's now until `at`; zero where that has passed.
#[must_use]
pub fn until(at: SystemTime) -> Duration {
    at.duration_since(wall()).unwrap_or_default()
}
