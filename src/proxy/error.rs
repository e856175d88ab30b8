//! The proxy's own failures, and the one function that turns each into a response.
//!
//! Each says whose fault it is by its status (RFC 9110 section 15), what an application may be told by its sentence,
//! and keeps the rest for the log. The body is `application/problem+json` (RFC 9457); the header `Cupbearer-Error`
//! tells the proxy's answer from the API's, as the reason phrase does.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use cupbearer_h1::MAX_FIELDS;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};

pub(super) use super::bad_request::BadRequest;
use super::body::ResponseBody;
use super::connect_fault::{ConnectFault, ConnectStage};
use super::guard::{Rejected, Rejection};
use super::malformed::Malformed;
use super::path::PathFault;
use super::pool::Full;
use super::reason;
use super::record::Cause;
use super::stream_reset::StreamReset;
use crate::machine::Lack;
use crate::token::{CallerError, Status, Unavailable};

/// Why the proxy itself answers.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    #[error("{0}")]
    TokenUnavailable(Unavailable),
    #[error("this route acts for its caller: send your own token, once, as `Authorization: Bearer`")]
    SubjectRequired,
    #[error("the authorization server does not accept the caller's own token")]
    SubjectRefused,
    #[error("the proof that goes with this token could not be made")]
    Proof,
    #[error("{0}")]
    Refused(Rejected),
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
pub(super) enum WebSocketFault {
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
pub(super) enum ResponseCut {
    #[error("its body or its trailers are malformed (RFC 9113 section 8.1.1)")]
    Malformed,
    #[error("its stream or its connection ended")]
    Ended,
}

impl ProxyError {
    /// What metrics and the `Cupbearer-Error` header call it: a closed set.
    pub(super) const fn kind(&self) -> &'static str {
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
    pub(super) fn cause(&self) -> Cause {
        let reset = if let Self::UpstreamReset(reset) = self { Some(reset.name()) } else { None };
        Cause { kind: self.kind(), reset, is_failure: self.status().is_server_error() }
    }

    /// Whether the application has gone; `has_gone` looks, where a body that broke off may be why.
    pub(super) fn is_client_gone(&self, has_gone: impl FnOnce() -> bool) -> bool {
        match self {
            Self::ClientGone => true,
            Self::BadRequest(BadRequest::Body) => has_gone(),
            _ => false,
        }
    }

    pub(super) const fn status(&self) -> StatusCode {
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
            Self::Refused(Rejected { reason: Rejection::Host, .. }) => StatusCode::MISDIRECTED_REQUEST,
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

    /// The gRPC status of it (the gRPC core's `status.proto`).
    const fn grpc_status(&self) -> &'static str {
        match self {
            Self::TokenUnavailable(unavailable) => match unavailable.status {
                Status::Misconfigured | Status::LoginRequired => "16",
                _ => "14",
            },
            Self::SubjectRequired | Self::SubjectRefused => "16",
            Self::Refused(_) | Self::AuthorizationRefused => "7",
            Self::NoRoute | Self::MethodNotAllowed { .. } | Self::MethodRefused { .. } => "12",
            Self::BadRequest(_) | Self::Loop | Self::ExpectationFailed | Self::Proof => "13",
            Self::HeaderTooLarge
            | Self::UpstreamHeadLimit { .. }
            | Self::ResponseHeadTooLarge { .. }
            | Self::RateLimited { .. }
            | Self::Overloaded
            | Self::MemoryLimit
            | Self::Lacking(_)
            | Self::ConnectionsTaken(_)
            | Self::Backlog => "8",
            Self::ClientGone => "1",
            Self::HeadTimeout | Self::RequestTimeout | Self::ConnectTimeout(_) | Self::ResponseTimeout => "4",
            Self::UpstreamUnreachable(_)
            | Self::UpstreamBroken
            | Self::UpstreamNotHttp2
            | Self::UpstreamReset(_)
            | Self::LargeHeadBroken { .. }
            | Self::UpstreamMalformed(_)
            | Self::UpstreamCut(_)
            | Self::NotProcessed
            | Self::WebSocket(_)
            | Self::StreamTooOld => "14",
        }
    }

