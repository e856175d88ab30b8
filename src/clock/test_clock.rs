//! The clocks of a test, each thread's own: the one that a runtime pauses, a sleep of the machine, a wall clock that
//! someone sets.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::now;

thread_local! {
    static SLEPT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static AHEAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// Where the wall clock stands beside the machine's uptime; `None`: it was not set, and it is the real one.
    static WALL: Cell<Option<Duration>> = const { Cell::new(None) };
}

pub(super) fn uptime() -> Duration {
    static ANCHOR: LazyLock<Instant> = LazyLock::new(|| {
        #[expect(clippy::disallowed_methods, reason = "a clock that no test pauses")]
        Instant::from_std(std::time::Instant::now())
    });
    // A runtime's paused clock may stand before the anchor.
    let later = now() + Duration::from_hours(24);
    later.saturating_duration_since(*ANCHOR) + SLEPT.get()
}

pub(super) fn ahead() -> Duration {
    AHEAD.get()
}

pub(super) fn move_ahead(by: Duration) {
    AHEAD.set(AHEAD.get() + by);
}

/// The wall clock that was set; `None`: none was.
pub(super) fn wall() -> Option<SystemTime> {
    WALL.get().map(|offset| UNIX_EPOCH + offset + uptime())
}

/// Pretends that the machine slept for `duration`.
pub(crate) fn suspend(duration: Duration) {
    SLEPT.set(SLEPT.get() + duration);
}

/// Puts the wall clock forward. From the first time on it runs with the clock that the test pauses.
pub(crate) fn set_wall_forward(by: Duration) {
    WALL.set(Some(WALL.get().unwrap_or(START) + by));
}

/// Puts the wall clock back, as [`set_wall_forward`] puts it forward.
pub(crate) fn set_wall_back(by: Duration) {
    WALL.set(Some(WALL.get().unwrap_or(START).saturating_sub(by)));
}

/// In 2033.
const START: Duration = Duration::from_secs(2_000_000_000);
