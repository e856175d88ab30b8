//! Why there is no connection to an upstream, or which of its stages took too long: the sentence for the application, and what
//! an operator does about it.

use crate::net::resolver::LookupError;

/// Why there is no connection to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConnectFault {
    #[error("its name cannot be resolved: {0}")]
    Name(LookupError),
    #[error("the connection was refused")]
    Refused,
    #[error("its Unix socket does not exist")]
    NoSocket,
    #[error("its Unix socket lets this user not connect")]
    SocketForbidden,
    #[error("the name of the HTTP proxy on the way cannot be resolved: {0}")]
    ProxyName(LookupError),
    #[error("the HTTP proxy on the way cannot be reached")]
    ProxyUnreachable,
    #[error("the HTTP proxy on the way refused: it answered {0}{hint}", hint = if matches!(*.0, 401 | 407) { ", for it wants other credentials" } else { "" })]
    ProxyRefused(u16),
    #[error("the HTTP proxy on the way gave no answer that is HTTP")]
    ProxyBroken,
    #[error("there is no way to its address")]
    Network,
    #[error("its certificate is not trusted, or is for another name")]
    Certificate,
    #[error("the TLS handshake failed")]
    Tls,
    #[error("it did not answer in the protocol that http2 asks for")]
    Protocol,
}

impl ConnectFault {
    /// What to do about it.
    pub(super) const fn help(self) -> &'static str {
        match self {
            Self::Name(error) | Self::ProxyName(error) => error.help(),
            Self::Refused => "check host and port, and that the API listens there",
            Self::NoSocket | Self::SocketForbidden => "check `socket` and who may use it",
            Self::ProxyUnreachable | Self::ProxyBroken => "check `proxy`, HTTPS_PROXY and http_proxy",
            Self::ProxyRefused(_) => "check `proxy`, its user and password, and what it lets through",
            Self::Network => "check the host's address, routes and firewall",
            Self::Certificate => "check `ca_file`, `server_name` and the host in `url`",
            Self::Tls => "check that the port speaks TLS, and whether it asks for a client certificate",
            Self::Protocol => "check `http2`",
        }
    }
}

/// What was under way when `connect_timeout` had passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConnectStage {
    #[error("the name of the upstream was not resolved within connect_timeout")]
    Lookup,
    #[error("the upstream did not accept a connection within connect_timeout")]
    Tcp,
    #[error("the name of the HTTP proxy on the way was not resolved within connect_timeout")]
    ProxyLookup,
    #[error("the HTTP proxy on the way did not accept a connection within connect_timeout")]
    ProxyTcp,
    #[error("the HTTP proxy on the way did not respond to CONNECT within connect_timeout")]
    ProxyTunnel,
    #[error(
        "the upstream accepted a connection and did not complete the TLS handshake within connect_timeout"
    )]
    Tls,
    #[error("the upstream accepted a connection and did not begin HTTP/2 within connect_timeout")]
    Http2,
}

impl ConnectStage {
    /// What to do about it.
    pub(super) const fn help(self) -> &'static str {
        match self {
            Self::Lookup | Self::ProxyLookup => LookupError::Unanswered.help(),
            Self::Tcp => "check host, port and firewall",
            Self::ProxyTcp => "check `proxy`, HTTPS_PROXY and http_proxy",
            Self::ProxyTunnel => "check that the HTTP proxy works, and that it reaches the upstream",
            Self::Tls => "check that the port speaks TLS, and what stands in front of the API",
            Self::Http2 => "check `http2`",
        }
    }
}
