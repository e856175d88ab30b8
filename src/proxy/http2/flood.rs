//! HTTP/2 frames that carry nothing, and those that begin a request, counted as they come in (RFC 9113 section 10.5).
//!
//! `SETTINGS`, `PING`, `PRIORITY`, `GOAWAY`, empty `DATA` and frames of unknown types cost us work and the sender almost none;
//! so do `RST_STREAM` and `WINDOW_UPDATE` for streams that are closed, or by a byte at a time. A stream is reset once at the
//! most, and a window is updated as data was sent: what is beyond that carries nothing. hyper takes any number of them. So a socket that speaks HTTP/2 has its frames' headers read here, and nothing else;
//! its watch ends the connection where too many come. `HEADERS` are a few bytes, and a request's whole work each: a turn
//! of the connection has a limit to them, too.

/// Follows the borders of one connection's frames.
#[derive(Debug)]
pub(crate) struct FrameCount {
    /// The frame header under way (RFC 9113 section 4.1), and how much of it is there.
    header: [u8; HEADER],
    read: usize,
    /// Bytes of the payload that are still to come; at first the preface's.
    payload: usize,
    /// Streams that were opened, less those that were reset.
    resettable: usize,
    /// Bytes that were sent, less those that were answered by an update of a window.
    sent: usize,
    /// Whether that is a body's.
    of_body: bool,
}

/// What began in bytes that came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Begun {
    /// Frames that carry nothing.
    pub(crate) idle: usize,
    /// Heads of requests, and trailers.
    pub(crate) heads: usize,
    /// Bytes of bodies.
    pub(crate) data: usize,
}

impl FrameCount {
    /// For a connection of which nothing was passed yet.
    pub(crate) const fn new() -> Self {
        Self { header: [0; HEADER], read: 0, payload: PREFACE, resettable: 0, sent: 0, of_body: false }
    }

    /// Takes note of bytes that went out: the other side may update its windows for them.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.sent = (self.sent + bytes).min(MOST_SENT);
    }

    /// Takes note of bytes that came in, and says what has begun in them.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Begun {
        let (mut rest, mut begun) = (bytes, Begun::default());
        while !rest.is_empty() {
            let skipped = self.payload.min(rest.len());
            self.payload -= skipped;
            begun.data += if self.of_body { skipped } else { 0 };
            rest = &rest[skipped..];
            let taken = (HEADER - self.read).min(rest.len());
            self.header[self.read..self.read + taken].copy_from_slice(&rest[..taken]);
            self.read += taken;
            rest = &rest[taken..];
            if self.read == HEADER {
                self.read = 0;
                let [high, middle, low, kind, flags, ..] = self.header;
                self.payload = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                begun.idle += usize::from(self.carries_nothing(kind, flags));
                begun.heads += usize::from(kind == HEADERS);
                self.of_body = kind == DATA;
            }
        }
        begun
    }

    fn carries_nothing(&mut self, kind: u8, flags: u8) -> bool {
        match kind {
            DATA => self.payload == 0 && flags & END_STREAM == 0,
            HEADERS => {
                self.resettable += 1;
                false
            }
            RST_STREAM => !spend(&mut self.resettable, 1),
            WINDOW_UPDATE => !spend(&mut self.sent, BYTES_PER_UPDATE),
            PRIORITY | SETTINGS | PING | GOAWAY => true,
            _ => kind > LAST_KNOWN,
        }
    }
}

/// Takes `price` off `credit`; whether there was so much.
const fn spend(credit: &mut usize, price: usize) -> bool {
    match credit.checked_sub(price) {
        Some(rest) => {
            *credit = rest;
            true
        }
        None => false,
    }
}

/// Bytes of a frame's header, and of the preface (RFC 9113 section 3.4).
pub(crate) const HEADER: usize = 9;
pub(super) const PREFACE: usize = 24;
/// Types of frames (RFC 9113 section 6).
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;
const LAST_KNOWN: u8 = CONTINUATION;
pub(super) const END_STREAM: u8 = 1;
/// Bytes that went out for each update of a window. The smallest frame of data has ten, and a receiver may answer it with
/// two updates, of the stream's window and of the connection's.
const BYTES_PER_UPDATE: usize = 5;
/// What is remembered of the bytes that went out: updates for more than this do not come late.
const MOST_SENT: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn frames_that_carry_nothing_are_counted_however_they_are_cut() {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        for (kind, flags, payload) in [
            (SETTINGS, 0, &[0; 6][..]),
            (HEADERS, 4, &[4; 30]),
            (DATA, 0, b"hello"),
            (DATA, 0, b""),
            (DATA, END_STREAM, b""),
            (PING, 0, &[6; 8]),
            (WINDOW_UPDATE, 0, &[0, 0, 0, 1]),
            (RST_STREAM, 0, &[0, 0, 0, 8]),
            (PRIORITY, 0, &[0; 5]),
            (16, 0, b"u=1"),
        ] {
            bytes.extend(frame(kind, flags, payload));
        }
        for size in 1..bytes.len() {
            let mut frames = FrameCount::new();
            frames.wrote(BYTES_PER_UPDATE);
            let begun: Vec<Begun> = bytes.chunks(size).map(|piece| frames.pass(piece)).collect();
            assert_eq!(begun.iter().map(|begun| begun.idle).sum::<usize>(), 5, "in pieces of {size}");
            assert_eq!(begun.iter().map(|begun| begun.heads).sum::<usize>(), 1, "in pieces of {size}");
            assert_eq!(begun.iter().map(|begun| begun.data).sum::<usize>(), 5, "in pieces of {size}");
        }
    }

    #[test]
    fn a_stream_is_reset_once_and_windows_grow_as_data_was_sent() {
        fn idle(frames: &mut FrameCount, kind: u8, count: usize) -> usize {
            (0..count).map(|_| frames.pass(&frame(kind, 0, &[0; 4])).idle).sum()
        }
        let mut frames = FrameCount::new();
        frames.pass(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        assert_eq!(idle(&mut frames, HEADERS, 3), 0);
        assert_eq!(idle(&mut frames, RST_STREAM, 10), 7);
        assert_eq!(idle(&mut frames, WINDOW_UPDATE, 7), 7);
        frames.wrote(10 * BYTES_PER_UPDATE);
        assert_eq!(idle(&mut frames, WINDOW_UPDATE, 15), 5);
    }
}
