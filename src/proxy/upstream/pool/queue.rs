//! Where the connections to an upstream are bounded: how a request comes by a place for a new one, or by one that another request
//! gives back, and how idle ones give way.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::connection::Want;
use super::places::{HeldSlots, SlotShare, wanted};
use super::shared::SharedConnection;
use super::{Idle, Pool};
use crate::clock;
use crate::proxy::error::DialFault;
use crate::proxy::observe::upstream_metrics::Closed;
use crate::proxy::upstream::h1::Http1Connection;
use crate::proxy::upstream::slots::{ConnectionSlot, TURN};

/// What comes of the wait for places.
pub(super) enum PoolTurn {
    Places(HeldSlots),
    /// A connection that another request gave back.
    Wire(Http1Connection),
    /// A shared connection may have room by now.
    Look,
}

/// The same for one of them.
enum PoolQueued {
    Slot(ConnectionSlot),
    Wire(Http1Connection),
    Look,
}

/// A request waits for a stream for as long as it lives.
struct PoolWaiting<'p>(&'p Cell<usize>);

impl<'p> PoolWaiting<'p> {
    fn new(count: &'p Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for PoolWaiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Pool {
    /// The places that a new connection takes, or what comes before they are free. `shared` where it may be one of HTTP/2.
    pub(super) async fn take_places(
        &self,
        shared: bool,
        want: Want,
        deadline: Instant,
    ) -> Result<PoolTurn, DialFault> {
        let mut held = HeldSlots::default();
        for share in self.places.needed(shared) {
            let slot = match share.take() {
                Some(free) => free,
                None => match Box::pin(self.queue(share, shared, want, deadline)).await? {
                    PoolQueued::Slot(slot) => slot,
                    PoolQueued::Wire(wire) => return Ok(PoolTurn::Wire(wire)),
                    PoolQueued::Look => return Ok(PoolTurn::Look),
                },
            };
            held.add(share, slot);
        }
        Ok(PoolTurn::Places(held))
    }

    /// Waits for a place, or for a connection that comes back.
    async fn queue(
        &self,
        share: &SlotShare,
        shared: bool,
        want: Want,
        deadline: Instant,
    ) -> Result<PoolQueued, DialFault> {
        // Where any will not do, the other end is kept, and nothing comes by it.
        let (give, mut given) = oneshot::channel();
        let mut other = None;
        if want == Want::Any {
            self.line.borrow_mut().push_back(give);
        } else {
            other = Some(give);
        }
        let _waiting = shared.then(|| PoolWaiting::new(&self.waiting));
        // Both keep their turn for as long as they are there.
        let mut freed = pin!(self.freed.notified());
        let mut slot = pin!(share.wait());
        let queued = loop {
            let look = deadline.min(clock::now() + LOOK);
            tokio::select! {
                biased;
                Ok(wire) = &mut given => break Ok(PoolQueued::Wire(wire)),
                slot = &mut slot => break Ok(given.try_recv().map_or(PoolQueued::Slot(slot), PoolQueued::Wire)),
                () = &mut freed, if shared => break Ok(PoolQueued::Look),
                // The upstream may allow more requests at a time by now.
                () = tokio::time::sleep_until(look), if shared && look < deadline => {
                    if self.shared.borrow().iter().any(SharedConnection::has_room) {
                        break Ok(PoolQueued::Look);
                    }
                }
                () = tokio::time::sleep_until(deadline) => break Err(share.full),
            }
        };
        drop(other);
        queued.inspect_err(|fault| {
            if let DialFault::Lacking(lack) = fault {
                self.sockets.were_lacking(*lack);
            }
        })
    }

    /// Closes idle connections for requests that wait for a place, those first that have been idle for longest.
    pub(super) fn make_room(&self) {
        let is_overdue = || self.idle.borrow().front().is_some_and(|kept| kept.since.elapsed() >= TURN);
        while self.places.are_wanted() && is_overdue() {
            let Some(Idle { wire, .. }) = self.idle.borrow_mut().pop_front() else { break };
            wire.link().ends(Closed::Room);
        }
        if self.places.are_wanted() {
            let mut shared = self.shared.borrow_mut();
            if let Some(at) = shared.iter().position(|kept| Rc::strong_count(&kept.streams) == 1) {
                shared.remove(at).end.is(Closed::Room);
            }
        }
    }

    /// Gives a connection that came back to a request that waits: one of this pool, unless another pool has fewer.
    pub(super) fn pass_on(&self, mut wire: Http1Connection) {
        if self.places.go_elsewhere() {
            wire.link().ends(Closed::Room);
            return;
        }
        while let Some(waiting) = self.next_in_line() {
            match waiting.send(wire) {
                Ok(()) => {
                    self.reused.set(self.reused.get() + 1);
                    return;
                }
                Err(back) => wire = back,
            }
        }
        // Exact: it may be wanted elsewhere in a moment.
        self.rest(wire, clock::now());
    }

    fn next_in_line(&self) -> Option<oneshot::Sender<Http1Connection>> {
        self.line.borrow_mut().pop_front()
    }

    pub(super) fn rest(&self, wire: Http1Connection, since: Instant) {
        self.idle.borrow_mut().push_back(Idle { wire, since });
    }
}

/// Has `pool` make room whenever a request of another one begins to wait for a place.
pub(super) fn attend(pool: &Rc<Pool>) -> JoinHandle<()> {
    let (sets, pool) = (pool.places.sets(), Rc::downgrade(pool));
    tokio::task::spawn_local(async move {
        loop {
            // From here on no call is missed.
            let wanted = select_all(wanted(&sets));
            let Some(pool) = pool.upgrade() else { return };
            pool.make_room();
            drop(pool);
            wanted.await;
        }
    })
}

/// How often a request that waits for a shared connection looks whether one has room.
const LOOK: Duration = Duration::from_millis(100);
