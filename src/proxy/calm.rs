//! HTTP/2 frames that carry nothing, and those that begin a request, counted as they come in (RFC 9113 section 10.5).
//!
//! `SETTINGS`, `PING`, `PRIORITY`, empty `DATA` and frames of unknown types cost us work and the sender almost none.
//! hyper takes any number of them. So a socket that speaks HTTP/2 has its frames' headers read here, and nothing else;
//! its watch ends the connection where too many come. `HEADERS` are a few bytes, and a request's whole work each: a turn
//! of the connection has a limit to them, too.

/// Follows the borders of one connection's frames.
#[derive(Debug)]
pub(super) struct FrameCount {
    /// The frame header under way (RFC 9113 section 4.1), and how much of it is there.
    header: [u8; HEADER],
    read: usize,
    /// Bytes of the payload that are still to come; at first the preface's.
    payload: usize,
}

/// What began in bytes that came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Begun {
    /// Frames that carry nothing.
    pub(super) idle: usize,
    /// Heads of requests, and trailers.
    pub(super) heads: usize,
}

impl FrameCount {
    /// For a connection of which nothing was passed yet.
    pub(super) const fn new() -> Self {
        Self { header: [0; HEADER], read: 0, payload: PREFACE }
    }

    /// Takes note of bytes that came in, and says what has begun in them.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Begun {
        let (mut rest, mut begun) = (bytes, Begun::default());
        while !rest.is_empty() {
            let skipped = self.payload.min(rest.len());
            self.payload -= skipped;
            rest = &rest[skipped..];
            let taken = (HEADER - self.read).min(rest.len());
            self.header[self.read..self.read + taken].copy_from_slice(&rest[..taken]);
            self.read += taken;
            rest = &rest[taken..];
            if self.read == HEADER {
                self.read = 0;
                let [high, middle, low, kind, flags, ..] = self.header;
                self.payload = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                begun.idle += usize::from(carries_nothing(kind, flags, self.payload));
                begun.heads += usize::from(kind == HEADERS);
            }
        }
        begun
    }
}

const fn carries_nothing(kind: u8, flags: u8, length: usize) -> bool {
    match kind {
        DATA => length == 0 && flags & END_STREAM == 0,
        PRIORITY | SETTINGS | PING => true,
        _ => kind > LAST_KNOWN,
    }
}

/// Bytes of a frame's header, and of the preface (RFC 9113 section 3.4).
const HEADER: usize = 9;
const PREFACE: usize = 24;
/// Types of frames (RFC 9113 section 6); the last is `CONTINUATION`.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const LAST_KNOWN: u8 = 9;
const END_STREAM: u8 = 1;

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
            (8, 0, &[0, 0, 0, 1]),
            (3, 0, &[0, 0, 0, 8]),
            (PRIORITY, 0, &[0; 5]),
            (16, 0, b"u=1"),
        ] {
            bytes.extend(frame(kind, flags, payload));
        }
        for size in 1..bytes.len() {
            let mut frames = FrameCount::new();
            let begun: Vec<Begun> = bytes.chunks(size).map(|piece| frames.pass(piece)).collect();
            assert_eq!(begun.iter().map(|begun| begun.idle).sum::<usize>(), 5, "in pieces of {size}");
            assert_eq!(begun.iter().map(|begun| begun.heads).sum::<usize>(), 1, "in pieces of {size}");
        }
    }
}
