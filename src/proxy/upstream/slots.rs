//! Places for connections to upstreams where there are only so many: the share of open files that all of them have, and what
//! `max_connections` and `http2_connections` allow to one upstream.
//!
//! Every worker has pools of its own, and all of them draw from here, but only where a connection is opened. Where no place is
//! left, requests stand in line, and pools give way: what is idle is closed, and a connection that comes back goes to a
//! request of its own pool, unless another pool that waits has fewer.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::clock;

/// Places, and who waits for one.
#[derive(Debug)]
pub(super) struct Slots {
    count: usize,
    /// How many share it.
    holders: AtomicUsize,
    /// Whether the last ones are kept for those who have none.
    keeps_some: bool,
    line: Mutex<SlotQueue>,
    /// How many wait.
    waiting: AtomicUsize,
    /// Told when the first of a line begins to wait, and while it does.
    wanted: Notify,
}

#[derive(Debug)]
struct SlotQueue {
    free: usize,
    /// Holders that have one.
    having: usize,
    next: u64,
    /// By the order in which they came.
    waiters: BTreeMap<u64, Waiter>,
}

#[derive(Debug)]
struct Waiter {
    holder: Arc<Holder>,
    since: Instant,
    grant: oneshot::Sender<ConnectionSlot>,
}

/// Who holds places: a pool.
#[derive(Debug, Default)]
pub(super) struct Holder {
    held: AtomicUsize,
}

/// A place, which is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    slots: Arc<Slots>,
    holder: Arc<Holder>,
}

/// A request stands in line as long as this lives.
struct SlotWaiter<'s> {
    slots: &'s Slots,
    ticket: u64,
}

impl Holder {
    fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}

impl Slots {
    /// So many, for those who come first.
    pub(crate) fn new(count: usize) -> Arc<Self> {
        Self::of(count, false)
    }

    /// So many, with one for each holder, as far as they go: for what a holder does not give back while it uses it.
    pub(crate) fn for_each(count: usize) -> Arc<Self> {
        Self::of(count, true)
    }

    fn of(count: usize, keeps_some: bool) -> Arc<Self> {
        let line = SlotQueue { free: count, having: 0, next: 0, waiters: BTreeMap::new() };
        let (line, holders) = (Mutex::new(line), AtomicUsize::new(0));
        let (waiting, wanted) = (AtomicUsize::new(0), Notify::new());
        Arc::new(Self { count, holders, keeps_some, line, waiting, wanted })
    }

    /// For one more pool.
    pub(crate) fn join(&self) -> Arc<Holder> {
        self.holders.fetch_add(1, Ordering::Relaxed);
        Arc::default()
    }

    /// How many there are, free or not.
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// How many of them fall to each pool.
    pub(crate) fn fair_share(&self) -> usize {
        self.count.div_ceil(self.holders.load(Ordering::Relaxed).max(1))
    }

    /// One that is free, where no other holder waits for it.
    pub(crate) fn take(self: &Arc<Self>, holder: &Arc<Holder>) -> Option<ConnectionSlot> {
        let mut line = self.lock();
        self.take_from(&mut line, holder)
    }

    fn take_from(self: &Arc<Self>, line: &mut SlotQueue, holder: &Arc<Holder>) -> Option<ConnectionSlot> {
        let is_first =
            !line.waiters.values().take(LOOKED_AT).any(|waiter| self.has_one(line, &waiter.holder));
        (is_first && self.has_one(line, holder)).then(|| self.slot(line, holder))
    }

    /// Whether one is free for `holder`.
    pub(super) fn has_free(&self, holder: &Arc<Holder>) -> bool {
        let line = self.lock();
        line.waiters.is_empty() && self.has_one(&line, holder)
    }

    fn has_one(&self, line: &SlotQueue, holder: &Holder) -> bool {
        let without = self.count.min(self.holders.load(Ordering::Relaxed)).saturating_sub(line.having);
        let kept = if self.keeps_some && holder.held() > 0 { without } else { 0 };
        line.free > kept
    }

