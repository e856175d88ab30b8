//! Why the proxy responds by itself: whose fault it is, by the status (RFC 9110 section 15), and what the application may
//! be told, by the sentence. `message/problem` makes the response.

use http::{HeaderValue, StatusCode};

use super::application_fault::{ApplicationFault, CLIENT_GONE};
use super::bad_request::{BadRequest, PathFault};
use super::limit_fault::LimitFault;
use super::malformed::Malformed;
use super::rejection::{GuardRejection, RejectedRequest};
use super::token_fault::TokenFault;
use super::upstream_fault::UpstreamFault;
use crate::token::CallerError;

/// Why the proxy itself responds.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("{0}")]
    Token(TokenFault),
    #[error("{0}")]
    Refused(RejectedRequest),
    #[error("{0}")]
    Limit(LimitFault),
    #[error("{0}")]
    Request(ApplicationFault),
    #[error("{0}")]
    BadRequest(BadRequest),
    #[error("{0}")]
    Upstream(UpstreamFault),
    #[error("this route takes no Authorization of the application's own")]
    AuthorizationRefused,
    #[error("no route matches this host and path")]
    NoRoute,
    #[error("no route takes this method for this path")]
    MethodNotAllowed { allow: HeaderValue },
    #[error(
        "neither CONNECT nor TRACE is forwarded: one would open a tunnel, the other would show the token"
    )]
    MethodRefused { allow: HeaderValue },
    #[error("the request was still going when max_stream_age had passed")]
    StreamTooOld,
}

impl ProxyError {
    /// What metrics and the `Cupbearer-Error` header call it: a closed set.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Token(fault) => fault.kind(),
            Self::Refused(rejected) => rejected.reason.kind(),
            Self::Limit(fault) => fault.kind(),
            Self::Request(fault) => fault.kind(),
            Self::BadRequest(_) => "bad_request",
            Self::Upstream(fault) => fault.kind(),
            Self::AuthorizationRefused => "authorization_refused",
            Self::NoRoute => "no_route",
            Self::MethodNotAllowed { .. } | Self::MethodRefused { .. } => "method_not_allowed",
            Self::StreamTooOld => "stream_too_old",
        }
    }

    /// The same for records.
    pub(crate) fn cause(&self) -> Cause {
        let reset = match self {
            Self::Upstream(UpstreamFault::Reset(reset)) => Some(reset.name()),
            _ => None,
        };
        Cause { kind: self.kind(), reset, is_failure: self.status().is_server_error() }
    }

    /// Whether the application has gone; `has_gone` looks, where a body that broke off may be why.
    pub(crate) fn is_client_gone(&self, has_gone: impl FnOnce() -> bool) -> bool {
        match self {
            Self::Request(ApplicationFault::Gone) => true,
            Self::BadRequest(BadRequest::Body) => has_gone(),
            _ => false,
        }
    }

    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Token(fault) => fault.status(),
            Self::Refused(RejectedRequest { reason: GuardRejection::Host, .. }) => {
                StatusCode::MISDIRECTED_REQUEST
            }
            Self::Refused(_) | Self::AuthorizationRefused => StatusCode::FORBIDDEN,
            Self::Limit(fault) => fault.status(),
            Self::Request(fault) => fault.status(),
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Upstream(fault) => fault.status(),
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } | Self::MethodRefused { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::StreamTooOld => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Whether HTTP/2 has it reset the stream, whatever the response (RFC 9113 section 8.1.1).
    pub(crate) const fn is_stream_error(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(BadRequest::Malformed(
                Malformed::FieldNameOfHttp2
                    | Malformed::FieldValueOfHttp2
                    | Malformed::ConnectionField
                    | Malformed::EmptyPath
            ))
        )
    }
}

impl From<TokenFault> for ProxyError {
    fn from(fault: TokenFault) -> Self {
        Self::Token(fault)
    }
}

impl From<UpstreamFault> for ProxyError {
    fn from(fault: UpstreamFault) -> Self {
        Self::Upstream(fault)
    }
}

impl From<CallerError> for ProxyError {
    fn from(error: CallerError) -> Self {
        Self::Token(match error {
            CallerError::Refused(_) => TokenFault::SubjectRefused,
            CallerError::Unavailable(unavailable) => TokenFault::Unavailable(unavailable),
        })
    }
}

impl From<GuardRejection> for ProxyError {
    fn from(reason: GuardRejection) -> Self {
        Self::Refused(reason.into())
    }
}

impl From<PathFault> for ProxyError {
    fn from(fault: PathFault) -> Self {
        Self::BadRequest(BadRequest::Path(fault))
    }
}

impl From<BadRequest> for ProxyError {
    fn from(fault: BadRequest) -> Self {
        Self::BadRequest(fault)
    }
}

/// Each kind that [`ProxyError::kind`] can give, for metrics that start at zero.
pub(crate) const KINDS: [&str; 30] = [
    "token_unavailable",
    "subject_required",
    "subject_refused",
    "proof",
    "host_refused",
    "origin_refused",
    "secret_refused",
    "peer_refused",
    "rate_limited",
    "overloaded",
    "authorization_refused",
    "no_route",
    "method_not_allowed",
    "bad_request",
    "loop",
    "expectation_failed",
    "header_too_large",
    "request_timeout",
    CLIENT_GONE,
    "upstream_tls",
    "upstream_unreachable",
    "upstream_broken",
    "upstream_malformed",
    "response_head_too_large",
    "not_processed",
    "websocket_refused",
    "upgrade_refused",
    "stream_too_old",
    "connect_timeout",
    "response_timeout",
];

/// Why the proxy answered by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    /// The word for it.
    pub(crate) kind: &'static str,
    /// The reason of an upstream's `RST_STREAM`, where that is it.
    pub(crate) reset: Option<&'static str>,
    /// Whether it is a failure, rather than something that the application did: to a gRPC call, the status does not tell.
    pub(crate) is_failure: bool,
}
