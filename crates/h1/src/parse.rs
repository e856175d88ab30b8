//! An answer's head, from bytes: status, fields, and how the body behind it ends (RFC 9112 sections 4, 5 and 6.3).
//!
//! What two readers could read in two ways is refused here, before anybody has read it in one.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use httparse::{Header, ParserConfig, Response, Status};
use hyper::ext::ReasonPhrase;

use super::super::head_fault::of_fields;
use super::super::malformed::Malformed;
use super::body::Decoder;

/// What of a request decides how its answer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// An answer to HEAD has no body, whatever it says of one.
    pub(super) body: BodyWanted,
    pub(super) upgrade: UpgradeWanted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyWanted {
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpgradeWanted {
    Yes,
    No,
}

/// An answer's head.
#[derive(Debug)]
pub(super) struct AnswerHead {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Where it is another than the status has by itself.
    pub(super) reason: Option<ReasonPhrase>,
    pub(super) then: Then,
}

/// What follows a head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Another head: this one was interim (RFC 9110 section 15.2).
    Another,
    /// Another protocol: 101.
    Tunnel,
    /// The body, and whether the connection may be used after it.
    Body(Decoder, Reuse),
}

/// Whether a connection may carry another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    Yes,
    No,
}

/// Looks for the end of heads, over as many reads as it takes.
#[derive(Debug, Default)]
pub(super) struct HeadFinder {
    /// How far there is no end for sure.
    searched: usize,
}

impl Asked {
    /// What is wanted by a request with this method and these fields.
    pub(super) fn of(method: &Method, headers: &HeaderMap) -> Self {
        Self {
            body: if *method == Method::HEAD { BodyWanted::No } else { BodyWanted::Yes },
            upgrade: if headers.contains_key(UPGRADE) { UpgradeWanted::Yes } else { UpgradeWanted::No },
        }
    }
}

impl HeadFinder {
    /// Takes a head off `input`, or `None` where it has not come whole.
    ///
    /// # Errors
    /// [`Malformed`] for what is none, is ambiguous, or is over `limit` bytes or [`MAX_FIELDS`].
    pub(super) fn take(
        &mut self,
        input: &mut BytesMut,
        asked: Asked,
        limit: usize,
    ) -> Result<Option<AnswerHead>, Malformed> {
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
        parse(&input.split_to(end).freeze(), asked).map(Some)
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

fn parse(bytes: &Bytes, asked: Asked) -> Result<AnswerHead, Malformed> {
    let mut fields = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_FIELDS];
    let mut parsed = Response::new(&mut []);
    let status = ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields)
        .map_err(|error| fault(error, bytes))?;
    if status != Status::Complete(bytes.len()) {
        return Err(Malformed::LineEnd);
    }
    let code = parsed.code.ok_or(Malformed::StatusLine)?;
    let status = StatusCode::from_u16(code).map_err(|_| Malformed::StatusLine)?;
    // The parser gives none that has an octet beyond ASCII, as it may (RFC 9112 section 4).
    let reason = Some(reason_of(bytes))
        .filter(|reason| !reason.is_empty() && status.canonical_reason().map(str::as_bytes) != Some(*reason))
        .and_then(|reason| ReasonPhrase::try_from(reason).ok());
    let mut framing = Framing { close: parsed.version != Some(1), ..Framing::default() };
    let mut headers = HeaderMap::with_capacity(parsed.headers.len() + SPARE_FIELDS);
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed::FieldName)?;
        let again = framing.see(&name, field.value)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value))
            .map_err(|_| Malformed::FieldValue)?;
        if !again {
            headers.try_append(name, value).map_err(|_| Malformed::TooManyFields)?;
        }
    }
    let then = framing.then(status, parsed.version, asked)?;
    Ok(AnswerHead { status, headers, reason, then })
}

/// The reason phrase of a head whose status line is valid.
fn reason_of(head: &[u8]) -> &[u8] {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.strip_suffix(b"\r").unwrap_or(line).get(BEFORE_REASON..).unwrap_or_default()
}

