//! Whether an upstream answers, and the line in the log where that changes.
//!
//! An upstream keeps one for all of its workers, and `handler` says how each request went. That there is no connection to be
//! had is another matter, which `Upstream::found` tells.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// How the last request to an upstream went.
#[derive(Debug)]
pub(super) struct Condition {
    since: Instant,
    fails: AtomicBool,
    /// Whether its failing was said, and nothing since.
    said: AtomicBool,
    /// When that was last said, in milliseconds from `since`, and one more; 0: never.
    said_at: AtomicU64,
}

impl Condition {
    /// Nothing is known, which passes for well.
    pub(super) fn new() -> Self {
        let (fails, said) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { since: clock::now(), fails, said, said_at: AtomicU64::new(0) }
    }

    /// A request was not answered; whether to say so. An upstream that fails every other request is told of once a minute.
    pub(super) fn failed(&self) -> bool {
        self.failed_after(clock::now().saturating_duration_since(self.since))
    }

    fn failed_after(&self, passed: Duration) -> bool {
        if self.fails.swap(true, Ordering::Relaxed) {
            return false;
        }
        let now = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        let said_at = self.said_at.load(Ordering::Relaxed);
        let quiet = said_at == 0 || Duration::from_millis(now.saturating_sub(said_at - 1)) >= BETWEEN_LINES;
        if quiet {
            self.said_at.store(now.saturating_add(1), Ordering::Relaxed);
            self.said.store(true, Ordering::Relaxed);
        }
        quiet
    }

    /// A request was answered; whether to say so. Where all is well it is a look at what nobody writes.
    pub(super) fn answered(&self) -> bool {
        self.fails.load(Ordering::Relaxed)
            && self.fails.swap(false, Ordering::Relaxed)
            && self.said.swap(false, Ordering::Relaxed)
    }
}

/// The least time from one line about an upstream that fails to the next.
const BETWEEN_LINES: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    const fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn a_change_is_said_once_and_so_is_the_one_back() {
        let condition = Condition::new();
        assert!(!condition.answered(), "all was well");
        assert!(condition.failed_after(second(0)));
        assert!(!condition.failed_after(second(1)) && !condition.failed_after(second(3600)));
        assert!(condition.answered());
        assert!(!condition.answered());
    }

    #[test]
    fn an_upstream_that_fails_now_and_then_is_told_of_once_a_minute() {
        let condition = Condition::new();
        assert!(condition.failed_after(second(5)) && condition.answered());
        for at in 6..65 {
            assert!(!condition.failed_after(second(at)), "{at}");
            assert!(!condition.answered(), "{at}: what was not said is not taken back");
        }
        assert!(condition.failed_after(second(65)) && condition.answered());
    }
}