    /// The next one that is free: who has fewest comes first, and then who has waited for longest.
    pub(crate) async fn wait(self: &Arc<Self>, holder: &Arc<Holder>) -> ConnectionSlot {
        let (grant, mut granted) = oneshot::channel();
        let waiting = {
            let mut line = self.lock();
            if let Some(free) = self.take_from(&mut line, holder) {
                return free;
            }
            let ticket = line.next;
            line.next += 1;
            line.waiters.insert(ticket, Waiter { holder: Arc::clone(holder), since: clock::now(), grant });
            self.note(&line);
            SlotWaiter { slots: self, ticket }
        };
        self.wanted.notify_waiters();
        loop {
            tokio::select! {
                biased;
                granted = &mut granted => match granted {
                    Ok(slot) => return slot,
                    // A waiter leaves the line with a slot alone.
                    Err(_) => pending().await,
                },
                // What was in use then may be idle by now.
                () = tokio::time::sleep(TURN) => if self.is_first(waiting.ticket) {
                    self.wanted.notify_waiters();
                },
            }
        }
    }

    /// Whether a request waits for one.
    pub(super) fn are_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Ends when a request begins to wait, or still does.
    pub(crate) fn wanted(&self) -> Notified<'_> {
        self.wanted.notified()
    }

    /// Whether `holder` gives up a connection that came back: another one that waits has fewer, or has waited for a while and has
    /// none.
    pub(super) fn go_elsewhere(&self, holder: &Arc<Holder>) -> bool {
        if !self.are_wanted() {
            return false;
        }
        let line = self.lock();
        let mut first = line.waiters.values().take(LOOKED_AT);
        first.find(|waiter| !Arc::ptr_eq(&waiter.holder, holder)).is_some_and(|waiter| {
            let theirs = waiter.holder.held();
            holder.held() > theirs + 1 || theirs == 0 && waiter.since.elapsed() >= TURN
        })
    }

    fn is_first(&self, ticket: u64) -> bool {
        self.lock().waiters.first_key_value().is_some_and(|(first, _)| *first == ticket)
    }

    fn slot(self: &Arc<Self>, line: &mut SlotQueue, holder: &Arc<Holder>) -> ConnectionSlot {
        line.free -= 1;
        line.having += usize::from(holder.held.fetch_add(1, Ordering::Relaxed) == 0);
        ConnectionSlot { slots: Arc::clone(self), holder: Arc::clone(holder) }
    }

    fn note(&self, line: &SlotQueue) {
        self.waiting.store(line.waiters.len(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, SlotQueue> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut line = self.slots.lock();
        line.free += 1;
        line.having -= usize::from(self.holder.held.fetch_sub(1, Ordering::Relaxed) == 1);
        let first = line.waiters.iter().take(LOOKED_AT);
        let may_have_it = first.filter(|(_, waiter)| self.slots.has_one(&line, &waiter.holder));
        // Who came first, of those who have fewest: what another gave up for them must not go elsewhere.
        let next = may_have_it.min_by_key(|(ticket, waiter)| (waiter.holder.held(), **ticket));
        let Some(ticket) = next.map(|(ticket, _)| *ticket) else { return };
        let Some(waiter) = line.waiters.remove(&ticket) else { return };
        let slot = self.slots.slot(&mut line, &waiter.holder);
        self.slots.note(&line);
        drop(line);
        // Where it has left, its slot goes on to the next.
        drop(waiter.grant.send(slot));
    }
}

impl Drop for SlotWaiter<'_> {
    fn drop(&mut self) {
        let mut line = self.slots.lock();
        line.waiters.remove(&self.ticket);
        self.slots.note(&line);
    }
}

