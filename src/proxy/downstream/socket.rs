//! A downstream connection's bytes: framing judged as they come in, hyper's own refusals said in our words as they go
//! out, and both written down in the connection's watch.

use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use cupbearer_h1::RequestFault;
use cupbearer_h1::framing::{Phase, Protocol, RequestFraming};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::{MUCH_UNTAKEN, Watch};
use super::context::WorkerContext;
use super::hyper_replies::reason;
use super::stream::Stream;
use crate::proxy::error::{BadRequest, ProxyError};
use crate::proxy::http2::flood::FrameCount;
use crate::proxy::http2::request_heads::Heads;
use crate::proxy::memory::{self, Limited, SMALL_READ, WaitingFor};

/// A downstream connection.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Rc<Stream>,
    framing: RequestFraming,
    /// What was read and judged to find out what is spoken, and is not given to hyper yet.
    first: Vec<u8>,
    /// What was read and judged, and written anew where it had to be: hyper reads it before anything else that comes.
    later: Vec<u8>,
    /// What is left to give of the framing's poison, once it has refused something.
    poison: Option<&'static [u8]>,
    /// What is left to write of an answer that goes out in place of hyper's.
    refusal: Vec<u8>,
    has_refused: bool,
    is_shut: bool,
    /// HTTP/2 alone: its frames, the heads among them, and the bytes read in this turn.
    frames: Option<FrameCount>,
    heads: Option<Heads>,
    at_once: usize,
    /// Bytes of the head that has begun.
    head: usize,
    /// Whether reading waits for memory.
    pauses: bool,
    watch: Rc<Watch>,
    worker: Rc<WorkerContext>,
}

impl Socket {
    /// Wraps the stream of a connection that `worker` has accepted, and `watch` is kept of.
    pub(crate) fn new(
        stream: Rc<Stream>,
        worker: Rc<WorkerContext>,
        watch: Rc<Watch>,
        spoken: Protocol,
    ) -> Self {
        let framing = RequestFraming::new(worker.settings().max_header_size, spoken);
        let (first, later, refusal) = (Vec::new(), Vec::new(), Vec::new());
        watch.reached(framing.phase(), framing.is_http2());
        Self {
            stream,
            framing,
            first,
            later,
            poison: None,
            refusal,
            has_refused: false,
            is_shut: false,
            frames: None,
            heads: None,
            at_once: 0,
            head: 0,
            pauses: false,
            watch,
            worker,
        }
    }

    /// What is spoken: read off the first bytes where nothing else says so. What was read for it is read again by hyper.
    pub(crate) fn poll_spoken(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Protocol>> {
        loop {
            match self.framing.protocol(&self.first) {
                Protocol::Either => {}
                spoken => return Poll::Ready(Ok(spoken)),
            }
            let mut space = [0; FIRST_READ];
            let mut buf = ReadBuf::new(&mut space);
            ready!(self.poll_judged(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(Protocol::Http1));
            }
            self.first.extend_from_slice(buf.filled());
        }
    }

    /// Reads on, on a connection that rested. Whether there is more to serve: blank lines before a request are nothing (RFC
    /// 9112 section 2.2), and hyper would keep them and have the connection rest again at once, for ever.
    pub(crate) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        loop {
            while self.first.starts_with(BLANK_LINE) {
                self.first.drain(..BLANK_LINE.len());
            }
            if !self.first.is_empty() {
                return Poll::Ready(true);
            }
            let mut space = [0; FIRST_READ];
            let mut buf = ReadBuf::new(&mut space);
            if ready!(self.poll_judged(cx, &mut buf)).is_err() || buf.filled().is_empty() {
                return Poll::Ready(false);
            }
            self.first.extend_from_slice(buf.filled());
        }
    }

    /// Puts back what hyper read and did not get to.
    pub(crate) fn unread(&mut self, bytes: &[u8]) {
        self.first.splice(..0, bytes.iter().copied());
    }

    /// Everything is passed through from here on: what comes is a tunnel's.
    ///
    /// # Errors
    /// Where what came behind the request was refused already: then it cannot be had any more.
    pub(crate) fn open(&mut self) -> io::Result<()> {
        if self.framing.is_refused() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.framing.open();
        self.watch.opened();
        Ok(())
    }

    /// Whether it was shut down.
    pub(crate) const fn is_shut(&self) -> bool {
        self.is_shut
    }

