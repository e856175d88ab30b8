//! What a worker sees of a downstream connection: how long things take, and whether it is to end.
//!
//! No timer is armed for a request. Each connection writes down what it is at, and since when; its worker looks at all of them
//! a few times a second. A connection that is late ends with an error at its next read or write.

mod busy;
mod held;
mod streams;

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::task::Waker;
use std::time::Duration;

use cupbearer_h1::framing::Phase;
use tokio::time::Instant;

use super::stream::Stream;
use crate::clock;
use crate::proxy::memory::{self, Limited};
use crate::proxy::settings::ServerSettings;

pub(crate) use busy::Busy;
pub(crate) use held::Receiving;
use streams::StallJudgement;
pub(crate) use streams::{StreamKey, Streams};

/// A downstream connection as its worker sees it.
#[derive(Debug)]
pub(crate) struct Watch {
    /// When the connection was accepted.
    accepted: Instant,
    phase: Cell<Phase>,
    /// When the phase began, or the last answer ended.
    since: Cell<Instant>,
    http2: Cell<bool>,
    /// Requests that are not answered to the end.
    busy: Cell<usize>,
    /// Of those, the ones that their upstream has the next word in.
    waiting: Cell<usize>,
    /// Requests' bodies that have not come to their end, though their answers may have.
    receiving: Cell<usize>,
    /// Whose word is next; HTTP/1.1 alone.
    turn: Cell<HyperTurn>,
    /// The rest of a request's body will not be read as one; HTTP/1.1 alone.
    abandoned: Cell<bool>,
    /// When a part of an answer was last taken.
    moved: Cell<Instant>,
    /// Whether the head of the last request's answer is known.
    begun: Cell<bool>,
    /// Requests that ended without an answer in the second that began last, and when that was.
    aborted: Cell<usize>,
    /// HTTP/2 frames that carried nothing in that second.
    idle_frames: Cell<usize>,
    counted_from: Cell<Instant>,
    max_aborted: usize,
    /// What may be looked at to see whether the application is still there.
    stream: OnceCell<Weak<Stream>>,
    /// Since when the socket takes no more of what is to be sent, and since when it takes everything.
    unread_since: Cell<Option<Instant>>,
    flowing_since: Cell<Instant>,
    late: Cell<bool>,
    /// Whether it is late with the rest of a head that has begun.
    half_head: Cell<bool>,
    /// Whether it waits for the first byte of a TLS handshake.
    silent: Cell<bool>,
    /// Whether it has become a tunnel, which has limits of its own.
    tunnel: Cell<bool>,
    retired: Cell<bool>,
    /// Whether its task was told that it may rest, since the last request.
    resting: Cell<bool>,
    /// Whether it waits for memory.
    paused: Cell<bool>,
    /// Whether a part of an answer was given and not written yet; HTTP/1.1 alone.
    unwritten: Cell<bool>,
    /// Whether a part of an answer waits until what is before it was written.
    withheld: Cell<bool>,
    /// Bytes of requests' bodies that were read and not taken, and when some were taken last.
    untaken: Cell<usize>,
    taken: Cell<Instant>,
    /// Requests' bodies of which everything that came was taken.
    starving: Cell<usize>,
    /// HTTP/2 alone.
    streams: Streams,
    waker: RefCell<Option<Waker>>,
    /// The worker's clock, as of its last look: exact enough for limits of seconds, and free.
    now: Rc<Cell<Instant>>,
}

/// Whose word is next on an HTTP/1.1 connection.
///
/// hyper refuses a head that it cannot parse by itself, in bytes that an API's response may have as well. It does so only
/// where nothing of a response is left to write, so the turn tells the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HyperTurn {
    /// The application's: no request is under way, and every response is written.
    Application,
    /// The handler's: it has a request.
    Handler,
    /// A response is being written.
    Response,
}