    /// Whether the connection must end with this answer: what is left of the request cannot be told apart.
    const fn closes(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_)
                | Self::ExpectationFailed
                | Self::HeaderTooLarge
                | Self::HeadTimeout
                | Self::RequestTimeout
                | Self::ClientGone
        )
    }

    /// Whether HTTP/2 has it reset the stream, whatever the response (RFC 9113 section 8.1.1).
    pub(super) const fn is_stream_error(&self) -> bool {
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

    /// The answer. A gRPC call gets a trailers-only answer instead, as its protocol has it.
    pub(super) fn into_response(self, call: Call) -> Response<ResponseBody> {
        let mut response = match call {
            Call::Http => self.problem(),
            Call::Grpc => self.trailers_only(),
        };
        let headers = response.headers_mut();
        headers.insert(CUPBEARER_ERROR, HeaderValue::from_static(self.kind()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.closes() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        match self {
            Self::TokenUnavailable(unavailable) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(unavailable.retry_after)));
            }
            Self::RateLimited { retry_after } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(retry_after)));
            }
            Self::Overloaded
            | Self::Lacking(_)
            | Self::ConnectionsTaken(_)
            | Self::Backlog
            | Self::MemoryLimit
            | Self::NotProcessed => {
                headers.insert(RETRY_AFTER, HeaderValue::from(1));
            }
            Self::MethodNotAllowed { allow } | Self::MethodRefused { allow } => {
                headers.insert(ALLOW, allow);
            }
            Self::SubjectRequired => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
            }
            Self::SubjectRefused => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(INVALID_TOKEN));
            }
            _ => {}
        }
        response
    }

    /// The body of the answer (RFC 9457). `error` is an extension (section 3.2) for the SDKs that read an error's message
    /// there.
    pub(super) fn problem_json(&self) -> String {
        let status = self.status();
        let detail = self.to_string();
        serde_json::json!({
            "type": format!("urn:cupbearer:error:{}", self.kind()),
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": status.as_u16(),
            "detail": detail,
            "kind": self.kind(),
            "error": { "code": self.kind(), "message": detail },
        })
        .to_string()
    }

    fn problem(&self) -> Response<ResponseBody> {
        let body = self.problem_json();
        let length = HeaderValue::from(body.len());
        let mut response = Response::new(ResponseBody::full(Bytes::from(body)));
        *response.status_mut() = self.status();
        reason::name_failure(&mut response, self.kind());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CONTENT_LENGTH, length);
        response
    }

    fn trailers_only(&self) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::empty());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(GRPC_STATUS, HeaderValue::from_static(self.grpc_status()));
        let message = percent_encoded(&format!("cupbearer: {self}"));
        if let Ok(message) = HeaderValue::from_str(&message) {
            headers.insert(GRPC_MESSAGE, message);
        }
        response
    }
}

/// What kind of call a failure answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Http,
    Grpc,
}

impl Call {
    /// gRPC says so by its content type, and is HTTP/2 always (gRPC over HTTP/2, "Requests").
    pub(super) fn of(version: Version, headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).filter(|_| version == Version::HTTP_2);
        match kind.and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc")) {
            Some([] | [b'+' | b';', ..]) => Self::Grpc,
            _ => Self::Http,
        }
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

impl From<Rejection> for ProxyError {
    fn from(reason: Rejection) -> Self {
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

/// As `grpc-message` has it (gRPC over HTTP/2, "Responses"): a person's name need not be ASCII.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | ..b' ' | 0x7f.. => {
                // To write into a string cannot fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
            _ => encoded.push(byte.into()),
        }
    }
    encoded
}

/// At least 1: a `Retry-After: 0` invites a hot loop.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// On each response that is the proxy's own and reports a failure.
const CUPBEARER_ERROR: HeaderName = HeaderName::from_static("cupbearer-error");
/// On each response that is the proxy's own and reports none; its value says what it responds to.
pub(super) const CUPBEARER_RESPONSE: HeaderName = HeaderName::from_static("cupbearer-response");
/// RFC 6750 section 3: a challenge has a parameter, and no error where no token was brought.
const CHALLENGE: &str = r#"Bearer realm="cupbearer""#;
const INVALID_TOKEN: &str = r#"Bearer realm="cupbearer", error="invalid_token""#;
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The kind of a request that its application gave up: there is no response, or no client that reads it.
pub(super) const CLIENT_GONE: &str = "client_gone";

