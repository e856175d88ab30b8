//! The heads of HTTP/2 requests, on the way to h2: what it would reset without a response.
//!
//! h2 resets the stream of a request with a malformed target, host, length or field name before anyone can respond to it,
//! ends the connection for some of them at once and for others once there were many, and cuts a fragment off in silence. So
//! each field that is spelt out is looked at here. A target with characters that are to be encoded is written anew. For what
//! is refused a mark takes its place, and the handler refuses the request in words. Where a field goes into the dynamic
//! table, an entry of another length would put the peer's table out of step: a mark is as long as what it stands for, and an
//! encoded target is kept until the handler has the request ([`super::odd_targets`]). Trailers are looked at for what would
//! end the connection, and for pseudo-header fields: h2 resets their stream. All other bytes go on as they came.

use std::cell::Cell;

use cupbearer_h1::target::{TargetByte, encoded, is_odd};
use cupbearer_h1::{StartLineFault, is_token};
use http::Version;
use http::request::Parts;
use http::uri::{Authority, PathAndQuery};

use super::flood::{DATA, END_STREAM, HEADER, HEADERS, PREFACE, RST_STREAM};
use super::head_frames::{Block, HeadFrames, HeadedStreams, LARGEST_FRAME, stream_of};
use super::head_marks::{
    CONNECTION, INVALID, KnownField, LENGTH, MARKED_NAME, PATH, length, length_of, marked_fields,
    marked_name, marked_value, rewrite_trailers, with_others, with_value,
};
use super::hpack::{Literal, has_control, read_string, write_string};
use super::odd_targets::OddTargets;
use crate::proxy::error::{BadRequest, Malformed};

/// Follows the frames of one connection.
#[derive(Debug)]
pub(crate) struct Heads {
    frames: HeadFrames,
    /// The stream of the last request.
    last: u32,
    uploads: HeadedStreams,
    /// Fields of a head, or of trailers.
    max_fields: usize,
}

/// What was changed in the heads of a connection's requests before h2 read them: [`restore`] puts it back.
#[derive(Debug, Default)]
pub(crate) struct HeadNotes {
    /// The targets that h2 must not read.
    targets: OddTargets,
    /// Whether the head of a request had a mark that stands for a fault.
    has_marks: Cell<bool>,
}

impl Heads {
    /// For a connection of which `read` was passed on already, and whose heads may have so many fields.
    pub(crate) const fn behind(read: &[u8], max_fields: usize) -> Self {
        let frames = HeadFrames::behind(PREFACE.saturating_sub(read.len()));
        Self { frames, last: 0, uploads: HeadedStreams::new(), max_fields }
    }

    /// See [`HeadFrames::take_size`].
    pub(crate) const fn take_size(&mut self) -> usize {
        self.frames.take_size()
    }

    /// Looks at bytes that came: see [`HeadFrames::admit`].
    pub(crate) fn admit(&mut self, bytes: &[u8], notes: &HeadNotes, out: &mut Vec<u8>) -> usize {
        let Self { frames, last, uploads, max_fields } = self;
        frames.admit(bytes, out, |header, payload| {
            let (stream, ends) = (stream_of(header), header[4] & END_STREAM != 0);
            match header[3] {
                HEADERS if stream > *last => {
                    *last = stream;
                    if !ends {
                        uploads.begin(stream);
                    }
                    return rewrite(header, payload, *max_fields, notes);
                }
                HEADERS if uploads.contains(stream) => {
                    uploads.end(stream);
                    return rewrite_trailers(header, payload, Some(*max_fields));
                }
                RST_STREAM => uploads.end(stream),
                DATA if ends => uploads.end(stream),
                _ => {}
            }
            None
        })
    }
}