impl Watch {
    /// `now` is the worker's clock; more than `max_aborted` requests that are taken back in a second end the connection.
    pub(crate) fn new(now: Rc<Cell<Instant>>, max_aborted: usize) -> Rc<Self> {
        Rc::new(Self {
            accepted: clock::now(),
            phase: Cell::new(Phase::Idle),
            since: Cell::new(now.get()),
            http2: Cell::new(false),
            busy: Cell::new(0),
            waiting: Cell::new(0),
            receiving: Cell::new(0),
            turn: Cell::new(HyperTurn::Application),
            abandoned: Cell::new(false),
            moved: Cell::new(now.get()),
            begun: Cell::new(false),
            aborted: Cell::new(0),
            idle_frames: Cell::new(0),
            counted_from: Cell::new(now.get()),
            max_aborted,
            stream: OnceCell::new(),
            unread_since: Cell::new(None),
            flowing_since: Cell::new(now.get()),
            late: Cell::new(false),
            half_head: Cell::new(false),
            silent: Cell::new(false),
            tunnel: Cell::new(false),
            retired: Cell::new(false),
            resting: Cell::new(false),
            paused: Cell::new(false),
            unwritten: Cell::new(false),
            withheld: Cell::new(false),
            untaken: Cell::new(0),
            taken: Cell::new(now.get()),
            starving: Cell::new(0),
            streams: Streams::default(),
            waker: RefCell::new(None),
            now,
        })
    }

    /// What the connection is at, after a read.
    pub(crate) fn reached(&self, phase: Phase, http2: bool) {
        if phase != self.phase.replace(phase) {
            self.since.set(self.now.get());
            self.http2.set(http2);
        }
    }

    /// A handler has a request.
    pub(crate) fn called(&self) {
        self.turn.set(HyperTurn::Handler);
    }

    /// The handler has given its response to hyper.
    pub(crate) fn responded(&self) {
        self.turn.set(HyperTurn::Response);
    }

    /// hyper has nothing left to write of what it was given.
    pub(super) fn flushed(&self) {
        if self.unwritten.replace(false) && self.withheld.replace(false) {
            self.wake();
        }
        if self.turn.get() == HyperTurn::Response && self.busy.get() == 0 {
            self.turn.set(HyperTurn::Application);
        }
    }

    /// Whether what hyper writes is its own refusal of an HTTP/1.1 head.
    pub(super) fn is_hypers_word(&self) -> bool {
        self.turn.get() == HyperTurn::Application && !self.http2.get() && !self.tunnel.get()
    }

    /// Nothing reads the rest of the request's body any more: the connection ends with the response, and what still
    /// comes is discarded. Without effect where all of it was read, and in HTTP/2.
    pub(crate) fn abandon_body(&self) {
        if self.phase.get() == Phase::Body && !self.http2.get() && !self.tunnel.get() {
            self.abandoned.set(true);
        }
    }

    /// Whether the rest of a request's body is only discarded.
    pub(crate) fn has_abandoned_body(&self) -> bool {
        self.abandoned.get()
    }

