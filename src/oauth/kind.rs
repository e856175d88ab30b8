//! What can go wrong on the way to a token, each with the sentence that an operator reads.
//!
//! Closed sets, all of them: nothing that a server wrote gets in here but a status and a registered error code.
//! `error` says what follows from each.

use std::fmt;
use std::io;

use http::StatusCode;
use url::Url;

use crate::secret::SecretError;

use super::error::Class;

mod local;

pub(crate) use local::{CommandFault, Holder, Said, TextFlaw};

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Kind {
    #[error("{0}; no token request was made")]
    Secret(SecretError),
    #[error("the host name does not resolve; check its spelling and this machine's DNS")]
    Dns,
    #[error("no connection ({0}); check host, port and firewall")]
    Connect(io::ErrorKind),
    #[error("no connection through the configured proxy; check `proxy` and what it lets through")]
    Proxy,
    #[error("TLS failed: {0}")]
    Tls(TlsFault),
    #[error("{0}")]
    Timeout(Phase),
    #[error("the connection was closed before the answer was complete")]
    Reset,
    #[error("it answered {}, a redirect; a secret follows none, so configure the final address", .0.as_u16())]
    Redirect(StatusCode),
    #[error("it answered {}{}", .0.as_u16(), mend_of_status(*.0))]
    Status(StatusCode),
    #[error("it answered {} with the error `{}`{}", .0.as_u16(), .1.as_str(), .1.mend())]
    Denied(StatusCode, Code),
    #[error("the answer is larger than {} KiB", super::transport::MAX_BODY_BYTES / 1024)]
    TooLarge,
    #[error("{0}")]
    Malformed(Flaw),
    #[error("the token is not of the type Bearer, the only one that can be attached")]
    TokenType,
    #[error(
        "the metadata there are for another issuer; `issuer` must equal the document's to the letter, a final slash included"
    )]
    OtherIssuer,
    #[error("the metadata there name no token endpoint; set `token_endpoint`")]
    NoTokenEndpoint,
    #[error("the token endpoint is plain http on another machine; a secret goes there by https alone")]
    InsecureEndpoint,
    #[error(
        "the token had expired when it arrived; compare the clocks of this machine and the authorization server"
    )]
    Stale,
    #[error("the token request was given up: it outlived every timeout")]
    Stalled,
    #[error("the token request ended in a defect of this program; please report it")]
    Panicked,
    #[error("the token and the configured scheme do not make a header value")]
    Unusable,
    #[error("the refresh token is no longer accepted; log in again")]
    // Made by grants that hold a refresh token; client credentials never need a login.
    #[cfg_attr(not(test), expect(dead_code, reason = "the grant that makes it is still to come"))]
    LoginRequired,
    #[error("{0}")]
    Command(CommandFault),
    #[error("{0}; the token is to be there")]
    TokenFile(SecretError),
    #[error("{0} {1}")]
    Text(Holder, TextFlaw),
    #[error("{0} has expired; {mend}", mend = .0.renewal())]
    Spent(Holder),
    #[error("the token {0}, which is traded in for this one, is not to be had; its own state says why")]
    Subject(String),
    #[error("the token to trade in has expired, so it was not sent")]
    SubjectExpired,
    #[error("this token is traded for the one that a caller brings; without a caller there is none")]
    NoCaller,
}

/// Why TLS failed (RFC 8446 section 6, RFC 5280 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TlsFault {
    #[error("the certificate comes from an unknown issuer; name its authority in `ca_file`")]
    UnknownIssuer,
    #[error("the certificate is for another name than the one configured")]
    WrongName,
    #[error("the certificate has expired; compare the clock too")]
    Expired,
    #[error("the certificate is not valid yet; compare the clock too")]
    NotYetValid,
    #[error("the certificate is revoked")]
    Revoked,
    #[error("the certificate is not acceptable")]
    Certificate,
    #[error("the other side refused the handshake; it may want a client certificate")]
    Alert,
    #[error("the other side does not speak TLS; check the port")]
    NotTls,
    #[error("the handshake did not succeed")]
    Handshake,
}

/// Which time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Phase {
    #[error("no connection within `connect_timeout`; check host, port and firewall")]
    Connect,
    #[error("no complete answer within `timeout`")]
    Answer,
}

/// What is wrong with an answer that says it is a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("the answer is not HTTP; check the port")]
    NotHttp,
    #[error("the answer has an empty body")]
    Empty,
    #[error("the answer is not a JSON object; check the address")]
    NotJson,
    #[error("the answer has no `access_token`")]
    NoAccessToken,
    #[error("the answer's `access_token` is not a string of visible ASCII")]
    AccessToken,
    #[error("the answer's `expires_in` is not a number")]
    ExpiresIn,
}

impl Flaw {
    /// Whether it is the lifetime that cannot be read.
    pub(crate) const fn is_expiry(self) -> bool {
        matches!(self, Self::ExpiresIn)
    }
}

/// An error code of the OAuth registry, or [`Code::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidRequest,
    InvalidClient,
    InvalidGrant,
    UnauthorizedClient,
    UnsupportedGrantType,
    InvalidScope,
    InvalidTarget,
    AccessDenied,
    ServerError,
    TemporarilyUnavailable,
    SlowDown,
    Other,
}

impl Code {
    /// The registered code that `text` is, to the letter.
    pub(crate) fn parse(text: &str) -> Self {
        CODES.iter().find(|code| code.as_str() == text).copied().unwrap_or(Self::Other)
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::AccessDenied => "access_denied",
            Self::ServerError => "server_error",
            Self::TemporarilyUnavailable => "temporarily_unavailable",
            Self::SlowDown => "slow_down",
            Self::Other => "other",
        }
    }

    pub(super) fn class(self, status: StatusCode) -> Class {
        match self {
            Self::ServerError | Self::TemporarilyUnavailable | Self::SlowDown => Class::Transient,
            // A "success" with an error nobody registered says nothing about the configuration.
            Self::Other if status.is_success() => Class::Transient,
            _ => Class::Misconfigured,
        }
    }

    const fn mend(self) -> &'static str {
        match self {
            Self::InvalidClient => "; check `client_id`, the secret and `client_auth`",
            Self::UnauthorizedClient | Self::UnsupportedGrantType => {
                "; allow this grant for the client at the authorization server"
            }
            Self::InvalidScope => "; check `scope`",
            Self::InvalidTarget => "; check `resource` and `audience`",
            Self::InvalidRequest => "; check `params`, `client_auth` and what this server demands",
            _ => "",
        }
    }
}

/// Where an error happened: scheme, host, port and path of a URL; never its query, nor a user name in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place(String);

impl Place {
    pub(crate) fn of(url: &Url) -> Self {
        Self(format!("{}{}", url.origin().ascii_serialization(), url.path()))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const fn mend_of_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => " without a reason; check the client and its secret",
        404 | 405 | 410 => "; check the address",
        429 => ", too many requests",
        500.. => ", a failure of its own",
        _ => " without a reason",
    }
}

const CODES: [Code; 11] = [
    Code::InvalidRequest,
    Code::InvalidClient,
    Code::InvalidGrant,
    Code::UnauthorizedClient,
    Code::UnsupportedGrantType,
    Code::InvalidScope,
    Code::InvalidTarget,
    Code::AccessDenied,
    Code::ServerError,
    Code::TemporarilyUnavailable,
    Code::SlowDown,
];
