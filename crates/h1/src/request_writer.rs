//! A request on its way out: its head, and then its body as fast as both sides allow (RFC 9112 sections 6 and 7.1).
//!
//! The request's own future sends it. Where the response comes first, a task of the same thread takes the rest over, so
//! that an upload never waits for a client that reads slowly.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body::{Body as _, Frame};
use tokio::io::AsyncWrite as _;
use tokio::task::JoinHandle;

use crate::connection::{Connection, MAX_OUTPUT};
use crate::encode::{self, BodyFraming, LINE_END, RequestHead};
use crate::link::{ConnectionPool, Link, RequestBody as _};

/// What is left of a request to send.
pub(crate) struct RequestWriter<L: Link> {
    body: L::Body,
    framing: BodyFraming,
    /// Head, chunk sizes, trailers: what is written before `data`.
    lead: Vec<u8>,
    lead_sent: usize,
    data: Bytes,
    /// What is written after it.
    tail: &'static [u8],
    phase: WritePhase,
    /// Bytes that the transport took.
    written: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WritePhase {
    /// The body was not polled yet.
    Fresh,
    /// The body was polled once, and had nothing at hand.
    Polled,
    /// The body goes out as it comes.
    Body,
    /// The last of it is on its way.
    Last,
    /// All of it was sent.
    Sent,
}

/// Why a request was not sent whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteFault {
    /// The body's sender failed, or sent another length than it announced.
    Body,
    /// The connection takes no more.
    Connection,
}

impl<L: Link> RequestWriter<L> {
    /// A request that nothing was sent of; `lead` is a buffer to use.
    pub(crate) fn new(mut lead: Vec<u8>, head: RequestHead<'_>, body: L::Body) -> Self {
        let framing = match body.size_hint().exact() {
            _ if body.is_end_stream() => BodyFraming::None,
            Some(length) => BodyFraming::Length(length),
            None => BodyFraming::Chunked,
        };
        lead.clear();
        encode::head(&mut lead, head, framing);
        let phase = if framing == BodyFraming::None { WritePhase::Last } else { WritePhase::Fresh };
        Self { body, framing, lead, lead_sent: 0, data: Bytes::new(), tail: b"", phase, written: 0 }
    }

    pub(crate) fn is_sent(&self) -> bool {
        self.phase == WritePhase::Sent
    }

    /// Whether the peer can have seen anything of it.
    pub(crate) fn has_begun(&self) -> bool {
        self.written > 0
    }

    /// The body as it came, of a request of which nothing was sent.
    pub(crate) fn into_body(self) -> L::Body {
        let mut body = self.body;
        body.unread(self.data);
        body
    }

