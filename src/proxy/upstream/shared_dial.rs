//! Which of several requests opens a connection that they can share, and which wait for it.
//!
//! One connection of HTTP/2 carries many requests, so a burst of them is not to open one each. How many it carries is what
//! the upstream said last: while the connections that are being opened have room for a request, it waits. Where that turns
//! out wrong, it opens one of its own, within the time that it had from the start.

use std::cell::Cell;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::proxy::error::{ConnectStage, DialFault};

/// What is being opened to one upstream, by one worker.
#[derive(Debug)]
pub(super) struct Dials {
    /// Shared connections that are being opened.
    under_way: Cell<usize>,
    /// Requests that wait for those.
    waiting: Cell<usize>,
    /// Requests that a connection carries at a time.
    room: Cell<usize>,
    ended: Notify,
    /// How many failed so far, and why the last one did.
    failed: Cell<(u64, Option<DialFault>)>,
    /// What the last one that was begun is at.
    stage: Cell<ConnectStage>,
}

/// A connection is being opened for as long as it lives.
pub(super) struct Dialing<'a>(&'a Dials);

/// A request waits for as long as it lives.
struct DialWaiter<'a>(&'a Dials);

impl Dials {
    /// `room` is what a connection carries as far as is known.
    pub(crate) fn new(room: usize) -> Self {
        Self {
            under_way: Cell::new(0),
            waiting: Cell::new(0),
            room: Cell::new(room),
            ended: Notify::new(),
            failed: Cell::new((0, None)),
            stage: Cell::new(ConnectStage::Lookup),
        }
    }

    /// One is opened.
    pub(crate) fn begin(&self) -> Dialing<'_> {
        self.under_way.set(self.under_way.get() + 1);
        Dialing(self)
    }

    /// A connection turned out to carry so many requests.
    pub(super) fn learn(&self, room: usize) {
        self.room.set(room.max(1));
    }

    /// Whether those under way have room for one more request, beside the one that opens each and those that wait already.
    pub(super) fn have_room(&self) -> bool {
        self.under_way.get() * (self.room.get() - 1) > self.waiting.get()
    }

    /// Waits until one has ended, whatever came of it.
    pub(crate) async fn ended(&self) {
        let ended: Notified<'_> = self.ended.notified();
        self.waiting.set(self.waiting.get() + 1);
        let _waiting = DialWaiter(self);
        ended.await;
    }

    /// One could not be opened.
    pub(crate) fn fail(&self, fault: DialFault) {
        self.failed.set((self.failures() + 1, Some(fault)));
    }

    /// Shared connections that are being opened.
    pub(crate) const fn under_way(&self) -> usize {
        self.under_way.get()
    }

    /// How many could not be opened so far.
    pub(crate) fn failures(&self) -> u64 {
        self.failed.get().0
    }

    /// The fate of a request that has waited since there were so many failures: that of the last connection, where no other is
    /// being opened.
    pub(super) fn fate(&self, since: u64) -> Option<DialFault> {
        let (failures, fault) = self.failed.get();
        fault.filter(|_| failures > since && self.under_way.get() == 0)
    }

    pub(crate) const fn stage(&self) -> &Cell<ConnectStage> {
        &self.stage
    }
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get() - 1);
        self.0.ended.notify_waiters();
    }
}

impl Drop for DialWaiter<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::machine::Lack;

    #[test]
    fn as_many_are_opened_as_the_requests_need() {
        for (room, requests, opened) in [(100, 30, 1), (10, 30, 3), (10, 31, 4), (1, 30, 30), (2, 3, 2)] {
            let dials = Dials::new(100);
            dials.learn(room);
            let (mut dialing, mut waiting) = (Vec::new(), Vec::new());
            for _ in 0..requests {
                if dials.have_room() {
                    let mut wait = Box::pin(dials.ended());
                    assert!(wait.as_mut().now_or_never().is_none());
                    waiting.push(wait);
                } else {
                    dialing.push(dials.begin());
                }
            }
            assert_eq!(dialing.len(), opened, "{requests} requests, {room} at a time");
            dialing.pop();
            assert!(waiting.iter_mut().all(|wait| wait.as_mut().now_or_never().is_some()), "all look again");
        }
    }

    #[test]
    fn a_request_shares_the_fate_of_the_last_connection_alone() {
        let dials = Dials::new(100);
        let since = dials.failures();
        let (first, second) = (dials.begin(), dials.begin());
        dials.fail(DialFault::Lacking(Lack::Ports));
        drop(first);
        assert_eq!(dials.fate(since), None, "another is on its way");
        dials.fail(DialFault::Timeout(ConnectStage::Tls));
        drop(second);
        assert_eq!(dials.fate(since), Some(DialFault::Timeout(ConnectStage::Tls)));
        assert_eq!(dials.fate(dials.failures()), None, "before its time");
    }
}
