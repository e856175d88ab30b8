//! The streams of an HTTP/2 downstream connection, each judged by itself while memory is short: one that stands still is reset,
//! and the connection and its other streams go on.
//!
//! `stream_task` runs a task for each stream, and has it opened and closed here. A reset ends the task: HTTP/2 then sends
//! `RST_STREAM` with `CANCEL` to both sides and drops what it holds of the stream.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

/// One connection's streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    slots: RefCell<Vec<StreamKeySlot>>,
    /// Slots that no stream has.
    free: RefCell<Vec<usize>>,
    /// The stream whose task runs now.
    current: Cell<Option<StreamKey>>,
    /// Bytes that the socket has taken.
    written: Cell<u64>,
}

/// A stream for as long as its task runs; afterwards the key leads to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamKey {
    index: usize,
    generation: u32,
}

#[derive(Debug, Default)]
struct StreamKeySlot {
    /// How many streams have had it before.
    generation: u32,
    task: Option<JoinHandle<()>>,
    response: StreamFlow,
    upload: StreamFlow,
    is_reset: bool,
}

/// One direction of a stream.
#[derive(Clone, Copy, Debug, Default)]
struct StreamFlow {
    /// When a part of it was passed on, and what the socket had taken by then. `None`: it waits for its sender.
    held: Option<(Instant, u64)>,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the application.
    Response,
    /// To the API.
    Upload,
}

/// What is known of the whole connection when its streams are judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct StallJudgement {
    pub(super) now: Instant,
    pub(super) patience: Duration,
    /// The socket takes whatever is written: what is not written waits for its stream's window.
    pub(super) socket_is_open: bool,
    /// Uploads hold more than any connection's buffers do.
    pub(super) uploads_hold_much: bool,
}

impl Streams {
    /// A new stream.
    pub(crate) fn open(&self) -> StreamKey {
        let mut slots = self.slots.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(StreamKeySlot::default());
            slots.len() - 1
        });
        StreamKey { index, generation: slots[index].generation }
    }

    /// What a reset ends.
    pub(crate) fn began(&self, key: StreamKey, task: JoinHandle<()>) {
        self.with(key, |slot| slot.task = Some(task));
    }

    /// The stream's task has ended.
    pub(crate) fn close(&self, key: StreamKey) {
        let closed = self.with(key, |slot| {
            *slot = StreamKeySlot { generation: slot.generation.wrapping_add(1), ..StreamKeySlot::default() };
        });
        if closed.is_some() {
            self.free.borrow_mut().push(key.index);
        }
    }

    /// The stream's task runs until [`Self::leave`].
    pub(crate) fn enter(&self, key: StreamKey) {
        self.current.set(Some(key));
    }

    pub(crate) fn leave(&self) {
        self.current.set(None);
    }

    /// The stream whose task runs now; `None` in HTTP/1.1.
    pub(super) fn current(&self) -> Option<StreamKey> {
        self.current.get()
    }

    /// The socket took so many bytes.
    pub(super) fn wrote(&self, bytes: usize) {
        self.written.set(self.written.get() + bytes as u64);
    }

    /// A part was passed on: the next word is the receiver's.
    pub(super) fn moved(&self, key: StreamKey, direction: Direction, now: Instant) {
        let held = Some((now, self.written.get()));
        self.with(key, |slot| slot.flow(direction).held = held);
    }

    /// All that came was passed on: the next word is the sender's.
    pub(super) fn waits(&self, key: StreamKey, direction: Direction) {
        self.with(key, |slot| slot.flow(direction).held = None);
    }

    /// Whether it was reset here.
    pub(super) fn is_reset(&self, key: StreamKey) -> bool {
        self.with(key, |slot| slot.is_reset).unwrap_or(false)
    }

    /// Resets the streams that stand still, and says how many did.
    pub(super) fn reset_stalled(&self, judgement: StallJudgement) -> usize {
        let mut slots = self.slots.borrow_mut();
        let open = slots.iter().filter(|slot| slot.task.is_some()).count();
        // What has a window has its turn while so much is written.
        let round = open as u64 * TURN;
        let written = self.written.get();
        let passed = |since| judgement.now.saturating_duration_since(since) > judgement.patience;
        let mut count = 0;
        for slot in slots.iter_mut().filter(|slot| !slot.is_reset) {
            let unread = slot.response.held.is_some_and(|(since, then)| {
                passed(since) && (judgement.socket_is_open || written - then >= round)
            });
            let untaken =
                judgement.uploads_hold_much && slot.upload.held.is_some_and(|(since, _)| passed(since));
            if let Some(task) = slot.task.as_ref().filter(|_| unread || untaken) {
                task.abort();
                slot.is_reset = true;
                count += 1;
            }
        }
        count
    }

    fn with<T>(&self, key: StreamKey, then: impl FnOnce(&mut StreamKeySlot) -> T) -> Option<T> {
        let mut slots = self.slots.borrow_mut();
        slots.get_mut(key.index).filter(|slot| slot.generation == key.generation).map(then)
    }
}