/// Each kind that [`ProxyError::kind`] can give, for metrics that start at zero.
pub(super) const KINDS: [&str; 30] = [
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_the_proxys_own_says_so() {
        let error = ProxyError::UpstreamUnreachable(ConnectFault::Refused);
        let response = error.into_response(Call::Http);
        assert_eq!(response.status(), 502);
        assert_eq!(response.headers()["cupbearer-error"], "upstream_unreachable");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn a_caller_is_told_whether_the_own_token_is_missing_or_refused() {
        for (error, kind, challenge) in [
            (ProxyError::SubjectRequired, "subject_required", r#"Bearer realm="cupbearer""#),
            (
                ProxyError::SubjectRefused,
                "subject_refused",
                r#"Bearer realm="cupbearer", error="invalid_token""#,
            ),
        ] {
            let response = error.into_response(Call::Http);
            assert_eq!(
                (response.status().as_u16(), &response.headers()[WWW_AUTHENTICATE]),
                (401, &HeaderValue::from_static(challenge))
            );
            assert_eq!(response.headers()["cupbearer-error"], kind);
            assert!(KINDS.contains(&kind));
        }
    }

    #[test]
    fn a_missing_token_says_when_to_come_back() {
        let wait = |retry_after| {
            let unavailable = Unavailable {
                status: Status::Expired,
                cause: None,
                expired: None,
                user: None,
                can_log_in: false,
                retry_after,
            };
            ProxyError::TokenUnavailable(unavailable).into_response(Call::Http).headers()[RETRY_AFTER].clone()
        };
        assert_eq!(wait(Duration::from_millis(1500)), "2");
        assert_eq!(wait(Duration::ZERO), "1");
    }

    #[test]
    fn who_comes_too_often_is_told_when_to_come_back() {
        let limited = ProxyError::RateLimited { retry_after: Duration::from_millis(2100) };
        let response = limited.into_response(Call::Http);
        assert_eq!(
            (response.status().as_u16(), &response.headers()[RETRY_AFTER]),
            (429, &"3".parse().unwrap())
        );
        let response = ProxyError::Overloaded.into_response(Call::Http);
        assert_eq!(
            (response.status().as_u16(), &response.headers()[RETRY_AFTER]),
            (503, &"1".parse().unwrap())
        );
        let response = ProxyError::Overloaded.into_response(Call::Grpc);
        assert_eq!(response.headers()["grpc-status"], "8", "RESOURCE_EXHAUSTED");
    }

    #[test]
    fn a_percent_sign_is_encoded_in_a_grpc_message_alone() {
        let space = || ProxyError::from(BadRequest::TargetByte(Some(b' ')));
        assert!(space().problem_json().contains("as %20 "));
        let response = space().into_response(Call::Grpc);
        assert!(response.headers()["grpc-message"].to_str().unwrap().contains("as %2520 "));
    }

    #[test]
    fn a_name_that_is_not_ascii_reaches_a_grpc_client() {
        let unavailable = Unavailable {
            status: Status::LoginRequired,
            cause: None,
            expired: None,
            user: Some("Zo\u{eb}".into()),
            can_log_in: false,
            retry_after: Duration::ZERO,
        };
        let response = ProxyError::TokenUnavailable(unavailable).into_response(Call::Grpc);
        let message = "cupbearer: a new login is needed; Zo%C3%AB was logged in";
        assert_eq!(response.headers()["grpc-message"], message);
    }

    #[test]
    fn a_grpc_call_gets_a_trailers_only_answer() {
        let response = ProxyError::UpstreamBroken.into_response(Call::Grpc);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert!(response.headers()["grpc-message"].to_str().unwrap().contains("upstream"));
    }
}
