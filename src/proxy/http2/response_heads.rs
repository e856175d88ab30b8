//! The heads and trailers of an HTTP/2 API's responses, on the way to h2.
//!
//! For a field that is malformed h2 ends the connection, and every other request on it, or resets the stream without a word
//! about the fault. So a mark takes its place ([`super::head_marks`]), and `attempt` refuses the response. A pseudo-header field
//! makes trailers malformed (RFC 9113 section 8.1), and h2 would drop it in silence.
//!
//! Trailers are told from a response's head by what came before on their stream. A head whose status is in the dynamic table
//! may be that of an interim response: what is malformed there resets its stream.

use std::cell::Cell;

use cupbearer_h1::MAX_FIELDS;

use super::flood::{DATA, END_STREAM, HEADER, HEADERS, RST_STREAM};
use super::head_frames::{Block, HeadFrames, HeadedStreams, stream_of};
use super::head_marks::{
    CONNECTION, INVALID, KnownField, LENGTH, MALFORMED, MARKED_NAME, NO_STATUS, OTHER_LENGTH, STATUS, length,
    length_of, marked_name, marked_value, rewrite_trailers, with_others,
};
use super::hpack::{FieldName, Literal, has_control, literals, read_string, size_updates, write_string};

/// Follows the frames that come by one connection.
#[derive(Debug)]
pub(crate) struct ResponseHeads {
    frames: HeadFrames,
    /// Those whose final head came, and those whose head may have been it.
    streams: HeadedStreams,
    unclear: HeadedStreams,
}

/// What a head begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    FinalStatus,
    InterimStatus,
    /// A field that is in the dynamic table.
    Unknown,
    OtherField,
}

impl ResponseHeads {
    /// For a new connection.
    pub(crate) const fn new() -> Self {
        Self { frames: HeadFrames::behind(0), streams: HeadedStreams::new(), unclear: HeadedStreams::new() }
    }

    /// Looks at bytes that came: see [`HeadFrames::admit`]. `has_marks` is set with the first mark.
    pub(crate) fn admit(&mut self, bytes: &[u8], has_marks: &Cell<bool>, out: &mut Vec<u8>) -> usize {
        let Self { frames, streams, unclear } = self;
        frames.admit(bytes, out, |header, payload| judge(streams, unclear, header, payload, has_marks))
    }

    /// See [`HeadFrames::take_size`].
    pub(crate) const fn take_size(&mut self) -> usize {
        self.frames.take_size()
    }
}

fn judge(
    streams: &mut HeadedStreams,
    unclear: &mut HeadedStreams,
    header: &[u8; HEADER],
    payload: &[u8],
    has_marks: &Cell<bool>,
) -> Option<Vec<u8>> {
    let (kind, flags, stream) = (header[3], header[4], stream_of(header));
    let ends = flags & END_STREAM != 0;
    match kind {
        DATA if !ends => streams.begin(stream),
        DATA | RST_STREAM => {
            streams.end(stream);
            unclear.end(stream);
        }
        HEADERS => {
            let block = Block::of(flags, payload)?;
            let begins = Begins::of(block.fields);
            if streams.contains(stream) || begins == Begins::OtherField && unclear.contains(stream) {
                streams.end(stream);
                unclear.end(stream);
                return rewrite_trailers(header, payload, None);
            }
            match begins {
                Begins::FinalStatus if !ends => streams.begin(stream),
                Begins::Unknown if ends => unclear.end(stream),
                Begins::Unknown => unclear.begin(stream),
                Begins::FinalStatus | Begins::InterimStatus | Begins::OtherField => {}
            }
            return rewrite(header, block, begins, has_marks);
        }
        _ => {}
    }
    None
}