/// The frame with other fields; `None`: it goes on as it is.
fn rewrite(header: &[u8; HEADER], payload: &[u8], max_fields: usize, notes: &HeadNotes) -> Option<Vec<u8>> {
    let block = Block::of(header[4], payload)?;
    let shortened = block.shortened(max_fields);
    let block = block.with(shortened.as_deref());
    let others = with_others(block.fields, |literal| {
        let room = LARGEST_FRAME.saturating_sub(payload.len() - literal.value.len() + SPARE);
        replaced(block.fields, literal, room, notes)
    });
    let fields = others.as_deref().or(shortened.as_deref())?;
    block.framed(header, &[fields])
}

/// The field that takes a literal's place; `None`: it goes on as it is.
fn replaced(block: &[u8], literal: &Literal, room: usize, notes: &HeadNotes) -> Option<Vec<u8>> {
    let value = &block[literal.value.clone()];
    let marked = |field: Vec<u8>| {
        notes.has_marks.set(true);
        field
    };
    let with_name = |kind: u8, length: usize| marked(marked_name(block, literal, kind, length));
    match KnownField::of(block, literal)? {
        KnownField::Path if length_of(value)? == 0 => Some(marked(empty_path(literal))),
        KnownField::Path => target(value, literal.is_indexed, room, &notes.targets)
            .map(|value| with_value(block, literal, &value)),
        KnownField::Authority => {
            authority(value, literal.is_indexed).map(|value| with_value(block, literal, &value))
        }
        KnownField::Word => {
            let mark = word(value, literal.is_indexed);
            mark.map(|value| marked(with_value(block, literal, &value)))
        }
        KnownField::Scheme => {
            let mark = scheme(value, literal.is_indexed)?;
            Some(marked(with_value(block, literal, &mark)))
        }
        KnownField::Length => length(value)?.is_none().then(|| with_name(LENGTH, b"content-length".len())),
        KnownField::Status => Some(with_name(INVALID, b":status".len())),
        KnownField::Connection(length) => Some(with_name(CONNECTION, length)),
        KnownField::Invalid(length) => Some(with_name(INVALID, length)),
        KnownField::Other => has_control(value)?.then(|| marked(marked_value(block, literal))),
    }
}

/// A target that is a mark. An entry of the dynamic table is as long as `:path`; h2 takes it where no pseudo-header field
/// follows.
fn empty_path(literal: &Literal) -> Vec<u8> {
    let mut field = vec![4];
    write_string(&mark(EMPTY, None), &mut field);
    if literal.is_indexed {
        field.push(0x40);
        write_string(&[MARKED_NAME, PATH, b'~', b'~', b'~'], &mut field);
        write_string(b"", &mut field);
    }
    field
}

/// A host that takes the place of one that is none.
fn authority(literal: &[u8], is_indexed: bool) -> Option<Vec<u8>> {
    let (mut is_plain, mut colons, mut length) = (true, 0, 0);
    read_string(literal, |byte| {
        length += 1;
        colons += usize::from(byte == b':');
        is_plain &= byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':');
    })?;
    if is_plain && colons <= 1 && length > 0 {
        return None;
    }
    let mut host = Vec::with_capacity(length);
    read_string(literal, |byte| host.push(byte))?;
    if Authority::try_from(&host[..]).is_ok() {
        return None;
    }
    let length = if is_indexed { length } else { length.max(1) };
    Some(vec![MARKED_WORD; length])
}

