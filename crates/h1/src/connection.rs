//! A connection to an upstream: one request at a time, its answer, and then the next.
//!
//! Buffers are kept from one request to the next, and are small while nothing goes on.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, Response, StatusCode};
use tokio::io::AsyncReadExt as _;

use super::super::body::RequestBody;
use super::super::connection_info::ConnectionInfo;
use super::super::malformed::Malformed;
use super::super::memory::{self, HeadRoom};
use super::super::pool::{Closed, OpenConnection};
use super::super::sending::{Failure, Head};
use super::answer::Answer;
use super::head::{AnswerHead, Asked, HeadFinder, Reuse, Then};
use super::stream::Stream;
use super::upload::{Upload, UploadFault};

/// A connection that is free, or carries one request.
#[derive(Debug)]
pub(in crate::proxy) struct Wire {
    /// Shared with the task that sends a body behind its answer's head, and with nobody else.
    pub(super) stream: Rc<RefCell<Stream>>,
    /// What was read and not yet understood.
    pub(super) input: BytesMut,
    output: Vec<u8>,
    /// Whether `input` has had room for more than a head.
    grown: bool,
    /// Until when it is used again. Boxed, as a connection is moved about for each request.
    info: Box<ConnectionInfo>,
    /// Counted for as long as it is open.
    pub(super) open: OpenConnection,
}

/// Where a connection goes when it is free again.
pub(in crate::proxy) trait Keeper {
    /// Keeps `wire` for another request.
    fn keep(&self, wire: Wire);

    /// A response was malformed in its body, of which a part was passed on.
    fn was_malformed(&self, why: Malformed);
}

/// How a request is sent.
#[derive(Clone, Copy)]
pub(in crate::proxy) struct Manner<'m> {
    /// How long the upstream may take nothing of a body that it has begun to answer.
    pub(in crate::proxy) patience: Duration,
    /// Bytes of the answer's head.
    pub(in crate::proxy) max_head: usize,
    /// Told of each interim answer (RFC 9110 section 15.2).
    pub(in crate::proxy) on_interim: &'m dyn Fn(StatusCode, HeaderMap),
    /// Whether the head waits for memory.
    pub(in crate::proxy) waits: &'m Cell<bool>,
}

/// A request under way, until its answer's head is there.
struct Asking<'a> {
    upload: &'a mut Upload,
    /// The connection takes no more of the request; it may have answered all the same.
    refused: bool,
    asked: Asked,
    finder: HeadFinder,
    max_head: usize,
    interim: usize,
    /// Whether a byte of an answer came.
    heard: bool,
    /// Bytes of the last head, and the memory for it.
    head: usize,
    room: HeadRoom,
    waits: &'a Cell<bool>,
}

/// How a request failed, without its body.
enum Fault {
    Unsent,
    Died,
    Malformed(Malformed),
    Broken,
}

impl Fault {
    /// Whether the other side closed the connection, or did not speak HTTP on it.
    const fn is_of_the_upstream(&self) -> bool {
        matches!(self, Self::Unsent | Self::Died | Self::Malformed(_))
    }
}

impl Wire {
    /// A new connection; `open` ends with it.
    pub(in crate::proxy) fn new(stream: Stream, info: ConnectionInfo, open: OpenConnection) -> Self {
        Self {
            stream: Rc::new(RefCell::new(stream)),
            input: BytesMut::new(),
            output: Vec::new(),
            grown: false,
            info: Box::new(info),
            open,
        }
    }

    pub(in crate::proxy) fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// It is closed for this reason, unless another is found.
    pub(in crate::proxy) fn ends(&self, why: Closed) {
        self.open.end().is(why);
    }

    /// Whether it can carry a request: it has not ended, and nothing came that nobody asked for.
    pub(in crate::proxy) fn is_free(&self) -> bool {
        self.input.is_empty() && self.stream.borrow_mut().is_quiet()
    }

    /// Sends a request and waits for the head of its answer. Once the answer was read to its end, the connection goes to
    /// `keeper`, if it is good for another request.
    pub(in crate::proxy) async fn send(
        mut self,
        keeper: Rc<dyn Keeper>,
        head: &Head,
        body: RequestBody,
        manner: Manner<'_>,
    ) -> Result<Response<Answer>, Failure> {
        let mut upload = Upload::new(std::mem::take(&mut self.output), head, body);
        let mut asking = Asking {
            upload: &mut upload,
            refused: false,
            asked: Asked::of(&head.method, &head.headers),
            finder: HeadFinder::default(),
            max_head: manner.max_head,
            interim: 0,
            heard: false,
            head: 0,
            room: HeadRoom::default(),
            waits: manner.waits,
        };
        let answered = poll_fn(|cx| asking.poll(&mut self, manner.on_interim, cx)).await;
        if answered.is_ok() {
            asking.room.whole(asking.head, manner.waits).await;
        }
        let refused = asking.refused;
        if answered.as_ref().is_err_and(Fault::is_of_the_upstream) {
            self.ends(Closed::Upstream);
        }
        let AnswerHead { status, headers, reason, then } = match answered {
            Ok(head) => head,
            Err(Fault::Unsent) => return Err(Failure::Unsent(upload.into_body())),
            Err(Fault::Died) => return Err(Failure::Died),
            Err(Fault::Malformed(Malformed::HeadTooLarge | Malformed::TooManyFields)) => {
                return Err(Failure::TooLarge(manner.max_head));
            }
            Err(Fault::Malformed(why)) => return Err(Failure::Malformed(why)),
            Err(Fault::Broken) => return Err(Failure::Broken),
        };
        if self.grown && self.input.is_empty() {
            // It would hold the whole head for as long as the body comes.
            self.input = BytesMut::new();
        }
        let upload = if upload.is_sent() {
            self.output = upload.into_buffer();
            None
        } else {
            Some(upload)
        };
        let answer = match then {
            Then::Body(decoder, reuse) => {
                // A body that was promised and will not come leaves the connection out of step.
                let broken_off = refused || upload.as_ref().is_some_and(Upload::is_held_back);
                let (upload, reuse) = if broken_off { (None, Reuse::No) } else { (upload, reuse) };
                let upload = upload.map(|upload| (upload, manner.patience));
                Answer::new(self, decoder, reuse, keeper, upload).map_err(Failure::Malformed)?
            }
            Then::Tunnel if upload.is_none() => Answer::tunnel(self),
            Then::Tunnel | Then::Another => return Err(Failure::Malformed(Malformed::UnaskedSwitch)),
        };
        let mut response = Response::new(answer);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        if let Some(reason) = reason {
            response.extensions_mut().insert(reason);
        }
        Ok(response)
    }

