//! A downstream connection's bytes: framing judged as they come in, and a watch kept on how long things take.
//!
//! No timer is armed for a request: each socket writes down when its current phase began, and its worker looks at all
//! of them a few times a second. A late connection is ended with an error at its next read or write.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::framing::{Framing, POISON, Phase};
use super::refusal::recognise;
use super::settings::ServerSettings;
use super::worker::Worker;

/// A downstream connection.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    framing: Framing,
    /// What is left to give of [`POISON`].
    poison: &'static [u8],
    /// What is left to write of an answer that goes out in place of hyper's.
    refusal: Vec<u8>,
    watch: Rc<Watch>,
    /// The worker's clock, as of its last tick: exact enough for limits of seconds, and free.
    now: Rc<Cell<Instant>>,
    worker: Rc<Worker>,
}

/// What a worker sees of a connection.
#[derive(Debug)]
pub(super) struct Watch {
    phase: Cell<Phase>,
    since: Cell<Instant>,
    http2: Cell<bool>,
    /// Requests that are not answered to the end.
    busy: Cell<usize>,
    unread_since: Cell<Option<Instant>>,
    late: Cell<bool>,
    /// The application sends nothing more: it has half-closed, or is gone.
    read_closed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// A request under way on a connection: while one lives, the connection is not idle.
#[derive(Debug)]
pub(super) struct Busy {
    watch: Rc<Watch>,
    now: Rc<Cell<Instant>>,
}

impl Socket {
    /// Wraps a stream that `worker` has accepted.
    pub(super) fn new(stream: TcpStream, worker: Rc<Worker>) -> (Self, Rc<Watch>) {
        let now = worker.clock();
        let watch = Rc::new(Watch {
            phase: Cell::new(Phase::Idle),
            since: Cell::new(now.get()),
            http2: Cell::new(false),
            busy: Cell::new(0),
            unread_since: Cell::new(None),
            late: Cell::new(false),
            read_closed: Cell::new(false),
            waker: RefCell::new(None),
        });
        let framing = Framing::new(worker.settings().max_header_size);
        let refusal = Vec::new();
        let socket = Self { stream, framing, poison: POISON, refusal, watch: Rc::clone(&watch), now, worker };
        (socket, watch)
    }

    fn check(&self) -> io::Result<()> {
        if self.watch.late.get() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// Gives hyper what it refuses, once; after that the connection has ended for it.
    fn poison(&mut self, buf: &mut ReadBuf<'_>) {
        let taken = self.poison.len().min(buf.remaining());
        let (now, later) = self.poison.split_at(taken);
        buf.put_slice(now);
        self.poison = later;
    }

    /// Whether hyper is about to refuse what it read; then our own answer is to be flushed in place of its.
    fn refuses(&mut self, bytes: &[u8]) -> bool {
        let Some(error) = recognise(bytes) else { return false };
        self.refusal = self.worker.refuse(error);
        true
    }

    fn wrote<T>(&self, written: Poll<T>) -> Poll<T> {
        if written.is_ready() {
            self.watch.unread_since.set(None);
        } else if self.watch.unread_since.get().is_none() {
            self.watch.unread_since.set(Some(self.now.get()));
        }
        written
    }
}

impl Watch {
    /// Whether the application has closed its side.
    pub(super) fn is_read_closed(&self) -> bool {
        self.read_closed.get()
    }

    /// Whether the end of what the application sends is kept from hyper for now. hyper would drop the requests under way;
    /// an application that only half-closed still waits for their answers (RFC 9112 section 9.6).
    fn hides_end(&self) -> bool {
        self.read_closed.get() && self.busy.get() > 0 && !self.http2.get() && self.phase.get() != Phase::Body
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2.get()
    }

    /// Ends the connection if it is late by one of `limits`.
    pub(super) fn enforce(&self, limits: &ServerSettings, now: Instant) {
        let phase_limit = match self.phase.get() {
            Phase::Head => Some(limits.header_timeout),
            Phase::Idle if self.busy.get() == 0 => Some(limits.keep_alive_timeout),
            Phase::Idle | Phase::Body => None,
        };
        let passed = |since: Instant| now.saturating_duration_since(since);
        let late = phase_limit.is_some_and(|limit| passed(self.since.get()) > limit)
            || self.unread_since.get().is_some_and(|since| passed(since) > limits.send_timeout);
        if late {
            self.late.set(true);
            self.wake();
        }
    }

    /// Has the connection's task look around: at its lateness, or at a drain.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn remember(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        match kept.as_mut() {
            Some(kept) => kept.clone_from(waker),
            None => *kept = Some(waker.clone()),
        }
    }
}

impl Busy {
    pub(super) fn new(watch: Rc<Watch>, now: Rc<Cell<Instant>>) -> Self {
        watch.busy.set(watch.busy.get() + 1);
        Self { watch, now }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.watch.busy.set(self.watch.busy.get() - 1);
        if self.watch.read_closed.get() {
            self.watch.wake();
        }
        if self.watch.phase.get() == Phase::Idle {
            self.watch.since.set(self.now.get());
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
        if this.framing.is_refused() {
            this.poison(buf);
            return Poll::Ready(Ok(()));
        }
        if this.watch.hides_end() {
            this.watch.remember(cx.waker());
            return Poll::Pending;
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                if buf.filled().len() == before {
                    this.watch.read_closed.set(true);
                    if this.watch.hides_end() {
                        this.watch.remember(cx.waker());
                        return Poll::Pending;
                    }
                }
                let admitted = this.framing.admit(&buf.filled()[before..]);
                buf.set_filled(before + admitted);
                if this.framing.is_refused() {
                    this.poison(buf);
                }
                let phase = this.framing.phase();
                if phase != this.watch.phase.replace(phase) {
                    this.watch.since.set(this.now.get());
                    this.watch.http2.set(this.framing.is_http2());
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                this.watch.remember(cx.waker());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check()?;
        if this.refuses(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.wrote(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check()?;
        if let [only] = slices
            && this.refuses(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.refusal.is_empty() {
            this.check()?;
            let written = Pin::new(&mut this.stream).poll_write(cx, &this.refusal);
            let count = ready!(this.wrote(written))?;
            this.refusal.drain(..count);
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
