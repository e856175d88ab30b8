//! A request's head and the framing of its body, as bytes (RFC 9112 sections 3, 6 and 7.1).
//!
//! The framing of the body is the sender's decision, whatever the fields say: a length where it is known, else chunks.

use std::io::Write as _;

use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method};

/// A request's head, borrowed: it may be sent again.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'h> {
    /// The method.
    pub method: &'h Method,
    /// The target in origin-form, or `*` (RFC 9112 section 3.2).
    pub target: &'h str,
    /// The header fields. Those of this hop (framing, `Connection`) are written by the encoder.
    pub headers: &'h HeaderMap,
}

/// How a request's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// There is none.
    None,
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// Appends a head to `out`. The fields of this hop are made here: the framing, and what `Connection` says of `TE` and
/// `Upgrade`.
pub(crate) fn head(out: &mut Vec<u8>, head: RequestHead<'_>, framing: BodyFraming) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let mut hop = Hop::default();
    for (name, value) in head.headers {
        if *name == CONTENT_LENGTH {
            hop.length = true;
            continue;
        }
        if *name == CONNECTION || *name == TRANSFER_ENCODING {
            continue;
        }
        hop.te |= *name == TE;
        hop.upgrade |= *name == UPGRADE;
        field(out, name.as_str(), value.as_bytes());
    }
    match framing {
        BodyFraming::None if hop.length || expects_body(head.method) => length(out, 0),
        BodyFraming::None => {}
        BodyFraming::Length(bytes) => length(out, bytes),
        BodyFraming::Chunked => field(out, "transfer-encoding", b"chunked"),
    }
    match (hop.upgrade, hop.te) {
        (true, true) => field(out, "connection", b"upgrade, te"),
        (true, false) => field(out, "connection", b"upgrade"),
        (false, true) => field(out, "connection", b"te"),
        (false, false) => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Which of the fields that decide about this hop a head has.
#[derive(Clone, Copy, Debug, Default)]
struct Hop {
    length: bool,
    te: bool,
    upgrade: bool,
}

/// Appends the line that begins a chunk of `len` bytes; the chunk and [`LINE_END`] follow.
pub(crate) fn chunk_size(out: &mut Vec<u8>, len: usize) {
    // Writing to memory does not fail.
    let _ = write!(out, "{len:x}\r\n");
}

/// Appends the last chunk and the trailers.
pub(crate) fn last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        field(out, name.as_str(), value.as_bytes());
    }
    out.extend_from_slice(LINE_END);
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(LINE_END);
}

fn length(out: &mut Vec<u8>, bytes: u64) {
    // Writing to memory does not fail.
    let _ = write!(out, "content-length: {bytes}\r\n");
}

/// Whether a request without a body has a `Content-Length` of 0: its method has a meaning for one (RFC 9110 section 8.6).
fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// Ends a line, and a chunk.
pub(crate) const LINE_END: &[u8] = b"\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn encoded(
        method: &Method,
        target: &'static str,
        fields: &[(&'static str, &'static str)],
        framing: BodyFraming,
    ) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let mut out = Vec::new();
        head(&mut out, RequestHead { method, target, headers: &headers }, framing);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_head_is_in_origin_form_with_its_fields_as_they_are() {
        assert_eq!(
            encoded(
                &Method::GET,
                "/a%20b?c=d",
                &[("host", "api.example"), ("x-a", "1"), ("x-a", "2"), ("x-empty", "")],
                BodyFraming::None
            ),
            "GET /a%20b?c=d HTTP/1.1\r\nhost: api.example\r\nx-a: 1\r\nx-a: 2\r\nx-empty: \r\n\r\n"
        );
        assert!(encoded(&Method::OPTIONS, "*", &[], BodyFraming::None).starts_with("OPTIONS * HTTP/1.1\r\n"));
    }

    #[test]
    fn the_framing_is_ours_whatever_the_fields_say() {
        let lies =
            [("content-length", "99"), ("transfer-encoding", "gzip"), ("connection", "content-length")];
        for (method, framing, fields) in [
            (Method::GET, BodyFraming::None, "content-length: 0\r\n"),
            (Method::POST, BodyFraming::Length(7), "content-length: 7\r\n"),
            (Method::POST, BodyFraming::Chunked, "transfer-encoding: chunked\r\n"),
        ] {
            let text = encoded(&method, "/", &lies, framing);
            assert_eq!(text, format!("{method} / HTTP/1.1\r\n{fields}\r\n"));
        }
        for (method, fields) in
            [(Method::GET, ""), (Method::DELETE, ""), (Method::PUT, "content-length: 0\r\n")]
        {
            let text = encoded(&method, "/", &[], BodyFraming::None);
            assert_eq!(text, format!("{method} / HTTP/1.1\r\n{fields}\r\n"));
        }
    }

    #[test]
    fn te_and_upgrade_are_named_by_connection() {
        let ends = |fields: &[_], end: &str| {
            assert!(encoded(&Method::GET, "/", fields, BodyFraming::None).ends_with(end), "{end}");
        };
        ends(&[("te", "trailers")], "te: trailers\r\nconnection: te\r\n\r\n");
        ends(&[("upgrade", "websocket")], "upgrade: websocket\r\nconnection: upgrade\r\n\r\n");
    }
}
