//! How long a request waited for others before its response's head, and how much of that was its upstream's.
//!
//! A wait is the time between two polls of a future that was pending: what runs inside a poll is the proxy's own work,
//! system calls included. So a future that is ready at once costs no look at the clock. What a busy machine adds between
//! the instant that bytes arrive and the poll that reads them counts as a wait, for nothing here can see it.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// How far an upload has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UploadState {
    /// More is to come.
    Sending,
    /// All of it was sent.
    Sent,
    /// The application broke off, or sent what is no body.
    Broken,
    /// The application was silent for too long.
    Silent,
}

/// An upload's progress, and when it was made.
#[derive(Debug)]
pub(crate) struct UploadProgress {
    last: Cell<Instant>,
    outcome: Cell<UploadState>,
}

impl UploadProgress {
    pub(crate) fn new() -> Self {
        Self { last: Cell::new(clock::now()), outcome: Cell::new(UploadState::Sending) }
    }

    /// When the last part was sent, or the sending began.
    pub(crate) fn last(&self) -> Instant {
        self.last.get()
    }

    pub(crate) fn outcome(&self) -> UploadState {
        self.outcome.get()
    }

    pub(crate) fn reached(&self, outcome: UploadState) {
        self.last.set(clock::now());
        self.outcome.set(outcome);
    }
}

/// The waits of one request.
#[derive(Debug, Default)]
pub(crate) struct Timing {
    /// All of them until the head of the response, for any party.
    waited: Cell<Duration>,
    /// Those for the upstream's response, its body included.
    upstream: Cell<Duration>,
    /// Those for a connection to the upstream; `None`: one was there.
    connect: Cell<Option<Duration>>,
    was_sent: Cell<bool>,
}

/// Who is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WaitsFor<'u> {
    /// The upstream, once the upload is through, where there is one.
    Upstream(Option<&'u UploadProgress>),
    /// A connection to the upstream.
    Connection,
    /// A token, a place among those that a route lets through, or the application.
    Other,
}

/// A wait, until it ends or is dropped.
struct Pause<'t> {
    timing: &'t Timing,
    whom: WaitsFor<'t>,
    since: Option<Instant>,
}

impl Timing {
    /// Waits for `future`, and counts the time that it is pending as a wait for `whom`. It is pinned by the caller, as the
    /// future of every request would hold it twice otherwise.
    pub(crate) async fn wait<F: Future>(&self, whom: WaitsFor<'_>, mut future: Pin<&mut F>) -> F::Output {
        let mut pause = Pause { timing: self, whom, since: None };
        poll_fn(|cx| {
            pause.end();
            let polled = future.as_mut().poll(cx);
            if polled.is_pending() {
                pause.since = Some(clock::now());
            }
            polled
        })
        .await
    }

    /// The request is about to be sent, on a connection that was opened for it where `is_new`.
    pub(crate) fn sent(&self, is_new: bool) {
        self.was_sent.set(true);
        if is_new {
            self.connect.set(Some(self.connect.get().unwrap_or_default()));
        }
    }

    /// The upstream was waited for in the middle of its response's body.
    pub(crate) fn waited_for_body(&self, took: Duration) {
        self.upstream.set(self.upstream.get() + took);
    }

    /// All waits until the head of the response.
    pub(crate) const fn waited(&self) -> Duration {
        self.waited.get()
    }

    /// The wait for the upstream; `None`: nothing was sent there.
    pub(crate) fn upstream(&self) -> Option<Duration> {
        self.was_sent.get().then(|| self.upstream.get())
    }

    /// The wait for a connection; `None`: one was there.
    pub(crate) const fn connect(&self) -> Option<Duration> {
        self.connect.get()
    }
}

impl Pause<'_> {
    fn end(&mut self) {
        let Some(since) = self.since.take() else { return };
        let now = clock::now();
        let timing = self.timing;
        let took = now.saturating_duration_since(since);
        timing.waited.set(timing.waited.get() + took);
        match self.whom {
            WaitsFor::Upstream(None) => timing.waited_for_body(took),
            // While the upload goes on, its end may be the application's to send.
            WaitsFor::Upstream(Some(upload)) if upload.outcome() == UploadState::Sent => {
                timing.waited_for_body(now.saturating_duration_since(since.max(upload.last())));
            }
            WaitsFor::Connection => timing.connect.set(Some(timing.connect.get().unwrap_or_default() + took)),
            WaitsFor::Upstream(Some(_)) | WaitsFor::Other => {}
        }
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use std::future::{pending, ready};
    use std::pin::pin;
    use tokio::time::{advance, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_wait_counts_for_who_is_waited_for() {
        let timing = Timing::default();
        timing.wait(WaitsFor::Other, pin!(sleep(SECOND))).await;
        timing.wait(WaitsFor::Connection, pin!(sleep(2 * SECOND))).await;
        assert_eq!(timing.upstream(), None, "nothing was sent");
        timing.sent(true);
        timing.wait(WaitsFor::Upstream(None), pin!(sleep(4 * SECOND))).await;
        let near = |took: Duration, seconds: u32| took.abs_diff(seconds * SECOND) < SECOND / 100;
        assert!(near(timing.waited(), 7), "{timing:?}");
        assert!(near(timing.connect().unwrap(), 2) && near(timing.upstream().unwrap(), 4), "{timing:?}");
        timing.waited_for_body(SECOND);
        assert!(near(timing.upstream().unwrap(), 5) && near(timing.waited(), 7), "the head was there");
    }

    #[tokio::test(start_paused = true)]
    async fn work_inside_a_poll_is_no_wait() {
        let timing = Timing::default();
        let works = async {
            advance(SECOND).now_or_never();
            ready(()).await;
        };
        timing.wait(WaitsFor::Upstream(None), pin!(works)).await;
        assert_eq!(timing.waited(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_given_up_counts() {
        let timing = Timing::default();
        timing.sent(false);
        let silent = pin!(pending::<()>());
        let given_up = timing.wait(WaitsFor::Upstream(None), silent);
        assert!(tokio::time::timeout(SECOND, given_up).await.is_err());
        assert!(timing.upstream().unwrap() >= SECOND && timing.waited() >= SECOND);
        assert_eq!(timing.connect(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_opened_without_a_wait_is_told_of() {
        let timing = Timing::default();
        timing.wait(WaitsFor::Connection, pin!(ready(()))).await;
        timing.sent(true);
        assert_eq!(timing.connect(), Some(Duration::ZERO));
    }
}
