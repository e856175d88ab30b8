//! Bodies on their way through: streamed both ways, with backpressure, never gathered.
//!
//! A body is polled only when the other side has room, so a slow reader slows the sender. Silence is bounded by
//! `idle_timeout`, counted only while a body is waited for.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::age::Aging;
use super::error::ResponseCut;
use super::exchange::Exchange;
use super::expect::Gate;
use super::grpc::TrailerWatch;
use super::h1::{Http1Body, Stream};
use super::headers::strip_trailers;
use super::metered::Place;
use super::pool::OpenConnection;
use super::received::ReceivedBody;
use super::replay::{RecordLimit, Sending, Upload};
use super::sending::is_judged_malformed;
use super::silence::Silence;
use super::tunnel::Tunnel;
use super::watch::{Receiving, Watch};

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body's sender failed")]
    Sender(#[source] hyper::Error),
    #[error("the upstream's answer broke off")]
    Answer(#[source] cupbearer_h1::BodyError),
    /// The source says to hyper what to reset the HTTP/2 stream at the other side with.
    #[error("the body's HTTP/2 stream was reset before its end")]
    Cut(#[source] h2::Error),
    #[error("the trailers are larger than max_response_header_size")]
    TrailersTooLarge(#[source] h2::Error),
    #[error("the body's sender was silent for longer than idle_timeout")]
    Silent,
    /// hyper looks here for what to reset an HTTP/2 stream with.
    #[error("the body went on for longer than max_stream_age")]
    TooOld(#[source] h2::Error),
    /// The request was sent again, and this sending of it is over.
    #[error("the request was sent again")]
    Repeated,
}

impl BodyError {
    /// What this makes of a response of which nothing was passed on yet.
    pub(super) fn cut(&self) -> ResponseCut {
        match self {
            Self::Sender(error) if is_judged_malformed(error) => ResponseCut::Malformed,
            _ => ResponseCut::Ended,
        }
    }
}

/// A request's body on its way upstream.
#[derive(Debug)]
pub(super) enum RequestBody {
    /// There is none.
    Empty,
    /// What the application sends, as it sends it, or as it sent it.
    Streaming(Sending),
}

/// An answer's body on its way to the application: the upstream's, or the proxy's own.
#[derive(Debug)]
pub(super) struct ResponseBody {
    content: Content,
    /// Looks at the trailers, where they may refuse the token.
    trailers: Option<Box<TrailerWatch>>,
    /// Ends with the body: what is counted and timed of the whole request.
    exchange: Option<Exchange>,
    /// Ends the body before its end; `None` where its route has no `max_stream_age`.
    aging: Option<Box<Aging>>,
}

#[derive(Debug)]
enum Content {
    Empty,
    /// Nothing follows the head, though it has the length of what a GET would get (RFC 9110 section 8.6).
    Omitted,
    Full(Bytes),
    /// The proxy's own, whose stream is reset behind it.
    Refusal(Refusal),
    Upstream(Download),
    /// Not a body: what follows the answer's head in place of one.
    Tunnel(Box<Tunnel>),
}

/// How far the refusal of a malformed request of HTTP/2 has come.
#[derive(Debug)]
enum Refusal {
    Sentence(Bytes),
    /// What was given is being written: a reset takes back what is not.
    Written,
    Reset,
}

/// An upstream's answer that is being received.
#[derive(Debug)]
pub(super) struct Download {
    source: DownloadSource,
    silence: Silence,
    /// Why it broke off, before anybody was told.
    broken: Option<Box<BodyError>>,
}

#[derive(Debug)]
enum DownloadSource {
    /// HTTP/1.1.
    Wire(Http1Body),
    /// HTTP/2.
    Shared(SharedBody),
}

/// A body that is received on one of a connection's streams; it counts as one of those for as long as `stream` lives.
#[derive(Debug)]
struct SharedBody {
    incoming: ReceivedBody,
    stream: Rc<Place>,
}

impl RequestBody {
    /// Wraps what came with a request; `None` where there is no body to follow. So much of it is kept for another sending as
    /// `limit` says.
    pub(super) fn new(
        incoming: ReceivedBody,
        watch: &Rc<Watch>,
        idle_timeout: Duration,
        gate: Option<Gate>,
        limit: RecordLimit,
    ) -> (Self, Option<Rc<Upload>>) {
        if incoming.is_end_stream() {
            return (Self::Empty, None);
        }
        let receiving = Receiving::new(Rc::clone(watch));
        let (upload, first) = Upload::begin(incoming, Some(receiving), idle_timeout, gate, limit);
        (Self::Streaming(first), Some(upload))
    }

    /// Whether it waits for the upstream to ask for it, rather than for the application to send it.
    pub(super) fn is_held_back(&self) -> bool {
        matches!(self, Self::Streaming(sending) if sending.is_held_back())
    }

    /// Puts back what was taken last.
    pub(super) fn unread(&mut self, data: Bytes) {
        if let Self::Streaming(sending) = self {
            sending.unread(data);
        }
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
            Self::Streaming(sending) => sending.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(sending) => sending.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(sending) => sending.size_hint(),
        }
    }
}

impl ResponseBody {
    pub(super) const fn empty() -> Self {
        Self::of(Content::Empty)
    }

    pub(super) const fn full(bytes: Bytes) -> Self {
        Self::of(Content::Full(bytes))
    }

    const fn of(content: Content) -> Self {
        Self { content, trailers: None, exchange: None, aging: None }
    }

    /// Resets the stream behind a body of the proxy's own: a request of HTTP/2 that is malformed gets a response, and is a
    /// stream error all the same (RFC 9113 section 8.1.1).
    pub(super) fn reset_behind(&mut self) {
        self.content = match std::mem::replace(&mut self.content, Content::Empty) {
            Content::Full(sentence) => Content::Refusal(Refusal::Sentence(sentence)),
            other => other,
        };
    }

    /// What an upstream sends, as it comes.
    pub(super) const fn upstream(download: Download) -> Self {
        Self::of(Content::Upstream(download))
    }

    /// No body: the upstream's half of a tunnel, for [`Self::take_tunnel`].
    pub(super) fn tunnel(tunnel: Tunnel) -> Self {
        Self::of(Content::Tunnel(Box::new(tunnel)))
    }

    /// The tunnel that this answer begins; what is left is empty.
    pub(super) fn take_tunnel(&mut self) -> Option<Box<Tunnel>> {
        if !matches!(self.content, Content::Tunnel(_)) {
            return None;
        }
        match std::mem::replace(&mut self.content, Content::Empty) {
            Content::Tunnel(tunnel) => Some(tunnel),
            _ => None,
        }
    }

    /// Nothing follows the head, and the head keeps its `Content-Length` (a 304, RFC 9110 section 15.4.5). hyper removes that
    /// from an HTTP/1.1 response whose body has ended before it began.
    pub(super) fn omit(&mut self) {
        self.content = Content::Omitted;
    }

    /// Whether it may grow old: that of no upstream is short.
    pub(super) fn may_age(&self) -> bool {
        matches!(&self.content, Content::Upstream(download) if !download.is_end_stream())
    }

    /// Gives it what ends it before its end.
    pub(super) fn end_by(&mut self, aging: Aging) {
        self.aging = Some(Box::new(aging));
    }

    /// The same body, with its trailers looked at.
    pub(super) fn watched(mut self, trailers: TrailerWatch) -> Self {
        self.trailers = Some(Box::new(trailers));
        self
    }

    /// Gives it what ends when it does.
    pub(super) fn end_with(&mut self, mut exchange: Exchange) {
        if exchange.has_no_body() || self.content.is_end_stream() {
            exchange.completed();
        }
        self.exchange = Some(exchange);
    }
}

impl Content {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Omitted | Self::Tunnel(_) => true,
            Self::Full(_) | Self::Refusal(_) => false,
            Self::Upstream(download) => download.is_end_stream(),
        }
    }

    /// Whether all of it is there for a reader that knows its length. The end of an HTTP/2 stream may follow in a frame of its
    /// own.
    fn is_through(&self) -> bool {
        match self {
            Self::Upstream(download) => download.is_end_stream() || download.size_hint().exact() == Some(0),
            Self::Refusal(step) => !matches!(step, Refusal::Sentence(_)),
            Self::Empty | Self::Omitted | Self::Tunnel(_) | Self::Full(_) => self.is_end_stream(),
        }
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
        if let Some(aging) = &mut this.aging
            && let Poll::Ready(last) = aging.poll_end(cx)
        {
            if let Some(exchange) = &mut this.exchange {
                exchange.aged(aging.limit());
            }
            // Dropped in the middle, it ends the upstream's side as well.
            (this.aging, this.content) = (None, Content::Empty);
            return Poll::Ready(last);
        }
        if let Some(exchange) = &mut this.exchange
            && exchange.withholds()
        {
            // It is the application that is waited for now.
            exchange.stalls(false);
            return Poll::Pending;
        }
        let polled = match &mut this.content {
            Content::Empty | Content::Omitted | Content::Tunnel(_) => Poll::Ready(None),
            Content::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.content = Content::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Content::Refusal(step) => match std::mem::replace(step, Refusal::Reset) {
                Refusal::Sentence(sentence) => {
                    *step = Refusal::Written;
                    Poll::Ready(Some(Ok(Frame::data(sentence))))
                }
                Refusal::Written => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Refusal::Reset => Poll::Ready(Some(Err(BodyError::Cut(h2::Reason::PROTOCOL_ERROR.into())))),
            },
            Content::Upstream(download) => Pin::new(download).poll_frame(cx),
        };
        if let Some(watch) = &this.trailers
            && let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(trailers) = frame.trailers_ref()
        {
            watch.look(trailers);
        }
        if let Some(exchange) = &mut this.exchange {
            exchange.asked(polled.is_ready());
            exchange.stalls(polled.is_pending() && matches!(this.content, Content::Upstream(_)));
            match &polled {
                Poll::Ready(Some(Ok(frame))) => {
                    exchange.gave(frame.data_ref().map_or(0, Bytes::len));
                    // A reader that knows the length reads no more.
                    if this.content.is_through() {
                        exchange.completed();
                    }
                }
                Poll::Ready(None) => exchange.completed(),
                Poll::Ready(Some(Err(_))) if matches!(this.content, Content::Refusal(_)) => {}
                Poll::Ready(Some(Err(_))) => exchange.broken(),
                Poll::Pending => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        !matches!(self.content, Content::Omitted) && self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Omitted => SizeHint::default(),
            Content::Full(bytes) | Content::Refusal(Refusal::Sentence(bytes)) => {
                SizeHint::with_exact(bytes.len() as u64)
            }
            Content::Empty | Content::Tunnel(_) | Content::Refusal(_) => SizeHint::with_exact(0),
            Content::Upstream(download) => download.size_hint(),
        }
    }
}

impl Download {
    /// An answer that comes by HTTP/1.1; it may be silent for `idle_timeout` at a time.
    pub(super) const fn wire(answer: Http1Body, idle_timeout: Duration) -> Self {
        Self { source: DownloadSource::Wire(answer), silence: Silence::new(idle_timeout), broken: None }
    }

    /// An answer that comes by HTTP/2, on one of a connection's streams.
    pub(super) fn shared(incoming: ReceivedBody, stream: Rc<Place>, idle_timeout: Duration) -> Self {
        let source = DownloadSource::Shared(SharedBody { incoming, stream });
        Self { source, silence: Silence::new(idle_timeout), broken: None }
    }

    /// The connection behind a 101 of HTTP/1.1, what of the new protocol was read already, and the connection's count;
    /// `None` for any other answer.
    pub(super) fn into_tunnel(self) -> Option<(Stream, Bytes, OpenConnection)> {
        match self.source {
            DownloadSource::Wire(answer) => {
                answer.into_tunnel().map(|(stream, read, link)| (stream, read, link.into_open()))
            }
            DownloadSource::Shared(_) => None,
        }
    }

    /// The place of an HTTP/2 stream on its connection, for what follows its answer's head; `None` for HTTP/1.1.
    pub(super) fn into_place(self) -> Option<Rc<Place>> {
        match &self.source {
            DownloadSource::Wire(_) => None,
            DownloadSource::Shared(body) => Some(Rc::clone(&body.stream)),
        }
    }

    /// Whether the upstream takes no more of the request's body after it.
    pub(super) const fn cuts_upload(&self) -> bool {
        match &self.source {
            DownloadSource::Wire(answer) => answer.cuts_upload(),
            DownloadSource::Shared(_) => false,
        }
    }

    /// Reads what of an HTTP/2 response is there already, for a failure right behind its head.
    pub(super) fn look_ahead(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        match &mut self.source {
            DownloadSource::Wire(_) => Ok(()),
            DownloadSource::Shared(body) => body.incoming.look_ahead(cx),
        }
    }

    /// The longest silence that it may have.
    pub(super) const fn idle_timeout(&self) -> Duration {
        self.silence.limit
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.source {
            DownloadSource::Wire(answer) => answer.poll_frame(cx).map_err(BodyError::Answer),
            DownloadSource::Shared(body) => body.poll_frame(cx),
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
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(*error)));
        }
        match this.poll_source(cx) {
            // hyper drops what it has not written when a body fails. What came before the failure goes out first: the
            // application is to see a part of an answer, and not nothing.
            Poll::Ready(Some(Err(error))) => {
                this.broken = Some(Box::new(error));
                cx.waker().wake_by_ref();
                Poll::Pending
            }
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
            DownloadSource::Shared(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            DownloadSource::Wire(answer) => answer.size_hint(),
            DownloadSource::Shared(body) => body.incoming.size_hint(),
        }
    }
}

impl SharedBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.stream.0.took(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }
}

impl Drop for SharedBody {
    fn drop(&mut self) {
        self.stream.0.ended(|| self.incoming.is_end_stream());
    }
}

pub(super) fn without_forbidden_trailers(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        strip_trailers(trailers);
    }
    frame
}
