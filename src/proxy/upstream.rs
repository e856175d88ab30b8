//! The protected API: where it is and how it is reached.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

/// An upstream as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// Its address; the path is put before every forwarded path. No query, no fragment, no user.
    pub url: Url,
    /// Which protocol is spoken.
    pub http2: Http2,
    /// For name look-up, TCP and TLS together.
    pub connect_timeout: Duration,
    /// From the request's last byte to the response's head.
    pub response_header_timeout: Duration,
    /// The longest silence within a body, either way.
    pub idle_timeout: Duration,
    /// PEM file of the certificate authorities to trust; `None`: the platform's.
    pub ca_file: Option<PathBuf>,
}

/// Whether HTTP/2 is spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http2 {
    /// By ALPN over TLS; HTTP/1.1 in the clear.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Never,
    /// HTTP/2 without asking (RFC 9113 section 3.3).
    PriorKnowledge,
}
