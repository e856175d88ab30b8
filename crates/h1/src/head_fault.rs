//! What is wrong with a head that a parser refused without a reason (RFC 9112 sections 3 and 5).
//!
//! hyper parses what it reads at once, and reports a bare status. So the bytes of the last read of a head are kept, one read
//! to a thread, and judged where hyper has refused them. `framing` keeps them.

use std::cell::RefCell;

use http::Uri;

use crate::malformed::{FieldFault, LineFault, Malformed, RequestFault, StartLineFault, TrailerFault};
use crate::target::is_odd;

/// Where in a head bytes begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Within a request line, or before it.
    RequestLine,
    /// Within the fields.
    Fields,
}

/// The last read of a head on this thread.
#[derive(Debug)]
struct Read {
    /// Its number, which no later read has.
    number: u64,
    at: At,
    bytes: Vec<u8>,
}

thread_local! {
    static LAST: RefCell<Read> =
        const { RefCell::new(Read { number: 0, at: At::RequestLine, bytes: Vec::new() }) };
}

/// Keeps a read that begins at `at`, behind the beginning of a `line` that came before; returns its number.
pub(crate) fn keep(at: At, line: &[u8], bytes: &[u8]) -> u64 {
    LAST.with_borrow_mut(|last| {
        last.number += 1;
        last.at = at;
        last.bytes.clear();
        last.bytes.extend_from_slice(&line[..line.len().min(MOST)]);
        last.bytes.extend_from_slice(&bytes[..bytes.len().min(MOST)]);
        last.number
    })
}

/// What is wrong with the read of this number; `None`: unknown.
pub(crate) fn of(number: u64) -> Option<RequestFault> {
    LAST.with_borrow(|last| if last.number == number { find(last.at, &last.bytes) } else { None })
}

/// The first fault in heads that begin at `at`. Bodies are not looked at.
fn find(mut at: At, bytes: &[u8]) -> Option<RequestFault> {
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

fn of_request_line(line: &[u8], is_whole: bool) -> Option<RequestFault> {
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let fault = match words[..] {
        [] | [b"", ..] => Malformed::StartLine(StartLineFault::Spaces),
        [method, ..] if !method.iter().all(|byte| is_token(*byte)) => {
            Malformed::StartLine(StartLineFault::Method)
        }
        _ if !is_whole => return None,
        [.., b""] => Malformed::StartLine(StartLineFault::Spaces),
        _ if words.contains(&&b""[..]) => Malformed::StartLine(StartLineFault::Spaces),
        [_] | [_, _] => Malformed::StartLine(StartLineFault::RequestLine),
        [_, target, version] => match version {
            b"HTTP/1.1" | b"HTTP/1.0" => {
                let is_uri = target.iter().any(|byte| is_odd(*byte)) || Uri::try_from(target).is_ok();
                return (!is_uri).then_some(StartLineFault::Target.into());
            }
            _ => Malformed::StartLine(StartLineFault::Version),
        },
        _ => return Some(RequestFault::TargetByte(b' ')),
    };
    Some(fault.into())
}

fn of_field(line: &[u8], is_whole: bool) -> Option<Malformed> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Some(Malformed::Line(LineFault::Folded));
    }
    let Some(colon) = memchr::memchr(b':', line) else {
        return is_whole.then_some(Malformed::Field(FieldFault::NoColon));
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        let is_padded = matches!(name.last(), Some(b' ' | b'\t'));
        return Some(if is_padded {
            Malformed::Field(FieldFault::SpaceBeforeColon)
        } else {
            Malformed::Field(FieldFault::Name)
        });
    }
    let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    value.iter().any(is_control).then_some(Malformed::Field(FieldFault::Value))
}

/// The first fault in the fields of a whole head, behind its first line.
pub(crate) fn of_fields(head: &[u8]) -> Option<Malformed> {
    let lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.skip(1).take_while(|line| !line.is_empty()).find_map(|line| of_field(line, true))
}

/// What is wrong with a trailer field, a line without its end.
pub(crate) fn of_trailer(line: &[u8]) -> Option<Malformed> {
    Some(match of_field(line, true)? {
        Malformed::Line(LineFault::Folded) => Malformed::Trailer(TrailerFault::Folded),
        Malformed::Field(FieldFault::NoColon) => Malformed::Trailer(TrailerFault::NoColon),
        Malformed::Field(FieldFault::Value) => Malformed::Trailer(TrailerFault::Value),
        _ => Malformed::Trailer(TrailerFault::Name),
    })
}