/// A scheme that takes the place of one that is none (RFC 3986 section 3.1): h2 takes it, and no URI has it.
fn scheme(literal: &[u8], is_indexed: bool) -> Option<Vec<u8>> {
    let (mut is_scheme, mut length) = (true, 0);
    read_string(literal, |byte| {
        let may_follow = length > 0 && (byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.'));
        is_scheme &= byte.is_ascii_alphabetic() || may_follow;
        length += 1;
    })?;
    let longest = if is_indexed { length } else { length.clamp(1, LONGEST_SCHEME) };
    (!is_scheme || length == 0).then(|| vec![MARKED_WORD; longest])
}

/// What takes the place of a word that is none.
fn word(literal: &[u8], is_indexed: bool) -> Option<Vec<u8>> {
    let (mut is_word, mut length) = (true, 0);
    read_string(literal, |byte| {
        length += 1;
        is_word &= is_token(byte);
    })?;
    let length = if is_indexed { length } else { length.max(1) };
    (!is_word || literal.len() == 1).then(|| vec![MARKED_WORD; length])
}

/// The target that goes on, or what takes its place; `None`: it goes on as it came.
fn target(literal: &[u8], is_indexed: bool, room: usize, targets: &OddTargets) -> Option<Vec<u8>> {
    let (mut first, mut length, mut has_odd) = (0, 0_usize, false);
    read_string(literal, |byte| {
        if length == 0 {
            first = byte;
        }
        length += 1;
        has_odd |= is_odd(byte);
    })?;
    if !has_odd && (first == b'/' || first == b'*' && length == 1) {
        return None;
    }
    let mut target = Vec::with_capacity(length);
    read_string(literal, |byte| target.push(byte))?;
    let marked = |fault: &[u8]| mark(fault, if is_indexed { Some(length) } else { None });
    if first != b'/' {
        return Some(marked(NO_SLASH));
    }
    if let Some(refused) = target.iter().find(|byte| TargetByte::of(**byte) == TargetByte::Refused) {
        return Some(marked(&encoded(*refused)[1..]));
    }
    let mut written = Vec::with_capacity(length + 8);
    for byte in &target {
        match TargetByte::of(*byte) {
            TargetByte::Encoded => written.extend_from_slice(&encoded(*byte)),
            TargetByte::Plain | TargetByte::Refused => written.push(*byte),
        }
    }
    let goes_on = if is_indexed { targets.keep(written, length) } else { Some(written) };
    if let Some(goes_on) = goes_on.filter(|goes_on| goes_on.len() <= room) {
        return Some(goes_on);
    }
    if PathAndQuery::try_from(&target[..]).is_ok_and(|taken| taken.as_str().as_bytes() == target) {
        return None;
    }
    let odd = target.iter().find(|byte| is_odd(**byte))?;
    Some(marked(&encoded(*odd)[1..]))
}

/// A target that h2 takes, and that says what is wrong with the one that it stands for; of this length, where that counts.
fn mark(fault: &[u8], length: Option<usize>) -> Vec<u8> {
    let mut mark = [MARK, fault].concat();
    if let Some(length) = length {
        mark.resize(length, b'.');
    }
    mark
}

/// What is wrong with a request whose target is a mark, or a number that is not known any more; `None`: it is none.
pub(crate) fn fault(target: &str) -> Option<BadRequest> {
    let rest = target.strip_prefix('?')?;
    let fault = rest.as_bytes().strip_prefix(&MARK[1..])?;
    if fault.starts_with(NO_SLASH) {
        return Some(Malformed::PathWithoutSlash.into());
    }
    if fault.starts_with(EMPTY) {
        return Some(Malformed::EmptyPath.into());
    }
    let digits = fault.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
    Some(BadRequest::TargetByte(digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())))
}

/// Whether a host stands for one that is none.
pub(crate) fn is_marked_authority(host: &str) -> bool {
    is_marked_word(host)
}

fn is_marked_word(word: &str) -> bool {
    word.bytes().all(|byte| byte == MARKED_WORD)
}

/// Puts back what the head of a request had before h2 got it.
///
/// # Errors
/// The fault that a mark in it stands for.
pub(crate) fn restore(notes: &HeadNotes, parts: &mut Parts) -> Result<(), Malformed> {
    if parts.version != Version::HTTP_2 {
        return Ok(());
    }
    notes.targets.restore(parts);
    if notes.has_marks.get() { marked(parts) } else { Ok(()) }
}

/// Finds what stands for a fault in a head.
///
/// # Errors
/// The fault.
fn marked(parts: &Parts) -> Result<(), Malformed> {
    if is_marked_word(parts.method.as_str()) {
        return Err(StartLineFault::Method.into());
    }
    if parts.uri.scheme_str().is_some_and(is_marked_word) {
        return Err(Malformed::Scheme);
    }
    marked_fields(&parts.headers)
}

