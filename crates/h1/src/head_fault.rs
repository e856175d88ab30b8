//! What is wrong with a head of HTTP/1.1 that hyper refuses: hyper says so by a bare status.
//!
//! hyper parses what it reads at once. So the bytes of the last read of a head are kept, one read to a worker, and looked at
//! again where hyper has refused them. `framing` keeps them, and asks.

use std::cell::RefCell;

use http::Uri;

use super::error::BadRequest;
use super::malformed::Malformed;
use super::octets::is_odd;

/// Where in a head bytes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Within a request line, or before it.
    RequestLine,
    /// Within the fields.
    Fields,
}

/// The last read of a head on this thread.
#[derive(Debug)]
struct Read {
    /// Counts them: whether it is still the one that is asked about.
    number: u64,
    at: At,
    bytes: Vec<u8>,
}

thread_local! {
    static LAST: RefCell<Read> =
        const { RefCell::new(Read { number: 0, at: At::RequestLine, bytes: Vec::new() }) };
}

/// Keeps a read that begins at `at`, behind the beginning of a `line` that came before; returns its number.
pub(super) fn keep(at: At, line: &[u8], bytes: &[u8]) -> u64 {
    LAST.with_borrow_mut(|last| {
        last.number += 1;
        last.at = at;
        last.bytes.clear();
        last.bytes.extend_from_slice(&line[..line.len().min(MOST)]);
        last.bytes.extend_from_slice(&bytes[..bytes.len().min(MOST)]);
        last.number
    })
}

/// What is wrong with the read of this number; `None`: it is not known.
pub(super) fn of(number: u64) -> Option<BadRequest> {
    LAST.with_borrow(|last| if last.number == number { find(last.at, &last.bytes) } else { None })
}

/// The first fault in heads that begin at `at`. What follows a body is not looked at.
fn find(mut at: At, bytes: &[u8]) -> Option<BadRequest> {
    let mut lines = bytes.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let is_whole = lines.peek().is_some();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match (at, line) {
            (At::RequestLine, []) => {}
            (At::Fields, []) => at = At::RequestLine,
            (At::RequestLine, line) => {
                if let Some(fault) = of_request_line(line, is_whole) {
                    return Some(fault);
                }
                at = At::Fields;
            }
            (At::Fields, line) => {
                if let Some(fault) = of_field(line, is_whole) {
                    return Some(fault.into());
                }
            }
        }
    }
    None
}

fn of_request_line(line: &[u8], is_whole: bool) -> Option<BadRequest> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let fault = match words[..] {
        [] | [b"", ..] => Malformed::RequestLineSpaces,
        [method, ..] if !method.iter().all(|byte| is_token(*byte)) => Malformed::Method,
        _ if !is_whole => return None,
        [.., b""] => Malformed::RequestLineSpaces,
        _ if words.contains(&&b""[..]) => Malformed::RequestLineSpaces,
        [_] | [_, _] => Malformed::RequestLine,
        [_, target, version] => match version {
            b"HTTP/1.1" | b"HTTP/1.0" => {
                let is_uri = target.iter().any(|byte| is_odd(*byte)) || Uri::try_from(target).is_ok();
                return (!is_uri).then_some(Malformed::Target.into());
            }
            _ => Malformed::Version,
        },
        _ => return Some(BadRequest::TargetByte(Some(b' '))),
    };
    Some(fault.into())
}

fn of_field(line: &[u8], is_whole: bool) -> Option<Malformed> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Some(Malformed::FoldedLine);
    }
    let Some(colon) = memchr::memchr(b':', line) else { return is_whole.then_some(Malformed::NoColon) };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        let is_padded = matches!(name.last(), Some(b' ' | b'\t'));
        return Some(if is_padded { Malformed::SpaceBeforeColon } else { Malformed::FieldName });
    }
    let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    value.iter().any(is_control).then_some(Malformed::FieldValue)
}

/// The first fault in the fields of a whole head, behind its first line.
pub(super) fn of_fields(head: &[u8]) -> Option<Malformed> {
    let lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.skip(1).take_while(|line| !line.is_empty()).find_map(|line| of_field(line, true))
}