    /// Whether the application may be in the middle of a request.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.phase.get() == Phase::Idle
    }

    /// Whether the socket took what was to be sent.
    pub(crate) fn wrote(&self, taken: bool) {
        match (taken, self.unread_since.get()) {
            (true, _) => {
                if self.unread_since.take().is_some() {
                    self.flowing_since.set(self.now.get());
                }
                if self.withheld.replace(false) {
                    self.wake();
                }
            }
            (false, None) => self.unread_since.set(Some(self.now.get())),
            (false, Some(_)) => {}
        }
    }

    /// The socket took so many bytes of HTTP/2.
    pub(super) fn wrote_bytes(&self, bytes: usize) {
        self.streams.wrote(bytes);
    }

    /// The streams of an HTTP/2 connection.
    pub(crate) const fn streams(&self) -> &Streams {
        &self.streams
    }

    /// So many HTTP/2 frames came that carry nothing; ends the connection where they are too many.
    pub(super) fn idled(&self, frames: usize) {
        self.idle_frames.set(self.idle_frames.get() + frames);
        if self.idle_frames.get() > MAX_IDLE_FRAMES {
            self.end();
        }
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.http2.get()
    }

    pub(crate) fn is_late(&self) -> bool {
        self.late.get()
    }

    /// Whether it was ended because a head of HTTP/1.1 had begun and did not come to its end in time, and an answer that
    /// says so would be the next thing to be read there.
    pub(crate) fn has_half_a_head(&self) -> bool {
        self.half_head.get()
    }

    /// Has the connection end in order.
    pub(crate) fn retire(&self) {
        if !self.retired.replace(true) {
            self.wake();
        }
    }

    /// Whether the connection is to end in order.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.get()
    }

    /// Since when nothing has been asked of the connection; `None` where something is.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let quiet = self.is_quiet() && !self.tunnel.get();
        let waits = self.paused.get() || self.late.get();
        let between = self.phase.get() != Phase::Head || self.silent.get();
        (quiet && between && !waits).then(|| self.since.get())
    }

    /// Whether a request is in the socket that was not looked at yet.
    fn has_input(&self) -> bool {
        let stream = self.stream.get().and_then(Weak::upgrade);
        stream.is_some_and(|stream| stream.has_input())
    }

    /// The same, or one is about to come: who has just connected gets a `moment` to send it.
    pub(crate) fn expects_input(&self, moment: Duration) -> bool {
        self.accepted.elapsed() < moment || self.has_input()
    }

    /// Whether no request has come yet.
    pub(crate) fn is_new(&self) -> bool {
        self.is_quiet() && !self.begun.get()
    }

    /// A TLS handshake is to begin: until it has, the connection is idle.
    pub(crate) fn awaits_handshake(&self) {
        self.silent.set(true);
    }

    /// The first byte of it has come.
    pub(crate) fn began_handshake(&self) {
        self.silent.set(false);
    }

    /// Since when a head, or a TLS handshake, has been on its way; `None` where none is.
    pub(crate) fn head_since(&self) -> Option<Instant> {
        let quiet = self.is_quiet() && !self.tunnel.get();
        let begun = self.phase.get() == Phase::Head && !self.silent.get();
        (quiet && begun && !self.late.get()).then(|| self.since.get())
    }

    /// Whether no request is under way, neither way.
    const fn is_quiet(&self) -> bool {
        self.busy.get() == 0 && self.receiving.get() == 0
    }

    /// Whether nothing is under way, and nothing has been for so long that what a next request needs is better had anew.
    /// HTTP/1.1 alone.
    pub(crate) fn rests(&self) -> bool {
        let quiet = self.is_quiet() && self.phase.get() == Phase::Idle && self.unread_since.get().is_none();
        let mine = !self.http2.get() && !self.tunnel.get() && !self.late.get() && !self.retired.get();
        quiet && mine && self.now.get().saturating_duration_since(self.since.get()) >= REST_AFTER
    }

    /// Ends the connection if it is late by one of `limits`, or if no client waits for its response any more.
    pub(crate) fn enforce(&self, limits: &ServerSettings) {
        if self.tunnel.get() || self.late.get() {
            return;
        }
        let passed = |since: Instant| self.now.get().saturating_duration_since(since);
        // What stands still holds memory that others wait for.
        let short = memory::is_short();
        let patience = |limit: Duration| if short { limit.min(SHORT_PATIENCE) } else { limit };
        let idle = self.busy.get() == 0;
        let limit = match self.phase.get() {
            // hyper does not read the next head while an answer or a body is under way.
            Phase::Head if self.is_quiet() => Some(patience(limits.header_timeout)),
            Phase::Idle if self.is_quiet() => Some(limits.keep_alive_timeout),
            _ => None,
        };
        let late = limit.is_some_and(|limit| passed(self.since.get()) > limit);
        let unread =
            self.unread_since.get().is_some_and(|since| passed(since) > patience(limits.send_timeout))
                && !self.is_writable();
        let http2 = self.http2.get();
        // HTTP/2 has windows of its own: an application may shut them all and still answer pings.
        let shut = http2 && !idle && self.waiting.get() == 0;
        let stalled = shut && passed(self.moved.get()) > limits.send_timeout;
        let holds_much = self.untaken.get() >= MUCH_UNTAKEN;
        let untaken = short && !http2 && holds_much && passed(self.taken.get()) > SHORT_PATIENCE;
        if passed(self.counted_from.get()) >= SECOND {
            self.counted_from.set(self.now.get());
            self.aborted.set(0);
            self.idle_frames.set(0);
        }
        if self.is_deserted(limits.half_close) {
            self.end();
            return;
        }
        if late || unread || stalled || untaken {
            if short {
                memory::limited(Limited::Stalled);
            }
            let is_head = self.phase.get() == Phase::Head && !http2;
            self.half_head.set(late && is_head && self.unread_since.get().is_none());
            self.end();
        } else if http2 && !idle && short {
            self.reset_stalled(holds_much);
        } else if http2 && idle && passed(self.since.get()) > patience(limits.keep_alive_timeout) {
            // What was left to write of its responses may have no reader: then it does not end in order.
            let longest = patience(limits.keep_alive_timeout) + patience(limits.send_timeout);
            if self.retired.replace(true) && passed(self.since.get()) > longest {
                self.end();
            }
            self.wake();
        } else if !self.resting.get() && self.rests() {
            self.resting.set(true);
            self.wake();
        }
    }

    /// Whether the socket takes more, and the connection's task has yet to run: then it is not the reader who is late.
    fn is_writable(&self) -> bool {
        let stream = self.stream.get().and_then(Weak::upgrade);
        stream.is_some_and(|stream| stream.is_writable())
    }

    /// Resets the streams that stand still.
    fn reset_stalled(&self, uploads_hold_much: bool) {
        let now = self.now.get();
        let flows = now.saturating_duration_since(self.flowing_since.get()) >= SECOND;
        let socket_is_open = self.unread_since.get().is_none() && flows;
        let judgement = StallJudgement { now, patience: SHORT_PATIENCE, socket_is_open, uploads_hold_much };
        for _ in 0..self.streams.reset_stalled(judgement) {
            memory::limited(Limited::Stalled);
        }
    }

    /// Whether an HTTP/1.1 application is gone that has a response to wait for: nothing reads its connection meanwhile.
    ///
    /// An application that has closed its side has gone, unless `half_close` says that it may wait for its response all the
    /// same (RFC 9112 section 9.6). Even then it has left a response that has begun and been silent for a while, as a stream
    /// of events may be for hours.
    fn is_deserted(&self, half_close: bool) -> bool {
        if self.waiting.get() == 0 || self.http2.get() {
            return false;
        }
        let silence = self.now.get().saturating_duration_since(self.moved.get());
        let is_silent = self.begun.get() && silence >= DESERTED_AFTER;
        let stream = self.stream.get().and_then(Weak::upgrade);
        stream.is_some_and(|stream| stream.is_gone() || (!half_close || is_silent) && stream.has_ended())
    }

    /// What carries the connection, once that is settled.
    pub(crate) fn look_at(&self, stream: &Rc<Stream>) {
        let _ = self.stream.set(Rc::downgrade(stream));
    }

    /// The connection has become a tunnel: nothing here times it any more.
    pub(crate) fn opened(&self) {
        self.tunnel.set(true);
        self.unread_since.set(None);
    }

    /// Ends the connection at its next read or write.
    pub(crate) fn end(&self) {
        self.late.set(true);
        self.wake();
    }

    /// Has the connection's task look around: at its lateness, or at a drain.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Takes note of the connection's task. It does so each time it runs: whatever it waits for, it can be woken.
    pub(crate) fn remember(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        match kept.as_mut() {
            Some(kept) => kept.clone_from(waker),
            None => *kept = Some(waker.clone()),
        }
    }
}

/// How long a new connection keeps its place though nothing has come.
pub(crate) const FIRST_MOMENT: Duration = Duration::from_millis(250);
/// How long something may stand still while memory is short.
const SHORT_PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of bodies that are not taken: less is in buffers that any connection has.
pub(super) const MUCH_UNTAKEN: usize = 16 * 1024;
/// How long an answer that has begun may be silent toward an application that has closed its side.
const DESERTED_AFTER: Duration = Duration::from_secs(10);
/// From the last answer to the rest: short beside a person's or a scraper's pause, long beside a load generator's.
const REST_AFTER: Duration = Duration::from_millis(250);
/// HTTP/2 frames that may carry nothing in a second. A gRPC client on the same machine that measures its bandwidth pings
/// some thousands of times; a flood has hundreds of thousands.
const MAX_IDLE_FRAMES: usize = 10_000;
/// What `max_resets` counts in (RFC 9113 section 10.5).
const SECOND: Duration = Duration::from_secs(1);
