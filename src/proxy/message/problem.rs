//! The proxy's own failures as responses.
//!
//! The body is `application/problem+json` (RFC 9457); a gRPC call gets a trailers-only response instead. The header
//! `Cupbearer-Error` tells the proxy's response from the API's, as the reason phrase does.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, Version};

use super::reason_phrase;
use crate::proxy::error::{ApplicationFault, LimitFault, ProxyError, TokenFault, UpstreamFault};
use crate::token::Status;

impl ProxyError {
    /// The response. A gRPC call gets a trailers-only one, as its protocol has it.
    pub(crate) fn into_response(self, call: Call) -> Response<Bytes> {
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
            Self::Token(TokenFault::Unavailable(unavailable)) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(unavailable.retry_after)));
            }
            Self::Limit(LimitFault::Rate { retry_after }) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(retry_after)));
            }
            Self::Limit(_) | Self::Upstream(UpstreamFault::NotProcessed) => {
                headers.insert(RETRY_AFTER, HeaderValue::from(1));
            }
            Self::MethodNotAllowed { allow } | Self::MethodRefused { allow } => {
                headers.insert(ALLOW, allow);
            }
            Self::Token(TokenFault::SubjectRequired) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(CHALLENGE));
            }
            Self::Token(TokenFault::SubjectRefused) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(INVALID_TOKEN));
            }
            _ => {}
        }
        response
    }

    /// The body of the response (RFC 9457). `error` is an extension (section 3.2) for the SDKs that read an error's message
    /// there.
    fn problem_json(&self) -> String {
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

    fn problem(&self) -> Response<Bytes> {
        let body = self.problem_json();
        let length = HeaderValue::from(body.len());
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = self.status();
        reason_phrase::name_failure(&mut response, self.kind());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CONTENT_LENGTH, length);
        response
    }

    fn trailers_only(&self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(GRPC_STATUS, HeaderValue::from_static(self.grpc_status()));
        let message = percent_encoded(&format!("cupbearer: {self}"));
        if let Ok(message) = HeaderValue::from_str(&message) {
            headers.insert(GRPC_MESSAGE, message);
        }
        response
    }

    /// The gRPC status of it (the gRPC core's `status.proto`).
    const fn grpc_status(&self) -> &'static str {
        match self {
            Self::Token(TokenFault::Unavailable(unavailable)) => match unavailable.status {
                Status::Misconfigured | Status::LoginRequired => "16",
                _ => "14",
            },
            Self::Token(TokenFault::SubjectRequired | TokenFault::SubjectRefused) => "16",
            Self::Refused(_) | Self::AuthorizationRefused => "7",
            Self::NoRoute | Self::MethodNotAllowed { .. } | Self::MethodRefused { .. } => "12",
            Self::BadRequest(_) | Self::Token(TokenFault::Proof) => "13",
            Self::Limit(_) => "8",
            Self::Request(fault) => fault.grpc_status(),
            Self::Upstream(fault) => fault.grpc_status(),
            Self::StreamTooOld => "14",
        }
    }

    /// Whether the connection must end with this response: what is left of the request cannot be told apart.
    const fn closes(&self) -> bool {
        matches!(self, Self::BadRequest(_))
            || matches!(self, Self::Request(fault) if !matches!(fault, ApplicationFault::Loop))
    }
}

/// What kind of call a failure answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Http,
    Grpc,
}

impl Call {
    /// gRPC says so by its content type, and is HTTP/2 always (gRPC over HTTP/2, "Requests").
    pub(crate) fn of(version: Version, headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).filter(|_| version == Version::HTTP_2);
        match kind.and_then(|kind| kind.as_bytes().strip_prefix(b"application/grpc")) {
            Some([] | [b'+' | b';', ..]) => Self::Grpc,
            _ => Self::Http,
        }
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
pub(crate) const CUPBEARER_RESPONSE: HeaderName = HeaderName::from_static("cupbearer-response");

/// RFC 6750 section 3: a challenge has a parameter, and no error where no token was brought.
const CHALLENGE: &str = r#"Bearer realm="cupbearer""#;

const INVALID_TOKEN: &str = r#"Bearer realm="cupbearer", error="invalid_token""#;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::error::{BadRequest, ConnectFault, KINDS};
    use crate::token::Unavailable;

    #[test]
    fn an_answer_of_the_proxys_own_says_so() {
        let error = ProxyError::Upstream(UpstreamFault::Unreachable(ConnectFault::Refused));
        let response = error.into_response(Call::Http);
        assert_eq!(response.status(), 502);
        assert_eq!(response.headers()["cupbearer-error"], "upstream_unreachable");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    }

    #[test]
    fn a_caller_is_told_whether_the_own_token_is_missing_or_refused() {
        for (error, kind, challenge) in [
            (
                ProxyError::Token(TokenFault::SubjectRequired),
                "subject_required",
                r#"Bearer realm="cupbearer""#,
            ),
            (
                ProxyError::Token(TokenFault::SubjectRefused),
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
            ProxyError::Token(TokenFault::Unavailable(unavailable)).into_response(Call::Http).headers()
                [RETRY_AFTER]
                .clone()
        };
        assert_eq!(wait(Duration::from_millis(1500)), "2");
        assert_eq!(wait(Duration::ZERO), "1");
    }

    #[test]
    fn who_comes_too_often_is_told_when_to_come_back() {
        let limited = ProxyError::Limit(LimitFault::Rate { retry_after: Duration::from_millis(2100) });
        let response = limited.into_response(Call::Http);
        assert_eq!(
            (response.status().as_u16(), &response.headers()[RETRY_AFTER]),
            (429, &"3".parse().unwrap())
        );
        let response = ProxyError::Limit(LimitFault::Concurrency).into_response(Call::Http);
        assert_eq!(
            (response.status().as_u16(), &response.headers()[RETRY_AFTER]),
            (503, &"1".parse().unwrap())
        );
        let response = ProxyError::Limit(LimitFault::Concurrency).into_response(Call::Grpc);
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
        let response = ProxyError::Token(TokenFault::Unavailable(unavailable)).into_response(Call::Grpc);
        let message = "cupbearer: a new login is needed; Zo%C3%AB was logged in";
        assert_eq!(response.headers()["grpc-message"], message);
    }

    #[test]
    fn a_grpc_call_gets_a_trailers_only_answer() {
        let response = ProxyError::Upstream(UpstreamFault::Broken).into_response(Call::Grpc);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert!(response.headers()["grpc-message"].to_str().unwrap().contains("upstream"));
    }
}
