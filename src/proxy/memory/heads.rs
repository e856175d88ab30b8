//! Heads and trailers: they count by their decoded size, which is known only as they come.
//!
//! A head is held more than once on its way: as it was read, and as it is written for the other side. A large one of a
//! request is a part of the request's cost. A large one of a response goes on only where there is room, or as fast as
//! applications take what went on before it: until then the connection that it comes by is not read.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

use super::charge::{COPIES, cost};
use super::metrics::Limited;
use super::share::{Level, WorkerShare, limited, read, with};
use crate::clock;

/// The way of one response's head, or of its trailers, through the memory that there is.
#[derive(Debug, Default)]
pub(crate) struct HeadRoom {
    /// Its bytes that may be held whatever is used.
    granted: usize,
    /// Its place among those that wait.
    place: Option<HeadPlace>,
    /// When the first of those looks again.
    pause: Option<Pin<Box<Sleep>>>,
}

/// Heads that wait for memory: the longest first.
#[derive(Debug, Default)]
struct HeadQueue {
    waiting: RefCell<BTreeMap<u64, Waker>>,
    next: Cell<u64>,
    /// Bytes that applications have taken and no head has followed: the memory that they had is free, though the allocator may
    /// not have given it back yet.
    credit: Cell<usize>,
    /// When a head was last let through without room for it.
    let_through: Cell<Option<Instant>>,
}

thread_local! {
    /// The worker's own.
    static LINE: Rc<HeadQueue> = Rc::default();
}

/// A head's place in the line. It stays the same until the head is whole.
#[derive(Debug)]
struct HeadPlace {
    number: u64,
    line: Rc<HeadQueue>,
}

impl HeadRoom {
    /// Ready when what has come of it, so many bytes, may be held and more of it read.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<()> {
        if bytes <= SMALL_RESPONSE_HEAD || bytes <= self.granted {
            return Poll::Ready(());
        }
        let Some(share) = with(None, |share| Some(Rc::clone(share))) else { return Poll::Ready(()) };
        if self.place.is_none()
            && LINE.with(|line| line.is_empty())
            && share.has_room(LARGEST_COST, Level::Read)
        {
            return Poll::Ready(());
        }
        let place = self.place.get_or_insert_with(|| {
            limited(Limited::Read);
            HeadPlace::last()
        });
        place.wait(cx);
        if !place.is_first() {
            self.pause = None;
            return Poll::Pending;
        }
        if !place.line.lets_on(&share, bytes, &mut self.granted) {
            // Polled until it has not come: then it wakes.
            while self.pause.get_or_insert_with(|| Box::pin(sleep(PAUSE))).as_mut().poll(cx).is_ready() {
                self.pause = None;
            }
            return Poll::Pending;
        }
        self.pause = None;
        place.leave();
        Poll::Ready(())
    }

    /// The same; `waits` says whether it is not.
    pub(crate) fn poll_noted(&mut self, cx: &mut Context<'_>, bytes: usize, waits: &Cell<bool>) -> Poll<()> {
        let polled = self.poll(cx, bytes);
        waits.set(polled.is_pending());
        polled
    }

    /// Ready when a head of so many bytes, which came whole, may be passed on. It is counted.
    pub(crate) async fn whole(&mut self, bytes: usize, waits: &Cell<bool>) {
        if bytes > SMALL_RESPONSE_HEAD {
            std::future::poll_fn(|cx| self.poll_noted(cx, bytes, waits)).await;
            read(cost(bytes));
        }
    }
}

impl HeadPlace {
    fn last() -> Self {
        let line = LINE.with(Rc::clone);
        let number = line.next.get();
        line.next.set(number + 1);
        Self { number, line }
    }

    fn wait(&self, cx: &Context<'_>) {
        self.line.waiting.borrow_mut().insert(self.number, cx.waker().clone());
    }

    fn is_first(&self) -> bool {
        self.line.waiting.borrow().first_key_value().is_none_or(|(first, _)| *first == self.number)
    }

    /// Goes on; the next one looks whether it may, too.
    fn leave(&self) {
        if self.line.waiting.borrow_mut().remove(&self.number).is_some() {
            self.line.wake();
        }
    }
}

impl Drop for HeadPlace {
    fn drop(&mut self) {
        self.leave();
    }
}

