//! A request under way on a downstream connection.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::Watch;
use super::streams::{Direction, StreamKey};
use crate::clock;
use crate::proxy::memory;

/// A request under way: while one lives, its connection is not idle.
#[derive(Debug)]
pub(crate) struct Busy {
    watch: Rc<Watch>,
    waiting: Cell<bool>,
    answered: Cell<bool>,
    /// HTTP/2 alone.
    stream: Option<StreamKey>,
}

impl Busy {
    pub(crate) fn new(watch: Rc<Watch>) -> Self {
        watch.busy.set(watch.busy.get() + 1);
        watch.resting.set(false);
        watch.begun.set(false);
        watch.waiting.set(watch.waiting.get() + 1);
        let stream = watch.streams.current();
        Self { watch, waiting: Cell::new(true), answered: Cell::new(false), stream }
    }

    /// Whether the next part of the answer has to wait: the socket is full, and hyper would keep what it is given. HTTP/2
    /// has windows for this.
    pub(crate) fn withholds(&self) -> bool {
        let watch = &self.watch;
        // hyper would gather a buffer more of it. Where memory is short, one part goes at a time.
        let behind = watch.unread_since.get().is_some() || watch.unwritten.get() && memory::is_short();
        let withholds = behind && !watch.http2.get();
        if withholds {
            watch.withheld.set(true);
        }
        withholds
    }

    /// The head of the answer is known.
    pub(crate) fn answered(&self) {
        self.answered.set(true);
        self.watch.begun.set(true);
        self.watch.moved.set(self.watch.now.get());
    }

    /// Has the connection end in order if it was accepted `limit` ago or more.
    pub(crate) fn retire_if_older(&self, limit: Duration) {
        let watch = &self.watch;
        if watch.http2.get() && clock::now().saturating_duration_since(watch.accepted) >= limit {
            watch.retired.set(true);
            watch.wake();
        }
    }

    /// The application asked for more of the answer: whether the upstream has it to give.
    pub(crate) fn asked(&self, given: bool) {
        if given {
            self.watch.moved.set(self.watch.now.get());
        }
        match self.stream {
            Some(stream) if given => {
                self.watch.streams.moved(stream, Direction::Response, self.watch.now.get());
            }
            Some(stream) => self.watch.streams.waits(stream, Direction::Response),
            None => self.watch.unwritten.set(given || self.watch.unwritten.get()),
        }
        if self.waiting.replace(!given) == given {
            let waiting = self.watch.waiting.get();
            self.watch.waiting.set(if given { waiting - 1 } else { waiting + 1 });
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let watch = &self.watch;
        watch.busy.set(watch.busy.get() - 1);
        if self.waiting.get() {
            watch.waiting.set(watch.waiting.get() - 1);
        }
        let is_reset = self.stream.is_some_and(|stream| watch.streams.is_reset(stream));
        if !self.answered.get() && !is_reset {
            watch.aborted.set(watch.aborted.get() + 1);
            if watch.aborted.get() > watch.max_aborted && watch.http2.get() {
                watch.end();
            }
        }
        watch.since.set(watch.now.get());
        watch.forget_untaken();
    }
}
