//! `Upgrade` of HTTP/1.1 (RFC 9110 section 7.8): what a request asks to be switched to, and what of that goes on.
//!
//! A WebSocket has a file of its own. Any other protocol passes to an upstream that speaks HTTP/1.1, as kubectl's SPDY/3.1
//! and Docker's streams need it: the guard has judged the request, the token is on it, and what follows a 101 is opaque.
//! HTTP in another version and TLS are about one connection alone, and would carry requests past the guard: they stop here.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use hyper::ext::Protocol;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// A WebSocket, whatever else it would take.
    WebSocket,
    /// One of these protocols, as `Upgrade` lists them.
    Other(HeaderValue),
}

/// What the fields of a request ask to be upgraded to; `None`: nothing that goes on.
pub(crate) fn wanted(headers: &HeaderMap) -> Option<Upgrade> {
    if !has_token(headers, &CONNECTION, b"upgrade") {
        return None;
    }
    if has_token(headers, &UPGRADE, WEBSOCKET.as_bytes()) {
        return Some(Upgrade::WebSocket);
    }
    passing(headers).map(Upgrade::Other)
}

/// The protocols in `Upgrade` that go on, as one value.
pub(crate) fn passing(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut all: Vec<u8> = Vec::new();
    for protocol in tokens(headers, &UPGRADE).filter(|protocol| passes(protocol)) {
        if !all.is_empty() {
            all.extend_from_slice(b", ");
        }
        all.extend_from_slice(protocol);
    }
    if all.is_empty() { None } else { HeaderValue::from_bytes(&all).ok() }
}

/// Whether a 101 with these fields switches to something of what was `asked` for.
pub(crate) fn grants(headers: &HeaderMap, asked: &HeaderValue) -> bool {
    let mut granted = tokens(headers, &UPGRADE).peekable();
    let is_asked = |protocol: &[u8]| split(asked).any(|one| one.eq_ignore_ascii_case(protocol));
    granted.peek().is_some() && granted.all(is_asked)
}

/// Whether the list in a field has this token.
pub(crate) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &[u8]) -> bool {
    tokens(headers, name).any(|one| one.eq_ignore_ascii_case(token))
}

fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    headers.get_all(name).into_iter().flat_map(split)
}

fn split(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// `protocol-name ["/" protocol-version]`, of a protocol that is not this hop's own.
fn passes(protocol: &[u8]) -> bool {
    let mut parts = protocol.splitn(2, |byte| *byte == b'/');
    let name = parts.next().unwrap_or_default();
    let is_valid = HeaderName::from_bytes(name).is_ok()
        && parts.next().is_none_or(|v| HeaderName::from_bytes(v).is_ok());
    let name = name.to_ascii_lowercase();
    let is_own = matches!(&name[..], b"h2" | b"h3" | b"http" | b"https" | b"tls") || name.starts_with(b"h2c");
    is_valid && !is_own
}

/// The protocol of RFC 6455.
pub(crate) const WEBSOCKET: &str = "websocket";

/// Makes the GET of a handshake an extended CONNECT; its target is in HTTP/2's form already.
pub(crate) fn to_connect<B>(request: &mut Request<B>) {
    *request.method_mut() = Method::CONNECT;
    request.extensions_mut().insert(Protocol::from_static(WEBSOCKET));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn all_but_http_itself_and_tls_go_on() {
        let other = |value| Some(Upgrade::Other(HeaderValue::from_static(value)));
        for (fields, asked) in [
            (&[("connection", "Upgrade"), ("upgrade", "websocket")][..], Some(Upgrade::WebSocket)),
            (
                &[("connection", "keep-alive, upgrade"), ("upgrade", "h2c, WebSocket")],
                Some(Upgrade::WebSocket),
            ),
            (&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")], other("SPDY/3.1")),
            (
                &[("connection", "Upgrade"), ("upgrade", "h2c, SPDY/3.1"), ("upgrade", "tcp")],
                other("SPDY/3.1, tcp"),
            ),
            (&[("connection", "Upgrade"), ("upgrade", "h2c")], None),
            (&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "H2C")], None),
            (&[("connection", "Upgrade"), ("upgrade", "h2c-14, HTTP/2.0, TLS/1.2")], None),
            (&[("connection", "Upgrade"), ("upgrade", "a b, /1, c/ , \"d\"")], None),
            (&[("connection", "keep-alive"), ("upgrade", "websocket")], None),
            (&[("connection", "keep-alive"), ("upgrade", "SPDY/3.1")], None),
            (&[("connection", "upgrade"), ("upgrade", " , ")], None),
            (&[("connection", "upgrade")], None),
        ] {
            assert_eq!(wanted(&headers(fields)), asked, "{fields:?}");
        }
    }

    #[test]
    fn a_grant_is_of_what_was_asked_for() {
        let asked = HeaderValue::from_static("SPDY/3.1, tcp");
        for (upgrade, granted) in [
            ("spdy/3.1", true),
            ("tcp", true),
            ("SPDY/3.1, tcp", true),
            ("SPDY/3", false),
            ("tcp, h2c", false),
        ] {
            assert_eq!(grants(&headers(&[("upgrade", upgrade)]), &asked), granted, "{upgrade}");
        }
        assert!(!grants(&headers(&[]), &asked), "to what?");
    }
}
