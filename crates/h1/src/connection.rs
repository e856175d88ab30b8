//! One request and its response over a connection, and then the next (RFC 9112 section 9.3).
//!
//! Buffers are kept from one request to the next, and are small while the connection is idle.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use tokio::io::AsyncReadExt as _;

use crate::encode::RequestHead;
use crate::link::{ConnectionPool, HeadMemory, Link, Transport as _};
use crate::malformed::Malformed;
use crate::parse::{Next, RequestFacts, ResponseHead, ResponseParser, Reuse};
use crate::request_writer::{RequestWriter, WriteFault};
use crate::response_body::ResponseBody;

/// A connection that is free, or carries one request.
pub struct Connection<L: Link> {
    /// Shared with the task that sends a body behind its response's head, and with nothing else.
    pub(crate) transport: Rc<RefCell<L::Transport>>,
    /// What was read and not yet parsed.
    pub(crate) input: BytesMut,
    output: Vec<u8>,
    /// Whether `input` has had room for more than a head.
    grown: bool,
    pub(crate) link: L,
}

/// How a request is sent.
pub struct SendOptions<'o, M> {
    /// How long the peer may take nothing of a body that it has begun to respond to.
    pub write_timeout: Duration,
    /// The largest head of a response, in bytes.
    pub max_head: usize,
    /// Called for each interim response (RFC 9110 section 15.2).
    pub on_interim: &'o dyn Fn(StatusCode, HeaderMap),
    /// The memory for the response's head.
    pub memory: M,
}

/// A final response.
#[derive(Debug)]
pub struct Response<L: Link> {
    /// The status code.
    pub status: StatusCode,
    /// The header fields, without a repeated `Content-Length`.
    pub headers: HeaderMap,
    /// The reason phrase, where it is another than the status has by itself.
    pub reason: Option<Bytes>,
    /// The body, or the tunnel that a 101 leads to.
    pub body: ResponseBody<L>,
}

/// Why there is no response.
#[derive(Debug)]
pub enum SendError<B> {
    /// Nothing of the request was sent: its body comes back whole.
    Unsent(B),
    /// The connection ended before the first byte of a response: the peer may have seen the request.
    Died,
    /// What came is not a response of HTTP/1.1.
    Malformed(Malformed),
    /// The head of the response is over the limit, or has over [`MAX_FIELDS`](crate::MAX_FIELDS) fields.
    HeadTooLarge,
    /// The connection ended within the response's head, or the request's body failed.
    Broken,
}

/// A request under way, until the head of its final response is there.
struct InFlight<'a, L: Link, M> {
    writer: &'a mut RequestWriter<L>,
    /// The connection takes no more of the request; the peer may have responded all the same.
    refused: bool,
    facts: RequestFacts,
    parser: ResponseParser,
    max_head: usize,
    interim: usize,
    /// Whether a byte of a response came.
    has_response: bool,
    /// Bytes of the last head, and the memory for it.
    head: usize,
    memory: M,
}

/// As [`SendError`], without the request's body.
enum SendFault {
    Unsent,
    Died,
    Malformed(Malformed),
    Broken,
}

impl SendFault {
    /// Whether the peer closed the connection, or did not speak HTTP/1.1 on it.
    const fn is_of_the_peer(&self) -> bool {
        matches!(self, Self::Unsent | Self::Died | Self::Malformed(_))
    }
}

impl<L: Link> Connection<L> {
    /// A new connection; `link` is dropped with it.
    pub fn new(transport: L::Transport, link: L) -> Self {
        Self {
            transport: Rc::new(RefCell::new(transport)),
            input: BytesMut::new(),
            output: Vec::new(),
            grown: false,
            link,
        }
    }

    /// What the connection belongs to.
    pub const fn link(&self) -> &L {
        &self.link
    }

    /// Whether it can carry a request: the peer neither closed it nor sent anything unrequested.
    pub fn is_free(&self) -> bool {
        self.input.is_empty() && self.transport.borrow_mut().is_quiet()
    }

    /// Sends a request and waits for the head of its response. Once the response was read to its end, the connection goes
    /// to `pool`, if it is good for another request.
    ///
    /// # Errors
    /// [`SendError`]; the connection is closed then.
    pub async fn send<M: HeadMemory>(
        mut self,
        pool: Rc<dyn ConnectionPool<L>>,
        head: RequestHead<'_>,
        body: L::Body,
        options: SendOptions<'_, M>,
    ) -> Result<Response<L>, SendError<L::Body>> {
        let mut writer = RequestWriter::new(std::mem::take(&mut self.output), head, body);
        let mut in_flight = InFlight {
            writer: &mut writer,
            refused: false,
            facts: RequestFacts::of(head.method, head.headers),
            parser: ResponseParser::default(),
            max_head: options.max_head,
            interim: 0,
            has_response: false,
            head: 0,
            memory: options.memory,
        };
        let response = poll_fn(|cx| in_flight.poll(&mut self, options.on_interim, cx)).await;
        if response.is_ok() {
            in_flight.memory.whole(in_flight.head).await;
        }
        let refused = in_flight.refused;
        if response.as_ref().is_err_and(SendFault::is_of_the_peer) {
            self.link.ended_by_peer();
        }
        let ResponseHead { status, headers, reason, next } = match response {
            Ok(head) => head,
            Err(SendFault::Unsent) => return Err(SendError::Unsent(writer.into_body())),
            Err(SendFault::Died) => return Err(SendError::Died),
            Err(SendFault::Malformed(Malformed::HeadTooLarge | Malformed::TooManyFields)) => {
                return Err(SendError::HeadTooLarge);
            }
            Err(SendFault::Malformed(why)) => return Err(SendError::Malformed(why)),
            Err(SendFault::Broken) => return Err(SendError::Broken),
        };
        if self.grown && self.input.is_empty() {
            // It would hold the whole head for as long as the body comes.
            self.input = BytesMut::new();
        }
        let writer = if writer.is_sent() {
            self.output = writer.into_buffer();
            None
        } else {
            Some(writer)
        };
        let body = match next {
            Next::Body(decoder, reuse) => {
                // A body that was announced and will not come leaves the connection out of step.
                let broken_off = refused || writer.as_ref().is_some_and(RequestWriter::is_held_back);
                let (writer, reuse) = if broken_off { (None, Reuse::No) } else { (writer, reuse) };
                let writer = writer.map(|writer| (writer, options.write_timeout));
                ResponseBody::new(self, decoder, reuse, pool, writer).map_err(SendError::Malformed)?
            }
            Next::Tunnel if writer.is_none() => ResponseBody::tunnel(self),
            Next::Tunnel | Next::Head => return Err(SendError::Malformed(Malformed::UnexpectedSwitch)),
        };
        Ok(Response { status, headers, reason, body })
    }

