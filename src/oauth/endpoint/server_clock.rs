//! An authorization server's clock, which is not always ours.
//!
//! An assertion says when it was made, and a JWT when it ends, both by the server's clock. Its answers say what that
//! clock shows (`Date`, RFC 9110 section 6.6.1), and where they do not, a token that just came says when it was issued (`iat`).
//! `endpoint` calls this. No token's life is counted by it: that is for
//! clocks that are not set.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use crate::clock;

/// How far a server's clock is from ours, where that was found to matter. At first: not at all.
#[derive(Debug, Default)]
pub(in crate::oauth) struct ServerClock {
    /// In seconds; below zero it is behind.
    ahead: AtomicI64,
    /// What the newest token says of it, for servers that send no `Date`; [`UNHEARD`]: none said so yet.
    heard: HeardOf,
}

/// The distance that a token told, in seconds.
#[derive(Debug)]
struct HeardOf(AtomicI64);

impl Default for HeardOf {
    fn default() -> Self {
        Self(AtomicI64::new(UNHEARD))
    }
}

/// A distance that explains why a server refused an assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::oauth) struct Distance(i64);

impl ServerClock {
    /// Now, as the server has it.
    pub(in crate::oauth) fn now(&self) -> SystemTime {
        Distance(self.ahead.load(Ordering::Relaxed)).now()
    }

    /// The distance to `date`, out of an answer just received, where it is another than the one assumed by more than
    /// [`TOLERATED`].
    pub(in crate::oauth) fn apart(&self, date: SystemTime) -> Option<Distance> {
        let found = seconds(date, clock::wall());
        let assumed = self.ahead.load(Ordering::Relaxed);
        (found.abs_diff(assumed) > TOLERATED.as_secs()).then_some(Distance(found))
    }

    /// Takes note of when a token that just came says that it was issued (`iat`).
    pub(in crate::oauth) fn issued(&self, at: SystemTime) {
        self.heard.0.store(seconds(at, clock::wall()), Ordering::Relaxed);
    }

    /// The same as [`ServerClock::apart`], by the newest token, for an answer without a `Date`.
    pub(in crate::oauth) fn apart_by_tokens(&self) -> Option<Distance> {
        let heard = self.heard.0.load(Ordering::Relaxed);
        let assumed = self.ahead.load(Ordering::Relaxed);
        (heard != UNHEARD && heard.abs_diff(assumed) > TOLERATED.as_secs()).then_some(Distance(heard))
    }

    /// Assumes `distance` from now on: an assertion that did was taken.
    pub(in crate::oauth) fn assume(&self, distance: Distance) {
        self.ahead.store(distance.0, Ordering::Relaxed);
    }
}

impl Distance {
    /// Now, on a clock so far from ours.
    pub(in crate::oauth) fn now(self) -> SystemTime {
        let (wall, by) = (clock::wall(), Duration::from_secs(self.0.unsigned_abs()));
        if self.0 < 0 { wall.checked_sub(by) } else { wall.checked_add(by) }.unwrap_or(wall)
    }

    /// In seconds; below zero the server's is behind.
    pub(in crate::oauth) const fn seconds(self) -> i64 {
        self.0
    }
}

/// From `ours` to `theirs`.
fn seconds(theirs: SystemTime, ours: SystemTime) -> i64 {
    let whole = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    match theirs.duration_since(ours) {
        Ok(ahead) => whole(ahead),
        Err(behind) => -whole(behind.duration()),
    }
}

/// No token has told anything.
const UNHEARD: i64 = i64::MIN;
/// A distance that no server minds; `Date` itself is a second or so old.
const TOLERATED: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_far_off_is_noticed_assumed_and_let_go_again() {
        let clock = ServerClock::default();
        let wall = clock::wall();
        for near in [wall, wall + Duration::from_secs(5), wall - Duration::from_secs(8)] {
            assert_eq!(clock.apart(near), None);
        }
        for (there, want) in [(wall + Duration::from_hours(2), 7200), (wall - Duration::from_hours(2), -7200)]
        {
            let distance = clock.apart(there).unwrap();
            assert!(distance.seconds().abs_diff(want) <= 1, "{distance:?}");
            clock.assume(distance);
            assert!(seconds(clock.now(), there).abs() <= 1);
            assert_eq!(clock.apart(there), None);
        }
        // Where no answer is dated, a token is.
        let quiet = ServerClock::default();
        assert_eq!(quiet.apart_by_tokens(), None);
        quiet.issued(wall + Duration::from_secs(2));
        assert_eq!(quiet.apart_by_tokens(), None);
        quiet.issued(wall - Duration::from_secs(90));
        let distance = quiet.apart_by_tokens().unwrap();
        assert!(distance.seconds().abs_diff(-90) <= 1, "{distance:?}");
        quiet.assume(distance);
        assert_eq!(quiet.apart_by_tokens(), None);
        // The clocks were set right.
        clock.assume(clock.apart(clock::wall()).unwrap());
        assert!(seconds(clock.now(), clock::wall()).abs() <= 1);
    }
}
