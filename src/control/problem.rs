//! What the control surface says when it does not do what it was asked: `application/problem+json` (RFC 9457).

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::{Deserialize, Serialize};

/// A problem as it is sent; `type` is left out, which means `about:blank`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Problem {
    /// What kind of thing went wrong, in few words.
    pub(super) title: String,
    /// The status once more.
    pub(super) status: u16,
    /// What went wrong here, and how to fix it.
    pub(super) detail: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, title: &str, detail: impl Into<String>) -> Self {
        Self { title: title.to_owned(), status: status.as_u16(), detail: detail.into() }
    }

    pub(super) fn response(&self) -> Response<Full<Bytes>> {
        // Two strings and a number: they always serialise.
        let mut body = serde_json::to_vec(self).unwrap_or_default();
        body.push(b'\n');
        let mut response = Response::new(Full::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        response
    }

    /// The same, with the methods that would have been right.
    pub(super) fn allowing(&self, methods: &'static str) -> Response<Full<Bytes>> {
        let mut response = self.response();
        response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
        response
    }

    /// The same, with the whole seconds after which to ask again.
    pub(super) fn retry_after(&self, seconds: u64) -> Response<Full<Bytes>> {
        let mut response = self.response();
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        response
    }
}

const PROBLEM_JSON: &str = "application/problem+json";
