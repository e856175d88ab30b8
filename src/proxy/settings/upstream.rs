//! An upstream as it is configured.

use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::net::outbound_proxy::OutboundProxy;
use crate::net::tls::ClientCertificate;

/// An upstream as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamSettings {
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
    /// Connections at a time, over all workers; `None`: as memory and descriptors allow.
    pub max_connections: Option<usize>,
    /// HTTP/2 connections that requests are spread over, over all workers; `None`: another one where the streams of one are
    /// taken.
    pub http2_connections: Option<usize>,
    /// How long a connection is kept that no request uses.
    pub idle_connection_timeout: Duration,
    /// How old a connection may grow before no further request uses it.
    pub max_connection_age: Duration,
    /// Requests at a time on one HTTP/2 connection; the upstream may allow fewer.
    pub max_streams: usize,
    /// Bytes of a response's head, and of its trailers, as HTTP/1.1 writes them.
    pub max_response_header_size: usize,
    /// PEM file of the certificate authorities to trust; `None`: the platform's.
    pub ca_file: Option<PathBuf>,
    /// The client certificate on each connection: tokens may be bound to it (RFC 8705 section 3). `None`: none.
    pub certificate: Option<ClientCertificate>,
    /// The name that its certificate must have and that is sent in SNI, where it is another than the URL's.
    pub server_name: Option<String>,
    /// The Unix socket that it listens on; the URL says what is asked for there.
    pub socket: Option<PathBuf>,
    /// The HTTP proxy that connections go through.
    pub proxy: OutboundProxy,
    /// What it is told of whom a request came from.
    pub forwarded: Forwarded,
    /// The Host that it is sent.
    pub host: SentHost,
    /// Whether it is told that proxies are in the way (RFC 9110 section 7.6.3). Without that none is named, not even one
    /// that the application named, and a request that comes back here is not known to have been here before.
    pub via: bool,
}

/// What becomes of `Forwarded` (RFC 7239) and `X-Forwarded-*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "the names of the header fields")]
pub(crate) enum Forwarded {
    /// Nothing goes on: what a public API expects.
    #[default]
    Remove,
    /// What the application sent goes on as it is, but for what would make it another request (`X-Forwarded-Path`).
    Pass,
    /// `X-Forwarded-For`, `-Host` and `-Proto` are made anew; on a Unix socket there is no address to say.
    XForwarded,
    /// `Forwarded` is made anew (RFC 7239).
    Forwarded,
}

/// The Host that an upstream is sent. The name for TLS is that of its address in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum SentHost {
    /// That of its address.
    #[default]
    Upstream,
    /// The one that the application sent.
    Client,
    /// This one: a name, and a port where it needs one.
    Name(String),
}

impl UpstreamSettings {
    /// For a test that connects to nothing: every bound is small, and nothing optional is set.
    #[cfg(any(test, feature = "benching", feature = "fuzzing"))]
    pub(crate) fn bare(url: &str) -> Self {
        let second = Duration::from_secs(1);
        Self {
            url: url.parse().expect("a test's URL"),
            http2: Http2::Never,
            connect_timeout: second,
            response_header_timeout: second,
            idle_timeout: second,
            max_connections: None,
            http2_connections: None,
            idle_connection_timeout: second,
            max_connection_age: second,
            max_streams: 100,
            max_response_header_size: 64 * 1024,
            ca_file: None,
            certificate: None,
            server_name: None,
            socket: None,
            proxy: OutboundProxy::Direct,
            forwarded: Forwarded::Remove,
            host: SentHost::Upstream,
            via: true,
        }
    }

    /// How many workers may have connections to it where their number is bounded; `None`: all.
    pub(crate) fn most_workers(&self) -> Option<usize> {
        [self.max_connections, self.http2_connections].into_iter().flatten().min()
    }

    /// The files that were read for it, or will be: a change of one makes it another upstream.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let certificate = self.certificate.iter().flat_map(ClientCertificate::files);
        self.ca_file.as_deref().into_iter().chain(certificate)
    }
}

/// Whether HTTP/2 is spoken to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Http2 {
    /// By ALPN over TLS; HTTP/1.1 in the clear.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Never,
    /// HTTP/2 without asking (RFC 9113 section 3.3).
    PriorKnowledge,
}