/// Whether a byte is a `tchar` (RFC 9110 section 5.6.2).
#[must_use]
pub const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

/// Bytes of a read that are kept; a fault behind them is not named.
const MOST: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_of_a_head_is_found() {
        let malformed = |fault: Malformed| Some(RequestFault::Malformed(fault));
        for (head, fault) in [
            ("GET  /a HTTP/1.1\r\n\r\n", malformed(Malformed::StartLine(StartLineFault::Spaces))),
            (" GET /a HTTP/1.1\r\n\r\n", malformed(Malformed::StartLine(StartLineFault::Spaces))),
            ("GET /a HTTP/1.1 \r\n\r\n", malformed(Malformed::StartLine(StartLineFault::Spaces))),
            ("GET /a  HTTP/1.1\r\n\r\n", malformed(Malformed::StartLine(StartLineFault::Spaces))),
            ("GET /a b HTTP/1.1\r\n\r\n", Some(RequestFault::TargetByte(b' '))),
            ("GET /a\r\n\r\n", malformed(Malformed::StartLine(StartLineFault::RequestLine))),
            ("nonsense\r\n\r\n", malformed(Malformed::StartLine(StartLineFault::RequestLine))),
            ("G@T / HTTP/1.1\r\n\r\n", malformed(Malformed::StartLine(StartLineFault::Method))),
            ("G@T", malformed(Malformed::StartLine(StartLineFault::Method))),
            ("GET / HTTP/3.7\r\n\r\n", malformed(Malformed::StartLine(StartLineFault::Version))),
            ("GET / http/1.1\r\n\r\n", malformed(Malformed::StartLine(StartLineFault::Version))),
            ("GET http://a:b:c/ HTTP/1.1\r\n\r\n", malformed(Malformed::StartLine(StartLineFault::Target))),
            ("GET / HTTP/1.1\r\nnonsense\r\n\r\n", malformed(Malformed::Field(FieldFault::NoColon))),
            ("GET / HTTP/1.1\r\nX : 1\r\n\r\n", malformed(Malformed::Field(FieldFault::SpaceBeforeColon))),
            ("GET / HTTP/1.1\r\nX Y: 1\r\n\r\n", malformed(Malformed::Field(FieldFault::Name))),
            ("GET / HTTP/1.1\r\n: 1\r\n\r\n", malformed(Malformed::Field(FieldFault::Name))),
            ("GET / HTTP/1.1\r\nX: \x01\r\n\r\n", malformed(Malformed::Field(FieldFault::Value))),
            ("GET / HTTP/1.1\r\nX: 1\r\n 2\r\n\r\n", malformed(Malformed::Line(LineFault::Folded))),
            ("GET / HTTP/1.1\r\nX: a\tb\u{e9}\r\n\r\nGET / HTTP/1.1\r\n\r\n", None),
            ("GET /a HT", None),
            ("GET / HTTP/1.1\r\nX-Par", None),
        ] {
            assert_eq!(find(At::RequestLine, head.as_bytes()), fault, "{head:?}");
        }
        assert_eq!(
            find(At::Fields, b"rest: 1\r\nno colon\r\n"),
            malformed(Malformed::Field(FieldFault::NoColon))
        );
    }

    #[test]
    fn each_fault_of_a_trailer_field_is_found() {
        for (line, fault) in [
            (" folded", Some(Malformed::Trailer(TrailerFault::Folded))),
            ("nonsense", Some(Malformed::Trailer(TrailerFault::NoColon))),
            ("X : 1", Some(Malformed::Trailer(TrailerFault::Name))),
            ("X Y: 1", Some(Malformed::Trailer(TrailerFault::Name))),
            (": 1", Some(Malformed::Trailer(TrailerFault::Name))),
            ("X: \x01", Some(Malformed::Trailer(TrailerFault::Value))),
            ("X: a\tb", None),
        ] {
            assert_eq!(of_trailer(line.as_bytes()), fault, "{line:?}");
        }
    }

    #[test]
    fn a_read_is_looked_at_again_until_another_comes() {
        let first = keep(At::Fields, b"X ", b": 1\r\n");
        assert_eq!(of(first), Some(FieldFault::SpaceBeforeColon.into()));
        keep(At::RequestLine, b"", b"GET / HTTP/1.1\r\n");
        assert_eq!(of(first), None);
    }
}
