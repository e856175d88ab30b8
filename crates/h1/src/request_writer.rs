//! A request on its way out: its head, and then its body as fast as both sides let it (RFC 9112 section 7.1).
//!
//! The request's own future sends it. Where the answer comes first, a task of the same worker takes the rest over, so that
//! an upload never waits for an application that is slow to read.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::body::{Body as _, Frame};
use tokio::io::AsyncWrite as _;
use tokio::task::JoinHandle;

use super::super::body::RequestBody;
use super::super::sending::Head;
use super::connection::{Keeper, MAX_OUTPUT, Wire};
use super::encode::{self, BodyFraming, LINE_END};
use super::stream::Stream;
use crate::clock;

/// What is left of a request to send.
#[derive(Debug)]
pub(super) struct Upload {
    body: RequestBody,
    framing: BodyFraming,
    /// Head, chunk sizes, trailers: what is written before `data`.
    lead: Vec<u8>,
    lead_sent: usize,
    data: Bytes,
    /// What is written after it.
    tail: &'static [u8],
    phase: Phase,
    /// Bytes that the stream took.
    written: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing was asked of the body yet.
    Fresh,
    /// The body was asked for, and had nothing at hand.
    Asked,
    /// The body goes out as it comes.
    Body,
    /// The last of it is on its way.
    Last,
    /// All of it was sent.
    Sent,
}

/// Why an upload stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UploadFault {
    /// The body's sender failed, or sent another length than it said.
    Body,
    /// The connection takes no more.
    Connection,
}

impl Upload {
    /// A request that nothing was sent of; `lead` is a buffer to use.
    pub(super) fn new(mut lead: Vec<u8>, head: &Head, body: RequestBody) -> Self {
        let framing = match body.size_hint().exact() {
            _ if body.is_end_stream() => BodyFraming::None,
            Some(length) => BodyFraming::Length(length),
            None => BodyFraming::Chunked,
        };
        lead.clear();
        encode::head(&mut lead, head, framing);
        let phase = if framing == BodyFraming::None { Phase::Last } else { Phase::Fresh };
        Self { body, framing, lead, lead_sent: 0, data: Bytes::new(), tail: b"", phase, written: 0 }
    }

    pub(super) fn is_sent(&self) -> bool {
        self.phase == Phase::Sent
    }

    /// Whether the other side can have seen anything of it.
    pub(super) fn has_begun(&self) -> bool {
        self.written > 0
    }

    /// The body as it came, of an upload that has not begun.
    pub(super) fn into_body(self) -> RequestBody {
        let mut body = self.body;
        body.unread(self.data);
        body
    }

