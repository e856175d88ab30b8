//! The trailers of an HTTP/2 API's responses, on the way to h2: a pseudo-header field makes them malformed (RFC 9113 section
//! 8.1), and h2 would drop it in silence.
//!
//! Trailers are told from a response's head by what came before on their stream. Where that cannot be known (a response whose
//! status is in the dynamic table, and that has no body) they go on as they came.

use super::calm::{DATA, END_STREAM, HEADER, HEADERS, RST_STREAM};
use super::head_frames::{Block, HeadFrames, HeadedStreams, stream_of};
use super::hpack::{Name, literals, read_string, size_updates};

/// Follows the frames that come by one connection.
#[derive(Debug)]
pub(super) struct ResponseTrailers {
    frames: HeadFrames,
    streams: HeadedStreams,
}

impl ResponseTrailers {
    /// For a new connection.
    pub(super) const fn new() -> Self {
        Self { frames: HeadFrames::behind(0), streams: HeadedStreams::new() }
    }

    /// Looks at bytes that came: see [`HeadFrames::admit`].
    pub(super) fn admit(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let Self { frames, streams } = self;
        frames.admit(bytes, out, |header, payload| judge(streams, header, payload))
    }
}

fn judge(streams: &mut HeadedStreams, header: &[u8; HEADER], payload: &[u8]) -> Option<Vec<u8>> {
    let (kind, flags, stream) = (header[3], header[4], stream_of(header));
    let ends = flags & END_STREAM != 0;
    match kind {
        DATA if ends => streams.end(stream),
        DATA => streams.begin(stream),
        RST_STREAM => streams.end(stream),
        HEADERS => {
            let block = Block::of(flags, payload)?;
            if streams.contains(stream) {
                streams.end(stream);
                return block.trailers(header);
            }
            if !ends && is_final(block.fields) {
                streams.begin(stream);
            }
        }
        _ => {}
    }
    None
}

/// Whether the fields of a head surely begin with a final status: an interim response is followed by another head.
fn is_final(fields: &[u8]) -> bool {
    let Some(fields) = size_updates(fields).and_then(|updates| fields.get(updates..)) else { return false };
    // The statuses of the static table are final ones.
    if fields.first().is_some_and(|first| first & 0x80 != 0 && STATUS.contains(&usize::from(first & 0x7f))) {
        return true;
    }
    let Some(literal) = literals(fields).next().filter(|literal| literal.at.start == 0) else { return false };
    let text = |literal: &[u8]| {
        let mut text = Vec::new();
        read_string(literal, |byte| text.push(byte)).map(|()| text)
    };
    let is_status = match literal.name {
        Name::Index(index) => STATUS.contains(&index),
        Name::Spelt(name) => text(&fields[name]).is_some_and(|name| name == b":status"),
    };
    is_status
        && text(&fields[literal.value]).is_some_and(|status| matches!(status.first(), Some(b'2'..=b'9')))
}

/// Where `:status` is in the static table (RFC 7541 appendix A).
const STATUS: std::ops::RangeInclusive<usize> = 8..=14;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, stream]);
        frame.extend_from_slice(payload);
        frame
    }

    /// All that goes on of a connection whose bytes come in pieces of `step`.
    fn pass(bytes: &[u8], step: usize) -> Vec<u8> {
        let mut trailers = ResponseTrailers::new();
        let mut passed = Vec::new();
        for piece in bytes.chunks(step) {
            let mut out = Vec::new();
            let same = trailers.admit(piece, &mut out);
            passed.extend_from_slice(&piece[..same]);
            passed.append(&mut out);
        }
        passed
    }

    /// `:status: 200`, `:status: 103` and `:status: 299` as literals, and one of the dynamic table.
    const OK: &[u8] = &[0x88];
    const HINTS: &[u8] = b"\x48\x03103";
    const ODD: &[u8] = b"\x08\x03299";
    const INDEXED: &[u8] = &[0xbe];
    /// `x: 1`.
    const FIELD: &[u8] = b"\x00\x01x\x011";

    #[test]
    fn trailers_get_a_field_before_all_others_and_heads_do_not() {
        let marked = |fields: &[u8]| frame(HEADERS, 5, 1, &[&[0x0f, 0x10, 0], fields].concat());
        let data = frame(DATA, 0, 1, b"hello");
        let trailers = frame(HEADERS, 5, 1, FIELD);
        for before in [
            vec![frame(HEADERS, 4, 1, OK)],
            vec![frame(HEADERS, 4, 1, ODD)],
            vec![frame(HEADERS, 4, 1, HINTS), frame(HEADERS, 4, 1, OK)],
            vec![frame(HEADERS, 4, 1, OK), data.clone()],
            vec![frame(HEADERS, 4, 1, INDEXED), data.clone(), data.clone()],
            vec![frame(4, 0, 0, &[]), frame(HEADERS, 4, 1, OK), frame(HEADERS, 5, 3, OK)],
        ] {
            let before = before.concat();
            let bytes = [&before[..], &trailers, &frame(8, 0, 0, &[0, 0, 1, 0])].concat();
            let wanted = [&before[..], &marked(FIELD), &frame(8, 0, 0, &[0, 0, 1, 0])].concat();
            for step in 1..=bytes.len() {
                assert_eq!(pass(&bytes, step), wanted, "in pieces of {step}");
            }
        }
    }

    #[test]
    fn what_may_be_a_head_goes_on_as_it_came() {
        for frames in [
            vec![frame(HEADERS, 5, 1, OK)],
            vec![frame(HEADERS, 4, 1, HINTS), frame(HEADERS, 5, 1, OK)],
            vec![frame(HEADERS, 4, 1, INDEXED), frame(HEADERS, 5, 1, OK)],
            vec![frame(HEADERS, 4, 1, OK), frame(DATA, 1, 1, b"x"), frame(HEADERS, 5, 1, OK)],
            vec![frame(HEADERS, 4, 1, OK), frame(RST_STREAM, 0, 1, &[0; 4]), frame(HEADERS, 5, 1, OK)],
        ] {
            let bytes = frames.concat();
            assert_eq!(pass(&bytes, 1), bytes);
            assert_eq!(pass(&bytes, bytes.len()), bytes);
        }
    }
}
