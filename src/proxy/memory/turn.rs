//! The heads that a worker decodes at a time.
//!
//! h2 decodes whatever comes, and makes megabytes of a few kilobytes. What becomes of a request is known once its handler has
//! run. So after some heads no HTTP/2 connection is read until the handlers of those had their turn: they refuse what there is
//! no room for.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::task::{spawn_local, yield_now};

use super::share::{read, with};

/// One worker's turn.
#[derive(Debug, Default)]
struct DecodeTurn {
    /// What heads came to in it.
    decoded: Cell<usize>,
    /// Whether it is about to end.
    is_ending: Cell<bool>,
    /// Connections that wait for the next.
    waiting: RefCell<VecDeque<Waker>>,
}

thread_local! {
    /// The worker's own.
    static TURN: Rc<DecodeTurn> = Rc::default();
}

impl DecodeTurn {
    fn poll(self: &Rc<Self>, cx: &Context<'_>) -> Poll<()> {
        if self.decoded.get() < DECODED_PER_TURN {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        // h2 reads on for each request that hyper takes off it.
        if !waiting.back().is_some_and(|last| last.will_wake(cx.waker())) {
            waiting.push_back(cx.waker().clone());
        }
        if !self.is_ending.replace(true) {
            spawn_local(end(Rc::clone(self)));
        }
        Poll::Pending
    }

    /// Begins the next, with some of the connections that wait. Whether others wait for one more.
    fn next(&self) -> bool {
        self.decoded.set(0);
        let mut waiting = self.waiting.borrow_mut();
        let some = waiting.len().min(CONNECTIONS_PER_TURN);
        let woken: Vec<_> = waiting.drain(..some).collect();
        let others = !waiting.is_empty();
        drop(waiting);
        woken.into_iter().for_each(Waker::wake);
        others
    }
}

/// Ends turns until no connection waits.
async fn end(turn: Rc<DecodeTurn>) {
    loop {
        // The handlers are spawned behind this task, and before it is woken.
        yield_now().await;
        yield_now().await;
        if !turn.next() {
            turn.is_ending.set(false);
            return;
        }
    }
}

/// Ready when more heads of HTTP/2 may be decoded.
pub(crate) fn poll_turn(cx: &Context<'_>) -> Poll<()> {
    with(Poll::Ready(()), |_| TURN.with(|turn| turn.poll(cx)))
}

/// Counts what h2 makes of heads.
pub(crate) fn decoded(bytes: usize) {
    if bytes > 0 {
        read(bytes);
        TURN.with(|turn| turn.decoded.set(turn.decoded.get() + bytes));
    }
}

/// What heads may come to in one turn, and how many of the connections that wait have the next.
const DECODED_PER_TURN: usize = 1024 * 1024;
const CONNECTIONS_PER_TURN: usize = 16;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::task::LocalSet;

    use super::*;
    use crate::proxy::memory::share::tests::on_worker;

    #[test]
    fn heads_that_are_large_once_decoded_have_their_handlers_run_before_the_next() {
        on_worker(64 << 20, |_| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let order = Rc::new(RefCell::new(Vec::new()));
            let tasks = LocalSet::new();
            for connection in 0..40 {
                let order = Rc::clone(&order);
                tasks.spawn_local(async move {
                    for _ in 0..2 {
                        poll_fn(|cx| poll_turn(cx)).await;
                        order.borrow_mut().push("head");
                        decoded(DECODED_PER_TURN);
                        // As h2 does for each request.
                        let again = poll_fn(|cx| Poll::Ready(poll_turn(cx).is_ready())).await;
                        assert!(!again, "{connection}");
                        let order = Rc::clone(&order);
                        spawn_local(async move { order.borrow_mut().push("handler") });
                    }
                });
            }
            runtime.block_on(tasks);
            assert_eq!(*order.borrow(), ["head", "handler"].repeat(80));
        });
    }
}
