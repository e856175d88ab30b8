//! The time that a `tunnel` has left once one side has gone: for what the other one says last.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::clock;
use crate::proxy::downstream::linger::{LINGER_SILENCE, LINGER_TIME};

/// The time that a tunnel has left once one side has gone.
pub(super) struct LastWords {
    timer: Pin<Box<Sleep>>,
    silence: Duration,
    until: Instant,
}

impl LastWords {
    /// `gone` says that the application has ended its side, and nothing else has happened.
    pub(crate) fn new(gone: bool) -> Self {
        let (silence, limit) = if gone { (GONE, GONE) } else { (LINGER_SILENCE, LINGER_TIME) };
        let until = clock::now() + limit;
        Self { timer: Box::pin(tokio::time::sleep_until(until)), silence, until }
    }

    /// Ready once nothing is waited for any more.
    pub(super) fn poll_over(&mut self, moved: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = (moved + self.silence).min(self.until);
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        self.timer.as_mut().poll(cx)
    }
}

/// How long the upstream has for its last words to an application that has ended its side, and so has gone.
pub(super) const GONE: Duration = Duration::from_secs(1);
