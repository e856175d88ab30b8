//! `max_stream_age`: the end of streams that would outlive what their token was judged by.
//!
//! It counts from the request's head, and ends whatever is still going then in the way that its reader understands:
//!
//! | stream | how it ends |
//! |---|---|
//! | `WebSocket` | a close frame of status 1001 to both sides (`tunnel`) |
//! | gRPC | trailers with `grpc-status: 14` (UNAVAILABLE): clients try again |
//! | `text/event-stream` without a length | cleanly: an `EventSource` comes back, and drops an event that is cut (HTML standard) |
//! | any other answer | visibly cut: the connection closes before the body's end, or `RST_STREAM` (CANCEL) in HTTP/2 |
//! | a request without an answer yet | the proxy's own answer |
//!
//! An HTTP/2 connection that is as old itself gets a GOAWAY, so that the next stream comes by a new one. A route without the
//! setting has no timer for it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::Frame;
use tokio::time::{Instant, Sleep};

use super::problem::Call;
use crate::proxy::error::BodyError;

/// Runs from a request's head.
#[derive(Debug)]
pub(crate) struct StreamDeadline {
    timer: Pin<Box<Sleep>>,
    limit: Duration,
}

/// An answer's age, and how the answer ends when that is reached.
#[derive(Debug)]
pub(crate) struct Aging {
    age: StreamDeadline,
    end: DeadlineEnd,
}

/// How a body ends before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeadlineEnd {
    /// With a status that says so.
    Grpc,
    /// As if it were all.
    Clean,
    /// So that no client takes it for whole.
    Cut,
}

impl StreamDeadline {
    /// Reached `limit` after `started`.
    pub(crate) fn new(started: Instant, limit: Duration) -> Self {
        Self { timer: Box::pin(tokio::time::sleep_until(started + limit)), limit }
    }

    /// Ready once it is reached.
    pub(super) fn poll_reached(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.as_mut().poll(cx)
    }

    /// Ends once it is reached.
    pub(crate) async fn reached(&mut self) {
        self.timer.as_mut().await;
    }
}

impl Aging {
    /// For the answer to a `call` that has these `headers`.
    pub(crate) fn new(age: StreamDeadline, call: Call, headers: &HeaderMap) -> Self {
        let events = headers.get(CONTENT_TYPE).is_some_and(|kind| {
            let kind = kind.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
            kind.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
        });
        let end = match call {
            Call::Grpc => DeadlineEnd::Grpc,
            Call::Http if events && !headers.contains_key(CONTENT_LENGTH) => DeadlineEnd::Clean,
            Call::Http => DeadlineEnd::Cut,
        };
        Self { age, end }
    }

    pub(crate) const fn limit(&self) -> Duration {
        self.age.limit
    }

    /// Ready with the body's last frame, or with nothing, once it has to end.
    pub(crate) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        ready!(self.age.poll_reached(cx));
        Poll::Ready(match self.end {
            DeadlineEnd::Clean => None,
            DeadlineEnd::Grpc => Some(Ok(Frame::trailers(unavailable()))),
            DeadlineEnd::Cut => Some(Err(BodyError::TooOld(h2::Reason::CANCEL.into()))),
        })
    }
}

/// What a gRPC call ends with that may be tried again (the gRPC core's `status.proto`).
fn unavailable() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static("14"));
    let message = HeaderValue::from_static("cupbearer: max_stream_age has passed");
    trailers.insert(HeaderName::from_static("grpc-message"), message);
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    async fn end(call: Call, fields: &[(&'static str, &'static str)]) -> (Duration, &'static str) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        let started = crate::clock::now();
        let mut aging = Aging::new(StreamDeadline::new(started, Duration::from_mins(1)), call, &headers);
        let end = match poll_fn(|cx| aging.poll_end(cx)).await {
            None => "clean",
            Some(Ok(frame)) if frame.trailers_ref().is_some_and(|t| t["grpc-status"] == "14") => "status",
            Some(Err(BodyError::TooOld(_))) => "cut",
            other => panic!("{other:?}"),
        };
        (crate::clock::now() - started, end)
    }

    #[tokio::test(start_paused = true)]
    async fn each_kind_of_stream_ends_as_its_reader_understands() {
        let events = ("content-type", "Text/Event-Stream ; charset=utf-8");
        for (call, fields, expected) in [
            (Call::Grpc, &[("content-type", "application/grpc")][..], "status"),
            (Call::Http, &[events], "clean"),
            (Call::Http, &[events, ("content-length", "1000")], "cut"),
            (Call::Http, &[("content-type", "text/event-stream-not")], "cut"),
            (Call::Http, &[], "cut"),
        ] {
            let (after, how) = end(call, fields).await;
            assert_eq!(how, expected, "{fields:?}");
            assert!(after >= Duration::from_mins(1) && after < Duration::from_secs(61), "{after:?}");
        }
    }
}
