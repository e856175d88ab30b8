//! The clocks of a test: this machine's own. Those of the program under test may differ (`faketime`).

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Now, for what a test waits for and measures.
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

/// Seconds since 1970.
#[must_use]
pub fn unix_seconds() -> u64 {
    wall().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
