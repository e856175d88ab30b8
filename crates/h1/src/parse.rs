//! A response's head, from bytes: status, fields, and how the body behind it ends (RFC 9112 sections 4, 5 and 6.3).
//!
//! What two recipients could read in two ways is malformed, before any of it is passed on.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use httparse::{Header, ParserConfig, Response, Status};

use crate::decode::Decoder;
use crate::head_fault::of_fields;
use crate::malformed::{FieldFault, LengthFault, LineFault, Malformed, StartLineFault};

/// What of a request decides how its response is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestFacts {
    /// A response to HEAD has no body, whatever its fields say (RFC 9110 section 9.3.2).
    pub(crate) body: BodyExpected,
    pub(crate) upgrade: UpgradeOffered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyExpected {
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpgradeOffered {
    Yes,
    No,
}

/// A response's head.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The reason phrase, where it is another than the status has by itself.
    pub(crate) reason: Option<Bytes>,
    pub(crate) next: Next,
}

/// What follows a head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Another head: this one is interim (RFC 9110 section 15.2).
    Head,
    /// Another protocol: 101.
    Tunnel,
    /// The body, and whether the connection may be used after it.
    Body(Decoder, Reuse),
}

/// Whether a connection may carry another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    Yes,
    No,
}

/// Finds and parses heads, over as many reads as they take.
#[derive(Debug, Default)]
pub(crate) struct ResponseParser {
    /// How far there is certainly no end.
    searched: usize,
}

impl RequestFacts {
    /// The facts of a request with this method and these fields.
    pub(crate) fn of(method: &Method, headers: &HeaderMap) -> Self {
        Self {
            body: if *method == Method::HEAD { BodyExpected::No } else { BodyExpected::Yes },
            upgrade: if headers.contains_key(UPGRADE) { UpgradeOffered::Yes } else { UpgradeOffered::No },
        }
    }
}

impl ResponseParser {
    /// Takes a head off `input`; `None` where it has not come whole.
    ///
    /// # Errors
    /// What is not a head, is ambiguous, or is over `limit` bytes or [`MAX_FIELDS`].
    pub(crate) fn parse(
        &mut self,
        input: &mut BytesMut,
        facts: RequestFacts,
        limit: usize,
    ) -> Result<Option<ResponseHead>, Malformed> {
        if input.first().is_some_and(|first| *first != b'H') {
            return Err(not_http(input));
        }
        let Some(end) = head_end(input, self.searched) else {
            self.searched = input.len().saturating_sub(LINE_ENDS);
            return if input.len() > limit { Err(Malformed::HeadTooLarge) } else { Ok(None) };
        };
        self.searched = 0;
        if end > limit {
            return Err(Malformed::HeadTooLarge);
        }
        parse(&input.split_to(end).freeze(), facts).map(Some)
    }
}

/// The length of a head with the empty line that ends it. Lines may end in a bare LF (RFC 9112 section 2.2).
fn head_end(input: &[u8], from: usize) -> Option<usize> {
    memchr::memchr_iter(b'\n', &input[from..]).find_map(|at| {
        let next = from + at + 1;
        match &input[next..] {
            [b'\n', ..] => Some(next + 1),
            [b'\r', b'\n', ..] => Some(next + 2),
            _ => None,
        }
    })
}

fn parse(bytes: &Bytes, facts: RequestFacts) -> Result<ResponseHead, Malformed> {
    let mut fields = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_FIELDS];
    let mut parsed = Response::new(&mut []);
    let status = ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields)
        .map_err(|error| fault(error, bytes))?;
    if status != Status::Complete(bytes.len()) {
        return Err(Malformed::Line(LineFault::End));
    }
    let code = parsed.code.ok_or(Malformed::StartLine(StartLineFault::StatusLine))?;
    let status = StatusCode::from_u16(code).map_err(|_| Malformed::StartLine(StartLineFault::StatusLine))?;
    // httparse gives no phrase that has an octet beyond ASCII, which it may have (RFC 9112 section 4).
    let reason = Some(reason_of(bytes))
        .filter(|reason| !reason.is_empty() && status.canonical_reason().map(str::as_bytes) != Some(*reason))
        .map(|reason| bytes.slice_ref(reason));
    let mut framing = BodyFields { close: parsed.version != Some(1), ..BodyFields::default() };
    let mut headers = HeaderMap::with_capacity(parsed.headers.len() + SPARE_FIELDS);
    for field in parsed.headers.iter() {
        let name =
            HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::Field(FieldFault::Name))?;
        let is_repeated = framing.note(&name, field.value)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value))
            .map_err(|_| Malformed::Field(FieldFault::Value))?;
        if !is_repeated {
            headers.try_append(name, value).map_err(|_| Malformed::TooManyFields)?;
        }
    }
    let next = framing.next(status, parsed.version, facts)?;
    Ok(ResponseHead { status, headers, reason, next })
}

