//! A response's body as it comes in (RFC 9112 section 6), and the connection under it until its last byte was read.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::connection::{Connection, HEAD_ROOM};
use crate::decode::Decoder;
use crate::link::{ConnectionPool, Link, TrailerMemory as _};
use crate::malformed::Malformed;
use crate::parse::Reuse;
use crate::request_writer::{BackgroundWriter, RequestWriter, WriteFault, WriteState};

/// A response's body. Dropped before its end, it closes the connection, and the rest of the request is not sent.
pub struct ResponseBody<L: Link> {
    /// Data that was read and not yet given.
    data: Option<Bytes>,
    decoder: Decoder,
    source: Source<L>,
    /// Room for the next read, where it is not known how much will come.
    room: usize,
    /// Whether the head said how long the body is.
    length: Length,
    /// Whether the peer closes behind this response, though not all of the request was sent.
    cuts_upload: bool,
}

enum Source<L: Link> {
    /// More is to be read. Boxed: most responses come whole, and are moved often.
    Reading(Box<Reading<L>>),
    /// All was read; the connection went to the pool, or was closed.
    Ended,
    /// The connection speaks another protocol from now on.
    Tunnel(Box<Connection<L>>),
}

/// A body of which more is to come.
struct Reading<L: Link> {
    connection: Connection<L>,
    /// The memory for the trailers.
    memory: L::TrailerMemory,
    pool: Rc<dyn ConnectionPool<L>>,
    reuse: Reuse,
    background: Option<BackgroundWriter<L>>,
}

/// Whether the head says how long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Known,
    Unknown,
}

/// Whether there is something to give, or nothing more to wait for.
enum Progress {
    Made,
    None,
}

