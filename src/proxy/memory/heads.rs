//! Heads and trailers: they count by their decoded size, which is known only as they come.
//!
//! A head is held more than once on its way: as it was read, and as it is written for the other side. A large one of a
//! request is a part of the request's cost. A large one of a response goes on only where there is room: until then the
//! connection that it comes by is not read. What HTTP/2 makes of a few bytes on the wire counts, too.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

use super::{Level, Share, limited, read, with};
use crate::clock;
use crate::proxy::metrics::Limited;

/// What a head of so many bytes costs beyond what every request does.
pub(super) const fn cost(head: usize) -> usize {
    if head > SMALL_HEAD { head.saturating_mul(COPIES) } else { 0 }
}

/// The way of one response's head, or of its trailers, through the memory that there is.
#[derive(Debug, Default)]
pub(in crate::proxy) struct HeadRoom {
    /// Until when it waits.
    pause: Option<Pin<Box<Sleep>>>,
    /// It goes on whatever is used.
    is_let_through: bool,
}

impl HeadRoom {
    /// Ready when what has come of it, so many bytes, may be held and more of it read.
    pub(in crate::proxy) fn poll(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<()> {
        if bytes <= SMALL_RESPONSE_HEAD || self.is_let_through {
            return Poll::Ready(());
        }
        let mut has_waited = false;
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                (self.pause, has_waited) = (None, true);
            }
            if with(true, |share| share.has_room(LARGEST_COST, Level::Read)) {
                return Poll::Ready(());
            }
            if with(true, |share| share.has_credit() || share.lets_one_through()) {
                self.is_let_through = true;
                return Poll::Ready(());
            }
            if !has_waited {
                limited(Limited::Read);
            }
            self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
        }
    }

    /// Ready when a head of so many bytes, which came whole, may be passed on. It is counted.
    pub(in crate::proxy) async fn whole(&mut self, bytes: usize) {
        if bytes > SMALL_RESPONSE_HEAD {
            std::future::poll_fn(|cx| self.poll(cx, bytes)).await;
            read(cost(bytes));
        }
    }
}

impl Share {
    /// Whether applications have taken as much as the next head brings: then it fits into what they left free, which the
    /// allocator may not have given back yet.
    fn has_credit(&self) -> bool {
        let left = self.credit.get().checked_sub(CREDIT);
        let has = left.is_some() && self.has_room(LARGEST_COST, Level::Served);
        if let Some(left) = left.filter(|_| has) {
            self.credit.set(left);
        }
        has
    }

    /// Whether a head goes on without room for it: one now and then does, so that what is misjudged never stops all of them.
    fn lets_one_through(&self) -> bool {
        let now = clock::now();
        let last = self.let_through.get();
        let may = last.is_none_or(|last| now.saturating_duration_since(last) >= LET_THROUGH_EVERY);
        if may {
            self.let_through.set(Some(now));
        }
        may
    }
}

/// Applications have taken so many bytes.
pub(in crate::proxy) fn wrote(bytes: usize) {
    with((), |share| share.credit.set((share.credit.get() + bytes).min(MOST_CREDIT)));
}

/// Counts what h2 makes of heads beyond what they have on the wire.
pub(in crate::proxy) fn decoded(bytes: usize) {
    if bytes > 0 {
        read(bytes);
        with((), |share| share.decoded.set(share.decoded.get() + bytes));
    }
}

/// Whether more heads of HTTP/2 may be decoded in this turn of the worker: those that were have their handlers run first,
/// which refuse what there is no room for. `waited` is the turn in which the connection had to wait, and is kept by it.
pub(in crate::proxy) fn fits_the_turn(waited: &mut Option<u64>) -> bool {
    with(true, |share| {
        let turn = share.turn.get();
        if waited.take() == Some(turn) {
            share.turn.set(turn + 1);
            share.decoded.set(0);
        }
        let fits = share.decoded.get() < DECODED_PER_TURN;
        if !fits {
            *waited = Some(turn);
        }
        fits
    })
}

/// Bytes of a head that are a part of every request's cost.
const SMALL_HEAD: usize = 2 * 1024;
/// The same of a response: its first read brings as much.
const SMALL_RESPONSE_HEAD: usize = 4 * 1024;
/// How often a large head is held: as it was read, and as it is written.
pub(in crate::proxy) const COPIES: usize = 2;
/// The most that the next head may come to.
const LARGEST_COST: usize = COPIES * 64 * 1024;
/// What a head takes of what applications have taken, and how much of that counts.
const CREDIT: usize = 32 * 1024;
const MOST_CREDIT: usize = 16 * CREDIT;
/// How often it is looked whether there is room.
const PAUSE: Duration = Duration::from_millis(50);
const LET_THROUGH_EVERY: Duration = Duration::from_millis(250);
/// What heads may come to between two turns of a worker.
const DECODED_PER_TURN: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::super::tests::on_worker;
    use super::super::{Cost, Room, request};
    use super::*;

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
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async {
                let cx = &mut Context::from_waker(Waker::noop());
                let mut first = HeadRoom::default();
                assert!(first.poll(cx, 60_000).is_ready() && first.poll(cx, 60_000).is_ready());
                let mut second = HeadRoom::default();
                assert!(second.poll(cx, SMALL_RESPONSE_HEAD).is_ready());
                assert!(second.poll(cx, 60_000).is_pending());
                second.whole(60_000).await;
                // Nor does what applications took make room where the budget is used up.
                wrote(MOST_CREDIT);
                assert!(HeadRoom::default().poll(cx, 60_000).is_pending());
            });
        });
    }

    #[test]
    fn heads_that_are_large_once_decoded_leave_the_next_ones_to_another_turn() {
        on_worker(64 << 20, |_| {
            let (mut one, mut other) = (None, None);
            assert!(fits_the_turn(&mut one));
            decoded(DECODED_PER_TURN);
            assert!(!fits_the_turn(&mut one) && !fits_the_turn(&mut other));
            assert!(fits_the_turn(&mut one), "the turn is over");
            decoded(DECODED_PER_TURN);
            assert!(!fits_the_turn(&mut other), "that turn is not its own");
        });
    }
}
