//! Why there is no connection to an upstream, or which of its stages took too long: the sentence for the application, and what
//! an operator does about it.

use crate::net::proxy_fault::{ProxyFault, ProxyStage};
use crate::net::resolver::LookupError;
use crate::net::tls_fault::TlsFault;

/// Why there is no connection to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConnectFault {
    #[error("its name cannot be resolved: {0}")]
    Name(LookupError),
    #[error("the connection was refused")]
    Refused,
    #[error("its Unix socket does not exist")]
    NoSocket,
    #[error("its Unix socket lets this user not connect")]
    SocketForbidden,
    #[error("{0}")]
    Proxy(ProxyFault),
    #[error("there is no way to its address")]
    Network,
    #[error("TLS failed: {0}")]
    Tls(TlsFault),
    #[error("it does not speak HTTP/2 there, as its http2 demands")]
    Protocol,
    #[error("it closed the connection before it began HTTP/2")]
    ClosedEarly,
}

impl ConnectFault {
    /// What to do about it.
    pub(crate) const fn help(self) -> &'static str {
        match self {
            Self::Name(error) => error.help(),
            Self::Refused => "check host and port, and that the API listens there",
            Self::NoSocket | Self::SocketForbidden => "check `socket` and who may use it",
            Self::Proxy(fault) => fault.help(),
            Self::Network => "check the host's address, routes and firewall",
            Self::Tls(TlsFault::WrongName) => "check `server_name` and the host in `url`",
            Self::Tls(fault) => fault.help(),
            Self::Protocol | Self::ClosedEarly => {
                "set http2 = \"never\" for an API that speaks HTTP/1.1; \"auto\" lets TLS decide"
            }
        }
    }
}

/// What was under way when `connect_timeout` had passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConnectStage {
    #[error("the name of the upstream was not resolved within connect_timeout")]
    Lookup,
    #[error("the upstream did not accept a connection within connect_timeout")]
    Tcp,
    #[error("{0}")]
    Proxy(ProxyStage),
    #[error(
        "the upstream accepted a connection and did not complete the TLS handshake within connect_timeout"
    )]
    Tls,
    #[error("the upstream accepted a connection and did not begin HTTP/2 within connect_timeout")]
    Http2,
    #[error(
        "the upstream allowed no request at a time within connect_timeout (its SETTINGS_MAX_CONCURRENT_STREAMS is 0)"
    )]
    Streams,
}

impl ConnectStage {
    /// What to do about it.
    pub(crate) const fn help(self) -> &'static str {
        match self {
            Self::Lookup => LookupError::Unanswered.help(),
            Self::Tcp => "check host, port and firewall",
            Self::Proxy(stage) => stage.help(),
            Self::Tls => "check that the port speaks TLS, and what stands in front of the API",
            Self::Http2 => "check `http2`, and that the API begins with its SETTINGS",
            Self::Streams => "check the limits of the API's HTTP/2 server",
        }
    }
}

/// A number of connections that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error(
        "all connections that the upstream's max_connections ({0}) allows were in use, and none was free within connect_timeout"
    )]
    Connections(usize),
    #[error(
        "all requests at a time that the upstream's http2_connections ({0}) allow were under way, and none ended within connect_timeout"
    )]
    Http2(usize),
}

impl Full {
    /// The key that bounds them.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Connections(_) => "max_connections",
            Self::Http2(_) => "http2_connections",
        }
    }

    /// Its value.
    pub(crate) const fn most(self) -> usize {
        match self {
            Self::Connections(most) | Self::Http2(most) => most,
        }
    }

    /// What to do about it.
    pub(crate) const fn help(self) -> &'static str {
        match self {
            Self::Connections(_) => {
                "set `max_connections` higher, or let fewer requests through (`max_concurrent`)"
            }
            Self::Http2(_) => {
                "set `http2_connections` higher or to \"auto\", or `max_streams` and the API's own limit"
            }
        }
    }
}