    /// Reads what is there, into at least `room` bytes; 0 is the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        self.grown |= room > HEAD_ROOM;
        // `reserve` would double the buffer each time that a part of it is still on its way to the application.
        if self.input.capacity() - self.input.len() < room && !self.input.try_reclaim(room) {
            let mut larger = BytesMut::with_capacity(self.input.len() + room);
            larger.extend_from_slice(&self.input);
            self.input = larger;
        }
        let mut stream = self.stream.borrow_mut();
        let read = pin!(stream.read_buf(&mut self.input)).poll(cx);
        if let Poll::Ready(Ok(read)) = read {
            memory::read(read);
        }
        read
    }

    /// Gives back all buffers of a connection that nobody needs just now.
    pub(in crate::proxy) fn shrink(&mut self) {
        (self.input, self.output) = (BytesMut::new(), Vec::new());
    }

    /// Gives back what only a large message needs.
    pub(super) fn rest(&mut self) {
        if std::mem::take(&mut self.grown) {
            self.input = BytesMut::new();
        }
        if self.output.capacity() > MAX_OUTPUT {
            self.output = Vec::new();
        }
    }
}

impl Asking<'_> {
    /// Sends and reads as far as both go, until a head is there that is not interim.
    fn poll(
        &mut self,
        wire: &mut Wire,
        on_interim: &dyn Fn(StatusCode, HeaderMap),
        cx: &mut Context<'_>,
    ) -> Poll<Result<AnswerHead, Fault>> {
        self.poll_upload(wire, cx)?;
        if !self.upload.has_begun() {
            return Poll::Pending;
        }
        loop {
            let came = wire.input.len();
            if self.heard {
                match self.finder.take(&mut wire.input, self.asked, self.max_head) {
                    Ok(Some(AnswerHead { status, headers, then: Then::Another, .. })) => {
                        self.interim += 1;
                        if self.interim > MAX_INTERIM {
                            return Poll::Ready(Err(Fault::Malformed(Malformed::TooManyInterim)));
                        }
                        on_interim(status, headers);
                        if status == StatusCode::CONTINUE && !self.upload.is_sent() {
                            // The body is asked for before the final answer is taken, which may be here already: after it
                            // nobody could ask the application any more.
                            self.poll_upload(wire, cx)?;
                            cx.waker().wake_by_ref();
                            return Poll::Pending;
                        }
                        continue;
                    }
                    Ok(Some(head)) => {
                        self.head = came - wire.input.len();
                        return Poll::Ready(Ok(head));
                    }
                    Ok(None) => {}
                    Err(why) => return Poll::Ready(Err(Fault::Malformed(why))),
                }
            }
            ready!(self.room.poll_noted(cx, came, self.waits));
            match ready!(wire.poll_fill(cx, HEAD_ROOM.max(came))) {
                Ok(1..) => self.heard = true,
                Ok(0) | Err(_) => {
                    return Poll::Ready(Err(if self.heard { Fault::Broken } else { Fault::Died }));
                }
            }
        }
    }

    /// Sends as much as can be sent now.
    fn poll_upload(&mut self, wire: &Wire, cx: &mut Context<'_>) -> Result<(), Fault> {
        if self.refused || self.upload.is_sent() {
            return Ok(());
        }
        match self.upload.poll(&wire.stream, cx) {
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
            Poll::Ready(Err(UploadFault::Body)) => Err(Fault::Broken),
            Poll::Ready(Err(UploadFault::Connection)) if self.upload.has_begun() => {
                self.refused = true;
                Ok(())
            }
            Poll::Ready(Err(UploadFault::Connection)) => {
                let unseen = wire.stream.borrow().is_all_or_nothing(self.upload.queued());
                Err(if unseen { Fault::Unsent } else { Fault::Died })
            }
        }
    }
}

/// Room for a head, and for most answers whole.
pub(super) const HEAD_ROOM: usize = 8 * 1024;
/// What a free connection keeps to write heads into.
pub(super) const MAX_OUTPUT: usize = 16 * 1024;
/// Interim answers to one request. They cost time alone, and that is limited, too.
const MAX_INTERIM: usize = 16 * 1024;