/// How a mark begins: as no target does, for it has a backtick that is not encoded, and no path.
const MARK: &[u8] = b"?`";
/// What follows for a target that does not begin with a slash; for a character, it is two digits.
const NO_SLASH: &[u8] = b"p";
/// The same for one that is empty.
const EMPTY: &[u8] = b"e";
/// All that a host has that stands for another, a method and a scheme.
const MARKED_WORD: u8 = b'~';
/// Bytes of a scheme that h2 takes.
const LONGEST_SCHEME: usize = 64;

/// Bytes that other fields may have more in a frame that is written anew, with a string's length among them.
const SPARE: usize = 64;
#[cfg(test)]
mod tests {
    use cupbearer_h1::LengthFault;
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;
    use crate::proxy::http2::head_frames::{PADDED, PRIORITY};

    const PREFACE_BYTES: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend_from_slice(payload);
        frame
    }

    /// `:method: GET`, `:scheme: http`, the path in one of its forms, `:authority: x`.
    fn block(form: u8, path: &[u8]) -> Vec<u8> {
        let mut block = vec![0x82, 0x86, form];
        write_string(path, &mut block);
        block.extend([0x41, 1, b'x']);
        block
    }

    /// All that goes on of a connection whose bytes come in pieces of `step`.
    fn pass(bytes: &[u8], step: usize) -> Vec<u8> {
        pass_with(bytes, step, &HeadNotes::default()).0
    }

    /// And whether a field was marked.
    fn pass_with(bytes: &[u8], step: usize, notes: &HeadNotes) -> (Vec<u8>, bool) {
        let mut heads = Heads::behind(b"", 100);
        let mut passed = Vec::new();
        for piece in bytes.chunks(step) {
            let mut out = Vec::new();
            let same = heads.admit(piece, notes, &mut out);
            passed.extend_from_slice(&piece[..same]);
            passed.append(&mut out);
        }
        (passed, notes.has_marks.get())
    }

    /// Each frame on a stream of its own.
    fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = [PREFACE_BYTES, &frame(4, 0, &[])].concat();
        for (at, frame) in frames.iter().enumerate() {
            let stream = bytes.len() + HEADER - 1;
            bytes.extend_from_slice(frame);
            bytes[stream] = 2 * at as u8 + 1;
        }
        bytes
    }

    #[test]
    fn a_target_goes_on_encoded_however_it_is_cut() {
        let (came, goes_on) = (b"/q?a={\"b\"}&c=<\xe9>", b"/q?a={%22b%22}&c=%3C%E9%3E");
        let body = frame(0, 1, b"a body with \"quotes\" and a # sign");
        for form in [0x04, 0x05, 0x14] {
            let frames = |path: &[u8]| {
                connection(&[
                    frame(HEADERS, 4, &block(form, b"/plain")),
                    frame(HEADERS, 4, &block(form, path)),
                    body.clone(),
                    frame(HEADERS, 5, &block(form, path)),
                ])
            };
            let bytes = frames(came);
            for step in 1..bytes.len() {
                assert_eq!(pass(&bytes, step), frames(goes_on), "in pieces of {step}");
            }
        }
    }

    #[test]
    fn padding_and_priority_are_where_they_belong() {
        let priority = [0, 0, 0, 3, 15];
        let payload = [&[4][..], &priority, &block(0x04, b"/<"), &[0; 4]].concat();
        let bytes = connection(&[frame(HEADERS, 4 | PADDED | PRIORITY, &payload)]);
        let payload = [&priority[..], &block(0x04, b"/%3C")].concat();
        assert_eq!(pass(&bytes, 7), connection(&[frame(HEADERS, 4 | PRIORITY, &payload)]));
    }

    #[test]
    fn what_cannot_go_on_is_marked_and_in_its_own_length_where_that_counts() {
        let odd = |byte| Some(BadRequest::TargetByte(byte));
        let slash = Some(BadRequest::Malformed(Malformed::PathWithoutSlash));
        for (form, came, mark, fault) in [
            (0x04, &b"/a#bc"[..], &b"?`23"[..], odd(Some(b'#'))),
            (0x04, b"/a b", b"?`20", odd(Some(b' '))),
            (0x04, b"/#", b"?`23", odd(Some(b'#'))),
            (0x04, b"/a\x7f", b"?`7F", odd(Some(0x7f))),
            (0x04, b"foo", b"?`p", slash),
            (0x04, b"?`22", b"?`p", slash),
            (0x04, b"http://x/", b"?`p", slash),
            (0x44, b"/a\"#", b"?`23", odd(Some(b'#'))),
            (0x44, b"/x#", b"?`2", odd(None)),
            (0x44, b"/<", b"?`", odd(None)),
            (0x44, b"foo/bar", b"?`p....", slash),
        ] {
            let of = |path| connection(&[frame(HEADERS, 5, &block(form, path))]);
            assert_eq!(pass(&of(came), 1000), of(mark), "{came:?}");
            assert_eq!(
                crate::proxy::http2::request_heads::fault(std::str::from_utf8(mark).unwrap()),
                fault,
                "{came:?}"
            );
        }
        for target in ["/?`22", "?22", "?", "", "*", "?|00"] {
            assert_eq!(fault(target), None);
        }
        let huge = [b"/".to_vec(), vec![b'<'; 9_000]].concat();
        let of = |path: &[u8]| connection(&[frame(HEADERS, 5, &block(0x04, path))]);
        assert_eq!(pass(&of(&huge), 1000), of(b"?`3C"), "encoded, it would not fit a frame");
        for plain in [&b"/"[..], b"*", b"/a?b=c"] {
            assert_eq!(pass(&of(plain), 1000), of(plain));
        }
    }

    #[test]
    fn an_odd_target_that_goes_into_the_table_is_kept_for_the_handler() {
        let notes = HeadNotes::default();
        let of = |path: &[u8]| connection(&[frame(HEADERS, 5, &block(0x44, path))]);
        let (passed, _) = pass_with(&of(b"/q?a=<b>"), 3, &notes);
        assert_eq!(passed, of(b"?|00...."));
        let mut parts = http::Request::get("http://x/?|00....").body(()).unwrap().into_parts().0;
        notes.targets.restore(&mut parts);
        assert_eq!(parts.uri, "http://x/?|00....", "only what has no path");
        let (passed, _) = pass_with(&of("/gr\u{f6}".as_bytes()), 1000, &notes);
        assert_eq!(passed, of(b"?|01."));
    }

    #[test]
    fn a_host_that_is_none_is_marked() {
        let of = |form: u8, host: &[u8]| {
            let mut block = vec![0x82, 0x86, 0x84, form];
            write_string(host, &mut block);
            connection(&[frame(HEADERS, 5, &block)])
        };
        for form in [0x01, 0x41] {
            for good in ["localhost:8080", "[::1]:80", "a_b", "127.0.0.1"] {
                assert_eq!(pass(&of(form, good.as_bytes()), 1000), of(form, good.as_bytes()), "{good}");
            }
            for bad in ["a b", "a/b", "a:b:c", "\u{f6}", "a\0"] {
                assert_eq!(
                    pass(&of(form, bad.as_bytes()), 1000),
                    of(form, &b"~".repeat(bad.len())),
                    "{bad:?}"
                );
            }
        }
        assert!(is_marked_authority("~~~") && !is_marked_authority("a~"));
    }

    #[test]
    fn fields_that_h2_would_reset_are_marked() {
        // A literal with a name of its own, and its value.
        let spelt = |form: u8, name: &str, value: &str| {
            let mut field = vec![form];
            write_string(name.as_bytes(), &mut field);
            write_string(value.as_bytes(), &mut field);
            field
        };
        let indexed = |form: &[u8], value: &str| {
            let mut field = form.to_vec();
            write_string(value.as_bytes(), &mut field);
            field
        };
        let cases = [
            (spelt(0, "X-Upper", "1"), spelt(0, "\"n~~~~~", "1")),
            (spelt(0x40, "X-Upper", "1"), spelt(0x40, "\"n~~~~~", "1")),
            (spelt(0x10, "a b", "1"), spelt(0x10, "\"n~", "1")),
            (spelt(0, "X", "1"), spelt(0, "\"n", "1")),
            (spelt(0x40, "X", "1"), spelt(0x40, "\"", "1")),
            (spelt(0, "", "1"), spelt(0, "\"n", "1")),
            (spelt(0, "connection", "close"), spelt(0, "\"c~~~~~~~~", "close")),
            (spelt(0, "te", "gzip"), spelt(0, "\"c", "gzip")),
            (spelt(0, "content-length", "x"), spelt(0, "\"l~~~~~~~~~~~~", "x")),
            (indexed(&[0x0f, 0x0d], "+3"), spelt(0, "\"l~~~~~~~~~~~~", "+3")),
            (indexed(&[0x5c], ""), spelt(0x40, "\"l~~~~~~~~~~~~", "")),
            (indexed(&[0x0f, 0x2a], "chunked"), spelt(0, "\"c~~~~~~~~~~~~~~~", "chunked")),
            (spelt(0, "x", "a\r\nb"), vec![0, 1, b'x', 4, b'\t', 0xff, 0xff, 0xff]),
            (spelt(0x40, "x", "\0"), vec![0x40, 1, b'x', 1, b'\t']),
            (indexed(&[0x7a], "a\x7f"), vec![0x7a, 2, b'\t', 0xff]),
            (indexed(&[0x7f, 0x00], "\x01"), vec![0x7f, 0x00, 1, b'\t']),
            (spelt(0, "X", "\x01"), [&[0, 2][..], b"\"n", &[1, b'\t']].concat()),
            (
                spelt(0, "content-length", "1\0"),
                [&[0, 14][..], b"\"l~~~~~~~~~~~~", &[2, b'\t', 0xff]].concat(),
            ),
            (spelt(0, ":absent", "1"), spelt(0, "\"n~~~~~", "1")),
            (indexed(&[0x48], "200"), spelt(0x40, "\"n~~~~~", "200")),
            (indexed(&[0x42], "G T"), indexed(&[0x42], "~~~")),
            (indexed(&[0x02], ""), indexed(&[0x02], "~")),
        ];
        let scheme =
            |form: &[u8]| connection(&[frame(HEADERS, 5, &[&[0x82, 0x84, 0x46][..], form].concat())]);
        for bad in [b"\x04\xffa\0b", b"\x04ht p", b"\x041abc", b"\x04~~~~", b"\x04a://"] {
            let (passed, is_marked) = pass_with(&scheme(bad), 1000, &HeadNotes::default());
            assert!(passed == scheme(b"\x04~~~~") && is_marked, "{bad:?}");
        }
        for good in [&b"\x04http"[..], b"\x06x-1.a+"] {
            assert_eq!(pass_with(&scheme(good), 1000, &HeadNotes::default()), (scheme(good), false));
        }
        let of = |field: &[u8]| {
            let block = [&block(0x04, b"/<")[..], field, &[0x90]].concat();
            connection(&[frame(HEADERS, 4, &block)])
        };
        let goes_on = |field: &[u8]| {
            let block = [&block(0x04, b"/%3C")[..], field, &[0x90]].concat();
            connection(&[frame(HEADERS, 4, &block)])
        };
        for (came, wanted) in cases {
            let (passed, is_marked) = pass_with(&of(&came), 1000, &HeadNotes::default());
            assert_eq!(passed, goes_on(&wanted), "{came:?}");
            assert!(is_marked);
        }
        for good in [
            spelt(0, "x-lower", "A"),
            spelt(0, "te", "trailers"),
            indexed(&[0x0f, 0x0d], "17"),
            spelt(0, "~own", "1"),
            spelt(0, ":protocol", "websocket"),
        ] {
            let (passed, is_marked) = pass_with(&of(&good), 1000, &HeadNotes::default());
            assert!(passed == goes_on(&good) && !is_marked, "{good:?}");
        }
    }

    #[test]
    fn a_mark_says_what_is_wrong() {
        let fault = |method: &str, name: &str, value: &[u8]| {
            // As h2 takes names: it knows a few that `HeaderName` refuses elsewhere.
            let name = HeaderName::from_lowercase(name.as_bytes()).unwrap();
            let request = http::Request::builder().method(method).header(name, value);
            marked(&request.body(()).unwrap().into_parts().0)
        };
        for (name, why) in [
            ("\"l~~", LengthFault::ContentLength.into()),
            ("\"c", Malformed::ConnectionField),
            ("\"n~", Malformed::FieldNameOfHttp2),
            ("\"p~~~", Malformed::EmptyPath),
            ("\"", Malformed::FieldNameOfHttp2),
        ] {
            assert_eq!(fault("GET", name, b"1"), Err(why));
        }
        assert_eq!(fault("~~~", "a", b"1"), Err(StartLineFault::Method.into()));
        let scheme = http::Request::get("~~://x/").body(()).unwrap().into_parts().0;
        assert_eq!(marked(&scheme), Err(Malformed::Scheme));
        assert_eq!(fault("GET", "a", b"\t\xff"), Err(Malformed::FieldValueOfHttp2));
        for value in [&b""[..], b"1", b"\xff", b"\ta"] {
            assert_eq!(fault("GET", "a", value), Ok(()));
        }
    }

    #[test]
    fn an_empty_path_is_marked_and_in_the_table_by_another_name() {
        let came = |form: u8| [0x82, 0x86, 0x41, 1, b'x', form, 0];
        let of = |block: &[u8]| connection(&[frame(HEADERS, 5, block)]);
        let goes_on = |rest: &[u8]| of(&[&[0x82, 0x86, 0x41, 1, b'x'][..], rest].concat());
        let marked = b"\x04\x03?`e";
        for form in [0x04, 0x05, 0x14] {
            let (passed, is_marked) = pass_with(&of(&came(form)), 1000, &HeadNotes::default());
            assert!(is_marked);
            assert_eq!(passed, goes_on(marked), "{form:#x}");
        }
        let entry = b"\x40\x05\"p~~~\0";
        assert_eq!(pass(&of(&came(0x44)), 1000), goes_on(&[&marked[..], entry].concat()));
        assert_eq!(fault("?`e"), Some(Malformed::EmptyPath.into()));
    }

    #[test]
    fn trailers_get_a_field_before_all_others_and_a_mark_for_what_would_end_the_connection() {
        let spelt = |name: &str, value: &str| {
            let mut field = vec![0];
            write_string(name.as_bytes(), &mut field);
            write_string(value.as_bytes(), &mut field);
            field
        };
        let prefixed = |fields: Vec<u8>| [&[0x0f, 0x10, 0][..], &fields].concat();
        let refused = |fields: &[u8]| [&[0x0f, 0x2a, 1, b'x'][..], fields].concat();
        for (came, goes_on) in [
            (spelt("grpc-status", "0"), prefixed(spelt("grpc-status", "0"))),
            (vec![0x88], prefixed(vec![0x88])),
            (spelt(":path", "/"), prefixed(spelt(":path", "/"))),
            (spelt("connection", "close"), prefixed(spelt("connection", "close"))),
            (Vec::new(), prefixed(Vec::new())),
            (spelt("x", "\n"), refused(&[0, 1, b'x', 1, b'\t'])),
            (spelt("X", "1"), refused(&spelt("\"n", "1"))),
            (spelt(":absent", "1"), refused(&spelt("\"n~~~~~", "1"))),
        ] {
            let with = |trailers: &[u8]| {
                let head = connection(&[frame(HEADERS, 4, &block(0x04, b"/"))]);
                [head, frame(HEADERS, 5, trailers), frame(8, 0, &[0, 0, 1, 0])].concat()
            };
            let bytes = with(&came);
            for step in [1, 3, bytes.len()] {
                assert_eq!(pass(&bytes, step), with(&goes_on), "{came:?} in pieces of {step}");
            }
        }
        // A head on a stream that has none, or whose request has ended, is h2's to judge.
        let of = |first: Vec<u8>| connection(&[first]);
        for ended in [
            of(frame(HEADERS, 5, &block(0x04, b"/"))),
            [of(frame(HEADERS, 4, &block(0x04, b"/"))), frame(0, 1, b"x")].concat(),
            [of(frame(HEADERS, 4, &block(0x04, b"/"))), frame(3, 0, &[0; 4])].concat(),
        ] {
            let bytes = [ended, frame(HEADERS, 5, &block(0x04, b"/"))].concat();
            assert_eq!(pass(&bytes, 1000), bytes);
        }
    }

    #[test]
    fn of_a_head_with_too_many_fields_only_so_many_go_on_and_trailers_are_refused() {
        let table = |count: usize| [&[0x40, 1, b'x', 1, b'1'][..], &[0xbe].repeat(count)].concat();
        let of = |fields: &[u8], trailers: &[u8]| {
            let head = [&block(0x04, b"/<")[..], fields].concat();
            connection(&[frame(HEADERS, 4, &head)])
                .into_iter()
                .chain(frame(HEADERS, 5, trailers))
                .collect::<Vec<_>>()
        };
        let goes_on = |fields: &[u8], trailers: &[u8]| {
            let head = [&block(0x04, b"/%3C")[..], fields].concat();
            connection(&[frame(HEADERS, 4, &head)])
                .into_iter()
                .chain(frame(HEADERS, 5, trailers))
                .collect::<Vec<_>>()
        };
        // Four pseudo-header fields, and 106 of the request's own: six more than the limit.
        let (came, rest) = (table(1800), table(105));
        let trailers = [&[0x0f, 0x10, 0][..], &table(50)].concat();
        let passed = goes_on(&rest, &trailers);
        assert_eq!(pass(&of(&came, &table(50)), 1000), passed);
        let entries = [&came[..], &came].concat();
        let entry = [&rest[..], &came[..5]].concat();
        assert_eq!(
            pass(&of(&entries, &table(50)), 1000),
            goes_on(&entry, &trailers),
            "the table is as it was"
        );
        let refused = [&[0x0f, 0x2a, 1, b'x'][..], &table(109)].concat();
        assert_eq!(pass(&of(&rest, &table(1800)), 1000), goes_on(&rest, &refused));
        let full = [&[0x0f, 0x10, 0][..], &table(99)].concat();
        assert_eq!(pass(&of(&rest, &table(99)), 1000), goes_on(&rest, &full), "a hundred are not too many");
    }

    #[test]
    fn frames_that_are_none_of_ours_go_on_as_they_are() {
        let odd = block(0x04, b"/<");
        for bytes in [
            connection(&[frame(1, 4, &odd[..5])]),
            connection(&[frame(1, 4 | PADDED, &[200, 1, 2])]),
            connection(&[frame(9, 4, &odd), frame(0, 0, &odd), frame(77, 0, &odd)]),
            connection(&[frame(1, 4, &[0xff; 20]), frame(1, 4, &[])]),
        ] {
            for step in [1, 3, 1000] {
                assert_eq!(pass(&bytes, step), bytes);
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_change_nothing(frames in proptest::collection::vec((0_u8..3, 0_u8..64, proptest::collection::vec(any::<u8>(), 0..40)), 0..6), step in 1_usize..50) {
            let frames: Vec<_> = frames.iter().map(|(kind, flags, payload)| frame(*kind, *flags, payload)).collect();
            let bytes = connection(&frames);
            prop_assert_eq!(pass(&bytes, step), pass(&bytes, bytes.len()));
        }
    }
}
