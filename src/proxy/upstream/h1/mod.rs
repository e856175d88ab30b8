//! HTTP/1.1 toward an upstream: `cupbearer_h1` speaks it, and this adapter says what its connections need of the proxy.
//!
//! `connect` opens connections, `attempt` sends by them, `pool` keeps those that are idle, and `download` passes the response on.

mod transport;

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cupbearer_h1::{HeadMemory, Link, RequestHead, SendError, SendOptions, TrailerMemory};
use http::{HeaderMap, Response, StatusCode};
use hyper::ext::ReasonPhrase;
use tokio::time::Instant;

use super::connection_info::ConnectionInfo;
use super::failure::SendFailure;
use super::pool::OpenConnection;
use super::request_body::RequestBody;
use crate::clock;
use crate::proxy::memory::{self, COPIES, HeadRoom};
use crate::proxy::message::outbound_head::OutboundHead;
use crate::proxy::observe::upstream_metrics::Closed;

pub(crate) use transport::UpstreamStream;

/// A connection of HTTP/1.1.
pub(super) type Http1Connection = cupbearer_h1::Connection<UpstreamLink>;
/// The body of a response that comes by one.
pub(super) type Http1Body = cupbearer_h1::ResponseBody<UpstreamLink>;
/// Where one goes when it is free again.
pub(super) type Http1Pool = dyn cupbearer_h1::ConnectionPool<UpstreamLink>;

/// What goes with a connection.
#[derive(Debug)]
pub(crate) struct UpstreamLink {
    /// Until when it is used again. Boxed, as a connection is moved for each request.
    info: Box<ConnectionInfo>,
    /// Counted for as long as it is open.
    open: OpenConnection,
}

impl UpstreamLink {
    /// For a new connection; `open` ends with it.
    pub(super) fn new(info: ConnectionInfo, open: OpenConnection) -> Self {
        Self { info: Box::new(info), open }
    }

    pub(super) fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// The connection is closed for this reason, unless another is found.
    pub(super) fn ends(&self, why: Closed) {
        self.open.end().is(why);
    }

    /// The count, for what the connection has become.
    pub(super) fn into_open(self) -> OpenConnection {
        self.open
    }
}

impl Link for UpstreamLink {
    type Transport = UpstreamStream;
    type Body = RequestBody;
    type TrailerMemory = TrailerRoom;

    fn now() -> Instant {
        clock::now()
    }

    fn read(&self, bytes: usize) {
        memory::read(bytes);
    }

    fn read_size(&self, wanted: usize) -> usize {
        memory::room_to_read(wanted)
    }

    fn ended_by_peer(&self) {
        self.ends(Closed::Upstream);
    }
}

impl cupbearer_h1::RequestBody for RequestBody {
    fn unread(&mut self, data: Bytes) {
        Self::unread(self, data);
    }

    fn is_held_back(&self) -> bool {
        Self::is_held_back(self)
    }
}

/// The memory for a response's head.
struct ResponseHeadRoom<'w> {
    room: HeadRoom,
    /// Whether the head waits for memory.
    waits: &'w Cell<bool>,
}

impl HeadMemory for ResponseHeadRoom<'_> {
    fn poll(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<()> {
        self.room.poll_noted(cx, bytes, self.waits)
    }

    async fn whole(&mut self, bytes: usize) {
        self.room.whole(bytes, self.waits).await;
    }
}

/// The memory for a response's trailers.
#[derive(Debug, Default)]
pub(crate) struct TrailerRoom(HeadRoom);

impl TrailerMemory for TrailerRoom {
    fn poll(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<()> {
        self.0.poll(cx, bytes)
    }

    fn read(&mut self, bytes: usize) {
        memory::read(bytes * COPIES);
    }
}

/// How a request is sent.
#[derive(Clone, Copy)]
pub(super) struct ResponseManner<'m> {
    /// How long the upstream may take nothing of a body that it has begun to respond to.
    pub(super) patience: Duration,
    /// The largest head of a response, in bytes.
    pub(super) max_head: usize,
    /// Called for each interim response (RFC 9110 section 15.2).
    pub(super) on_interim: &'m dyn Fn(StatusCode, HeaderMap),
    /// Whether the head waits for memory.
    pub(super) waits: &'m Cell<bool>,
}

/// Sends a request and waits for the head of its response. Once the response was read to its end, the connection goes to
/// `pool`, if it is good for another request.
pub(super) async fn send(
    connection: Http1Connection,
    pool: Rc<Http1Pool>,
    head: &OutboundHead,
    body: RequestBody,
    ResponseManner { patience, max_head, on_interim, waits }: ResponseManner<'_>,
) -> Result<Response<Http1Body>, SendFailure> {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let head = RequestHead { method: &head.method, target, headers: &head.headers };
    let memory = ResponseHeadRoom { room: HeadRoom::default(), waits };
    let options = SendOptions { write_timeout: patience, max_head, on_interim, memory };
    let came = connection.send(pool, head, body, options).await.map_err(|error| match error {
        SendError::Unsent(body) => SendFailure::Unsent(body),
        SendError::Died => SendFailure::Died,
        SendError::Malformed(why) => SendFailure::Malformed(why.into()),
        SendError::HeadTooLarge => SendFailure::TooLarge(max_head),
        SendError::Broken => SendFailure::Broken,
    })?;
    let mut response = Response::new(came.body);
    *response.status_mut() = came.status;
    *response.headers_mut() = came.headers;
    if let Some(reason) = came.reason.and_then(|reason| ReasonPhrase::try_from(reason).ok()) {
        response.extensions_mut().insert(reason);
    }
    Ok(response)
}
