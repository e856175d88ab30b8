//! A connection to an HTTP/2 upstream that reads no more than memory allows.
//!
//! Every stream has a window, so what one response may leave here is bounded; the sum of all is not. Where memory has run
//! out, the connection reads as much as its streams take: a response that is read comes as fast as before, and one that
//! stands still has no more of its window filled than a little now and then. That little is enough for pings, settings and
//! window updates, which would otherwise wait behind data that no application takes.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Sleep;

use super::peer_settings::{Beginning, Greeting};
use super::pool::OpenConnection;
use crate::proxy::downstream::socket::give;
use crate::proxy::http2::response_heads::ResponseHeads;
use crate::proxy::http2::window::STREAM_WINDOW;
use crate::proxy::memory::{self, Limited, SMALL_READ};

/// What the streams of one connection let it read while memory has run out.
#[derive(Debug, Default)]
pub(super) struct Intake {
    is_limited: Cell<bool>,
    is_clogged: Cell<bool>,
    /// Bytes that may be read at once.
    credit: Cell<usize>,
    /// The connection, where it waits.
    waker: RefCell<Option<Waker>>,
    /// Whether the head of one of its responses had a mark that stands for a fault ([`crate::proxy::http2::head_marks`]).
    has_marks: Cell<bool>,
    /// Told when a stream ends, where requests may wait for that.
    freed: OnceCell<Rc<Notify>>,
}

impl Intake {
    /// Has `freed` told from now on when a stream ends.
    pub(super) fn tell_of_ends(&self, freed: &Rc<Notify>) {
        let _ = self.freed.set(Rc::clone(freed));
    }

    /// A stream's reader took so many bytes.
    pub(crate) fn took(&self, bytes: usize) {
        if self.is_limited.get() {
            self.allow(bytes + FRAME_BYTES);
        }
    }

    /// A stream ends; `is_whole` where all of its response was taken. Otherwise what it held is gone, and what is on its way to
    /// it is dropped as it comes.
    pub(crate) fn ended(&self, is_whole: impl FnOnce() -> bool) {
        if let Some(freed) = self.freed.get() {
            freed.notify_one();
        }
        if self.is_limited.get() && !is_whole() {
            self.allow(STREAM_WINDOW as usize);
        }
    }

    /// Whether what the connection brings waits behind what its streams have left unread.
    pub(super) fn is_clogged(&self) -> bool {
        self.is_clogged.get()
    }

    /// Whether a response's head may have a mark.
    pub(crate) fn has_marks(&self) -> bool {
        self.has_marks.get()
    }

    fn allow(&self, bytes: usize) {
        self.credit.set(self.credit.get() + bytes);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn limit(&self) {
        if !self.is_limited.replace(true) {
            self.credit.set(0);
        }
    }
}

/// A stream's place on an HTTP/2 connection: it counts as one for as long as any of its references lives.
#[derive(Debug)]
pub(crate) struct StreamPlace(pub(super) Rc<Intake>);

/// A connection whose reads are counted, and whose first frame is read on its way.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: S,
    intake: Rc<Intake>,
    /// Until when the next small read waits.
    pause: Option<Pin<Box<Sleep>>>,
    /// Ends with the first frame.
    opening: Option<Greeting>,
    heads: ResponseHeads,
    /// What was read and written anew: it is read before anything else that comes.
    later: Vec<u8>,
    /// Counted for as long as the socket is open: hyper lets go of the connection at a GOAWAY, while streams go on.
    _open: OpenConnection,
}

impl<S> Metered<S> {
    pub(crate) fn new(stream: S, intake: Rc<Intake>, open: OpenConnection) -> (Self, Rc<Beginning>) {
        let opening = Greeting::default();
        let beginning = opening.beginning();
        let heads = ResponseHeads::new();
        let (opening, later) = (Some(opening), Vec::new());
        (Self { stream, intake, pause: None, opening, heads, later, _open: open }, beginning)
    }
}

impl<S> Metered<S> {
    /// How much may be read while memory has run out: what the streams have taken, and a little after each pause.
    fn poll_allowed(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        self.intake.limit();
        let pause = self.pause.get_or_insert_with(|| {
            memory::limited(Limited::Read);
            Box::pin(tokio::time::sleep(PAUSE))
        });
        if pause.as_mut().poll(cx).is_ready() {
            self.pause = None;
            self.intake.credit.set(self.intake.credit.get().max(SMALL_READ));
        }
        match self.intake.credit.get() {
            0 => {
                self.intake.is_clogged.set(true);
                *self.intake.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
            credit => Poll::Ready(credit),
        }
    }
}

impl<S: AsyncRead + Unpin> Metered<S> {
    /// Reads as much as may be read now.
    fn poll_some(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if memory::may_read() {
            self.intake.is_limited.set(false);
            self.intake.is_clogged.set(false);
            self.pause = None;
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let most = ready!(self.poll_allowed(cx)).min(buf.remaining());
        let mut space = [0; SMALL_READ];
        let mut few = ReadBuf::new(&mut space[..SMALL_READ.min(most)]);
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut few);
        if read.is_pending() {
            // All that came was read.
            self.intake.is_clogged.set(false);
        }
        ready!(read)?;
        let count = few.filled().len();
        buf.put_slice(few.filled());
        self.intake.credit.set(self.intake.credit.get().saturating_sub(count));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.later.is_empty() {
            give(&mut this.later, buf);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        loop {
            ready!(memory::poll_turn(cx));
            ready!(this.poll_some(cx, buf))?;
            let read = &buf.filled()[before..];
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            memory::read(read.len());
            if this.opening.as_mut().is_some_and(|opening| opening.read(read)) {
                this.opening = None;
            }
            let same = this.heads.admit(read, &this.intake.has_marks, &mut this.later);
            memory::decoded(this.heads.take_size());
            buf.set_filled(before + same);
            // What was read may wait for more as a whole: then it is read on.
            if same == 0 {
                give(&mut this.later, buf);
            }
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Between two small reads.
const PAUSE: Duration = Duration::from_millis(50);
/// What a frame has beside a body's bytes, and a small response's head.
const FRAME_BYTES: usize = 256;