/// The frame of a head with marks; `None`: it goes on as it is.
fn rewrite(
    header: &[u8; HEADER],
    block: Block<'_>,
    begins: Begins,
    has_marks: &Cell<bool>,
) -> Option<Vec<u8>> {
    let shortened = block.shortened(MAX_FIELDS);
    let block = block.with(shortened.as_deref());
    let (mut first_length, mut has_bad_status) = (None, false);
    let others = with_others(block.fields, |literal| {
        marked(block.fields, literal, &mut first_length, &mut has_bad_status)
    });
    let lacks_status = begins == Begins::OtherField;
    if others.is_none() && !lacks_status {
        return block.framed(header, &[shortened.as_deref()?]);
    }
    let fields = others.as_deref().unwrap_or(block.fields);
    let (updates, fields) = fields.split_at_checked(size_updates(fields)?)?;
    if begins == Begins::Unknown || begins == Begins::InterimStatus {
        return block.framed(header, &[updates, MALFORMED, fields]);
    }
    has_marks.set(true);
    let mut mark = Vec::new();
    if lacks_status || has_bad_status {
        mark.push(STATUS_OK);
    }
    if lacks_status {
        mark.push(0);
        write_string(&[MARKED_NAME, NO_STATUS], &mut mark);
        write_string(b"", &mut mark);
    }
    block.framed(header, &[updates, &mark, fields])
}

/// The mark that takes a literal's place; `None`: it goes on as it is.
fn marked(
    block: &[u8],
    literal: &Literal,
    first_length: &mut Option<u64>,
    has_bad_status: &mut bool,
) -> Option<Vec<u8>> {
    let value = &block[literal.value.clone()];
    let with_name = |kind: u8, length: usize| Some(marked_name(block, literal, kind, length));
    match KnownField::of(block, literal)? {
        KnownField::Status if is_status(value)? => None,
        KnownField::Status => {
            *has_bad_status = true;
            with_name(STATUS, b":status".len())
        }
        KnownField::Length => match (length(value)?, *first_length) {
            (None, _) => with_name(LENGTH, b"content-length".len()),
            (Some(length), Some(first)) if length != first => {
                with_name(OTHER_LENGTH, b"content-length".len())
            }
            (length, _) => {
                *first_length = length;
                None
            }
        },
        KnownField::Connection(length) | KnownField::Invalid(length) if length == 0 => None,
        KnownField::Connection(length) => with_name(CONNECTION, length),
        KnownField::Invalid(length) => with_name(INVALID, length),
        // Those of requests are none of a response.
        KnownField::Path | KnownField::Authority | KnownField::Word | KnownField::Scheme => {
            with_name(INVALID, pseudo_length(block, literal)?)
        }
        KnownField::Other => has_control(value)?.then(|| marked_value(block, literal)),
    }
}

/// Whether a string literal is a status (RFC 9110 section 15).
fn is_status(literal: &[u8]) -> Option<bool> {
    let (mut length, mut is_status) = (0, true);
    read_string(literal, |byte| {
        is_status &= byte.is_ascii_digit() && (length > 0 || byte != b'0');
        length += 1;
    })?;
    Some(is_status && length == 3)
}

/// The length of the name of a pseudo-header field of requests.
fn pseudo_length(block: &[u8], literal: &Literal) -> Option<usize> {
    match &literal.name {
        FieldName::Spelt(name) => length_of(&block[name.clone()]),
        FieldName::Index(1) => Some(b":authority".len()),
        FieldName::Index(4 | 5) => Some(b":path".len()),
        FieldName::Index(_) => Some(b":method".len()),
    }
}

impl Begins {
    fn of(fields: &[u8]) -> Self {
        let Some(fields) = size_updates(fields).and_then(|updates| fields.get(updates..)) else {
            return Self::Unknown;
        };
        // The statuses of the static table are final ones.
        match fields.first() {
            None => return Self::Unknown,
            Some(first) if first & 0x80 != 0 => {
                return match usize::from(first & 0x7f) {
                    index if STATUSES.contains(&index) => Self::FinalStatus,
                    index if index <= STATIC_TABLE => Self::OtherField,
                    _ => Self::Unknown,
                };
            }
            Some(_) => {}
        }
        let Some(literal) = literals(fields).next().filter(|literal| literal.at.start == 0) else {
            return Self::Unknown;
        };
        match (&literal.name, KnownField::of(fields, &literal)) {
            (FieldName::Index(index), _) if *index > STATIC_TABLE => Self::Unknown,
            (_, Some(KnownField::Status)) => {
                let (value, mut first) = (&fields[literal.value.clone()], None);
                let _ = read_string(value, |byte| _ = first.get_or_insert(byte));
                if first == Some(b'1') { Self::InterimStatus } else { Self::FinalStatus }
            }
            (_, None) => Self::Unknown,
            (_, Some(_)) => Self::OtherField,
        }
    }
}