    /// Reads what is there, into at least `room` bytes; 0 is the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        self.grown |= room > HEAD_ROOM;
        // `reserve` would double the buffer each time that a part of it is still in use downstream.
        if self.input.capacity() - self.input.len() < room && !self.input.try_reclaim(room) {
            let mut larger = BytesMut::with_capacity(self.input.len() + room);
            larger.extend_from_slice(&self.input);
            self.input = larger;
        }
        let mut transport = self.transport.borrow_mut();
        let read = pin!(transport.read_buf(&mut self.input)).poll(cx);
        if let Poll::Ready(Ok(read)) = read {
            self.link.read(read);
        }
        read
    }

    /// Frees all buffers of an idle connection.
    pub fn shrink(&mut self) {
        (self.input, self.output) = (BytesMut::new(), Vec::new());
    }

    /// Frees what only a large message needs.
    pub(crate) fn rest(&mut self) {
        if std::mem::take(&mut self.grown) {
            self.input = BytesMut::new();
        }
        if self.output.capacity() > MAX_OUTPUT {
            self.output = Vec::new();
        }
    }
}

impl<L: Link> fmt::Debug for Connection<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("input", &self.input.len()).finish_non_exhaustive()
    }
}

impl<M> fmt::Debug for SendOptions<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendOptions").field("max_head", &self.max_head).finish_non_exhaustive()
    }
}

impl<L: Link, M: HeadMemory> InFlight<'_, L, M> {
    /// Sends and reads as far as both go, until the head of a final response is there.
    fn poll(
        &mut self,
        connection: &mut Connection<L>,
        on_interim: &dyn Fn(StatusCode, HeaderMap),
        cx: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, SendFault>> {
        self.poll_writer(connection, cx)?;
        if !self.writer.has_begun() {
            return Poll::Pending;
        }
        loop {
            let came = connection.input.len();
            if self.has_response {
                match self.parser.parse(&mut connection.input, self.facts, self.max_head) {
                    Ok(Some(ResponseHead { status, headers, next: Next::Head, .. })) => {
                        self.interim += 1;
                        if self.interim > MAX_INTERIM {
                            return Poll::Ready(Err(SendFault::Malformed(Malformed::TooManyInterim)));
                        }
                        on_interim(status, headers);
                        if status == StatusCode::CONTINUE && !self.writer.is_sent() {
                            // The body is polled before the final response is taken, which may be here already: its sender
                            // would see no 100 after that.
                            self.poll_writer(connection, cx)?;
                            cx.waker().wake_by_ref();
                            return Poll::Pending;
                        }
                        continue;
                    }
                    Ok(Some(head)) => {
                        self.head = came - connection.input.len();
                        return Poll::Ready(Ok(head));
                    }
                    Ok(None) => {}
                    Err(why) => return Poll::Ready(Err(SendFault::Malformed(why))),
                }
            }
            ready!(self.memory.poll(cx, came));
            let Ok(1..) = ready!(connection.poll_fill(cx, HEAD_ROOM.max(came))) else {
                let fault = if self.has_response { SendFault::Broken } else { SendFault::Died };
                return Poll::Ready(Err(fault));
            };
            self.has_response = true;
        }
    }

    /// Sends as much as can be sent now.
    fn poll_writer(&mut self, connection: &Connection<L>, cx: &mut Context<'_>) -> Result<(), SendFault> {
        if self.refused || self.writer.is_sent() {
            return Ok(());
        }
        match self.writer.poll(&connection.transport, cx) {
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
            Poll::Ready(Err(WriteFault::Body)) => Err(SendFault::Broken),
            Poll::Ready(Err(WriteFault::Connection)) if self.writer.has_begun() => {
                self.refused = true;
                Ok(())
            }
            Poll::Ready(Err(WriteFault::Connection)) => {
                let unseen = connection.transport.borrow().is_all_or_nothing(self.writer.queued());
                Err(if unseen { SendFault::Unsent } else { SendFault::Died })
            }
        }
    }
}

/// Room for a head, and for most responses whole.
pub(crate) const HEAD_ROOM: usize = 8 * 1024;
/// What a free connection keeps to write heads into.
pub(crate) const MAX_OUTPUT: usize = 16 * 1024;
/// Interim responses to one request. They cost time alone, which the owner limits.
const MAX_INTERIM: usize = 16 * 1024;
