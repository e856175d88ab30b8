//! Bodies on their way through: streamed both ways, with backpressure, never gathered.
//!
//! A body is polled only when the other side has room, so a slow reader slows the sender. Silence is bounded by
//! `idle_timeout`, counted only while a body is waited for.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::exchange::Exchange;
use super::expect::Gate;
use super::headers::strip_trailers;
use super::metrics::Counted;
use super::wire::{self, Answer, AnswerError};
use crate::clock;

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body's sender failed")]
    Sender(#[source] hyper::Error),
    #[error("the upstream's answer broke off")]
    Answer(#[source] AnswerError),
    #[error("the body's sender was silent for longer than idle_timeout")]
    Silent,
}

/// A request's body on its way upstream.
#[derive(Debug)]
pub(super) enum RequestBody {
    /// There is none.
    Empty,
    /// What the application sends, as it sends it.
    Streaming(Box<Upload>),
}

/// A request's body that is being sent.
#[derive(Debug)]
pub(super) struct Upload {
    /// What was taken of it and did not go out after all.
    unread: Bytes,
    incoming: Incoming,
    gate: Option<Gate>,
    silence: Silence,
    progress: Rc<Progress>,
}

/// What the handler sees of an upload while a connection owns it.
#[derive(Debug)]
pub(super) struct Progress {
    last: Cell<Instant>,
    outcome: Cell<Outcome>,
}

/// How far an upload has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// More is to come.
    Sending,
    /// All of it was sent.
    Sent,
    /// The application broke off, or sent what is no body.
    Broken,
    /// The application was silent for too long.
    Silent,
}

/// An answer's body on its way to the application: the upstream's, or the proxy's own.
#[derive(Debug)]
pub(super) struct ResponseBody {
    content: Content,
    /// Ends with the body: what is counted and timed of the whole request.
    exchange: Option<Exchange>,
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is what nearly every answer has, and a box is an allocation each"
)]
enum Content {
    Empty,
    Full(Bytes),
    Upstream(Download),
}

/// An upstream's answer that is being received.
#[derive(Debug)]
pub(super) struct Download {
    source: DownloadSource,
    silence: Silence,
}

#[derive(Debug)]
enum DownloadSource {
    /// HTTP/1.1.
    Wire(Answer),
    /// HTTP/2; the stream counts as one of its connection's for as long as this lives.
    Shared { incoming: Incoming, _stream: Rc<()> },
}

/// Measures how long a body has been waited for.
#[derive(Debug)]
struct Silence {
    limit: Duration,
    /// Made at the first wait: most bodies come whole.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl RequestBody {
    /// Wraps what came with a request; `None` where there is no body to follow.
    pub(super) fn new(
        incoming: Incoming,
        idle_timeout: Duration,
        gate: Option<Gate>,
    ) -> (Self, Option<Rc<Progress>>) {
        if incoming.is_end_stream() {
            return (Self::Empty, None);
        }
        let progress =
            Rc::new(Progress { last: Cell::new(clock::now()), outcome: Cell::new(Outcome::Sending) });
        let upload = Upload {
            unread: Bytes::new(),
            incoming,
            gate,
            silence: Silence::new(idle_timeout),
            progress: Rc::clone(&progress),
        };
        (Self::Streaming(Box::new(upload)), Some(progress))
    }

    /// Whether it waits for the upstream to ask for it, rather than for the application to send it.
    pub(super) fn is_held_back(&self) -> bool {
        matches!(self, Self::Streaming(upload) if upload.gate.as_ref().is_some_and(|gate| !gate.is_open()))
    }

    /// Puts back what was taken last.
    pub(super) fn unread(&mut self, data: Bytes) {
        if let Self::Streaming(upload) = self {
            upload.unread = data;
        }
    }
}

impl Progress {
    /// When the last part was sent, or the upload began.
    pub(super) fn last(&self) -> Instant {
        self.last.get()
    }

    pub(super) fn outcome(&self) -> Outcome {
        self.outcome.get()
    }

    fn ended(&self, outcome: Outcome) {
        self.last.set(clock::now());
        self.outcome.set(outcome);
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streaming(upload) => upload.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(upload) => upload.unread.is_empty() && upload.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(upload) => upload.size_hint(),
        }
    }
}

