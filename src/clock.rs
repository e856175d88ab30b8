//! The one place that reads a clock. There are three, each for what it is good for.
//!
//! [`now`] is tokio's monotonic instant: what requests and connections wait by. [`BootInstant`] is what tokens live by: it
//! also counts the time that the machine slept, and what the wall clock was put forward by, so that no token outlives
//! its expiry in a closed laptop or a paused virtual machine. The wall clock is for what people and other machines see:
//! log lines, metrics, `Retry-After` dates, an expiry that is stored.
//!
//! A test can pause the first two.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

mod boot_instant;
#[cfg(test)]
mod test_clock;

pub(crate) use boot_instant::{BootInstant, ClockWatch, Jump, sleep_until, timeout_at};
#[cfg(test)]
pub(crate) use test_clock::{set_wall_back, set_wall_forward, suspend};

/// Now, on the clock that requests and connections wait by. It stands still while the machine sleeps.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Now, on the wall clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub(crate) fn wall() -> SystemTime {
    #[cfg(test)]
    if let Some(wall) = test_clock::wall() {
        return wall;
    }
    SystemTime::now()
}

/// Microseconds on the system's monotonic clock, which has no known beginning: for other programs of this machine.
#[must_use]
pub(crate) fn monotonic_micros() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1000
}

/// Seconds since 1970 on the wall clock; 0 where the clock stands before that.
#[must_use]
pub(crate) fn unix_seconds() -> u64 {
    wall().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Where `moment` falls on the wall clock; it moves when the wall clock is set.
#[must_use]
pub(crate) fn wall_at(moment: BootInstant) -> SystemTime {
    let (now, wall) = (BootInstant::now(), wall());
    if moment >= now {
        wall.checked_add(moment - now).unwrap_or(wall)
    } else {
        wall.checked_sub(now - moment).unwrap_or(UNIX_EPOCH)
    }
}

/// Where `wall` falls on the clock that tokens live by.
#[must_use]
pub(crate) fn moment_at(at: SystemTime) -> BootInstant {
    let (now, wall) = (BootInstant::now(), wall());
    match at.duration_since(wall) {
        Ok(ahead) => now + ahead,
        Err(behind) => now - behind.duration(),
    }
}

/// Where `moment` falls on the wall clock, for people: `22:29 UTC`, and the day too where it is another day's.
#[must_use]
pub(crate) fn time_of(moment: BootInstant) -> String {
    time_on_day(wall_at(moment), wall())
}

/// `at` as seen from `now`.
fn time_on_day(at: SystemTime, now: SystemTime) -> String {
    // IMF-fixdate has fixed places: `Sun, 06 Nov 1994 08:49:37 GMT`. Its writer refuses years beyond 9999.
    let date = |at: SystemTime| {
        let known = at.duration_since(UNIX_EPOCH).is_ok_and(|since| since < YEAR_9999);
        known.then(|| httpdate::fmt_http_date(at))
    };
    let (Some(at), Some(now)) = (date(at), date(now)) else { return "an unknown time".to_owned() };
    let (day, time) = (&at[5..16], &at[17..22]);
    if day == &now[5..16] { format!("{time} UTC") } else { format!("{day} {time} UTC") }
}

/// How long from the wall clock's now until `at`; zero where that has passed.
#[must_use]
pub(crate) fn until(at: SystemTime) -> Duration {
    at.duration_since(wall()).unwrap_or_default()
}

/// The end of the calendar that can be written.
const YEAR_9999: Duration = Duration::from_secs(253_402_300_799);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_its_day_where_that_is_another_one() {
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        let day = 1_800_000_000 / 86_400 * 86_400;
        for (then, now, want) in [
            (day + 80_940, day + 81_000, "22:29 UTC"),
            (day + 80_940, day + 86_401, "15 Jan 2027 22:29 UTC"),
            (day + 86_400 + 3600, day + 86_000, "16 Jan 2027 01:00 UTC"),
            (u64::MAX / 8, day, "an unknown time"),
        ] {
            let then = UNIX_EPOCH.checked_add(Duration::from_secs(then)).unwrap();
            assert_eq!(time_on_day(then, at(now)), want);
        }
    }
}
