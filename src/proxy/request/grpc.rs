//! gRPC's own 401: status 16, `UNAUTHENTICATED`, which comes under an HTTP status of 200.
//!
//! In an answer of trailers alone nothing was delivered yet, and it counts as a 401. In the trailers of a real answer it
//! comes too late for a replay, but not for a renewal. `forward` asks.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use hyper::body::Body;

use super::credentials::reject;
use crate::token::TokenHandle;

/// Whether an answer is a trailers-only one that says `UNAUTHENTICATED`. Costs a comparison where it is none.
pub(super) fn is_refusal(answer: &Response<impl Body>) -> bool {
    answer.version() == Version::HTTP_2
        && answer.status() == StatusCode::OK
        && answer.body().is_end_stream()
        && is_grpc(answer.headers())
        && is_unauthenticated(answer.headers())
}

/// Whether an answer is gRPC's.
pub(super) fn is_grpc(fields: &HeaderMap) -> bool {
    fields.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn is_unauthenticated(fields: &HeaderMap) -> bool {
    fields.get(GRPC_STATUS).is_some_and(|status| status.as_bytes() == b"16")
}

/// Looks at the trailers of an answer that is being delivered.
#[derive(Debug)]
pub(super) struct TrailerWatch {
    pub(super) token: TokenHandle,
    pub(super) generation: u64,
    /// The caller's own credentials, where the token was traded for them.
    pub(super) caller: Option<HeaderValue>,
}

impl TrailerWatch {
    /// Asks for a renewal where the trailers refuse the token. No request waits for it.
    pub(crate) fn look(&self, trailers: &HeaderMap) {
        if is_unauthenticated(trailers) {
            reject(&self.token, self.generation, self.caller.as_ref());
        }
    }
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{Empty, Full};

    use super::*;

    fn answer<B>(body: B, version: Version, kind: &'static str, status: &'static str) -> Response<B> {
        let mut answer = Response::new(body);
        *answer.version_mut() = version;
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        answer.headers_mut().insert(GRPC_STATUS, HeaderValue::from_static(status));
        answer
    }

    #[test]
    fn only_trailers_alone_that_say_unauthenticated_are_a_refusal() {
        let two = Version::HTTP_2;
        let empty = Empty::<Bytes>::new;
        assert!(is_refusal(&answer(empty(), two, "application/grpc", "16")));
        assert!(is_refusal(&answer(empty(), two, "application/grpc+proto", "16")));
        assert!(!is_refusal(&answer(empty(), two, "application/grpc", "7")));
        assert!(!is_refusal(&answer(empty(), two, "text/plain", "16")));
        assert!(!is_refusal(&answer(empty(), Version::HTTP_11, "application/grpc", "16")));
        assert!(
            !is_refusal(&answer(Full::new(Bytes::from_static(b"x")), two, "application/grpc", "16")),
            "a real answer"
        );
    }
}