/// Why a response's body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection ended before the body did.
    #[error("the peer closed the connection before the response's end")]
    Cut,
    /// The connection failed.
    #[error("the connection failed")]
    Connection(#[source] io::Error),
    /// The body is not what the head says of it.
    #[error("the response is not valid HTTP: {0}")]
    Malformed(#[from] Malformed),
    /// The sender of the request's body failed.
    #[error("the request's body failed during its response")]
    RequestBody,
}

impl<L: Link> ResponseBody<L> {
    /// The body behind a head that came by `connection`; `writer` is what is left of the request, and how long the peer may
    /// take nothing of it.
    pub(crate) fn new(
        connection: Connection<L>,
        mut decoder: Decoder,
        reuse: Reuse,
        pool: Rc<dyn ConnectionPool<L>>,
        writer: Option<(RequestWriter<L>, Duration)>,
    ) -> Result<Self, Malformed> {
        let cuts_upload = reuse == Reuse::No && writer.is_some();
        let background = writer.map(|(writer, timeout)| {
            BackgroundWriter::spawn(writer, Rc::clone(&connection.transport), timeout)
        });
        let mut reading =
            Reading { connection, memory: L::TrailerMemory::default(), pool, reuse, background };
        let length = if decoder.left().is_some() { Length::Known } else { Length::Unknown };
        // What came with the head is decoded at once: a response that came whole frees its connection here.
        let data = decoder.decode(&mut reading.connection.input)?;
        let source = if decoder.is_finished() {
            reading.end();
            Source::Ended
        } else {
            Source::Reading(Box::new(reading))
        };
        Ok(Self { data, decoder, source, room: HEAD_ROOM, length, cuts_upload })
    }

    /// What 101 leads to.
    pub(crate) fn tunnel(connection: Connection<L>) -> Self {
        let source = Source::Tunnel(Box::new(connection));
        let decoder = Decoder::none();
        Self { data: None, decoder, source, room: 0, length: Length::Known, cuts_upload: false }
    }

    /// The stream behind a 101 (RFC 9110 section 15.2.2), what of the new protocol was read already, and the link; `None` for
    /// any other response.
    pub fn into_tunnel(self) -> Option<(L::Transport, Bytes, L)> {
        let Source::Tunnel(connection) = self.source else { return None };
        let transport = Rc::try_unwrap(connection.transport).ok()?;
        Some((transport.into_inner(), connection.input.freeze(), connection.link))
    }

    /// The next part of the body, or its trailers.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(data) = self.data.take() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if let Some(trailers) = self.decoder.take_trailers() {
                return Poll::Ready(Some(Ok(Frame::trailers(*trailers))));
            }
            let polled = match &self.source {
                Source::Ended | Source::Tunnel(_) => return Poll::Ready(None),
                // Several chunks may have come by one read.
                Source::Reading(reading) if !reading.connection.input.is_empty() => {
                    self.decode().map(|()| self.progress()).map_err(BodyError::from)
                }
                Source::Reading(_) => Ok(Progress::None),
            };
            let polled = match polled {
                Ok(Progress::Made) => continue,
                Ok(Progress::None) => ready!(self.poll_fill(cx)),
                Err(error) => Err(error),
            };
            if let Err(error) = polled {
                let source = std::mem::replace(&mut self.source, Source::Ended);
                if let (Source::Reading(reading), BodyError::Malformed(why)) = (source, &error) {
                    reading.pool.malformed_body(*why);
                }
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    /// Reads what is there.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Source::Reading(reading) = &mut self.source else { return Poll::Ready(Ok(())) };
        let in_trailers = self.decoder.is_in_trailers();
        if in_trailers {
            ready!(reading.memory.poll(cx, reading.connection.input.len()));
        }
        let room = match self.decoder.left() {
            // One byte over, so that a read that takes the last is seen to have taken all there was.
            Some(left) => usize::try_from(left).map_or(MAX_ROOM, |left| left.saturating_add(1)),
            None => self.room,
        };
        let room = reading.connection.link.read_size(room.min(MAX_ROOM));
        let read = ready!(reading.poll_fill(cx, room))?;
        if in_trailers {
            reading.memory.read(read);
        }
        if read == 0 {
            reading.connection.link.ended_by_peer();
            self.source = Source::Ended;
            return Poll::Ready(if self.decoder.may_end_here() { Ok(()) } else { Err(BodyError::Cut) });
        }
        self.room = if read < self.room { HEAD_ROOM } else { (self.room * 2).min(MAX_ROOM) };
        Poll::Ready(Ok(()))
    }

    fn progress(&self) -> Progress {
        let is_waiting = self.data.is_none() && matches!(self.source, Source::Reading(_));
        if is_waiting { Progress::None } else { Progress::Made }
    }

    /// Whether the rest of the request's body will not be sent.
    pub const fn cuts_upload(&self) -> bool {
        self.cuts_upload
    }

    /// Whether nothing more is to come.
    pub fn is_end_stream(&self) -> bool {
        self.data.is_none() && !self.decoder.has_trailers() && !matches!(self.source, Source::Reading(_))
    }

    /// How much data is to come.
    pub fn size_hint(&self) -> SizeHint {
        // Chunks stay chunks, though all of them may have come: trailers need them.
        match (self.length, self.decoder.left()) {
            (Length::Known, Some(left)) => {
                SizeHint::with_exact(left + self.data.as_ref().map_or(0, Bytes::len) as u64)
            }
            _ => SizeHint::default(),
        }
    }

    /// Decodes what was read; with the last of it the connection is free.
    fn decode(&mut self) -> Result<(), Malformed> {
        let Source::Reading(reading) = &mut self.source else { return Ok(()) };
        self.data = self.decoder.decode(&mut reading.connection.input)?;
        if self.decoder.is_finished()
            && let Source::Reading(reading) = std::mem::replace(&mut self.source, Source::Ended)
        {
            reading.end();
        }
        Ok(())
    }
}

impl<L: Link> Reading<L> {
    fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<Result<usize, BodyError>> {
        if let Some(background) = &self.background {
            match background.state() {
                WriteState::Failed(WriteFault::Body) => return Poll::Ready(Err(BodyError::RequestBody)),
                WriteState::Failed(WriteFault::Connection) => self.reuse = Reuse::No,
                WriteState::Sending | WriteState::Sent => {}
            }
            background.watch(cx);
        }
        self.connection.poll_fill(cx, room).map_err(BodyError::Connection)
    }

    /// The last byte was read: the connection goes to the pool, is closed, or is left to the request that is still sent.
    fn end(self) {
        let Self { mut connection, memory: _, pool, reuse, background } = self;
        if reuse == Reuse::No || !connection.input.is_empty() {
            connection.link.ended_by_peer();
            return;
        }
        connection.rest();
        match background {
            Some(background) if background.state() == WriteState::Sending => {
                background.detach(connection, pool);
            }
            Some(background) if background.state() != WriteState::Sent => {}
            Some(_) | None => pool.put(connection),
        }
    }
}

impl<L: Link> fmt::Debug for ResponseBody<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("decoder", &self.decoder).finish_non_exhaustive()
    }
}

/// Bytes of a body that are read at a time: most of what a read costs is its call, and a connection holds one or two
/// buffers of this size at most.
pub(crate) const MAX_ROOM: usize = 64 * 1024;