impl StreamKeySlot {
    const fn flow(&mut self, direction: Direction) -> &mut StreamFlow {
        match direction {
            Direction::Response => &mut self.response,
            Direction::Upload => &mut self.upload,
        }
    }
}

/// Bytes that a stream may have written in its turn: a frame, or a part of a body as large as any.
const TURN: u64 = 128 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// A connection with a stream that waits for ever, for each of `count`.
    fn streams(count: usize) -> (Streams, Vec<StreamKey>) {
        let streams = Streams::default();
        let open = || {
            let key = streams.open();
            streams.began(key, tokio::task::spawn_local(std::future::pending()));
            key
        };
        let keys = std::iter::repeat_with(open).take(count).collect();
        (streams, keys)
    }

    fn judgement(after: Duration) -> StallJudgement {
        StallJudgement {
            now: clock::now() + after,
            patience: PATIENCE,
            socket_is_open: true,
            uploads_hold_much: true,
        }
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn one_stream_that_stands_still_is_reset_and_its_neighbours_go_on() {
        let (streams, keys) = streams(4);
        let [unread, waiting, untaken, reads] = keys[..] else { unreachable!() };
        streams.moved(unread, Direction::Response, clock::now());
        streams.moved(waiting, Direction::Response, clock::now());
        streams.waits(waiting, Direction::Response);
        streams.moved(untaken, Direction::Upload, clock::now());
        streams.moved(reads, Direction::Response, clock::now() + PATIENCE);
        assert_eq!(streams.reset_stalled(judgement(PATIENCE)), 0);
        let late = judgement(PATIENCE * 3 / 2);
        assert_eq!(streams.reset_stalled(StallJudgement { uploads_hold_much: false, ..late }), 1);
        assert_eq!(streams.reset_stalled(late), 1);
        assert_eq!(streams.reset_stalled(late), 0, "each is reset once");
        let reset = keys.iter().map(|key| streams.is_reset(*key)).collect::<Vec<_>>();
        assert_eq!(reset, [true, false, true, false]);
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn a_stream_that_waits_for_its_turn_on_a_slow_connection_does_not_stand_still() {
        let (streams, keys) = streams(10);
        for key in &keys {
            streams.moved(*key, Direction::Response, clock::now());
        }
        let slow = StallJudgement { socket_is_open: false, ..judgement(PATIENCE * 2) };
        streams.wrote(10 * TURN as usize - 1);
        assert_eq!(streams.reset_stalled(slow), 0);
        streams.moved(keys[0], Direction::Response, slow.now);
        streams.wrote(1);
        assert_eq!(streams.reset_stalled(slow), 9, "the one that is read goes on");
    }

    #[tokio::test(flavor = "local", start_paused = true)]
    async fn a_key_of_a_stream_that_has_ended_leads_to_no_other() {
        let (streams, keys) = streams(1);
        streams.close(keys[0]);
        let next = streams.open();
        streams.began(next, tokio::task::spawn_local(std::future::pending()));
        streams.moved(keys[0], Direction::Response, clock::now());
        assert_eq!(streams.reset_stalled(judgement(PATIENCE * 2)), 0);
        streams.close(keys[0]);
        assert_ne!(streams.open(), next);
    }
}
