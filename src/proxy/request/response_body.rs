//! Bodies on their way through: streamed both ways, with backpressure, never gathered.
//!
//! A body is polled only when the other side has room, so a slow reader slows the sender. Silence is bounded by
//! `idle_timeout`, counted only while a body is waited for.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::grpc::TrailerWatch;
use crate::proxy::downstream::exchange::Exchange;
use crate::proxy::error::BodyError;
use crate::proxy::message::stream_deadline::Aging;
use crate::proxy::upstream::download::Download;
use crate::proxy::websocket::tunnel::Tunnel;

/// An answer's body on its way to the application: the upstream's, or the proxy's own.
#[derive(Debug)]
pub(crate) struct ResponseBody {
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
    Refusal(RefusedBody),
    Upstream(Download),
    /// Not a body: what follows the answer's head in place of one.
    Tunnel(Box<Tunnel>),
}

/// How far the refusal of a malformed request of HTTP/2 has come.
#[derive(Debug)]
enum RefusedBody {
    Sentence(Bytes),
    /// What was given is being written: a reset takes back what is not.
    Written,
    Reset,
}

impl ResponseBody {
    const fn of(content: Content) -> Self {
        Self { content, trailers: None, exchange: None, aging: None }
    }

    /// Resets the stream behind a body of the proxy's own: a request of HTTP/2 that is malformed gets a response, and is a
    /// stream error all the same (RFC 9113 section 8.1.1).
    pub(super) fn reset_behind(&mut self) {
        self.content = match std::mem::replace(&mut self.content, Content::Empty) {
            Content::Full(sentence) => Content::Refusal(RefusedBody::Sentence(sentence)),
            other => other,
        };
    }

    /// What an upstream sends, as it comes.
    pub(crate) const fn upstream(download: Download) -> Self {
        Self::of(Content::Upstream(download))
    }

    /// No body: the upstream's half of a tunnel, for [`Self::take_tunnel`].
    pub(crate) fn tunnel(tunnel: Box<Tunnel>) -> Self {
        Self::of(Content::Tunnel(tunnel))
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

/// The proxy's own.
impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        Self::of(if bytes.is_empty() { Content::Empty } else { Content::Full(bytes) })
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
            Self::Refusal(step) => !matches!(step, RefusedBody::Sentence(_)),
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
            Content::Refusal(step) => match std::mem::replace(step, RefusedBody::Reset) {
                RefusedBody::Sentence(sentence) => {
                    *step = RefusedBody::Written;
                    Poll::Ready(Some(Ok(Frame::data(sentence))))
                }
                RefusedBody::Written => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                RefusedBody::Reset => {
                    Poll::Ready(Some(Err(BodyError::Cut(h2::Reason::PROTOCOL_ERROR.into()))))
                }
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
            Content::Full(bytes) | Content::Refusal(RefusedBody::Sentence(bytes)) => {
                SizeHint::with_exact(bytes.len() as u64)
            }
            Content::Empty | Content::Tunnel(_) | Content::Refusal(_) => SizeHint::with_exact(0),
            Content::Upstream(download) => download.size_hint(),
        }
    }
}
