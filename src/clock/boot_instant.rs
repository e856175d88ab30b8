//! The clock that tokens live by: `CLOCK_BOOTTIME`, and what the wall clock was put forward by.

use std::ops::{Add, Sub};
#[cfg(not(test))]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{now, wall};

/// An instant on the clock that tokens live by. It never goes back, and it is worth nothing outside this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BootInstant(Duration);

impl BootInstant {
    /// The far end of time: what never comes.
    pub(crate) const NEVER: Self = Self(Duration::MAX);

    /// Now: one read of a clock that needs no system call.
    #[must_use]
    pub(crate) fn now() -> Self {
        Self(BEFORE + uptime() + ahead())
    }

    /// How long ago `earlier` was; zero where it is still to come.
    #[must_use]
    pub(crate) const fn saturating_duration_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// How long ago this was.
    #[must_use]
    pub(crate) fn elapsed(self) -> Duration {
        Self::now().saturating_duration_since(self)
    }
}

impl Add<Duration> for BootInstant {
    type Output = Self;

    /// Ends at the far end of time rather than beyond it.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

impl Sub for BootInstant {
    type Output = Duration;

    /// Zero where `earlier` is the later one.
    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

impl Sub<Duration> for BootInstant {
    type Output = Self;

    /// Ends at the beginning of this clock rather than before it.
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(duration))
    }
}

/// Sleeps until `at`. A timer of the kernel's knows nothing of a jump: a long wait is ended by what
/// [`ClockWatch`] sees, and looks at the clock again.
pub(crate) async fn sleep_until(at: BootInstant) {
    tokio::time::sleep(at.saturating_duration_since(BootInstant::now())).await;
}

/// Waits for `future` until `at`; see [`sleep_until`].
///
/// # Errors
/// [`tokio::time::error::Elapsed`] where the time ran out.
pub(crate) async fn timeout_at<F: Future>(
    at: BootInstant,
    future: F,
) -> Result<F::Output, tokio::time::error::Elapsed> {
    tokio::time::timeout(at.saturating_duration_since(BootInstant::now()), future).await
}

/// Looks whether time has jumped: the machine slept, or the wall clock was put forward.
#[derive(Debug)]
pub(crate) struct ClockWatch {
    monotonic: Instant,
    uptime: Duration,
    wall: SystemTime,
}

/// What a [`ClockWatch`] saw. The clock that tokens live by has moved on by both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Jump {
    /// For how long the machine slept.
    pub slept: Duration,
    /// How far the wall clock was put forward, beyond the time that went by.
    pub put_forward: Duration,
}

impl ClockWatch {
    /// Starts from how the clocks stand now.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self { monotonic: now(), uptime: uptime(), wall: wall() }
    }

    /// Looks at the clocks; to be called every second or so. A wall clock that is put forward by more than
    /// five seconds moves [`BootInstant::now`] on by as much: a paused virtual machine's other clocks know nothing of its
    /// pause. One that is put back changes nothing: no token lives longer for it.
    pub(crate) fn look(&mut self) -> Option<Jump> {
        let next = Self::new();
        let awake = next.monotonic.saturating_duration_since(self.monotonic);
        let passed = next.uptime.saturating_sub(self.uptime);
        let jump = match next.wall.duration_since(self.wall) {
            Ok(by_the_wall) => {
                Jump { slept: over(passed, awake, NAP), put_forward: over(by_the_wall, passed, STEP) }
            }
            Err(_) => Jump { slept: over(passed, awake, NAP), put_forward: Duration::ZERO },
        };
        *self = next;
        move_ahead(jump.put_forward.min(LONGEST_STEP));
        (jump != Jump { slept: Duration::ZERO, put_forward: Duration::ZERO }).then_some(jump)
    }
}

impl Default for ClockWatch {
    fn default() -> Self {
        Self::new()
    }
}

/// By how much `long` is longer than `short`, where that is more than `least`.
fn over(long: Duration, short: Duration, least: Duration) -> Duration {
    let over = long.saturating_sub(short);
    if over > least { over } else { Duration::ZERO }
}

/// Since the machine started, its sleep included.
#[cfg(not(test))]
fn uptime() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// What the wall clock was put forward by since the start.
#[cfg(not(test))]
fn ahead() -> Duration {
    Duration::from_nanos(AHEAD.load(Ordering::Relaxed))
}

#[cfg(not(test))]
fn move_ahead(by: Duration) {
    let nanoseconds = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
    AHEAD.fetch_add(nanoseconds, Ordering::Relaxed);
}

/// In nanoseconds.
#[cfg(not(test))]
static AHEAD: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
use super::test_clock::{ahead, move_ahead, uptime};

/// How far this clock reaches back beyond the start of the machine: longer than any token lives. What was handed out
/// before a restart of the machine would else count as handed out at it, and live longer.
const BEFORE: Duration = Duration::from_hours(2 * 365 * 24);

/// A wall clock that moves by less within one look is being corrected, not set. Half of what a token is spared by its
/// `expiry_margin`.
const STEP: Duration = Duration::from_secs(5);

/// A shorter sleep is a busy machine.
const NAP: Duration = Duration::from_millis(250);

/// A year: what is farther ahead is a clock that was not set at all before, and no token lives longer.
const LONGEST_STEP: Duration = Duration::from_hours(365 * 24);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::suspend;

    #[test]
    fn a_machine_that_slept_is_noticed_once_and_its_sleep_counts() {
        let mut watch = ClockWatch::new();
        let start = BootInstant::now();
        assert_eq!(watch.look(), None);
        suspend(Duration::from_hours(8));
        assert!(start.elapsed() >= Duration::from_hours(8));
        // The wall clock of a test does not sleep along; only the sleep is looked at here.
        assert!(watch.look().unwrap().slept >= Duration::from_hours(7));
        assert_eq!(watch.look(), None);
    }

    #[test]
    fn a_moment_is_never_before_the_beginning_nor_beyond_the_end() {
        let now = BootInstant::now();
        assert_eq!((now - Duration::MAX) - now, Duration::ZERO);
        assert!(now + Duration::MAX > now);
        assert_eq!(now - (now + Duration::from_secs(1)), Duration::ZERO);
    }

    #[test]
    fn what_was_before_the_machine_started_is_as_long_ago_as_it_was() {
        let year = Duration::from_hours(365 * 24);
        let then = crate::clock::moment_at(wall() - year);
        assert!(then.elapsed() >= year, "{:?}", then.elapsed());
    }

    #[test]
    fn a_wall_clock_put_forward_is_noticed_once_and_one_put_back_makes_no_token_live_longer() {
        use crate::clock::{set_wall_back, set_wall_forward};
        set_wall_forward(Duration::ZERO);
        let mut watch = ClockWatch::new();
        let start = BootInstant::now();
        set_wall_forward(Duration::from_hours(1));
        assert!(start.elapsed() < Duration::from_mins(1), "the clock was not looked at yet");
        assert!(watch.look().unwrap().put_forward >= Duration::from_mins(59));
        assert!(start.elapsed() >= Duration::from_mins(59));
        set_wall_back(Duration::from_hours(2));
        assert_eq!(watch.look(), None);
        assert!(start.elapsed() >= Duration::from_mins(59));
    }
}
