//! An answer's body as it comes in, and the connection under it until its last byte was read.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::super::malformed::Malformed;
use super::super::memory::{self, COPIES, HeadRoom};
use super::super::pool::{Closed, OpenConnection};
use super::body::Decoder;
use super::connection::{HEAD_ROOM, Keeper, Wire};
use super::head::Reuse;
use super::stream::Stream;
use super::upload::{Background, BackgroundState, Upload, UploadFault};

/// An answer's body. Dropped before its end, it closes the connection, and the request's body is not sent on.
pub(in crate::proxy) struct Answer {
    /// Data that was read and not yet handed on.
    data: Option<Bytes>,
    decoder: Decoder,
    source: Source,
    /// Room for the next read, where it is not known how much will come.
    room: usize,
    /// Whether the head said how long the body is.
    length: Length,
    /// Whether the upstream closes with this response, though not all of the request was sent.
    cuts_upload: bool,
}

enum Source {
    /// More is to be read. Boxed: most answers come whole, and are moved about a lot.
    Reading(Box<Reading>),
    /// All was read; the connection went where it belongs.
    Ended,
    /// Another protocol is spoken from now on.
    Tunnel(Box<Wire>),
}

struct Reading {
    wire: Wire,
    /// The memory for the trailers.
    room: HeadRoom,
    keeper: Rc<dyn Keeper>,
    reuse: Reuse,
    background: Option<Background>,
}

/// Whether it is known from the start how long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Known,
    Unknown,
}

/// Whether bytes that were read led to anything.
enum News {
    Some,
    None,
}