    /// The buffer, for the next request.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.lead
    }

    /// Sends what can be sent now; ready when all of it is.
    pub(super) fn poll(
        &mut self,
        stream: &RefCell<Stream>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), UploadFault>> {
        loop {
            match self.phase {
                Phase::Sent => return Poll::Ready(Ok(())),
                Phase::Fresh => {
                    // A body that is at hand goes with the head in one write. An application's is so only after it has been
                    // asked for: hence a second look, at once, before the head goes alone.
                    self.phase = Phase::Body;
                    if self.poll_body(cx)?.is_pending() && !self.body.is_held_back() {
                        self.phase = Phase::Asked;
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                Phase::Asked => {
                    self.phase = Phase::Body;
                    let _ = self.poll_body(cx)?;
                }
                Phase::Body => {
                    ready!(self.poll_write(stream, cx))?;
                    // What lies in TLS's buffer is not sent, and more may be long in coming.
                    if self.poll_body(cx)?.is_pending() {
                        ready!(poll_flush(stream, cx))?;
                        return Poll::Pending;
                    }
                }
                Phase::Last => {
                    ready!(self.poll_write(stream, cx))?;
                    ready!(poll_flush(stream, cx))?;
                    self.phase = Phase::Sent;
                    if self.lead.capacity() > MAX_OUTPUT {
                        // The response may be long in coming.
                        self.lead = Vec::new();
                    }
                }
            }
        }
    }

    /// Queues the next part of the body, or its end.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadFault>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame.into_data().map_err(Frame::into_trailers),
            Some(Err(_)) => return Poll::Ready(Err(UploadFault::Body)),
            None => return Poll::Ready(self.end(None)),
        };
        Poll::Ready(match frame {
            Ok(data) => self.queue(data),
            Err(Ok(trailers)) => self.end(Some(&trailers)),
            Err(Err(_unknown)) => Ok(()),
        })
    }

    fn queue(&mut self, data: Bytes) -> Result<(), UploadFault> {
        self.data = data;
        match &mut self.framing {
            BodyFraming::Length(left) => {
                *left = left.checked_sub(self.data.len() as u64).ok_or(UploadFault::Body)?;
            }
            BodyFraming::Chunked if !self.data.is_empty() => {
                encode::chunk_size(&mut self.lead, self.data.len());
                self.tail = LINE_END;
            }
            BodyFraming::Chunked => {}
            BodyFraming::None => return Err(UploadFault::Body),
        }
        if self.body.is_end_stream() { self.end(None) } else { Ok(()) }
    }

    /// Queues what ends the body.
    fn end(&mut self, trailers: Option<&http::HeaderMap>) -> Result<(), UploadFault> {
        self.phase = Phase::Last;
        match self.framing {
            // Fewer bytes than were announced: the connection cannot go on.
            BodyFraming::Length(1..) => return Err(UploadFault::Body),
            BodyFraming::Chunked if self.tail.is_empty() => encode::last_chunk(&mut self.lead, trailers),
            // Behind a chunk that is queued, too, so that both go out in one write.
            BodyFraming::Chunked => self.tail = END_OF_CHUNKS,
            BodyFraming::Length(0) | BodyFraming::None => {}
        }
        Ok(())
    }

    /// Ready when all that is queued has been written.
    fn poll_write(
        &mut self,
        stream: &RefCell<Stream>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), UploadFault>> {
        loop {
            let lead = &self.lead[self.lead_sent..];
            if lead.is_empty() && self.data.is_empty() && self.tail.is_empty() {
                self.lead.clear();
                self.lead_sent = 0;
                return Poll::Ready(Ok(()));
            }
            let mut stream = stream.borrow_mut();
            let stream = Pin::new(&mut *stream);
            let written = if self.data.is_empty() && self.tail.is_empty() {
                stream.poll_write(cx, lead)
            } else {
                let slices = [IoSlice::new(lead), IoSlice::new(&self.data), IoSlice::new(self.tail)];
                let empty = usize::from(lead.is_empty());
                stream.poll_write_vectored(cx, &slices[empty..])
            };
            match ready!(written) {
                Ok(written @ 1..) => {
                    self.written += written as u64;
                    self.wrote(written);
                }
                Ok(0) | Err(_) => return Poll::Ready(Err(UploadFault::Connection)),
            }
        }
    }

    fn wrote(&mut self, mut written: usize) {
        let lead = written.min(self.lead.len() - self.lead_sent);
        self.lead_sent += lead;
        written -= lead;
        let data = written.min(self.data.len());
        self.data.advance(data);
        self.tail = &self.tail[(written - data).min(self.tail.len())..];
    }

    /// Bytes that wait for the stream to take them.
    pub(super) fn queued(&self) -> usize {
        self.lead.len() - self.lead_sent + self.data.len() + self.tail.len()
    }

    /// Whether the body waits to be asked for.
    pub(super) fn is_held_back(&self) -> bool {
        self.body.is_held_back()
    }
}

fn poll_flush(stream: &RefCell<Stream>, cx: &mut Context<'_>) -> Poll<Result<(), UploadFault>> {
    Pin::new(&mut *stream.borrow_mut()).poll_flush(cx).map_err(|_| UploadFault::Connection)
}

