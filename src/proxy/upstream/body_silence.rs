//! How long a body may be silent: requests' and responses' alike.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

use crate::clock;

/// Measures how long a body has been waited for.
#[derive(Debug)]
pub(crate) struct Silence {
    pub(crate) limit: Duration,
    /// Made at the first wait: most bodies come whole.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Silence {
    pub(crate) const fn new(limit: Duration) -> Self {
        Self { limit, timer: None, waiting: false }
    }

    pub(crate) fn broken(&mut self) {
        self.waiting = false;
    }

    /// Ready once the wait that this call belongs to has lasted too long.
    pub(super) fn poll_too_long(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(clock::now() + limit);
        }
        timer.as_mut().poll(cx)
    }
}
