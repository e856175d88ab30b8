//! The heads of HTTP/2 requests, on the way to h2: targets with characters that no URI has.
//!
//! h2 resets the stream of such a request before anyone can respond to it, ends the connection once there were many, and
//! cuts a fragment off in silence. So each `:path` that is spelt out is looked at here. Where it has characters that are
//! to be encoded, the field is written anew. Where that cannot be, a mark takes its place, and the handler refuses the
//! request in words: where a character is refused, or where the field goes into the dynamic table, in which an entry of
//! another length would put the peer's table out of step. All other bytes go on as they came.

use http::uri::PathAndQuery;

use super::calm::{HEADER, HEADERS, PREFACE};
use super::hpack::{PathLiteral, find_path, read_string, write_string};
use super::octets::{Octet, encoded, is_odd};

/// Follows the frames of one connection.
#[derive(Debug)]
pub(super) struct Heads {
    /// Bytes that go on unseen: the rest of the preface, or of a frame.
    unseen: usize,
    /// The beginning of a frame whose end has not come.
    held: Vec<u8>,
}

impl Heads {
    /// For a connection of which `read` was passed on already.
    pub(super) const fn behind(read: &[u8]) -> Self {
        Self { unseen: PREFACE.saturating_sub(read.len()), held: Vec::new() }
    }

    /// Looks at bytes that came in, and says how many of them go on as they are. What goes on behind those is put into
    /// `out`; what is in neither waits for more.
    pub(super) fn admit(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        if self.held.is_empty() {
            return self.look(bytes, out);
        }
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let mut rewritten = Vec::new();
        let same = self.look(&all, &mut rewritten);
        out.extend_from_slice(&all[..same]);
        out.append(&mut rewritten);
        0
    }

    fn look(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        // What is before `done` is in `out`, but for the first bytes, which are as they came.
        let (mut at, mut done, mut same) = (0, 0, None);
        loop {
            let skipped = self.unseen.min(bytes.len() - at);
            self.unseen -= skipped;
            at += skipped;
            let rest = &bytes[at..];
            let Some(header) = rest.first_chunk::<HEADER>() else { break };
            let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            if header[3] != HEADERS || length > LARGEST_FRAME {
                self.unseen = HEADER + length;
                continue;
            }
            let Some(frame) = rest.get(..HEADER + length) else { break };
            if let Some(rewritten) = rewrite(header, &frame[HEADER..]) {
                if same.is_some() {
                    out.extend_from_slice(&bytes[done..at]);
                } else {
                    same = Some(at);
                }
                out.extend_from_slice(&rewritten);
                done = at + frame.len();
            }
            at += frame.len();
        }
        self.held.extend_from_slice(&bytes[at..]);
        match same {
            Some(same) => {
                out.extend_from_slice(&bytes[done..at]);
                same
            }
            None => at,
        }
    }
}

/// The frame with another target; `None`: it goes on as it is.
fn rewrite(header: &[u8; HEADER], payload: &[u8]) -> Option<Vec<u8>> {
    let flags = header[4];
    let (padding, rest) = if flags & PADDED == 0 {
        (0, payload)
    } else {
        let (padding, rest) = payload.split_first()?;
        (usize::from(*padding), rest)
    };
    let (priority, rest) = rest.split_at_checked(if flags & PRIORITY == 0 { 0 } else { PRIORITY_BYTES })?;
    let block = &rest[..rest.len().checked_sub(padding)?];
    let path = find_path(block)?;
    let literal = &block[path.value.clone()];
    let mut has_odd = false;
    read_string(literal, |byte| has_odd |= is_odd(byte))?;
    if !has_odd {
        return None;
    }
    let mut target = Vec::new();
    read_string(literal, |byte| target.push(byte))?;
    let others = priority.len() + (block.len() - literal.len()) + LONGEST_PREFIX;
    let target = encode(&target, &path, LARGEST_FRAME.checked_sub(others)?)?;
    let mut frame = Vec::with_capacity(HEADER + block.len() + target.len());
    frame.extend_from_slice(header);
    frame[4] = flags & !PADDED;
    frame.extend_from_slice(priority);
    frame.extend_from_slice(&block[..path.value.start]);
    write_string(&target, &mut frame);
    frame.extend_from_slice(&block[path.value.end..]);
    let length = (frame.len() - HEADER) as u32;
    frame[..3].copy_from_slice(&length.to_be_bytes()[1..]);
    Some(frame)
}