    fn check(&self) -> io::Result<()> {
        if self.watch.is_late() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// Gives hyper what it refuses, once; after that the connection has ended for it.
    fn poison(&mut self, buf: &mut ReadBuf<'_>) {
        let poison = self.poison.unwrap_or(self.framing.poison());
        let (now, later) = poison.split_at(poison.len().min(buf.remaining()));
        buf.put_slice(now);
        self.poison = Some(later);
    }

    fn poll_judged(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        // Whatever is read may wait for more as a whole: then it is read on.
        while !self.gives(buf) {
            let before = buf.filled().len();
            ready!(self.poll_transport(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            let count = buf.filled().len() - before;
            self.admit(buf, before);
            self.head = if self.framing.phase() == Phase::Head { self.head + count } else { 0 };
            self.watch.reached(self.framing.phase(), self.framing.is_http2());
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives hyper what is there for it without a read.
    fn gives(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if !self.later.is_empty() {
            give(&mut self.later, buf);
            return true;
        }
        let is_refused = self.framing.is_refused();
        if is_refused {
            self.poison(buf);
        }
        is_refused
    }

    /// Judges what was read into `buf` behind `before`, and leaves there what hyper reads as it came.
    fn admit(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let bytes = &buf.filled()[before..];
        let mut same = self.framing.admit(bytes, &mut self.later);
        if self.framing.is_refused()
            && let Some(RequestFault::Malformed(fault)) = self.framing.fault()
        {
            self.stream.fault.set(Some(fault.into()));
        }
        if self.framing.is_http2() {
            let bytes = &buf.filled()[before..];
            self.count(bytes);
            let heads = self
                .heads
                .get_or_insert_with(|| Heads::behind(&self.first, self.worker.settings().max_headers));
            same = heads.admit(bytes, &self.stream.head_notes, &mut self.later);
            memory::decoded(heads.take_size());
        }
        buf.set_filled(before + same);
    }

    fn poll_transport(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.framing.is_http2() && memory::poll_turn(cx).is_pending() {
            self.at_once = 0;
            return Poll::Pending;
        }
        if self.at_once >= READ_AT_ONCE {
            self.at_once = 0;
            // Woken when the worker has looked for news of all its connections, and not before.
            let _pending = pin!(tokio::task::yield_now()).poll(cx);
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = match self.room() {
            ReadRoom::Any => Pin::new(&mut *self.stream.transport()).poll_read(cx, buf),
            ReadRoom::Small => self.poll_small(cx, buf),
            ReadRoom::None => {
                if !std::mem::replace(&mut self.pauses, true) {
                    memory::limited(Limited::Read);
                }
                self.watch.pause(WaitingFor::Read);
                Poll::Pending
            }
        };
        if read.is_pending() {
            self.at_once = 0;
        }
        ready!(read)?;
        self.pauses = false;
        let count = buf.filled().len() - before;
        memory::read(count);
        if self.framing.phase() == Phase::Body && !self.framing.is_http2() && self.watch.receives() {
            self.watch.holds(count);
        }
        Poll::Ready(Ok(()))
    }

    /// How much may be read now. A head grows in hyper's buffer, which doubles with each read that fills it: so a large one
    /// is read in small parts. Where memory has run out, a connection reads on only as far as what it reads is
    /// taken by others at once.
    fn room(&self) -> ReadRoom {
        let large_head = self.head >= LARGE_HEAD;
        match memory::may_read() {
            true if large_head => ReadRoom::Small,
            true => ReadRoom::Any,
            false if large_head || self.watch.untaken() >= MUCH_UNTAKEN => ReadRoom::None,
            false => ReadRoom::Small,
        }
    }

    fn poll_small(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; SMALL_READ];
        let mut few = ReadBuf::new(&mut space[..SMALL_READ.min(buf.remaining())]);
        ready!(Pin::new(&mut *self.stream.transport()).poll_read(cx, &mut few))?;
        buf.put_slice(few.filled());
        Poll::Ready(Ok(()))
    }

    /// Takes note of what came in HTTP/2. What was read to find out that it is spoken begins with its preface.
    fn count(&mut self, bytes: &[u8]) {
        let frames = self.frames.get_or_insert_with(|| {
            let mut frames = FrameCount::new();
            frames.pass(&self.first);
            frames
        });
        let begun = frames.pass(bytes);
        self.at_once += bytes.len() + begun.idle * IDLE_FRAME_WEIGHT + begun.heads * HEAD_WEIGHT;
        self.watch.idled(begun.idle);
        self.watch.holds(begun.data);
    }

    /// Whether hyper is about to refuse what it read; then our own answer is to be flushed in place of its.
    fn refuses(&mut self, bytes: &[u8]) -> bool {
        if self.framing.is_http2() || !self.watch.is_hypers_word() {
            return false;
        }
        if !std::mem::replace(&mut self.has_refused, true) {
            let error = match reason(bytes) {
                ProxyError::BadRequest(unreadable) => {
                    self.framing.fault().map_or(unreadable, BadRequest::from).into()
                }
                error => error,
            };
            self.refusal = self.worker.refuse(self.stream.remote(), error);
        }
        true
    }

    fn wrote<T>(&self, written: Poll<T>) -> Poll<T> {
        self.watch.wrote(written.is_ready());
        written
    }

    /// The same of bytes that hyper wrote.
    fn wrote_bytes(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &written {
            memory::wrote(*bytes);
        }
        if let (Some(frames), Poll::Ready(Ok(bytes))) = (&mut self.frames, &written) {
            frames.wrote(*bytes);
            self.watch.wrote_bytes(*bytes);
        }
        self.wrote(written)
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.watch.has_abandoned_body() {
            // Others discard what comes now; a request behind it would begin nowhere.
            return Poll::Ready(Ok(()));
        }
        if !this.first.is_empty() {
            give(&mut this.first, buf);
            return Poll::Ready(Ok(()));
        }
        this.poll_judged(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check()?;
        if this.refuses(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut *this.stream.transport()).poll_write(cx, bytes);
        this.wrote_bytes(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check()?;
        if let Some(first) = slices.iter().find(|slice| !slice.is_empty())
            && this.refuses(first)
        {
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let written = Pin::new(&mut *this.stream.transport()).poll_write_vectored(cx, slices);
        this.wrote_bytes(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.transport().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.refusal.is_empty() {
            this.check()?;
            let written = Pin::new(&mut *this.stream.transport()).poll_write(cx, &this.refusal);
            let count = ready!(this.wrote(written))?;
            this.refusal.drain(..count);
        }
        if !this.stream.interim.is_empty() {
            this.check()?;
            ready!(this.stream.interim.poll_write(cx, |cx, bytes| {
                let written = Pin::new(&mut *this.stream.transport()).poll_write(cx, bytes);
                this.wrote(written)
            }))?;
        }
        // hyper flushes once it has nothing left to write.
        this.watch.flushed();
        let flushed = Pin::new(&mut *this.stream.transport()).poll_flush(cx);
        // TLS takes what it is given; here it turns out whether the other side does.
        this.wrote(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(cx))?;
        let this = self.get_mut();
        this.is_shut = true;
        Pin::new(&mut *this.stream.transport()).poll_shutdown(cx)
    }
}

/// Moves what fits from `bytes` to `buf`.
pub(crate) fn give(bytes: &mut Vec<u8>, buf: &mut ReadBuf<'_>) {
    let now = bytes.len().min(buf.remaining());
    buf.put_slice(&bytes[..now]);
    bytes.drain(..now);
    if bytes.is_empty() {
        *bytes = Vec::new();
    }
}

/// How much a connection may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadRoom {
    Any,
    Small,
    None,
}

/// Bytes of a head that are read without care: more than most have, and what hyper's buffer has at first.
const LARGE_HEAD: usize = 8 * 1024;
/// Bytes that an HTTP/2 connection reads before it is the others' turn: hyper reads on for as long as there is something.
const READ_AT_ONCE: usize = 64 * 1024;
/// Bytes that a frame counts for which carries nothing: it is short, and as much work as any.
const IDLE_FRAME_WEIGHT: usize = 64;
/// Bytes that a head counts for: a small one is a whole request's work. So a turn begins some hundred requests at the most,
/// and an application that has each of them reset leaves the others theirs.
const HEAD_WEIGHT: usize = 1024;
/// Bytes of the first read: most requests' heads fit in.
const FIRST_READ: usize = 1024;
const BLANK_LINE: &[u8] = b"\r\n";
