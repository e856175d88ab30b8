//! An upstream's response that is being received: its body as it comes, its silence bounded by `idle_timeout`.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use hyper::body::{Body, Frame, SizeHint};

use super::body_silence::Silence;
use super::h1::{Http1Body, UpstreamStream};
use super::metered::StreamPlace;
use super::pool::OpenConnection;
use super::received_body::ReceivedBody;
use crate::proxy::error::BodyError;
use crate::proxy::message::headers::without_forbidden_trailers;

/// An upstream's answer that is being received.
#[derive(Debug)]
pub(crate) struct Download {
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
    stream: Rc<StreamPlace>,
}

impl Download {
    /// An answer that comes by HTTP/1.1; it may be silent for `idle_timeout` at a time.
    pub(crate) const fn wire(answer: Http1Body, idle_timeout: Duration) -> Self {
        Self { source: DownloadSource::Wire(answer), silence: Silence::new(idle_timeout), broken: None }
    }

    /// An answer that comes by HTTP/2, on one of a connection's streams.
    pub(crate) fn shared(incoming: ReceivedBody, stream: Rc<StreamPlace>, idle_timeout: Duration) -> Self {
        let source = DownloadSource::Shared(SharedBody { incoming, stream });
        Self { source, silence: Silence::new(idle_timeout), broken: None }
    }

    /// The connection behind a 101 of HTTP/1.1, what of the new protocol was read already, and the connection's count;
    /// `None` for any other answer.
    pub(crate) fn into_tunnel(self) -> Option<(UpstreamStream, Bytes, OpenConnection)> {
        match self.source {
            DownloadSource::Wire(answer) => {
                answer.into_tunnel().map(|(stream, read, link)| (stream, read, link.into_open()))
            }
            DownloadSource::Shared(_) => None,
        }
    }

    /// The place of an HTTP/2 stream on its connection, for what follows its answer's head; `None` for HTTP/1.1.
    pub(crate) fn into_place(self) -> Option<Rc<StreamPlace>> {
        match &self.source {
            DownloadSource::Wire(_) => None,
            DownloadSource::Shared(body) => Some(Rc::clone(&body.stream)),
        }
    }

    /// Whether the upstream takes no more of the request's body after it.
    pub(crate) const fn cuts_upload(&self) -> bool {
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
    pub(crate) const fn idle_timeout(&self) -> Duration {
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

/// An upstream's answer and what it came by.
pub(crate) type Received = Response<Download>;