/// An upload that goes on behind its answer's head. Its task ends with the body, with the connection, or with this, unless the
/// answer was read to its end before: then the upstream may still want the rest, and the task ends by itself.
pub(super) struct Background {
    shared: Rc<Shared>,
    task: JoinHandle<()>,
    detached: bool,
}

struct Shared {
    state: Cell<BackgroundState>,
    /// How long the upstream may take nothing.
    patience: Cell<Duration>,
    /// The task, to look at that again.
    sender: Cell<Option<Waker>>,
    /// Whoever waits for the answer, and is told of a failure.
    reader: Cell<Option<Waker>>,
    /// The connection to give back at the end, where the answer has ended first.
    left: Cell<Option<(Wire, Rc<dyn Keeper>)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BackgroundState {
    Sending,
    Sent,
    Failed(UploadFault),
}

impl Background {
    /// Goes on with `upload`. It fails when the upstream takes nothing for `patience`.
    pub(super) fn spawn(mut upload: Upload, stream: Rc<RefCell<Stream>>, patience: Duration) -> Self {
        let shared = Rc::new(Shared {
            state: Cell::new(BackgroundState::Sending),
            patience: Cell::new(patience),
            sender: Cell::default(),
            reader: Cell::default(),
            left: Cell::default(),
        });
        let of_task = Rc::clone(&shared);
        let task = tokio::task::spawn_local(async move {
            let ended = drive(&mut upload, &stream, &of_task).await;
            of_task.state.set(match ended {
                Ok(()) => BackgroundState::Sent,
                Err(fault) => BackgroundState::Failed(fault),
            });
            if let (Ok(()), Some((wire, keeper))) = (ended, of_task.left.take()) {
                keeper.keep(wire);
            }
            if let Some(reader) = of_task.reader.take() {
                reader.wake();
            }
        });
        Self { shared, task, detached: false }
    }

    pub(super) fn state(&self) -> BackgroundState {
        self.shared.state.get()
    }

    /// Has `cx` woken when the upload ends.
    pub(super) fn watch(&self, cx: &Context<'_>) {
        self.shared.reader.set(Some(cx.waker().clone()));
    }

    /// The response is whole: the upload goes on alone for as long as the upstream takes it, and gives the connection back.
    pub(super) fn detach(mut self, wire: Wire, keeper: Rc<dyn Keeper>) {
        self.detached = true;
        self.shared.left.set(Some((wire, keeper)));
        self.shared.patience.set(self.shared.patience.get().min(LAST_PATIENCE));
        if let Some(sender) = self.shared.sender.take() {
            sender.wake();
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if !self.detached {
            self.task.abort();
        }
    }
}

/// Sends the rest of `upload`, for as long as the upstream takes some of what is there within the patience of `shared`. A body
/// that is silent has a limit of its own.
async fn drive(upload: &mut Upload, stream: &RefCell<Stream>, shared: &Shared) -> Result<(), UploadFault> {
    let (mut written, mut since) = (upload.written, clock::now());
    let mut timer = pin!(tokio::time::sleep_until(since + shared.patience.get()));
    poll_fn(|cx| {
        let polled = upload.poll(stream, cx);
        if polled.is_ready() {
            return polled;
        }
        shared.sender.set(Some(cx.waker().clone()));
        if upload.queued() == 0 {
            // The next part's time has not begun.
            written = u64::MAX;
            return Poll::Pending;
        }
        if written != upload.written {
            (written, since) = (upload.written, clock::now());
        }
        let deadline = since + shared.patience.get();
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(UploadFault::Connection))
    })
    .await
}

/// How long the upstream may take nothing of a request that it has responded to in full. A server that reads on takes more
/// at once; one that does not holds up the application for nothing.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// Behind the data of the last chunk: its line end, and the chunk that is none.
const END_OF_CHUNKS: &[u8] = b"\r\n0\r\n\r\n";