    /// The buffer, for the next request.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.lead
    }

    /// Sends what can be sent now; ready when all of it is.
    pub(crate) fn poll(
        &mut self,
        transport: &RefCell<L::Transport>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), WriteFault>> {
        loop {
            match self.phase {
                WritePhase::Sent => return Poll::Ready(Ok(())),
                WritePhase::Fresh => {
                    // A body that is at hand goes with the head in one write. One that hyper reads is at hand only after a
                    // first poll: hence a second one, at once, before the head goes alone.
                    self.phase = WritePhase::Body;
                    if self.poll_body(cx)?.is_pending() && !self.body.is_held_back() {
                        self.phase = WritePhase::Polled;
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
                WritePhase::Polled => {
                    self.phase = WritePhase::Body;
                    let _ = self.poll_body(cx)?;
                }
                WritePhase::Body => {
                    ready!(self.poll_write(transport, cx))?;
                    // What is in TLS's buffer is not sent, and the next part may take long to come.
                    if self.poll_body(cx)?.is_pending() {
                        ready!(poll_flush::<L>(transport, cx))?;
                        return Poll::Pending;
                    }
                }
                WritePhase::Last => {
                    ready!(self.poll_write(transport, cx))?;
                    ready!(poll_flush::<L>(transport, cx))?;
                    self.phase = WritePhase::Sent;
                    if self.lead.capacity() > MAX_OUTPUT {
                        // The response may take long to come.
                        self.lead = Vec::new();
                    }
                }
            }
        }
    }

    /// Queues the next part of the body, or its end.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteFault>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame.into_data().map_err(Frame::into_trailers),
            Some(Err(_)) => return Poll::Ready(Err(WriteFault::Body)),
            None => return Poll::Ready(self.end(None)),
        };
        Poll::Ready(match frame {
            Ok(data) => self.queue(data),
            Err(Ok(trailers)) => self.end(Some(&trailers)),
            Err(Err(_unknown)) => Ok(()),
        })
    }

    fn queue(&mut self, data: Bytes) -> Result<(), WriteFault> {
        self.data = data;
        match &mut self.framing {
            BodyFraming::Length(left) => {
                *left = left.checked_sub(self.data.len() as u64).ok_or(WriteFault::Body)?;
            }
            BodyFraming::Chunked if !self.data.is_empty() => {
                encode::chunk_size(&mut self.lead, self.data.len());
                self.tail = LINE_END;
            }
            BodyFraming::Chunked => {}
            BodyFraming::None => return Err(WriteFault::Body),
        }
        if self.body.is_end_stream() { self.end(None) } else { Ok(()) }
    }

    /// Queues what ends the body.
    fn end(&mut self, trailers: Option<&http::HeaderMap>) -> Result<(), WriteFault> {
        self.phase = WritePhase::Last;
        match self.framing {
            // Fewer bytes than were announced: the connection is out of step.
            BodyFraming::Length(1..) => return Err(WriteFault::Body),
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
        transport: &RefCell<L::Transport>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), WriteFault>> {
        loop {
            let lead = &self.lead[self.lead_sent..];
            if lead.is_empty() && self.data.is_empty() && self.tail.is_empty() {
                self.lead.clear();
                self.lead_sent = 0;
                return Poll::Ready(Ok(()));
            }
            let mut transport = transport.borrow_mut();
            let transport = Pin::new(&mut *transport);
            let written = if self.data.is_empty() && self.tail.is_empty() {
                transport.poll_write(cx, lead)
            } else {
                let slices = [IoSlice::new(lead), IoSlice::new(&self.data), IoSlice::new(self.tail)];
                let empty = usize::from(lead.is_empty());
                transport.poll_write_vectored(cx, &slices[empty..])
            };
            match ready!(written) {
                Ok(written @ 1..) => {
                    self.written += written as u64;
                    self.wrote(written);
                }
                Ok(0) | Err(_) => return Poll::Ready(Err(WriteFault::Connection)),
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

    /// Bytes that the transport has yet to take.
    pub(crate) fn queued(&self) -> usize {
        self.lead.len() - self.lead_sent + self.data.len() + self.tail.len()
    }

    /// Whether the body waits for a 100.
    pub(crate) fn is_held_back(&self) -> bool {
        self.body.is_held_back()
    }
}

fn poll_flush<L: Link>(
    transport: &RefCell<L::Transport>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), WriteFault>> {
    Pin::new(&mut *transport.borrow_mut()).poll_flush(cx).map_err(|_| WriteFault::Connection)
}

/// Sends the rest of a request behind its response's head. Its task ends with the body, with the connection, or with this
/// handle. Where the response was read to its end before, the peer may still want the rest, and the task goes on alone.
pub(crate) struct BackgroundWriter<L: Link> {
    shared: Rc<Shared<L>>,
    task: JoinHandle<()>,
    is_detached: bool,
}

/// What the task and its handle share.
struct Shared<L: Link> {
    state: Cell<WriteState>,
    /// How long the peer may take nothing.
    timeout: Cell<Duration>,
    /// Wakes the task, when `timeout` has changed.
    writer: Cell<Option<Waker>>,
    /// Wakes the reader of the response, when the task ends.
    reader: Cell<Option<Waker>>,
    /// The connection, and the pool for it at the end, where the response has ended first.
    detached: Cell<Option<Detached<L>>>,
}

type Detached<L> = (Connection<L>, Rc<dyn ConnectionPool<L>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteState {
    Sending,
    Sent,
    Failed(WriteFault),
}

impl<L: Link> BackgroundWriter<L> {
    /// Goes on with `writer`. It fails when the peer takes nothing for `timeout`.
    pub(crate) fn spawn(
        mut writer: RequestWriter<L>,
        transport: Rc<RefCell<L::Transport>>,
        timeout: Duration,
    ) -> Self {
        let shared = Rc::new(Shared {
            state: Cell::new(WriteState::Sending),
            timeout: Cell::new(timeout),
            writer: Cell::default(),
            reader: Cell::default(),
            detached: Cell::new(None),
        });
        let of_task = Rc::clone(&shared);
        let task = tokio::task::spawn_local(async move {
            let ended = drive(&mut writer, &transport, &of_task).await;
            of_task.state.set(match ended {
                Ok(()) => WriteState::Sent,
                Err(fault) => WriteState::Failed(fault),
            });
            if let (Ok(()), Some((connection, pool))) = (ended, of_task.detached.take()) {
                pool.put(connection);
            }
            if let Some(reader) = of_task.reader.take() {
                reader.wake();
            }
        });
        Self { shared, task, is_detached: false }
    }

    pub(crate) fn state(&self) -> WriteState {
        self.shared.state.get()
    }

    /// Wakes `cx` when the task ends.
    pub(crate) fn watch(&self, cx: &Context<'_>) {
        self.shared.reader.set(Some(cx.waker().clone()));
    }

    /// The response is whole: the task goes on alone for as long as the peer takes the rest, and gives the connection back.
    pub(crate) fn detach(mut self, connection: Connection<L>, pool: Rc<dyn ConnectionPool<L>>) {
        self.is_detached = true;
        self.shared.detached.set(Some((connection, pool)));
        self.shared.timeout.set(self.shared.timeout.get().min(DETACHED_TIMEOUT));
        if let Some(writer) = self.shared.writer.take() {
            writer.wake();
        }
    }
}

impl<L: Link> Drop for BackgroundWriter<L> {
    fn drop(&mut self) {
        if !self.is_detached {
            self.task.abort();
        }
    }
}

/// Sends the rest of `writer`, for as long as the peer takes some of what is there within the timeout of `shared`. The
/// silence of a body has a limit of its own.
async fn drive<L: Link>(
    writer: &mut RequestWriter<L>,
    transport: &RefCell<L::Transport>,
    shared: &Shared<L>,
) -> Result<(), WriteFault> {
    let (mut written, mut since) = (writer.written, L::now());
    let mut timer = pin!(tokio::time::sleep_until(since + shared.timeout.get()));
    poll_fn(|cx| {
        let polled = writer.poll(transport, cx);
        if polled.is_ready() {
            return polled;
        }
        shared.writer.set(Some(cx.waker().clone()));
        if writer.queued() == 0 {
            // The time of the next part has not begun.
            written = u64::MAX;
            return Poll::Pending;
        }
        if written != writer.written {
            (written, since) = (writer.written, L::now());
        }
        let deadline = since + shared.timeout.get();
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(WriteFault::Connection))
    })
    .await
}

/// How long the peer may take nothing of a request that it has responded to in full. A server that reads on takes more at
/// once; one that does not holds up the client for nothing.
const DETACHED_TIMEOUT: Duration = Duration::from_secs(1);
/// Behind the data of the last chunk: its line end, and the chunk of size 0.
const END_OF_CHUNKS: &[u8] = b"\r\n0\r\n\r\n";