impl HeadQueue {
    fn is_empty(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    fn wake(&self) {
        if let Some((_, first)) = self.waiting.borrow().first_key_value() {
            first.wake_by_ref();
        }
    }

    /// Whether the first of those that wait goes on: there is room, or applications have taken as much as has come of it. One
    /// now and then does in any case, so that what is misjudged never stops all of them.
    fn lets_on(&self, share: &WorkerShare, bytes: usize, granted: &mut usize) -> bool {
        if share.has_room(LARGEST_COST, Level::Read) {
            return true;
        }
        let left = self.credit.get().checked_sub(bytes - *granted);
        if let Some(left) = left
            && share.has_room(LARGEST_COST, Level::Served)
        {
            self.credit.set(left);
            *granted = bytes;
            return true;
        }
        let now = clock::now();
        let last = self.let_through.get();
        let may = last.is_none_or(|last| now.saturating_duration_since(last) >= LET_THROUGH_EVERY);
        if may {
            self.let_through.set(Some(now));
            *granted = usize::MAX;
        }
        may
    }
}

/// Applications have taken so many bytes.
pub(crate) fn wrote(bytes: usize) {
    LINE.with(|line| {
        line.credit.set((line.credit.get() + bytes).min(MOST_CREDIT));
        if !line.is_empty() {
            line.wake();
        }
    });
}

/// Bytes of a response's head that its first read brings.
const SMALL_RESPONSE_HEAD: usize = 4 * 1024;
/// The most that the next head may come to.
const LARGEST_COST: usize = COPIES * 64 * 1024;
/// How much of what applications have taken counts.
const MOST_CREDIT: usize = 512 * 1024;
/// How often it is looked whether there is room.
const PAUSE: Duration = Duration::from_millis(50);
const LET_THROUGH_EVERY: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::memory::charge::{Cost, Room, request};
    use crate::proxy::memory::share::tests::{on_worker, paused};

    #[test]
    fn requests_with_large_heads_take_more_of_the_budget_until_they_end() {
        on_worker(16 << 20, |share| {
            let admitted = |head: usize| {
                let open: Vec<_> = std::iter::from_fn(|| match request(head) {
                    Room::Taken(charge) => Some(charge),
                    Room::None => None,
                })
                .collect();
                open.len()
            };
            let small = admitted(1024);
            assert_eq!(small, (13 << 20) / Cost::Request.bytes());
            assert_eq!(admitted(56 * 1024), (13 << 20) / (Cost::Request.bytes() + 112 * 1024));
            share.look(16 << 20);
            assert_eq!(admitted(1024), small, "all was given back");
        });
    }

    #[test]
    fn a_large_head_waits_where_there_is_no_room_and_a_small_one_never_does() {
        on_worker(0, |_| {
            let runtime = paused();
            runtime.block_on(async {
                let cx = &mut Context::from_waker(Waker::noop());
                let mut first = HeadRoom::default();
                assert!(first.poll(cx, 60_000).is_ready() && first.poll(cx, 60_000).is_ready());
                let mut second = HeadRoom::default();
                let waits = Cell::new(false);
                assert!(second.poll_noted(cx, SMALL_RESPONSE_HEAD, &waits).is_ready() && !waits.get());
                assert!(second.poll_noted(cx, 60_000, &waits).is_pending() && waits.get());
                second.whole(60_000, &waits).await;
                assert!(!waits.get(), "one goes on now and then");
                // Nor does what applications took make room where the budget is used up.
                wrote(MOST_CREDIT);
                assert!(HeadRoom::default().poll(cx, 60_000).is_pending());
            });
        });
    }

    #[test]
    fn heads_that_wait_go_on_in_their_order_as_applications_take_others() {
        // No room to read, and some to serve.
        on_worker(2 * LARGEST_COST, |_share| {
            let runtime = paused();
            runtime.block_on(async {
                let cx = &mut Context::from_waker(Waker::noop());
                LINE.with(|line| line.let_through.set(Some(clock::now())));
                let mut heads: [HeadRoom; 4] = Default::default();
                let mut ready = || {
                    let polled = heads.iter_mut().map(|head| head.poll(cx, 60_000).is_ready());
                    polled.collect::<Vec<_>>()
                };
                assert_eq!(ready(), [false; 4]);
                wrote(130_000);
                assert_eq!(ready(), [true, true, false, false]);
                wrote(30_000);
                assert_eq!(ready(), [true, true, false, false], "not enough for one");
                let [_, _, third, mut fourth] = heads;
                drop(third);
                assert!(fourth.poll(cx, 30_000).is_ready(), "the one that waited before it has gone");
                assert!(LINE.with(|line| line.is_empty()));
            });
        });
    }
}
