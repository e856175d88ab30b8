//! A request's body on its way upstream: streamed with backpressure, never gathered.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::expect_continue::Gate;
use super::received_body::ReceivedBody;
use super::replay_body::{RecordLimit, ReplayBody, ReplaySending};
use crate::proxy::downstream::activity::{Receiving, Watch};
use crate::proxy::error::BodyError;

/// A request's body on its way upstream.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// There is none.
    Empty,
    /// What the application sends, as it sends it, or as it sent it.
    Streaming(ReplaySending),
}

impl RequestBody {
    /// Wraps what came with a request; `None` where there is no body to follow. So much of it is kept for another sending as
    /// `limit` says.
    pub(crate) fn new(
        incoming: ReceivedBody,
        watch: &Rc<Watch>,
        idle_timeout: Duration,
        gate: Option<Gate>,
        limit: RecordLimit,
    ) -> (Self, Option<Rc<ReplayBody>>) {
        if incoming.is_end_stream() {
            return (Self::Empty, None);
        }
        let receiving = Receiving::new(Rc::clone(watch));
        let (upload, first) = ReplayBody::begin(incoming, Some(receiving), idle_timeout, gate, limit);
        (Self::Streaming(first), Some(upload))
    }

    /// Whether it waits for the upstream to ask for it, rather than for the application to send it.
    pub(super) fn is_held_back(&self) -> bool {
        matches!(self, Self::Streaming(sending) if sending.is_held_back())
    }

    /// Puts back what was taken last.
    pub(crate) fn unread(&mut self, data: Bytes) {
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
