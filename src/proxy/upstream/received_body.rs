//! A message's body as hyper receives it, with the end of an HTTP/2 one judged.
//!
//! A message of HTTP/2 is complete only with `END_STREAM` (RFC 9113 section 8.1). hyper reports the same end of a body
//! where the sender resets the stream with `NO_ERROR` in its middle, as Node's `destroy()` does. Passed on
//! like that, half an upload would be stored as a whole one. Bodies of HTTP/1.1 uploads end as hyper reports it.
//!
//! The first frames of a response may be looked at before its head is passed on: a response that is malformed right behind
//! its head becomes an error with a reason, and not a closed connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use cupbearer_h1::MAX_FIELDS;
use h2::Reason;
use http::{HeaderMap, StatusCode, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::proxy::error::BodyError;
use crate::proxy::message::outbound_head::size_of_fields;

/// A body that hyper receives.
#[derive(Debug)]
pub(crate) struct ReceivedBody {
    incoming: Incoming,
    /// What the stream at the other side of the proxy is reset with where this one is cut; `None`: HTTP/1.1.
    reset: Option<Reason>,
    /// Bytes of its trailers.
    max_trailers: usize,
    /// Whether the head is all of the message, whatever length it names (RFC 9110 section 15.4.5).
    is_omitted: bool,
    /// Boxed: most bodies have none, and all are moved about.
    ahead: Option<Box<Ahead>>,
}

/// What was read of a response before its head was passed on.
#[derive(Debug, Default)]
struct Ahead {
    data: [Option<Bytes>; FRAMES_AHEAD],
    trailers: Option<HeaderMap>,
    /// The body ended behind it.
    ended: bool,
}

impl Ahead {
    fn is_empty(&self) -> bool {
        self.data.iter().all(Option::is_none) && self.trailers.is_none()
    }

    fn len(&self) -> u64 {
        self.data.iter().flatten().map(|data| data.len() as u64).sum()
    }

    fn take(&mut self) -> Option<Frame<Bytes>> {
        if let Some(data) = self.data.iter_mut().find_map(Option::take) {
            return Some(Frame::data(data));
        }
        self.trailers.take().map(Frame::trailers)
    }
}

impl ReceivedBody {
    /// That of a request.
    pub(crate) fn request(incoming: Incoming, version: Version) -> Self {
        let reset = (version == Version::HTTP_2).then_some(Reason::CANCEL);
        Self { incoming, reset, max_trailers: usize::MAX, is_omitted: false, ahead: None }
    }

    /// That of an HTTP/2 response with this status, with at most so many bytes of trailers.
    pub(crate) fn response(incoming: Incoming, status: StatusCode, max_trailers: usize) -> Self {
        let is_omitted = status == StatusCode::NOT_MODIFIED;
        Self { incoming, reset: Some(Reason::INTERNAL_ERROR), max_trailers, is_omitted, ahead: None }
    }

    /// Reads what is there already, and no more than a little of it: a failure that follows the head at once is seen here.
    pub(super) fn look_ahead(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        let mut at = 0;
        while at < FRAMES_AHEAD && !self.incoming.is_end_stream() {
            let Poll::Ready(frame) = self.poll_incoming(cx) else { break };
            let frame = frame.transpose()?.map(Frame::into_data);
            if matches!(&frame, Some(Ok(data)) if data.is_empty()) {
                continue;
            }
            let ahead = self.ahead.get_or_insert_default();
            match frame {
                None => {
                    ahead.ended = true;
                    break;
                }
                Some(Ok(data)) => {
                    ahead.data[at] = Some(data);
                    at += 1;
                }
                Some(Err(frame)) => {
                    ahead.trailers = frame.into_trailers().ok();
                    break;
                }
            }
        }
        Ok(())
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.is_omitted {
            // h2 takes an end of the stream in a frame of its own for a body that is too short.
            while let Some(Ok(_)) = ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {}
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        Poll::Ready(match (frame, self.reset) {
            (None, Some(reset)) if !self.is_whole() => Some(Err(BodyError::Cut(reset.into()))),
            (Some(Ok(frame)), Some(reset)) if self.has_too_large_trailers(&frame) => {
                Some(Err(BodyError::TrailersTooLarge(reset.into())))
            }
            (frame, _) => frame.map(|frame| frame.map_err(BodyError::Sender)),
        })
    }

    fn has_too_large_trailers(&self, frame: &Frame<Bytes>) -> bool {
        // One field is `head_frames`'.
        let is_too_large =
            |fields: &HeaderMap| size_of_fields(fields) > self.max_trailers || fields.len() > MAX_FIELDS + 1;
        self.max_trailers < usize::MAX && frame.trailers_ref().is_some_and(is_too_large)
    }

    /// Whether the end that hyper reports is the message's. Where all bytes of its `content-length` came, nothing is lost:
    /// Node's server resets a stream like that to stop an upload.
    fn is_whole(&self) -> bool {
        self.incoming.is_end_stream() || self.incoming.size_hint().exact() == Some(0)
    }
}

impl Body for ReceivedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(ahead) = &mut this.ahead {
            match ahead.take() {
                Some(frame) => return Poll::Ready(Some(Ok(frame))),
                None if ahead.ended => return Poll::Ready(None),
                None => this.ahead = None,
            }
        }
        this.poll_incoming(cx)
    }

    fn is_end_stream(&self) -> bool {
        match &self.ahead {
            Some(ahead) => ahead.is_empty() && (ahead.ended || self.incoming.is_end_stream()),
            None => self.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_omitted {
            return SizeHint::default();
        }
        let left = self.incoming.size_hint();
        let ahead = self.ahead.as_ref().map_or(0, |ahead| ahead.len());
        left.exact().map_or(left, |left| SizeHint::with_exact(left + ahead))
    }
}

/// So many frames of data are looked at before a head is passed on.
const FRAMES_AHEAD: usize = 2;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::pending;

    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Empty};
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::duplex;
    use tokio::sync::mpsc;

    use super::*;
    use crate::proxy::upstream::connect::WorkerExecutor;

    /// How a client ends an upload of which it has sent the first half.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Ending {
        Whole,
        Trailers,
        Reset(Reason),
        /// Behind its end.
        ResetWhole,
    }

    /// What a server sees of an upload.
    #[derive(Debug, PartialEq, Eq)]
    enum Seen {
        Data(Bytes),
        Trailers,
        Whole,
        Cut,
    }

    /// What hyper's server sees behind the first half of an upload that ends so.
    async fn after_half(ending: Ending) -> Vec<Seen> {
        let (ours, theirs) = duplex(4096);
        let (tell, mut seen) = mpsc::unbounded_channel();
        let service = service_fn(move |request: Request<Incoming>| {
            let tell = tell.clone();
            // Apart from the response: hyper gives that up with the stream.
            tokio::task::spawn_local(async move {
                let version = request.version();
                let mut body = ReceivedBody::request(request.into_body(), version);
                loop {
                    let (is_last, told) = match body.frame().await {
                        Some(Ok(frame)) => {
                            (false, frame.into_data().map_or_else(|_| Seen::Trailers, Seen::Data))
                        }
                        Some(Err(_)) => (true, Seen::Cut),
                        None => (true, Seen::Whole),
                    };
                    if tell.send(told).is_err() || is_last {
                        return;
                    }
                }
            });
            pending::<Result<Response<Empty<Bytes>>, Infallible>>()
        });
        let server = hyper::server::conn::http2::Builder::new(WorkerExecutor);
        tokio::task::spawn_local(server.serve_connection(TokioIo::new(theirs), service));
        let (mut client, connection) = h2::client::handshake(ours).await.unwrap();
        tokio::task::spawn_local(connection);
        let request = Request::post("http://api.example/").body(()).unwrap();
        let (_response, mut body) = client.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"half"), false).unwrap();
        assert_eq!(seen.recv().await, Some(Seen::Data(Bytes::from_static(b"half"))));
        match ending {
            Ending::Whole => body.send_data(Bytes::new(), true).unwrap(),
            Ending::Trailers => body.send_trailers(HeaderMap::new()).unwrap(),
            Ending::Reset(reason) => body.send_reset(reason),
            Ending::ResetWhole => {
                body.send_data(Bytes::from_static(b"rest"), true).unwrap();
                assert_eq!(seen.recv().await, Some(Seen::Data(Bytes::from_static(b"rest"))));
                body.send_reset(Reason::NO_ERROR);
            }
        }
        let mut all = Vec::new();
        while !matches!(all.last(), Some(Seen::Whole | Seen::Cut)) {
            all.push(seen.recv().await.unwrap());
        }
        all
    }

    #[tokio::test(flavor = "local")]
    async fn a_body_is_whole_with_the_end_of_its_stream_alone() {
        let empty = || Seen::Data(Bytes::new());
        assert_eq!(after_half(Ending::Whole).await, [empty(), Seen::Whole]);
        assert_eq!(after_half(Ending::Trailers).await, [Seen::Trailers, Seen::Whole]);
        assert_eq!(after_half(Ending::ResetWhole).await, [Seen::Whole]);
        for reason in [Reason::NO_ERROR, Reason::CANCEL, Reason::INTERNAL_ERROR] {
            assert_eq!(after_half(Ending::Reset(reason)).await, [Seen::Cut], "{reason}");
        }
    }
}
