//! A request's head as it goes upstream, and its size.

use http::header::HOST;
use http::uri::Scheme;
use http::{HeaderMap, Method, Uri};

/// A request's head as it goes upstream, in origin-form.
#[derive(Clone, Debug)]
pub(crate) struct OutboundHead {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) asks: RequestKind,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// An answer.
    #[default]
    Answer,
    /// A WebSocket, by an upgrade in HTTP/1.1 or an extended CONNECT in HTTP/2; or an upgrade to another protocol.
    WebSocket,
}

impl OutboundHead {
    /// Bytes of it as HTTP/1.1 writes it.
    pub(crate) fn size(&self) -> usize {
        let target = self.uri.path_and_query().map_or(1, |target| target.as_str().len());
        self.method.as_str().len() + target + size_of_fields(&self.headers)
    }

    /// Bytes of it as HTTP/2 counts them (RFC 9113 section 6.5.2).
    pub(crate) fn list_size(&self, scheme: &Scheme) -> usize {
        let names = [":method", ":scheme", ":authority", ":path"];
        let pseudo = names.map(|name| name.len() + ENTRY).iter().sum::<usize>() + scheme.as_str().len();
        // The value of Host is that of `:authority`.
        let host = if self.headers.contains_key(HOST) { HOST.as_str().len() + ENTRY } else { 0 };
        self.size() + self.headers.len() * (ENTRY - LINE) + pseudo - host
    }
}

/// Bytes of fields as HTTP/1.1 writes them.
pub(crate) fn size_of_fields(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + LINE).sum()
}

/// Of a field's line: the colon, the space and the line's end.
const LINE: usize = 4;

/// What HTTP/2 counts for a field beside its name and its value.
const ENTRY: usize = 32;