/// `:status: 200`, by its index.
const STATUS_OK: u8 = 0x88;
/// Where `:status` is in the static table, and how many entries that has (RFC 7541 appendix A).
const STATUSES: std::ops::RangeInclusive<usize> = 8..=14;
const STATIC_TABLE: usize = 61;

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
        pass_with(bytes, step).0
    }

    /// And whether a head was marked.
    fn pass_with(bytes: &[u8], step: usize) -> (Vec<u8>, bool) {
        let mut heads = ResponseHeads::new();
        let mut passed = Vec::new();
        let has_marks = Cell::new(false);
        for piece in bytes.chunks(step) {
            let mut out = Vec::new();
            let same = heads.admit(piece, &has_marks, &mut out);
            passed.extend_from_slice(&piece[..same]);
            passed.append(&mut out);
        }
        (passed, has_marks.get())
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

    #[test]
    fn a_malformed_head_is_marked_and_its_entries_of_the_table_keep_their_length() {
        let spelt = |form: u8, name: &str, value: &[u8]| {
            let mut field = vec![form];
            write_string(name.as_bytes(), &mut field);
            write_string(value, &mut field);
            field
        };
        let of = |fields: &[&[u8]]| frame(HEADERS, 4, 1, &fields.concat());
        let plain = spelt(0x40, "x", b"1");
        for (came, goes_on) in [
            (
                vec![OK.into(), spelt(0x40, "x-note", b"a\x01b")],
                vec![OK.into(), spelt(0x40, "x-note", b"\t\xff\xff")],
            ),
            (vec![OK.into(), spelt(0, "X-Note", b"ab")], vec![OK.into(), spelt(0, "\"n~~~~", b"ab")]),
            (vec![OK.into(), spelt(0x40, ":path", b"/")], vec![OK.into(), spelt(0x40, "\"n~~~", b"/")]),
            (
                vec![OK.into(), spelt(0, "connection", b"close")],
                vec![OK.into(), spelt(0, "\"c~~~~~~~~", b"close")],
            ),
            (vec![OK.into(), b"\x5c\x02+5".into()], vec![OK.into(), spelt(0x40, "\"l~~~~~~~~~~~~", b"+5")]),
            (
                vec![OK.into(), b"\x5c\x015".into(), b"\x5c\x016".into()],
                vec![OK.into(), b"\x5c\x015".into(), spelt(0x40, "\"o~~~~~~~~~~~~", b"6")],
            ),
            (vec![b"\x48\x0320x".into()], vec![OK.into(), spelt(0x40, "\"s~~~~~", b"20x")]),
            (vec![plain.clone()], vec![OK.into(), spelt(0, "\"m", b""), plain.clone()]),
            // Perhaps an interim response: it is reset.
            (
                vec![INDEXED.into(), spelt(0, "X", b"1")],
                vec![MALFORMED.into(), INDEXED.into(), spelt(0, "\"n", b"1")],
            ),
        ] {
            let join = |fields: &[Vec<u8>]| of(&fields.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let (passed, is_marked) = pass_with(&join(&came), 5);
            assert_eq!(passed, join(&goes_on), "{came:?}");
            assert_eq!(is_marked, came[0] != INDEXED, "{came:?}");
        }
        let many = |count| [OK, &spelt(0x40, "x", b"1"), &INDEXED.repeat(count), b"\x5c\x02+5"].concat();
        let goes_on =
            [OK, &spelt(0x40, "x", b"1"), &INDEXED.repeat(264), &spelt(0x40, "\"l~~~~~~~~~~~~", b"+5")];
        assert_eq!(pass_with(&of(&[&many(9000)]), 1000), (of(&goes_on), true), "too many fields");
        let good = [OK, b"\x5c\x015", b"\x5c\x015", &spelt(0x40, "~n", b" a\tb\xe9 "), b"\x0f\x10\0"];
        assert_eq!(pass_with(&of(&good), 1000), (of(&good), false));
    }
}