/// The reason phrase of a head whose status line is valid.
fn reason_of(head: &[u8]) -> &[u8] {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line).get(BEFORE_REASON..).unwrap_or_default()
}

/// The fault of bytes that begin as no response of HTTP/1.1 does.
fn not_http(input: &[u8]) -> Malformed {
    match input {
        // A handshake, or an alert (RFC 8446 section 5.1).
        [0x15 | 0x16] | [0x15 | 0x16, 3, ..] => Malformed::StartLine(StartLineFault::Tls),
        [b'S', b'S', b'H', b'-', ..] => Malformed::StartLine(StartLineFault::Ssh),
        [b'I', b'C', b'Y', b' ', ..] => Malformed::StartLine(StartLineFault::Icy),
        _ => Malformed::StartLine(StartLineFault::StatusLine),
    }
}

/// What httparse found to be wrong with a head.
fn fault(error: httparse::Error, head: &[u8]) -> Malformed {
    match error {
        httparse::Error::HeaderName => of_fields(head).unwrap_or(Malformed::Field(FieldFault::Name)),
        httparse::Error::HeaderValue => Malformed::Field(FieldFault::Value),
        httparse::Error::NewLine => Malformed::Line(LineFault::End),
        httparse::Error::TooManyHeaders => Malformed::TooManyFields,
        httparse::Error::Status | httparse::Error::Token | httparse::Error::Version => {
            Malformed::StartLine(StartLineFault::StatusLine)
        }
    }
}

/// What the fields say of the body's end.
#[derive(Debug, Default)]
struct BodyFields {
    length: Option<u64>,
    chunked: bool,
    close: bool,
}

impl BodyFields {
    /// Notes a field; whether it repeats an earlier one, and can be left out.
    fn note(&mut self, name: &HeaderName, value: &[u8]) -> Result<bool, Malformed> {
        if *name == CONTENT_LENGTH {
            let length = decimal(value).ok_or(Malformed::Length(LengthFault::ContentLength))?;
            return match self.length.replace(length) {
                None => Ok(false),
                Some(before) if before == length => Ok(true),
                Some(_) => Err(Malformed::Length(LengthFault::TwoLengths)),
            };
        }
        if *name == TRANSFER_ENCODING {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::Length(LengthFault::TransferEncoding));
            }
            self.chunked = true;
        } else if *name == CONNECTION {
            let mut options = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            self.close |= options.any(|option| option.eq_ignore_ascii_case(b"close"));
        }
        Ok(false)
    }

    /// What follows the head (RFC 9112 section 6.3), without the cases that a recipient may repair.
    fn next(self, status: StatusCode, version: Option<u8>, facts: RequestFacts) -> Result<Next, Malformed> {
        if self.chunked && self.length.is_some() {
            return Err(Malformed::Length(LengthFault::LengthAndEncoding));
        }
        if self.chunked && version != Some(1) {
            return Err(Malformed::Length(LengthFault::EncodingInHttp10));
        }
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let wanted = facts.upgrade == UpgradeOffered::Yes;
            return if wanted { Ok(Next::Tunnel) } else { Err(Malformed::UnexpectedSwitch) };
        }
        if status.is_informational() {
            return Ok(Next::Head);
        }
        let reuse = if self.close { Reuse::No } else { Reuse::Yes };
        if status == StatusCode::NO_CONTENT {
            // A body that must not be there may follow all the same, and would be read as the next response.
            let framed = self.chunked || self.length.is_some_and(|length| length > 0);
            return Ok(Next::Body(Decoder::none(), if framed { Reuse::No } else { reuse }));
        }
        if facts.body == BodyExpected::No || status == StatusCode::NOT_MODIFIED {
            return Ok(Next::Body(Decoder::none(), reuse));
        }
        Ok(match self.length {
            Some(length) => Next::Body(Decoder::length(length), reuse),
            None if self.chunked => Next::Body(Decoder::chunked(), reuse),
            None => Next::Body(Decoder::until_close(), Reuse::No),
        })
    }
}

