//! What a connection needs of the program that owns it: bytes below, bodies above, and the accounts beside.

use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::malformed::Malformed;

/// A connection's owner, as types and callbacks. It travels with the connection.
pub trait Link: Sized + 'static {
    /// The stream below.
    type Transport: Transport + 'static;
    /// The bodies of requests.
    type Body: RequestBody + 'static;
    /// Memory for the trailers of a response.
    type TrailerMemory: TrailerMemory + Default + 'static;

    /// Now, on the clock that timers run by.
    fn now() -> Instant;

    /// The connection read this many bytes.
    fn read(&self, bytes: usize);

    /// How many bytes the next read of a body may bring, where the connection would take `wanted`. Never 0.
    fn read_size(&self, wanted: usize) -> usize;

    /// The connection ends, and the peer is the cause.
    fn ended_by_peer(&self);
}

/// The stream below a connection.
pub trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// Whether the peer neither closed the stream nor sent anything since the last read.
    fn is_quiet(&mut self) -> bool;

    /// Whether the peer saw nothing of a first write of `len` bytes that failed.
    fn is_all_or_nothing(&self, len: usize) -> bool;
}

/// A request's body.
pub trait RequestBody: Body<Data = Bytes> + Unpin {
    /// Puts back the data that it gave last, of which nothing was sent.
    fn unread(&mut self, data: Bytes);

    /// Whether its sender waits for a `100 Continue` (RFC 9110 section 10.1.1).
    fn is_held_back(&self) -> bool;
}

/// The memory for the head of one response, which is held until it is whole.
pub trait HeadMemory {
    /// Ready when the `bytes` that came may be held, and more of them read.
    fn poll(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<()>;

    /// Ready when a whole head of `bytes` may be passed on.
    fn whole(&mut self, bytes: usize) -> impl Future<Output = ()>;
}

/// The memory for one trailer section, which is held until it is whole.
pub trait TrailerMemory {
    /// Ready when the `bytes` that came may be held, and more of them read.
    fn poll(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<()>;

    /// This many bytes of the section were read.
    fn read(&mut self, bytes: usize);
}

/// Where a connection goes when it is free again.
pub trait ConnectionPool<L: Link> {
    /// Takes a connection that is good for another request.
    fn put(&self, connection: Connection<L>);

    /// A response was malformed behind its head, which was passed on already.
    fn malformed_body(&self, why: Malformed);
}
