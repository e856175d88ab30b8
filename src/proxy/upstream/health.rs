//! Whether an upstream answers, and the line in the log where that changes.
//!
//! An upstream keeps one for all of its workers, and `handler` says how each request went. That there is no connection to be
//! had is another matter, which `Upstream::found` tells.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::telemetry::burst::LogGap;

/// How requests to an upstream went since the last that was answered.
#[derive(Debug)]
pub(super) struct Health {
    since: Instant,
    /// The kinds of failures since then, a bit for each.
    failing: AtomicU64,
    /// Whether its failing was said, and nothing since.
    is_said: AtomicBool,
    /// When each kind was last said.
    said: [LogGap; KINDS as usize],
}

impl Health {
    /// Nothing is known, which passes for well.
    pub(crate) fn new() -> Self {
        Self {
            since: clock::now(),
            failing: AtomicU64::new(0),
            is_said: AtomicBool::new(false),
            said: std::array::from_fn(|_| LogGap::default()),
        }
    }

    /// A request was not answered, for a reason of this kind, below [`KINDS`]; whether to say so. An upstream that fails every
    /// other request is told of once a minute, for each kind of failure.
    pub(crate) fn failed(&self, kind: u32) -> bool {
        self.failed_after(kind, clock::now().saturating_duration_since(self.since))
    }

    fn failed_after(&self, kind: u32, passed: Duration) -> bool {
        let Some(said) = self.said.get(kind as usize) else { return false };
        let bit = 1 << kind;
        if self.failing.fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            return false;
        }
        let is_due = said.is_over(passed);
        if is_due {
            self.is_said.store(true, Ordering::Relaxed);
        }
        is_due
    }

    /// A request was answered; whether to say so. Where all is well it reads what is not written.
    pub(crate) fn answered(&self) -> bool {
        self.failing.load(Ordering::Relaxed) != 0
            && self.failing.swap(0, Ordering::Relaxed) != 0
            && self.is_said.swap(false, Ordering::Relaxed)
    }
}

/// Kinds of failures that are told apart.
pub(crate) const KINDS: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn a_change_is_said_once_and_so_is_the_one_back() {
        let health = Health::new();
        assert!(!health.answered(), "all was well");
        assert!(health.failed_after(0, second(0)));
        assert!(!health.failed_after(0, second(1)) && !health.failed_after(0, second(3600)));
        assert!(health.answered());
        assert!(!health.answered());
    }

    #[test]
    fn an_upstream_that_fails_now_and_then_is_told_of_once_a_minute() {
        let health = Health::new();
        assert!(health.failed_after(0, second(5)) && health.answered());
        for at in 6..65 {
            assert!(!health.failed_after(0, second(at)), "{at}");
            assert!(!health.answered(), "{at}: what was not said is not taken back");
        }
        assert!(health.failed_after(0, second(65)) && health.answered());
    }

    #[test]
    fn each_kind_of_failure_is_said_once() {
        let health = Health::new();
        assert!(health.failed_after(3, second(0)) && health.failed_after(63, second(1)));
        assert!(!health.failed_after(3, second(2)) && !health.failed_after(63, second(2)));
        assert!(health.answered() && !health.answered());
        assert!(!health.failed_after(3, second(3)), "said a moment ago");
        assert!(health.failed_after(4, second(3)));
    }
}