/// Why an answer's body broke off.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum AnswerError {
    #[error("the upstream closed before the answer's end")]
    Cut,
    #[error("the connection to the upstream failed")]
    Connection(#[source] io::Error),
    #[error("the upstream's response is not valid HTTP: {0}")]
    Malformed(#[from] Malformed),
    #[error("the request's body failed under its answer")]
    Upload,
}

impl Answer {
    /// The body behind a head that came by `wire`; `upload` is what is left of the request, and how long the upstream
    /// may take nothing of it.
    pub(super) fn new(
        wire: Wire,
        mut decoder: Decoder,
        reuse: Reuse,
        keeper: Rc<dyn Keeper>,
        upload: Option<(Upload, Duration)>,
    ) -> Result<Self, Malformed> {
        let cuts_upload = reuse == Reuse::No && upload.is_some();
        let background =
            upload.map(|(upload, patience)| Background::spawn(upload, Rc::clone(&wire.stream), patience));
        let mut reading = Reading { wire, room: HeadRoom::default(), keeper, reuse, background };
        let length = if decoder.left().is_some() { Length::Known } else { Length::Unknown };
        // What came with the head is seen at once: an answer that came whole frees its connection here.
        let data = decoder.decode(&mut reading.wire.input)?;
        let source = if decoder.is_finished() {
            reading.end();
            Source::Ended
        } else {
            Source::Reading(Box::new(reading))
        };
        Ok(Self { data, decoder, source, room: HEAD_ROOM, length, cuts_upload })
    }

    /// What 101 leads to.
    pub(super) fn tunnel(wire: Wire) -> Self {
        let source = Source::Tunnel(Box::new(wire));
        let decoder = Decoder::none();
        Self { data: None, decoder, source, room: 0, length: Length::Known, cuts_upload: false }
    }

    /// The connection behind a 101, what of the new protocol was read already, and the count that ends with the connection;
    /// `None` for any other answer.
    pub(in crate::proxy) fn into_tunnel(self) -> Option<(Stream, Bytes, OpenConnection)> {
        let Source::Tunnel(wire) = self.source else { return None };
        let stream = Rc::try_unwrap(wire.stream).ok()?;
        Some((stream.into_inner(), wire.input.freeze(), wire.open))
    }

    /// The next part of the body, or its trailers.
    pub(in crate::proxy) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
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
                Source::Reading(reading) if !reading.wire.input.is_empty() => {
                    self.decode().map(|()| self.has_news()).map_err(AnswerError::from)
                }
                Source::Reading(_) => Ok(News::None),
            };
            let polled = match polled {
                Ok(News::Some) => continue,
                Ok(News::None) => ready!(self.poll_fill(cx)),
                Err(error) => Err(error),
            };
            if let Err(error) = polled {
                let source = std::mem::replace(&mut self.source, Source::Ended);
                if let (Source::Reading(reading), AnswerError::Malformed(why)) = (source, &error) {
                    reading.keeper.was_malformed(*why);
                }
                return Poll::Ready(Some(Err(error)));
            }
        }
    }

    /// Reads what is there.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), AnswerError>> {
        let Source::Reading(reading) = &mut self.source else { return Poll::Ready(Ok(())) };
        let in_trailers = self.decoder.is_in_trailers();
        if in_trailers {
            ready!(reading.room.poll(cx, reading.wire.input.len()));
        }
        let room = match self.decoder.left() {
            // One byte over, so that the read that takes the last is seen to have taken all there was.
            Some(left) => usize::try_from(left).map_or(MAX_ROOM, |left| left.saturating_add(1)),
            None => self.room,
        };
        let room = memory::room_to_read(room.min(MAX_ROOM));
        let read = ready!(reading.poll_fill(cx, room))?;
        if in_trailers {
            memory::read(read * COPIES);
        }
        if read == 0 {
            reading.wire.ends(Closed::Upstream);
            self.source = Source::Ended;
            return Poll::Ready(if self.decoder.may_end_here() { Ok(()) } else { Err(AnswerError::Cut) });
        }
        self.room = if read < self.room { HEAD_ROOM } else { (self.room * 2).min(MAX_ROOM) };
        Poll::Ready(Ok(()))
    }

    /// Whether there is something to hand on, or nothing more to wait for.
    fn has_news(&self) -> News {
        let waiting = self.data.is_none() && matches!(self.source, Source::Reading(_));
        if waiting { News::None } else { News::Some }
    }

    /// Whether the rest of the request's body will not be sent.
    pub(in crate::proxy) const fn cuts_upload(&self) -> bool {
        self.cuts_upload
    }

    /// Whether nothing is to come any more.
    pub(in crate::proxy) fn is_end_stream(&self) -> bool {
        self.data.is_none() && !self.decoder.has_trailers() && !matches!(self.source, Source::Reading(_))
    }

    /// How much data is to come.
    pub(in crate::proxy) fn size_hint(&self) -> SizeHint {
        // Chunks stay chunks, though all of them may have come: trailers need them.
        match (self.length, self.decoder.left()) {
            (Length::Known, Some(left)) => {
                SizeHint::with_exact(left + self.data.as_ref().map_or(0, Bytes::len) as u64)
            }
            _ => SizeHint::default(),
        }
    }

    /// Takes what was read for data; with the last of it the connection is free.
    fn decode(&mut self) -> Result<(), Malformed> {
        let Source::Reading(reading) = &mut self.source else { return Ok(()) };
        self.data = self.decoder.decode(&mut reading.wire.input)?;
        if self.decoder.is_finished()
            && let Source::Reading(reading) = std::mem::replace(&mut self.source, Source::Ended)
        {
            reading.end();
        }
        Ok(())
    }
}

impl Reading {
    fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<Result<usize, AnswerError>> {
        if let Some(background) = &self.background {
            match background.state() {
                BackgroundState::Failed(UploadFault::Body) => return Poll::Ready(Err(AnswerError::Upload)),
                BackgroundState::Failed(UploadFault::Connection) => self.reuse = Reuse::No,
                BackgroundState::Sending | BackgroundState::Sent => {}
            }
            background.watch(cx);
        }
        self.wire.poll_fill(cx, room).map_err(AnswerError::Connection)
    }

    /// The last byte was read: the connection is given back, or dropped, or left to the upload that goes on.
    fn end(self) {
        let Self { mut wire, room: _, keeper, reuse, background } = self;
        if reuse == Reuse::No || !wire.input.is_empty() {
            wire.ends(Closed::Upstream);
            return;
        }
        wire.rest();
        match background {
            Some(background) if background.state() == BackgroundState::Sending => {
                background.detach(wire, keeper);
            }
            Some(background) if background.state() != BackgroundState::Sent => {}
            Some(_) | None => keeper.keep(wire),
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("decoder", &self.decoder).finish_non_exhaustive()
    }
}

/// Bytes of a body that are read at a time: most of what a read costs is its call, and a connection holds one or two
/// buffers of this size at most.
pub(super) const MAX_ROOM: usize = 64 * 1024;
