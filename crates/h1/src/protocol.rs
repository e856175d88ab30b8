//! The protocol of a connection, by its first bytes (RFC 9112 section 9.1, RFC 9113 section 3.3).

use crate::malformed::OtherProtocol;

/// The protocols that a connection may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, or HTTP/2 with prior knowledge (RFC 9113 section 3.3): its first bytes say which.
    Either,
    /// HTTP/1.1 alone; HTTP/2's preface is an invalid request.
    Http1,
    /// HTTP/2, as TLS has agreed (RFC 9113 section 3.2).
    Http2,
}

/// The other protocol that begins with `first`, which begins no request.
pub(crate) const fn other_protocol(first: u8) -> Option<OtherProtocol> {
    match first {
        // The handshake's content type (RFC 8446 section 5.1).
        0x16 => Some(OtherProtocol::Tls),
        // Its version (RFC 1928 section 3).
        4 | 5 => Some(OtherProtocol::Socks),
        _ => None,
    }
}

/// Whether a connection's first bytes are those of the PROXY protocol, version 1 or 2 (HAProxy's `proxy-protocol.txt`).
#[must_use]
pub fn is_proxy_protocol(first: &[u8]) -> bool {
    let is_v1 =
        [&b"PROXY TCP4 "[..], b"PROXY TCP6 ", b"PROXY UNKNOWN"].iter().any(|v1| first.starts_with(v1));
    is_v1 || first.starts_with(b"\r\n\r\n\0\r\nQUIT\n")
}

/// The first line of HTTP/2's connection preface (RFC 9113 section 3.4).
pub(crate) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
