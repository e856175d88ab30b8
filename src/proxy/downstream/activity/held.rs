//! What a downstream connection holds in memory, and whether it waits for memory: what `socket` goes by before it reads.

use std::cell::Cell;
use std::rc::Rc;

use super::Watch;
use super::streams::{Direction, StreamKey};
use crate::proxy::memory::{self, WaitingFor};

/// A request's body that is being received: hyper may hold a part of it after the answer's end, and reads no request
/// before it is through with that. Dropped before the body's end, it abandons the rest.
#[derive(Debug)]
pub(crate) struct Receiving {
    watch: Rc<Watch>,
    whole: bool,
    /// Everything of it that came was taken.
    starving: Cell<bool>,
    /// HTTP/2 alone.
    stream: Option<StreamKey>,
}

impl Watch {
    /// Waits for memory: [`Self::resume`] has it look again.
    pub(crate) fn pause(&self, wanted: WaitingFor) {
        self.paused.set(true);
        memory::want(wanted);
    }

    /// There may be memory again.
    pub(crate) fn resume(&self) {
        if self.paused.replace(false) {
            self.wake();
        }
    }

    /// Bytes of a request's body were read, which the upstream has not taken yet.
    pub(crate) fn holds(&self, bytes: usize) {
        if self.untaken.get() == 0 {
            self.taken.set(self.now.get());
        }
        self.untaken.set(self.untaken.get() + bytes);
    }

    /// What was left of bodies that broke off, or that nothing wanted, is gone with them.
    pub(super) fn forget_untaken(&self) {
        if !self.receives() {
            self.untaken.set(0);
            self.resume();
        }
    }

    /// Whether a request's body is being received.
    pub(crate) const fn receives(&self) -> bool {
        self.receiving.get() > 0
    }

    /// Bytes that were read of requests' bodies and not taken.
    pub(crate) const fn untaken(&self) -> usize {
        self.untaken.get()
    }
}

impl Receiving {
    pub(crate) fn new(watch: Rc<Watch>) -> Self {
        watch.receiving.set(watch.receiving.get() + 1);
        let stream = watch.streams.current();
        let receiving = Self { watch, whole: false, starving: Cell::new(false), stream };
        receiving.moved();
        receiving
    }

    /// So many bytes of it were taken.
    pub(crate) fn took(&self, bytes: usize) {
        let watch = &self.watch;
        watch.untaken.set(watch.untaken.get().saturating_sub(bytes));
        watch.taken.set(watch.now.get());
        self.starve(false);
        self.moved();
    }

    /// More of it is wanted than has come.
    pub(crate) fn starves(&self) {
        let watch = &self.watch;
        self.starve(true);
        if let Some(stream) = self.stream {
            watch.streams.waits(stream, Direction::Upload);
            // What was padded or reset is never taken, and is not held either.
            if watch.starving.get() == watch.receiving.get() {
                watch.untaken.set(0);
            }
        }
    }

    /// The body has come to its end.
    pub(crate) fn ended(mut self) {
        self.whole = true;
    }

    fn moved(&self) {
        if let Some(stream) = self.stream {
            self.watch.streams.moved(stream, Direction::Upload, self.watch.now.get());
        }
    }

    fn starve(&self, starving: bool) {
        if self.starving.replace(starving) != starving {
            let all = self.watch.starving.get();
            self.watch.starving.set(if starving { all + 1 } else { all - 1 });
        }
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let watch = &self.watch;
        self.starve(false);
        if let Some(stream) = self.stream {
            watch.streams.waits(stream, Direction::Upload);
        }
        watch.receiving.set(watch.receiving.get() - 1);
        watch.since.set(watch.now.get());
        if !self.whole {
            watch.abandon_body();
        }
        watch.forget_untaken();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[tokio::test(flavor = "local")]
    async fn bytes_that_were_padding_or_were_reset_are_not_held_for_ever() {
        let watch = Watch::new(Rc::new(Cell::new(clock::now())), usize::MAX);
        let key = watch.streams.open();
        watch.streams.enter(key);
        let [reset, padded] = [(); 2].map(|()| Receiving::new(Rc::clone(&watch)));
        watch.streams.leave();
        watch.holds(100_000);
        drop(reset);
        padded.took(20_000);
        assert_eq!(watch.untaken(), 80_000);
        padded.starves();
        assert_eq!(watch.untaken(), 0, "all that is left to be taken was taken");
        watch.holds(1000);
        assert_eq!(watch.untaken(), 1000);
        padded.took(1000);
        drop(padded);
        assert_eq!(watch.starving.get(), 0);
    }
}
