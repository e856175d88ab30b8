//! What can go wrong on the way to the authorization server.

use std::borrow::Cow;
use std::io;

use crate::machine::Lack;
use crate::net::proxy_fault::{ProxyFault, ProxyStage};
use crate::net::resolver::LookupError;
use crate::net::tls_fault::TlsFault;

use super::request_fault::LACKING;

/// Why the authorization server was not reached, or its response did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TransportFault {
    #[error("the host name does not resolve; check its spelling and this machine's DNS")]
    Dns,
    #[error("the host name cannot be looked up: {0}; {help}", help = .0.help())]
    Lookup(LookupError),
    #[error("{0}, so there is no connection; {help}", help = .0.help())]
    Lacking(Lack),
    #[error("no connection ({0}); check host, port and firewall")]
    Connect(io::ErrorKind),
    #[error("{0}; {help}", help = .0.help())]
    Proxy(ProxyFault),
    #[error("TLS failed: {0}; {help}", help = .0.help())]
    Tls(TlsFault),
    #[error("{0}")]
    Timeout(TransportPhase),
    #[error("the connection was closed before the answer was complete")]
    Reset,
}

impl TransportFault {
    /// Whether the request may have arrived.
    pub(in crate::oauth) const fn may_have_sent(&self) -> bool {
        matches!(
            self,
            Self::Timeout(TransportPhase::Answer) | Self::Reset | Self::Proxy(ProxyFault::Responded(500..))
        )
    }

    pub(in crate::oauth) const fn cause(&self) -> &'static str {
        match self {
            Self::Dns
            | Self::Lookup(_)
            | Self::Timeout(TransportPhase::Lookup | TransportPhase::Proxy(ProxyStage::Lookup)) => "dns",
            Self::Lacking(_) => "machine",
            Self::Connect(_) => "connect",
            Self::Proxy(_) => "proxy",
            Self::Tls(_) => "tls",
            Self::Timeout(_) => "timeout",
            Self::Reset => "reset",
        }
    }

    pub(super) fn public_reason(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Lacking(_) => LACKING,
            Self::Dns => "the authorization server cannot be reached: its name does not resolve",
            Self::Lookup(_) => "the authorization server cannot be reached: its name cannot be looked up",
            Self::Connect(io::ErrorKind::ConnectionRefused) => {
                "the authorization server cannot be reached: it refuses the connection"
            }
            Self::Connect(_) => "the authorization server cannot be reached",
            Self::Proxy(fault) => return unreachable(fault),
            Self::Reset => {
                "the connection to the authorization server broke before its response was complete"
            }
            Self::Timeout(TransportPhase::Proxy(stage)) => return unreachable(stage),
            Self::Timeout(phase) => phase.public_reason(),
            Self::Tls(fault) => public_reason_of_tls(*fault),
        })
    }
}

/// Which time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TransportPhase {
    #[error("the host name was not resolved within `connect_timeout`; {help}", help = LookupError::Unanswered.help())]
    Lookup,
    #[error("no connection within `connect_timeout`; check host, port and firewall")]
    Connect,
    #[error("{0}; {help}", help = .0.help())]
    Proxy(ProxyStage),
    #[error(
        "the TLS handshake was not complete within `connect_timeout`; check that the port speaks TLS, and what stands in front of the server"
    )]
    Tls,
    #[error("no complete answer within `timeout`")]
    Answer,
}

impl TransportPhase {
    const fn public_reason(self) -> &'static str {
        match self {
            Self::Lookup => {
                "the authorization server cannot be reached: its name was not resolved within connect_timeout"
            }
            Self::Connect => {
                "the authorization server cannot be reached: no connection within connect_timeout"
            }
            Self::Proxy(_) => {
                "the authorization server cannot be reached: the HTTP proxy on the way is too slow"
            }
            Self::Tls => {
                "the authorization server cannot be reached: no TLS handshake was complete within connect_timeout"
            }
            Self::Answer => "the authorization server did not respond within timeout",
        }
    }
}

fn unreachable(why: &impl std::fmt::Display) -> Cow<'static, str> {
    Cow::Owned(format!("the authorization server cannot be reached: {why}"))
}

const fn public_reason_of_tls(fault: TlsFault) -> &'static str {
    use TlsFault as F;
    match fault {
        F::UnknownIssuer
        | F::SelfSigned
        | F::WrongName
        | F::NoName
        | F::Expired
        | F::NotYetValid
        | F::Revoked
        | F::Algorithm
        | F::Purpose
        | F::Certificate => "the authorization server's certificate is not accepted",
        F::CertificateWanted => {
            "the authorization server demands a client certificate, and none is configured"
        }
        F::OwnExpired => "this client's certificate for the authorization server has expired",
        F::CertificateRefused => "the authorization server refuses this client's certificate",
        F::NotTls => "the authorization server does not speak TLS at its address",
        F::NoVersion | F::NoCipher | F::NoProtocol | F::UnknownName | F::Alert | F::Closed | F::Handshake => {
            "the TLS handshake with the authorization server failed"
        }
    }
}
