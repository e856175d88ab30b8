//! Bursts of events of the same kind: the first one is logged at once, and their number once none has come for a while.
//!
//! Callers: `proxy::observe` for the proxy's own responses, `net::handshake_log` for handshakes that failed. Nothing is locked
//! here: events come from all workers, a hundred thousand a second where a limit is exceeded.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// The bursts of so many kinds of events.
#[derive(Debug)]
pub(crate) struct Bursts<const KINDS: usize> {
    since: Instant,
    /// How many bursts have begun and not ended.
    running: AtomicUsize,
    kinds: [Burst; KINDS],
}

/// Events of one kind, none of which came [`QUIET`] or longer after the one before.
#[derive(Debug, Default)]
struct Burst {
    count: AtomicU64,
    /// When the last one came, in milliseconds from the beginning.
    last: AtomicU64,
    /// Whether its first one was logged.
    is_logged: AtomicBool,
    gap: LogGap,
}

impl<const KINDS: usize> Default for Bursts<KINDS> {
    fn default() -> Self {
        Self {
            since: clock::now(),
            running: AtomicUsize::new(0),
            kinds: std::array::from_fn(|_| Burst::default()),
        }
    }
}

impl<const KINDS: usize> Bursts<KINDS> {
    /// Takes note of an event. Whether it is to be logged: it is the first of a burst, and the last such line is a minute ago.
    pub(crate) fn begins(&self, kind: usize) -> bool {
        let Some(burst) = self.kinds.get(kind) else { return false };
        let passed = self.passed();
        burst.last.store(millis(passed), Ordering::Relaxed);
        if burst.count.fetch_add(1, Ordering::Relaxed) > 0 {
            return false;
        }
        self.running.fetch_add(1, Ordering::Relaxed);
        let is_logged = burst.gap.is_over(passed);
        burst.is_logged.store(is_logged, Ordering::Relaxed);
        is_logged
    }

    /// Calls `log` with the kind and the number of events of each burst that has ended, unless its one event was logged. To be
    /// called now and then.
    pub(crate) fn ended(&self, log: impl FnMut(usize, u64)) {
        if self.running.load(Ordering::Relaxed) > 0 {
            let passed = self.passed();
            self.end(log, |burst| {
                let quiet = millis(passed).saturating_sub(burst.last.load(Ordering::Relaxed));
                // One whose first event got no line, as another burst had ended shortly before, goes on until one is due.
                u128::from(quiet) >= QUIET.as_millis()
                    && (burst.is_logged.load(Ordering::Relaxed) || burst.gap.is_over(passed))
            });
        }
    }

    /// The same of all bursts: no event will follow.
    pub(crate) fn finish(&self, log: impl FnMut(usize, u64)) {
        self.end(log, |_| true);
    }

    fn end(&self, mut log: impl FnMut(usize, u64), is_over: impl Fn(&Burst) -> bool) {
        for (kind, burst) in self.kinds.iter().enumerate() {
            if burst.count.load(Ordering::Relaxed) == 0 || !is_over(burst) {
                continue;
            }
            let was_logged = burst.is_logged.load(Ordering::Relaxed);
            let count = burst.count.swap(0, Ordering::Relaxed);
            if count == 0 {
                // Another worker was faster.
                continue;
            }
            self.running.fetch_sub(1, Ordering::Relaxed);
            if count > 1 || !was_logged {
                log(kind, count);
            }
        }
    }

    fn passed(&self) -> Duration {
        clock::now().saturating_duration_since(self.since)
    }
}

/// The time from one line in the log to the next of its kind, a minute at least: when the last was written, in milliseconds
/// from a beginning, and one more; 0: never.
#[derive(Debug, Default)]
pub(crate) struct LogGap(AtomicU64);

impl LogGap {
    /// Whether a line is due so long after the beginning; if so, it counts as written.
    pub(crate) fn is_over(&self, passed: Duration) -> bool {
        let now = millis(passed);
        let last = self.0.load(Ordering::Relaxed);
        let is_over = last == 0 || Duration::from_millis(now.saturating_sub(last - 1)) >= BETWEEN_LINES;
        if is_over {
            self.0.store(now.saturating_add(1), Ordering::Relaxed);
        }
        is_over
    }
}

fn millis(passed: Duration) -> u64 {
    u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
}

/// How long none has come when a burst is over.
pub(crate) const QUIET: Duration = Duration::from_secs(5);
/// The least time from one line to the next.
const BETWEEN_LINES: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn ended(bursts: &Bursts<2>) -> Vec<(usize, u64)> {
        let mut all = Vec::new();
        bursts.ended(|kind, count| all.push((kind, count)));
        all
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_event_of_a_burst_is_logged_and_all_are_counted_at_its_end() {
        let bursts = Bursts::<2>::default();
        assert!(bursts.begins(1) && !bursts.begins(1) && bursts.begins(0), "each kind has its own");
        assert!(!bursts.begins(2), "there is no such kind");
        advance(QUIET / 2).await;
        assert_eq!(ended(&bursts), []);
        assert!(!bursts.begins(1), "it goes on");
        advance(QUIET).await;
        assert_eq!(ended(&bursts), [(1, 3)], "one of the other kind was all, and it was logged");
        assert_eq!(ended(&bursts), []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_shortly_after_another_is_counted_a_minute_later_or_at_the_end() {
        let bursts = Bursts::<2>::default();
        assert!(bursts.begins(0));
        advance(QUIET).await;
        assert_eq!(ended(&bursts), []);
        assert!(!bursts.begins(0), "another line would be too soon");
        advance(QUIET).await;
        assert_eq!(ended(&bursts), []);
        advance(BETWEEN_LINES).await;
        assert_eq!(ended(&bursts), [(0, 1)]);
        assert!(!bursts.begins(0));
        let mut last = Vec::new();
        bursts.finish(|kind, count| last.push((kind, count)));
        bursts.finish(|kind, count| last.push((kind, count)));
        assert_eq!(last, [(0, 1)]);
    }
}
