//! `Max-Forwards` (RFC 9110 section 7.6.2): how many hops a request may still go, and the response of the last one.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, MAX_FORWARDS};
use http::{HeaderMap, HeaderValue, Response};

use crate::proxy::message::problem::CUPBEARER_RESPONSE;

/// How many hops are left; what is no number is left alone.
pub(super) fn max_forwards(headers: &HeaderMap) -> Option<u64> {
    headers.get(MAX_FORWARDS)?.to_str().ok()?.trim().parse().ok()
}

/// One hop fewer is left.
pub(super) fn count_forward(headers: &mut HeaderMap) {
    if let Some(left) = max_forwards(headers) {
        headers.insert(MAX_FORWARDS, HeaderValue::from(left.saturating_sub(1)));
    }
}

/// The response to a request that ends here.
pub(super) fn last_hop() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    headers.insert(CUPBEARER_RESPONSE, HeaderValue::from_static("max-forwards"));
    response
}