/// The target as it goes on, or the mark in its place; `None`: it goes on as it came, since h2 takes it, or since neither
/// fits into `room` bytes.
fn encode(target: &[u8], path: &PathLiteral, room: usize) -> Option<Vec<u8>> {
    let refused = target.iter().find(|byte| Octet::of(**byte) == Octet::Refused);
    if refused.is_none() && !path.is_indexed {
        let mut written = Vec::with_capacity(target.len() + 8);
        for byte in target {
            match Octet::of(*byte) {
                Octet::Encoded => written.extend_from_slice(&encoded(*byte)),
                Octet::Plain | Octet::Refused => written.push(*byte),
            }
        }
        if written.len() <= room {
            return Some(written);
        }
    }
    if PathAndQuery::try_from(target).is_ok_and(|taken| taken.as_str().as_bytes() == target) {
        return None;
    }
    let odd = *refused.or_else(|| target.iter().find(|byte| is_odd(**byte)))?;
    let fits = (MARK.len()..=room).contains(&target.len());
    fits.then(|| mark(odd, target.len()))
}

/// A target of the same length that h2 takes, and that says which character was in the way.
fn mark(odd: u8, length: usize) -> Vec<u8> {
    let mut mark = MARK.to_vec();
    mark.extend_from_slice(&encoded(odd)[1..]);
    mark.resize(length, b'.');
    mark
}

/// What stands behind the beginning of a mark; `None`: `target` is none.
pub(super) fn marked(target: &str) -> Option<Mark<'_>> {
    target.as_bytes().strip_prefix(MARK).and_then(|rest| std::str::from_utf8(rest).ok()).map(Mark)
}

/// The mark of a target that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark<'t>(&'t str);

impl Mark<'_> {
    /// The character that was in the way; `None`: the target was too short to say it.
    pub(super) fn character(self) -> Option<u8> {
        u8::from_str_radix(self.0.get(..2)?, 16).ok()
    }
}

/// How a mark begins: as no target does, for it has a backtick that is not encoded, and no path.
const MARK: &[u8] = b"?`";

/// h2's `SETTINGS_MAX_FRAME_SIZE` (RFC 9113 section 6.5.2): it refuses larger frames.
const LARGEST_FRAME: usize = 16 * 1024;
/// Bytes of a string's length where it is in a frame of that size.
const LONGEST_PREFIX: usize = 4;
/// Flags of `HEADERS`, and the bytes of what `PRIORITY` announces (RFC 9113 section 6.2).
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: usize = 5;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        let mut heads = Heads::behind(b"");
        let mut passed = Vec::new();
        for piece in bytes.chunks(step) {
            let mut out = Vec::new();
            let same = heads.admit(piece, &mut out);
            passed.extend_from_slice(&piece[..same]);
            passed.append(&mut out);
        }
        passed
    }

    fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
        [PREFACE_BYTES, &frame(4, 0, &[]), &frames.concat()].concat()
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
    fn what_cannot_go_on_is_marked_in_its_own_length() {
        for (form, came, mark, odd) in [
            (0x04, &b"/a#bc"[..], &b"?`23."[..], Some(b'#')),
            (0x44, b"/a\"b<c", b"?`22..", Some(b'"')),
            (0x44, b"/a\"#", b"?`23", Some(b'#')),
            (0x04, b"/a b", b"?`20", Some(b' ')),
            (0x04, b"/a\x7f", b"?`7", None),
            (0x44, b"/#", b"?`", None),
        ] {
            let of = |path| connection(&[frame(HEADERS, 5, &block(form, path))]);
            assert_eq!(pass(&of(came), 1000), of(mark), "{came:?}");
            assert_eq!(marked(std::str::from_utf8(mark).unwrap()).unwrap().character(), odd);
        }
        let umlaut = connection(&[frame(HEADERS, 5, &block(0x44, "/gr\u{f6}".as_bytes()))]);
        assert_eq!(pass(&umlaut, 1000), umlaut, "h2 takes it");
        for target in ["/?`22", "?22", "?", "", "*"] {
            assert_eq!(marked(target), None);
        }
        let huge = [b"/".to_vec(), vec![b'<'; 9_000]].concat();
        let of = |path: &[u8]| connection(&[frame(HEADERS, 5, &block(0x04, path))]);
        assert_eq!(pass(&of(&huge), 1000), of(&mark(b'<', huge.len())), "encoded, it would not fit a frame");
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