/// What begins as no response of HTTP/1.1 does.
fn not_http(input: &[u8]) -> Malformed {
    match input {
        // A handshake, or an alert (RFC 8446 section 5.1).
        [0x15 | 0x16] | [0x15 | 0x16, 3, ..] => Malformed::Tls,
        [b'S', b'S', b'H', b'-', ..] => Malformed::Ssh,
        [b'I', b'C', b'Y', b' ', ..] => Malformed::Icy,
        _ => Malformed::StatusLine,
    }
}

/// What the parser found to be wrong with a head.
fn fault(error: httparse::Error, head: &[u8]) -> Malformed {
    match error {
        httparse::Error::HeaderName => of_fields(head).unwrap_or(Malformed::FieldName),
        httparse::Error::HeaderValue => Malformed::FieldValue,
        httparse::Error::NewLine => Malformed::LineEnd,
        httparse::Error::TooManyHeaders => Malformed::TooManyFields,
        httparse::Error::Status | httparse::Error::Token | httparse::Error::Version => Malformed::StatusLine,
    }
}

/// What the fields say of the message's end.
#[derive(Debug, Default)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
    close: bool,
}

impl Framing {
    /// Takes note of a field; whether it says again what was said before, and can be left out.
    fn see(&mut self, name: &HeaderName, value: &[u8]) -> Result<bool, Malformed> {
        if *name == CONTENT_LENGTH {
            let length = decimal(value).ok_or(Malformed::ContentLength)?;
            return match self.length.replace(length) {
                None => Ok(false),
                Some(before) if before == length => Ok(true),
                Some(_) => Err(Malformed::TwoLengths),
            };
        }
        if *name == TRANSFER_ENCODING {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::TransferEncoding);
            }
            self.chunked = true;
        } else if *name == CONNECTION {
            let mut options = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            self.close |= options.any(|option| option.eq_ignore_ascii_case(b"close"));
        }
        Ok(false)
    }

    /// RFC 9112 section 6.3, without the cases that it lets a recipient repair.
    fn then(self, status: StatusCode, version: Option<u8>, asked: Asked) -> Result<Then, Malformed> {
        if self.chunked && self.length.is_some() {
            return Err(Malformed::LengthAndEncoding);
        }
        if self.chunked && version != Some(1) {
            return Err(Malformed::EncodingInHttp10);
        }
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let wanted = asked.upgrade == UpgradeWanted::Yes;
            return if wanted { Ok(Then::Tunnel) } else { Err(Malformed::UnaskedSwitch) };
        }
        if status.is_informational() {
            return Ok(Then::Another);
        }
        let reuse = if self.close { Reuse::No } else { Reuse::Yes };
        if status == StatusCode::NO_CONTENT {
            // A body that must not be there may follow all the same, and be taken for the next answer.
            let framed = self.chunked || self.length.is_some_and(|length| length > 0);
            return Ok(Then::Body(Decoder::none(), if framed { Reuse::No } else { reuse }));
        }
        if asked.body == BodyWanted::No || status == StatusCode::NOT_MODIFIED {
            return Ok(Then::Body(Decoder::none(), reuse));
        }
        Ok(match self.length {
            Some(length) => Then::Body(Decoder::length(length), reuse),
            None if self.chunked => Then::Body(Decoder::chunked(), reuse),
            None => Then::Body(Decoder::until_close(), Reuse::No),
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

/// Fields of an answer's head, or of its trailers.
pub(in crate::proxy) const MAX_FIELDS: usize = 256;
/// Room for what the proxy adds of its own.
const SPARE_FIELDS: usize = 2;
/// What a reason phrase is behind: `HTTP/1.1 200 `.
const BEFORE_REASON: usize = 13;
/// The most that two line ends have in a row.
const LINE_ENDS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_HEAD: usize = 64 * 1024;
    const GET: Asked = Asked { body: BodyWanted::Yes, upgrade: UpgradeWanted::No };
    const HEAD: Asked = Asked { body: BodyWanted::No, upgrade: UpgradeWanted::No };
    const UPGRADE: Asked = Asked { body: BodyWanted::Yes, upgrade: UpgradeWanted::Yes };

    fn head(text: &str, asked: Asked) -> Result<Option<AnswerHead>, Malformed> {
        HeadFinder::default().take(&mut BytesMut::from(text), asked, MAX_HEAD)
    }

    fn then(fields: &str, asked: Asked) -> Result<Then, Malformed> {
        head(&format!("HTTP/1.1 {fields}\r\n\r\n"), asked).map(|head| head.unwrap().then)
    }

    #[test]
    fn a_head_is_the_same_however_it_is_cut() {
        let text =
            "HTTP/1.1 203 Quite Fine\r\nContent-Length: 3\r\nX-A: 1\r\nx-a:  2 \r\nX-Empty:\r\n\r\nabc";
        for cut in 1..text.len() {
            let mut input = BytesMut::new();
            let mut finder = HeadFinder::default();
            let mut found = None;
            for piece in text.as_bytes().chunks(cut) {
                input.extend_from_slice(piece);
                if found.is_none() {
                    found = finder.take(&mut input, GET, MAX_HEAD).unwrap();
                }
            }
            let found = found.unwrap();
            assert_eq!(found.status, 203);
            assert_eq!(found.reason.unwrap().as_bytes(), b"Quite Fine");
            assert_eq!(found.headers.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
            assert_eq!(found.headers["x-empty"], "");
            assert_eq!(found.then, Then::Body(Decoder::length(3), Reuse::Yes));
            assert_eq!(&input[..], b"abc");
        }
    }

    #[test]
    fn the_body_ends_where_rfc_9112_section_6_3_says() {
        let body = |decoder, reuse| Ok(Then::Body(decoder, reuse));
        for (fields, asked, expected) in [
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
            ("103 Early Hints", GET, Ok(Then::Another)),
            ("101 Switching Protocols\r\nUpgrade: websocket", UPGRADE, Ok(Then::Tunnel)),
        ] {
            assert_eq!(then(fields, asked), expected, "{fields}");
        }
        let old = head("HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n", GET).unwrap().unwrap();
        assert_eq!(old.then, Then::Body(Decoder::length(7), Reuse::No));
    }

    #[test]
    fn an_answer_with_two_readings_is_malformed_and_says_how() {
        for (fields, why) in [
            ("200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked", Malformed::LengthAndEncoding),
            ("200 OK\r\nContent-Length: 3\r\nContent-Length: 4", Malformed::TwoLengths),
            ("200 OK\r\nContent-Length: 3, 3", Malformed::ContentLength),
            ("200 OK\r\nContent-Length: +3", Malformed::ContentLength),
            ("200 OK\r\nContent-Length:", Malformed::ContentLength),
            ("200 OK\r\nContent-Length: 99999999999999999999", Malformed::ContentLength),
            ("200 OK\r\nTransfer-Encoding: gzip, chunked", Malformed::TransferEncoding),
            (
                "200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                Malformed::TransferEncoding,
            ),
            ("200 OK\r\nTransfer-Encoding: identity", Malformed::TransferEncoding),
            ("200 OK\r\nContent-Length : 3", Malformed::SpaceBeforeColon),
            ("200 OK\r\nX-A: 1\r\n folded: 2", Malformed::FoldedLine),
            ("200 OK\r\n X-A: 1", Malformed::FoldedLine),
            ("200 OK\r\nX A: 1", Malformed::FieldName),
            ("200 OK\r\nX-A: 1\rX-B: 2", Malformed::FieldValue),
            ("200 OK\r\nX-A: \x001", Malformed::FieldValue),
            ("200 OK\r\nno colon", Malformed::NoColon),
            ("99 Low", Malformed::StatusLine),
            ("2000 OK", Malformed::StatusLine),
            ("101 Switching Protocols\r\nUpgrade: websocket", Malformed::UnaskedSwitch),
        ] {
            assert_eq!(then(fields, GET), Err(why), "{fields}");
        }
        for (text, why) in [
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", Malformed::StatusLine),
            ("HTTP/2.0 200 OK\r\n\r\n", Malformed::StatusLine),
            ("HTTP/0.9 200 OK\r\n\r\n", Malformed::StatusLine),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Malformed::EncodingInHttp10),
            ("ICY 200 OK\r\n\r\n", Malformed::Icy),
            ("SSH-2.0-OpenSSH_9.6\r\n", Malformed::Ssh),
            ("\x15\x03\x01\0\x02\x02\x28", Malformed::Tls),
            ("\x16", Malformed::Tls),
            ("<html>", Malformed::StatusLine),
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
