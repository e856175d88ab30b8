//! Why a token could not be had: whose fault it is, whether to try again, and what an operator is told.
//!
//! An [`Error`] holds no body, no header value, no query and no secret: of what the server said, only its status,
//! `Retry-After` and an error code out of a closed set (RFC 6749 section 5.2 and its registry). It decides nothing
//! about time; `token` does.

use std::fmt;
use std::io;
use std::time::Duration;

use http::StatusCode;
use url::Url;

use crate::secret::SecretError;

/// A token request that failed, or that was never sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    place: Option<Place>,
    retry_after: Option<Duration>,
}

/// Whose fault it is, and so when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The network's or the server's; it passes. Backoff.
    Transient,
    /// The configuration's, here or at the server; it stays until someone acts. Slowly.
    Misconfigured,
    /// The grant is spent: nothing but a login helps. Never.
    Refused,
}

impl Class {
    /// The word for it in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Misconfigured => "misconfigured",
            Self::Refused => "refused",
        }
    }
}

impl Error {
    /// An error that has no place: it happened on this machine.
    pub(crate) const fn here(kind: Kind) -> Self {
        Self { kind, place: None, retry_after: None }
    }

    /// An error on the way to `place` or in its answer.
    pub(crate) const fn at(place: Place, kind: Kind) -> Self {
        Self { kind, place: Some(place), retry_after: None }
    }

    /// The same, with the time that the server asks to be left alone for.
    pub(crate) const fn after(mut self, hold: Option<Duration>) -> Self {
        self.retry_after = hold;
        self
    }

    pub(super) const fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Whose fault it is.
    #[must_use]
    pub fn class(&self) -> Class {
        match &self.kind {
            Kind::Secret(_)
            | Kind::Redirect(_)
            | Kind::TokenType
            | Kind::OtherIssuer
            | Kind::NoTokenEndpoint
            | Kind::InsecureEndpoint
            | Kind::Unusable => Class::Misconfigured,
            Kind::Dns
            | Kind::Connect(_)
            | Kind::Proxy
            | Kind::Tls(_)
            | Kind::Timeout(_)
            | Kind::Reset
            | Kind::TooLarge
            | Kind::Malformed(_)
            | Kind::Stale
            | Kind::Stalled
            | Kind::Panicked => Class::Transient,
            Kind::Status(status) => by_status(*status, Class::Misconfigured),
            Kind::Denied(status, code) => by_status(*status, code.class(*status)),
            Kind::LoginRequired => Class::Refused,
        }
    }

    /// How long the server asks to be left alone for (RFC 9110 section 10.2.3), from when this error was made; never
    /// more than an hour.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// One word out of a closed set, for logs and metrics.
    #[must_use]
    pub const fn cause(&self) -> &'static str {
        match &self.kind {
            Kind::Secret(_) => "secret",
            Kind::Dns => "dns",
            Kind::Connect(_) => "connect",
            Kind::Proxy => "proxy",
            Kind::Tls(_) => "tls",
            Kind::Timeout(_) => "timeout",
            Kind::Reset => "reset",
            Kind::Redirect(_) => "redirect",
            Kind::Status(_) => "status",
            Kind::Denied(_, code) => code.as_str(),
            Kind::TooLarge => "too_large",
            Kind::Malformed(_) => "malformed",
            Kind::TokenType => "token_type",
            Kind::OtherIssuer => "issuer_mismatch",
            Kind::NoTokenEndpoint => "no_token_endpoint",
            Kind::InsecureEndpoint => "insecure_endpoint",
            Kind::Stale => "stale",
            Kind::Stalled => "stalled",
            Kind::Panicked => "internal",
            Kind::Unusable => "unusable",
            Kind::LoginRequired => "login_required",
        }
    }
}

/// Load and rate, whatever the body says, pass by themselves; the rest is as `otherwise` has it.
fn by_status(status: StatusCode, otherwise: Class) -> Class {
    match status.as_u16() {
        408 | 425 | 429 | 500.. => Class::Transient,
        _ => otherwise,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        self.kind.fmt(f)?;
        if let Some(hold) = self.retry_after {
            write!(f, "; it asks for no request within {} s", hold.as_secs())?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<SecretError> for Error {
    fn from(error: SecretError) -> Self {
        Self::here(Kind::Secret(error))
    }
}

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

    const fn as_str(self) -> &'static str {
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

    fn class(self, status: StatusCode) -> Class {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(status: u16, code: &str) -> Error {
        Error::here(Kind::Denied(StatusCode::from_u16(status).unwrap(), Code::parse(code)))
    }

    #[test]
    fn load_and_rate_pass_by_themselves_whatever_the_body_says() {
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert_eq!(denied(status, "invalid_client").class(), Class::Transient, "{status}");
            let bare = Error::here(Kind::Status(StatusCode::from_u16(status).unwrap()));
            assert_eq!(bare.class(), Class::Transient, "{status}");
        }
    }

    #[test]
    fn what_someone_must_mend_is_misconfigured() {
        for code in ["invalid_client", "unauthorized_client", "invalid_scope", "unsupported_grant_type"] {
            assert_eq!(denied(400, code).class(), Class::Misconfigured, "{code}");
            assert_eq!(denied(400, code).cause(), code);
        }
        for status in [400, 401, 403, 404] {
            let bare = Error::here(Kind::Status(StatusCode::from_u16(status).unwrap()));
            assert_eq!(bare.class(), Class::Misconfigured, "{status}");
        }
        assert_eq!(Error::here(Kind::LoginRequired).class(), Class::Refused);
    }

    #[test]
    fn a_code_that_nobody_registered_is_never_repeated() {
        let error = denied(400, "s3cret\r\nset-cookie: x");
        assert_eq!(error.cause(), "other");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }

    #[test]
    fn a_place_shows_neither_query_nor_user() {
        let url = Url::parse("https://user:pass@as.example:8443/t/token?key=s3cret#f").unwrap();
        assert_eq!(Place::of(&url).to_string(), "https://as.example:8443/t/token");
    }
}