/// How long a connection that is idle is kept for its own pool where another waits; and how long a pool that has none waits while
/// another one goes on with its own.
pub(crate) const TURN: Duration = Duration::from_millis(20);
/// How many of a line are looked at for one of another pool. Those that are served leave it, so that others come to its head.
const LOOKED_AT: usize = 32;

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn places_go_to_those_who_wait_in_their_order() {
        let slots = Slots::new(1);
        let [one, other] = [Arc::<Holder>::default(), Arc::default()];
        let held = slots.take(&one).unwrap();
        assert!(slots.take(&other).is_none() && !slots.are_wanted() && !slots.has_free(&one));
        let mut first = Box::pin(slots.wait(&other));
        let mut left = Box::pin(slots.wait(&one));
        let mut second = Box::pin(slots.wait(&one));
        assert!([&mut first, &mut left, &mut second].into_iter().all(|wait| wait.now_or_never().is_none()));
        assert!(slots.are_wanted());
        drop((held, left));
        let first = first.now_or_never().expect("it came first");
        assert!(second.as_mut().now_or_never().is_none());
        assert_eq!((one.held(), other.held()), (0, 1));
        drop(first);
        let second = second.now_or_never().expect("it came second");
        assert!(!slots.are_wanted());
        drop(second);
        assert!(slots.has_free(&one));
        assert!(slots.wait(&one).now_or_never().is_some(), "no other waits");
    }

    #[tokio::test]
    async fn each_holder_has_one_as_far_as_they_go() {
        let slots = Slots::for_each(3);
        let [one, other] = [slots.join(), slots.join()];
        let held = [slots.take(&one).unwrap(), slots.take(&one).unwrap()];
        assert!(slots.take(&one).is_none(), "the last is the other one's");
        let mut more = Box::pin(slots.wait(&one));
        assert!(more.as_mut().now_or_never().is_none());
        let theirs = slots.take(&other).expect("who came before may not have it");
        drop(held);
        assert!(more.now_or_never().is_some());
        drop(theirs);
        assert_eq!((slots.fair_share(), one.held(), other.held()), (2, 0, 0));
    }

    #[tokio::test]
    async fn a_place_that_was_granted_to_who_has_left_goes_on() {
        let slots = Slots::new(1);
        let holder = Arc::<Holder>::default();
        let held = slots.take(&holder).unwrap();
        let mut left = Box::pin(slots.wait(&holder));
        assert!(left.as_mut().now_or_never().is_none());
        drop(held);
        drop(left);
        assert!(slots.has_free(&holder));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_goes_on_with_its_connections_unless_another_has_fewer_or_none_for_long() {
        let slots = Slots::new(3);
        let [one, other] = [Arc::<Holder>::default(), Arc::default()];
        let mut held =
            vec![slots.take(&one).unwrap(), slots.take(&one).unwrap(), slots.take(&other).unwrap()];
        let mut own = Box::pin(slots.wait(&one));
        assert!(own.as_mut().now_or_never().is_none());
        assert!(!slots.go_elsewhere(&one), "no other holder waits");
        let mut theirs = Box::pin(slots.wait(&other));
        assert!(theirs.as_mut().now_or_never().is_none());
        tokio::time::advance(TURN).await;
        assert!(!slots.go_elsewhere(&one), "two and one are as even as three can be");
        // What is given up goes to the one with fewer, though the other one came first.
        drop(held.pop());
        assert!(own.as_mut().now_or_never().is_none());
        let _theirs = theirs.now_or_never().unwrap();
        drop(own);

        let slots = Slots::new(2);
        let [one, other] = [Arc::<Holder>::default(), Arc::default()];
        let _held = [slots.take(&one).unwrap(), slots.take(&one).unwrap()];
        let mut theirs = Box::pin(slots.wait(&other));
        assert!(theirs.as_mut().now_or_never().is_none());
        assert!(slots.go_elsewhere(&one), "two and none are not even");

        let slots = Slots::new(1);
        let [one, other] = [Arc::<Holder>::default(), Arc::default()];
        let _held = slots.take(&one).unwrap();
        let mut theirs = Box::pin(slots.wait(&other));
        assert!(theirs.as_mut().now_or_never().is_none());
        assert!(!slots.go_elsewhere(&one), "its turn has just begun");
        tokio::time::advance(TURN).await;
        assert!(slots.go_elsewhere(&one));
    }
}
