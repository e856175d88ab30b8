//! What is wrong with a request, in a sentence for the application that sent it: `ProxyError` makes it a 400.

use cupbearer_h1::{OtherProtocol, RequestFault};

use super::Malformed;

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRequest {
    #[error("{0}")]
    Path(PathFault),
    #[error("the request is not valid HTTP: {0}")]
    Malformed(Malformed),
    #[error("the request's head is no HTTP/1.1, or can be read in two ways (RFC 9112)")]
    Unreadable,
    #[error("this listener speaks TLS: send the request with https")]
    Plain,
    #[error("{}", other_protocol_sentence(*.0))]
    OtherProtocol(#[from] OtherProtocol),
    #[error("a request must have exactly one valid Host (RFC 9112 section 3.2)")]
    Host,
    #[error("Host and :authority name different hosts (RFC 9113 section 8.3.1)")]
    TwoHosts,
    #[error("the target names a user before its host, which no http target does (RFC 9110 section 4.2.4)")]
    User,
    #[error(
        "an HTTP/1.0 request without Host does not say which host it is for; send Host (HAProxy: http-check send hdr Host localhost), or check /readyz of the health listener"
    )]
    NoHost,
    #[error("{}", target_sentence(*.0))]
    TargetByte(Option<u8>),
    #[error("the target is of a form that this method does not take (RFC 9112 section 3.2)")]
    Target,
    #[error(
        "the path can be read in two ways that lead to two routes; send it without encoded slashes, empty segments or ;parameters, and in the case of the route"
    )]
    AmbiguousPath,
    #[error("the request has two credentials of its own; send one")]
    Credentials,
    #[error("the request's body is malformed")]
    Body,
    #[error("the request's body is not valid HTTP: {0}")]
    MalformedBody(Malformed),
    #[error("the WebSocket handshake has no valid key, or another version than 13 (RFC 6455 section 4.2.1)")]
    Handshake,
}

impl From<Malformed> for BadRequest {
    fn from(fault: Malformed) -> Self {
        Self::Malformed(fault)
    }
}

impl From<RequestFault> for BadRequest {
    fn from(fault: RequestFault) -> Self {
        match fault {
            RequestFault::Malformed(fault) => Self::Malformed(fault.into()),
            RequestFault::TargetByte(byte) => Self::TargetByte(Some(byte)),
            RequestFault::OtherProtocol(protocol) => Self::OtherProtocol(protocol),
        }
    }
}

/// Another protocol than HTTP/1.1, recognised by a connection's first bytes, and what to do about it.
const fn other_protocol_sentence(protocol: OtherProtocol) -> &'static str {
    match protocol {
        OtherProtocol::ProxyProtocol => {
            "the connection begins with the PROXY protocol, which this proxy does not speak; turn it off where the connection comes from (HAProxy: send-proxy, nginx: proxy_protocol)"
        }
        OtherProtocol::Tls => {
            "the connection begins with a TLS handshake, and this listener speaks plain HTTP; use http://, or set tls in [server]"
        }
        OtherProtocol::Socks => {
            "the connection begins with SOCKS; this is an HTTP proxy for the API: send requests to its own address"
        }
        OtherProtocol::Http2 => {
            "HTTP/2's preface is where a request of HTTP/1.1 should begin; agree on HTTP/2 by TLS (ALPN), or begin the connection with it"
        }
    }
}

/// A character that no request target has, and what to do about it.
fn target_sentence(byte: Option<u8>) -> String {
    match byte {
        None => {
            "the request's target has a character that no URI has; percent-encode it (RFC 3986 section 2.1)"
                .to_owned()
        }
        Some(b'#') => {
            "the request's target has a fragment (#), which stays with the client (RFC 9110 section 7.1); \
                 leave it out, or encode a # that belongs to the target as %23"
                .to_owned()
        }
        Some(b' ') => {
            "the request's target has a space; percent-encode it as %20 (RFC 3986 section 2.1)".to_owned()
        }
        Some(byte @ 0x21..=0x7e) => {
            format!(
                "the request's target has the character {}; percent-encode it as %{byte:02X} (RFC 3986 section 2.1)",
                char::from(byte)
            )
        }
        Some(byte @ 0x80..) => format!(
            "the request's target has the byte 0x{byte:02X}; percent-encode it as %{byte:02X} (RFC 3986 section 2.1)"
        ),
        Some(byte) => format!(
            "the request's target has the byte 0x{byte:02X}, a control character that no target has; leave it out"
        ),
    }
}

/// Why a path is refused whatever the routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathFault {
    #[error(
        "the path has a dot segment that servers read in different ways (an encoded slash, a backslash, a parameter or another dot stands beside it); send the path without it (RFC 3986 section 5.2.4)"
    )]
    DotSegment,
    #[error(
        "the path leads above the root: it has more `..` than segments before them (RFC 3986 section 5.2.4)"
    )]
    AboveRoot,
    #[error("the path has a control character or an incomplete percent-encoding")]
    Malformed,
}