impl Upload {
    fn size_hint(&self) -> SizeHint {
        let to_come = self.incoming.size_hint();
        match to_come.exact() {
            Some(length) => SizeHint::with_exact(length + self.unread.len() as u64),
            None => to_come,
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.poll_open(cx));
            self.gate = None;
        }
        if !self.unread.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.unread)))));
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.silence.broken();
                let outcome = if self.incoming.is_end_stream() { Outcome::Sent } else { Outcome::Sending };
                self.progress.ended(outcome);
                Poll::Ready(Some(Ok(without_forbidden_trailers(frame))))
            }
            Poll::Ready(None) => {
                self.progress.ended(Outcome::Sent);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.progress.ended(Outcome::Broken);
                Poll::Ready(Some(Err(BodyError::Sender(error))))
            }
            Poll::Pending => {
                ready!(self.silence.poll_too_long(cx));
                self.progress.ended(Outcome::Silent);
                Poll::Ready(Some(Err(BodyError::Silent)))
            }
        }
    }
}

impl ResponseBody {
    pub(super) const fn empty() -> Self {
        Self { content: Content::Empty, exchange: None }
    }

    pub(super) const fn full(bytes: Bytes) -> Self {
        Self { content: Content::Full(bytes), exchange: None }
    }

    /// What an upstream sends, as it comes.
    pub(super) const fn upstream(download: Download) -> Self {
        Self { content: Content::Upstream(download), exchange: None }
    }

    /// The same body, with what ends when it ends.
    pub(super) fn with_exchange(mut self, exchange: Exchange) -> Self {
        self.exchange = Some(exchange);
        self
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = match &mut this.content {
            Content::Empty => Poll::Ready(None),
            Content::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.content = Content::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Content::Upstream(download) => Pin::new(download).poll_frame(cx),
        };
        if let Some(exchange) = &this.exchange {
            exchange.asked(polled.is_ready());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Full(_) => false,
            Content::Upstream(download) => download.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Upstream(download) => download.size_hint(),
        }
    }
}

impl Download {
    /// An answer that comes by HTTP/1.1; it may be silent for `idle_timeout` at a time.
    pub(super) const fn wire(answer: Answer, idle_timeout: Duration) -> Self {
        Self { source: DownloadSource::Wire(answer), silence: Silence::new(idle_timeout) }
    }

    /// An answer that comes by HTTP/2, on one of a connection's streams.
    pub(super) const fn shared(incoming: Incoming, stream: Rc<()>, idle_timeout: Duration) -> Self {
        let source = DownloadSource::Shared { incoming, _stream: stream };
        Self { source, silence: Silence::new(idle_timeout) }
    }

    /// The connection behind a 101 of HTTP/1.1, what of the new protocol was read already, and the connection's count;
    /// `None` for any other answer.
    #[cfg_attr(not(test), expect(dead_code, reason = "WebSocket's part is made beside this"))]
    pub(super) fn into_tunnel(self) -> Option<(wire::Stream, Bytes, Counted)> {
        match self.source {
            DownloadSource::Wire(answer) => answer.into_tunnel(),
            DownloadSource::Shared { .. } => None,
        }
    }

    /// Gives the exchange up, request and answer: another takes its place. What is merely dropped after it was read to
    /// its end may leave an upload behind that the upstream still wants.
    #[expect(dead_code, reason = "the replay after a 401 is made beside this")]
    pub(super) fn give_up(self) {
        if let DownloadSource::Wire(answer) = self.source {
            answer.give_up();
        }
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.source {
            DownloadSource::Wire(answer) => answer.poll_frame(cx).map_err(BodyError::Answer),
            DownloadSource::Shared { incoming, .. } => {
                Pin::new(incoming).poll_frame(cx).map_err(BodyError::Sender)
            }
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this.poll_source(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.silence.broken();
                Poll::Ready(Some(Ok(without_forbidden_trailers(frame))))
            }
            Poll::Pending => {
                ready!(this.silence.poll_too_long(cx));
                Poll::Ready(Some(Err(BodyError::Silent)))
            }
            ended @ Poll::Ready(_) => ended,
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            DownloadSource::Wire(answer) => answer.is_end_stream(),
            DownloadSource::Shared { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            DownloadSource::Wire(answer) => answer.size_hint(),
            DownloadSource::Shared { incoming, .. } => incoming.size_hint(),
        }
    }
}

impl Silence {
    const fn new(limit: Duration) -> Self {
        Self { limit, timer: None, waiting: false }
    }

    fn broken(&mut self) {
        self.waiting = false;
    }

    /// Ready once the wait that this call belongs to has lasted too long.
    fn poll_too_long(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(clock::now() + limit);
        }
        timer.as_mut().poll(cx)
    }
}

fn without_forbidden_trailers(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        strip_trailers(trailers);
    }
    frame
}
