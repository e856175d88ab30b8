//! Why the proxy responds by itself: whose fault it is, by the status (RFC 9110 section 15), and what the application may
//! be told, by the sentence. `problem` makes the response.

use std::time::Duration;

use cupbearer_h1::MAX_FIELDS;
use http::{HeaderValue, StatusCode};

pub(crate) use super::BadRequest;
use super::{
    ConnectFault, ConnectStage, Full, GuardRejection, Malformed, PathFault, RejectedRequest, StreamReset,
};
use crate::machine::Lack;
use crate::token::{CallerError, Unavailable};

/// Why the proxy itself responds.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("{0}")]
    TokenUnavailable(Unavailable),
    #[error("this route acts for its caller: send your own token, once, as `Authorization: Bearer`")]
    SubjectRequired,
    #[error("the authorization server does not accept the caller's own token")]
    SubjectRefused,
    #[error("the proof that goes with this token could not be made")]
    Proof,
    #[error("{0}")]
    Refused(RejectedRequest),
    #[error("this route's rate_limit is reached; come back later")]
    RateLimited {
        /// When the next one like it would pass, as far as is known now.
        retry_after: Duration,
    },
    #[error("this route has max_concurrent requests under way, and no room in its queue")]
    Overloaded,
    #[error("{0}, so there is no connection to the upstream; nothing was sent")]
    Lacking(Lack),
    #[error("{0}; nothing was sent")]
    ConnectionsTaken(Full),
    #[error(
        "the upstream's Unix socket took no connection within connect_timeout: as many wait there as it lets wait; nothing was sent"
    )]
    Backlog,
    #[error("the requests under way take all the memory that memory_limit allows; come back later")]
    MemoryLimit,
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
    #[error("{0}")]
    BadRequest(BadRequest),
    #[error("this request has passed this proxy before: its upstream leads back to it")]
    Loop,
    #[error("this expectation is unknown; only 100-continue is defined (RFC 9110 section 10.1.1)")]
    ExpectationFailed,
    #[error("the request's head is larger than max_header_size, or has more fields than max_headers")]
    HeaderTooLarge,
    #[error("the request's head did not come to its end within header_timeout")]
    HeadTimeout,
    #[error("the request's body stopped coming")]
    RequestTimeout,
    #[error("the application closed its side of the connection before the request was sent on")]
    ClientGone,
    #[error("the upstream cannot be reached: {0}")]
    UpstreamUnreachable(ConnectFault),
    #[error("the connection to the upstream broke before it answered")]
    UpstreamBroken,
    #[error("the upstream's response is not valid HTTP: {0}")]
    UpstreamMalformed(Malformed),
    #[error(
        "the connection to the upstream ended before it responded to this request: what came by it breaks the rules of HTTP/2"
    )]
    UpstreamNotHttp2,
    #[error("{0}")]
    UpstreamReset(StreamReset),
    #[error("the upstream broke off its response behind the head: {0}")]
    UpstreamCut(ResponseCut),
    #[error(
        "the response's head is larger than the upstream's max_response_header_size ({limit} bytes), or has more than {MAX_FIELDS} fields"
    )]
    ResponseHeadTooLarge { limit: usize },
    #[error(
        "the upstream's connection ended before the request was processed, and no part of it took effect; send it again"
    )]
    NotProcessed,
    #[error(
        "the connection to the upstream broke before it answered; the request's head has {size} bytes, which may be more than it takes"
    )]
    LargeHeadBroken { size: usize },
    #[error(
        "the request's head has {size} bytes, and the upstream takes no more than {limit} (its SETTINGS_MAX_HEADER_LIST_SIZE); nothing was sent"
    )]
    UpstreamHeadLimit { size: usize, limit: usize },
    #[error("{0}")]
    WebSocket(WebSocketFault),
    #[error("the request was still going when max_stream_age had passed")]
    StreamTooOld,
    #[error("{0}")]
    ConnectTimeout(ConnectStage),
    #[error("the upstream did not answer within response_header_timeout")]
    ResponseTimeout,
}

/// Why there is no WebSocket, where the upstream's own answer cannot say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WebSocketFault {
    #[error(
        "the upstream takes no WebSockets over HTTP/2 (RFC 8441); another http2 than prior_knowledge asks it over HTTP/1.1"
    )]
    Unsupported,
    #[error("the upstream answered the WebSocket handshake as if it were a plain request")]
    NotGranted,
    #[error(
        "the upstream speaks HTTP/2 alone, which has no Upgrade to this protocol; another http2 than prior_knowledge sends the request over HTTP/1.1"
    )]
    NoUpgrade,
}

/// How an upstream broke off a response of which nothing was passed on yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResponseCut {
    #[error("its body or its trailers are malformed (RFC 9113 section 8.1.1)")]
    Malformed,
    #[error("its stream or its connection ended")]
    Ended,
}