/// What is wrong with a trailer field, a line without its end.
pub(super) fn of_trailer(line: &[u8]) -> Option<Malformed> {
    Some(match of_field(line, true)? {
        Malformed::FoldedLine => Malformed::FoldedTrailer,
        Malformed::NoColon => Malformed::TrailerWithoutColon,
        Malformed::FieldValue => Malformed::TrailerValue,
        _ => Malformed::TrailerName,
    })
}

/// `tchar` (RFC 9110 section 5.6.2).
pub(super) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// Bytes of a read that are kept: what is behind them is not named.
const MOST: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_of_a_head_is_found() {
        let malformed = |fault: Malformed| Some(BadRequest::Malformed(fault));
        for (head, fault) in [
            ("GET  /a HTTP/1.1\r\n\r\n", malformed(Malformed::RequestLineSpaces)),
            (" GET /a HTTP/1.1\r\n\r\n", malformed(Malformed::RequestLineSpaces)),
            ("GET /a HTTP/1.1 \r\n\r\n", malformed(Malformed::RequestLineSpaces)),
            ("GET /a  HTTP/1.1\r\n\r\n", malformed(Malformed::RequestLineSpaces)),
            ("GET /a b HTTP/1.1\r\n\r\n", Some(BadRequest::TargetByte(Some(b' ')))),
            ("GET /a\r\n\r\n", malformed(Malformed::RequestLine)),
            ("nonsense\r\n\r\n", malformed(Malformed::RequestLine)),
            ("G@T / HTTP/1.1\r\n\r\n", malformed(Malformed::Method)),
            ("G@T", malformed(Malformed::Method)),
            ("GET / HTTP/3.7\r\n\r\n", malformed(Malformed::Version)),
            ("GET / http/1.1\r\n\r\n", malformed(Malformed::Version)),
            ("GET http://a:b:c/ HTTP/1.1\r\n\r\n", malformed(Malformed::Target)),
            ("GET / HTTP/1.1\r\nnonsense\r\n\r\n", malformed(Malformed::NoColon)),
            ("GET / HTTP/1.1\r\nX : 1\r\n\r\n", malformed(Malformed::SpaceBeforeColon)),
            ("GET / HTTP/1.1\r\nX Y: 1\r\n\r\n", malformed(Malformed::FieldName)),
            ("GET / HTTP/1.1\r\n: 1\r\n\r\n", malformed(Malformed::FieldName)),
            ("GET / HTTP/1.1\r\nX: \x01\r\n\r\n", malformed(Malformed::FieldValue)),
            ("GET / HTTP/1.1\r\nX: 1\r\n 2\r\n\r\n", malformed(Malformed::FoldedLine)),
            ("GET / HTTP/1.1\r\nX: a\tb\u{e9}\r\n\r\nGET / HTTP/1.1\r\n\r\n", None),
            ("GET /a HT", None),
            ("GET / HTTP/1.1\r\nX-Par", None),
        ] {
            assert_eq!(find(At::RequestLine, head.as_bytes()), fault, "{head:?}");
        }
        assert_eq!(find(At::Fields, b"rest: 1\r\nno colon\r\n"), malformed(Malformed::NoColon));
    }

    #[test]
    fn each_fault_of_a_trailer_field_is_found() {
        for (line, fault) in [
            (" folded", Some(Malformed::FoldedTrailer)),
            ("nonsense", Some(Malformed::TrailerWithoutColon)),
            ("X : 1", Some(Malformed::TrailerName)),
            ("X Y: 1", Some(Malformed::TrailerName)),
            (": 1", Some(Malformed::TrailerName)),
            ("X: \x01", Some(Malformed::TrailerValue)),
            ("X: a\tb", None),
        ] {
            assert_eq!(of_trailer(line.as_bytes()), fault, "{line:?}");
        }
    }

    #[test]
    fn a_read_is_looked_at_again_until_another_comes() {
        let first = keep(At::Fields, b"X ", b": 1\r\n");
        assert_eq!(of(first), Some(Malformed::SpaceBeforeColon.into()));
        keep(At::RequestLine, b"", b"GET / HTTP/1.1\r\n");
        assert_eq!(of(first), None);
    }
}