/// Digits alone (RFC 9110 section 8.6).
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// The most fields of a response's head, or of its trailers.
pub const MAX_FIELDS: usize = 256;
/// Room for fields that the owner adds.
const SPARE_FIELDS: usize = 2;
/// The bytes before a reason phrase: `HTTP/1.1 200 `.
const BEFORE_REASON: usize = 13;
/// The longest two line ends in a row.
const LINE_ENDS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_HEAD: usize = 64 * 1024;
    const GET: RequestFacts = RequestFacts { body: BodyExpected::Yes, upgrade: UpgradeOffered::No };
    const HEAD: RequestFacts = RequestFacts { body: BodyExpected::No, upgrade: UpgradeOffered::No };
    const UPGRADE: RequestFacts = RequestFacts { body: BodyExpected::Yes, upgrade: UpgradeOffered::Yes };

    fn head(text: &str, facts: RequestFacts) -> Result<Option<ResponseHead>, Malformed> {
        ResponseParser::default().parse(&mut BytesMut::from(text), facts, MAX_HEAD)
    }

    fn next(fields: &str, facts: RequestFacts) -> Result<Next, Malformed> {
        head(&format!("HTTP/1.1 {fields}\r\n\r\n"), facts).map(|head| head.unwrap().next)
    }

    #[test]
    fn a_head_is_the_same_however_it_is_cut() {
        let text =
            "HTTP/1.1 203 Quite Fine\r\nContent-Length: 3\r\nX-A: 1\r\nx-a:  2 \r\nX-Empty:\r\n\r\nabc";
        for cut in 1..text.len() {
            let mut input = BytesMut::new();
            let mut parser = ResponseParser::default();
            let mut found = None;
            for piece in text.as_bytes().chunks(cut) {
                input.extend_from_slice(piece);
                if found.is_none() {
                    found = parser.parse(&mut input, GET, MAX_HEAD).unwrap();
                }
            }
            let found = found.unwrap();
            assert_eq!(found.status, 203);
            assert_eq!(found.reason.unwrap(), "Quite Fine");
            assert_eq!(found.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
            assert_eq!(found.headers["x-empty"], "");
            assert_eq!(found.next, Next::Body(Decoder::length(3), Reuse::Yes));
            assert_eq!(&input[..], b"abc");
        }
    }

    #[test]
    fn the_body_ends_where_rfc_9112_section_6_3_says() {
        let body = |decoder, reuse| Ok(Next::Body(decoder, reuse));
        for (fields, facts, expected) in [
            ("200 OK\r\nContent-Length: 7", GET, body(Decoder::length(7), Reuse::Yes)),
            ("200 OK\r\nContent-Length: 7\r\nContent-Length: 7", GET, body(Decoder::length(7), Reuse::Yes)),
            ("200 OK\r\nTransfer-Encoding: Chunked", GET, body(Decoder::chunked(), Reuse::Yes)),
            ("200 OK", GET, body(Decoder::until_close(), Reuse::No)),
            ("200 OK\r\nContent-Length: 7\r\nConnection: x, Close", GET, body(Decoder::length(7), Reuse::No)),
            ("200 OK\r\nContent-Length: 7", HEAD, body(Decoder::none(), Reuse::Yes)),
            ("200 OK\r\nTransfer-Encoding: chunked", HEAD, body(Decoder::none(), Reuse::Yes)),
            ("200 OK", HEAD, body(Decoder::none(), Reuse::Yes)),
            ("304 Not Modified\r\nContent-Length: 7", GET, body(Decoder::none(), Reuse::Yes)),
            ("204 No Content", GET, body(Decoder::none(), Reuse::Yes)),
            ("204 No Content\r\nContent-Length: 7", GET, body(Decoder::none(), Reuse::No)),
            ("103 Early Hints", GET, Ok(Next::Head)),
            ("101 Switching Protocols\r\nUpgrade: websocket", UPGRADE, Ok(Next::Tunnel)),
        ] {
            assert_eq!(next(fields, facts), expected, "{fields}");
        }
        let old = head("HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n", GET).unwrap().unwrap();
        assert_eq!(old.next, Next::Body(Decoder::length(7), Reuse::No));
    }

    #[test]
    fn a_response_with_two_readings_is_malformed_and_says_how() {
        for (fields, why) in [
            (
                "200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked",
                Malformed::Length(LengthFault::LengthAndEncoding),
            ),
            ("200 OK\r\nContent-Length: 3\r\nContent-Length: 4", Malformed::Length(LengthFault::TwoLengths)),
            ("200 OK\r\nContent-Length: 3, 3", Malformed::Length(LengthFault::ContentLength)),
            ("200 OK\r\nContent-Length: +3", Malformed::Length(LengthFault::ContentLength)),
            ("200 OK\r\nContent-Length:", Malformed::Length(LengthFault::ContentLength)),
            ("200 OK\r\nContent-Length: 99999999999999999999", Malformed::Length(LengthFault::ContentLength)),
            ("200 OK\r\nTransfer-Encoding: gzip, chunked", Malformed::Length(LengthFault::TransferEncoding)),
            (
                "200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                Malformed::Length(LengthFault::TransferEncoding),
            ),
            ("200 OK\r\nTransfer-Encoding: identity", Malformed::Length(LengthFault::TransferEncoding)),
            ("200 OK\r\nContent-Length : 3", Malformed::Field(FieldFault::SpaceBeforeColon)),
            ("200 OK\r\nX-A: 1\r\n folded: 2", Malformed::Line(LineFault::Folded)),
            ("200 OK\r\n X-A: 1", Malformed::Line(LineFault::Folded)),
            ("200 OK\r\nX A: 1", Malformed::Field(FieldFault::Name)),
            ("200 OK\r\nX-A: 1\rX-B: 2", Malformed::Field(FieldFault::Value)),
            ("200 OK\r\nX-A: \x001", Malformed::Field(FieldFault::Value)),
            ("200 OK\r\nno colon", Malformed::Field(FieldFault::NoColon)),
            ("99 Low", Malformed::StartLine(StartLineFault::StatusLine)),
            ("2000 OK", Malformed::StartLine(StartLineFault::StatusLine)),
            ("101 Switching Protocols\r\nUpgrade: websocket", Malformed::UnexpectedSwitch),
        ] {
            assert_eq!(next(fields, GET), Err(why), "{fields}");
        }
        for (text, why) in [
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", Malformed::StartLine(StartLineFault::StatusLine)),
            ("HTTP/2.0 200 OK\r\n\r\n", Malformed::StartLine(StartLineFault::StatusLine)),
            ("HTTP/0.9 200 OK\r\n\r\n", Malformed::StartLine(StartLineFault::StatusLine)),
            (
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                Malformed::Length(LengthFault::EncodingInHttp10),
            ),
            ("ICY 200 OK\r\n\r\n", Malformed::StartLine(StartLineFault::Icy)),
            ("SSH-2.0-OpenSSH_9.6\r\n", Malformed::StartLine(StartLineFault::Ssh)),
            ("\x15\x03\x01\0\x02\x02\x28", Malformed::StartLine(StartLineFault::Tls)),
            ("\x16", Malformed::StartLine(StartLineFault::Tls)),
            ("<html>", Malformed::StartLine(StartLineFault::StatusLine)),
        ] {
            assert_eq!(head(text, GET).map(|_| ()), Err(why), "{text}");
        }
    }

    #[test]
    fn a_head_is_bounded_in_bytes_and_fields() {
        let fields = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: 1\r\n".repeat(count));
        assert!(head(&fields(MAX_FIELDS), GET).unwrap().is_some());
        assert_eq!(head(&fields(MAX_FIELDS + 1), GET).unwrap_err(), Malformed::TooManyFields);
        let long = |len: usize| format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(len));
        assert!(head(&long(MAX_HEAD - 100), GET).unwrap().is_none());
        assert_eq!(head(&long(MAX_HEAD), GET).unwrap_err(), Malformed::HeadTooLarge);
        assert!(head(&(long(MAX_HEAD) + "\r\n\r\n"), GET).is_err());
    }

    #[test]
    fn a_length_that_is_said_twice_goes_on_once() {
        let text = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 03\r\n\r\n";
        let head = head(text, GET).unwrap().unwrap();
        assert_eq!(head.headers.get_all("content-length").iter().count(), 1);
    }
}