impl ProxyError {
    /// What metrics and the `Cupbearer-Error` header call it: a closed set.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::TokenUnavailable(_) => "token_unavailable",
            Self::SubjectRequired => "subject_required",
            Self::SubjectRefused => "subject_refused",
            Self::Proof => "proof",
            Self::Refused(rejected) => rejected.reason.kind(),
            Self::RateLimited { .. } => "rate_limited",
            Self::Overloaded
            | Self::Lacking(_)
            | Self::ConnectionsTaken(_)
            | Self::Backlog
            | Self::MemoryLimit => "overloaded",
            Self::AuthorizationRefused => "authorization_refused",
            Self::NoRoute => "no_route",
            Self::MethodNotAllowed { .. } | Self::MethodRefused { .. } => "method_not_allowed",
            Self::BadRequest(_) => "bad_request",
            Self::Loop => "loop",
            Self::ExpectationFailed => "expectation_failed",
            Self::HeaderTooLarge | Self::UpstreamHeadLimit { .. } => "header_too_large",
            Self::HeadTimeout | Self::RequestTimeout => "request_timeout",
            Self::ClientGone => CLIENT_GONE,
            Self::UpstreamUnreachable(ConnectFault::Tls(_)) => "upstream_tls",
            Self::UpstreamUnreachable(_) => "upstream_unreachable",
            Self::UpstreamBroken
            | Self::UpstreamNotHttp2
            | Self::UpstreamReset(_)
            | Self::LargeHeadBroken { .. }
            | Self::UpstreamCut(ResponseCut::Ended) => "upstream_broken",
            Self::UpstreamMalformed(_) | Self::UpstreamCut(ResponseCut::Malformed) => "upstream_malformed",
            Self::ResponseHeadTooLarge { .. } => "response_head_too_large",
            Self::NotProcessed => "not_processed",
            Self::WebSocket(WebSocketFault::NoUpgrade) => "upgrade_refused",
            Self::WebSocket(_) => "websocket_refused",
            Self::StreamTooOld => "stream_too_old",
            Self::ConnectTimeout(_) => "connect_timeout",
            Self::ResponseTimeout => "response_timeout",
        }
    }

    /// The same for records.
    pub(crate) fn cause(&self) -> Cause {
        let reset = if let Self::UpstreamReset(reset) = self { Some(reset.name()) } else { None };
        Cause { kind: self.kind(), reset, is_failure: self.status().is_server_error() }
    }

    /// Whether the application has gone; `has_gone` looks, where a body that broke off may be why.
    pub(crate) fn is_client_gone(&self, has_gone: impl FnOnce() -> bool) -> bool {
        match self {
            Self::ClientGone => true,
            Self::BadRequest(BadRequest::Body) => has_gone(),
            _ => false,
        }
    }

    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::TokenUnavailable(_)
            | Self::Overloaded
            | Self::Lacking(_)
            | Self::ConnectionsTaken(_)
            | Self::Backlog
            | Self::MemoryLimit
            | Self::NotProcessed => StatusCode::SERVICE_UNAVAILABLE,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::SubjectRequired | Self::SubjectRefused => StatusCode::UNAUTHORIZED,
            Self::Proof => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Refused(RejectedRequest { reason: GuardRejection::Host, .. }) => {
                StatusCode::MISDIRECTED_REQUEST
            }
            Self::Refused(_) | Self::AuthorizationRefused => StatusCode::FORBIDDEN,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } | Self::MethodRefused { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Self::HeaderTooLarge | Self::UpstreamHeadLimit { .. } => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::HeadTimeout | Self::RequestTimeout | Self::ClientGone => StatusCode::REQUEST_TIMEOUT,
            Self::UpstreamUnreachable(_)
            | Self::UpstreamBroken
            | Self::UpstreamNotHttp2
            | Self::UpstreamReset(_)
            | Self::LargeHeadBroken { .. }
            | Self::UpstreamMalformed(_)
            | Self::UpstreamCut(_)
            | Self::ResponseHeadTooLarge { .. }
            | Self::WebSocket(_) => StatusCode::BAD_GATEWAY,
            Self::ConnectTimeout(_) | Self::ResponseTimeout | Self::StreamTooOld => {
                StatusCode::GATEWAY_TIMEOUT
            }
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

impl From<CallerError> for ProxyError {
    fn from(error: CallerError) -> Self {
        match error {
            CallerError::Refused(_) => Self::SubjectRefused,
            CallerError::Unavailable(unavailable) => Self::TokenUnavailable(unavailable),
        }
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

/// The kind of a request that its application gave up: there is no response, or no client that reads it.
pub(crate) const CLIENT_GONE: &str = "client_gone";

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
