//! CORS for the origins in `guard.allowed_origins` (Fetch standard, "CORS protocol"): the proxy answers for the API,
//! which knows nothing of the page's origin.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

use super::body::ResponseBody;
use super::guard::Caller;

/// The allowed origin that a request came from, if it came from one.
pub(super) fn origin_of(caller: Caller, headers: &HeaderMap) -> Option<HeaderValue> {
    match caller {
        Caller::AllowedOrigin => headers.get(ORIGIN).cloned(),
        Caller::Local => None,
    }
}

/// Whether a browser asks leave for a request that it has not sent yet.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Grants what the preflight of an allowed origin asks for. The API itself still decides about the request.
pub(super) fn preflight(asked: &HeaderMap) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    for (ask, grant) in [
        (ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_ALLOW_METHODS),
        (ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_ALLOW_HEADERS),
    ] {
        if let Some(wanted) = asked.get(ask) {
            headers.insert(grant, wanted.clone());
        }
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_SECONDS));
    if let Some(origin) = asked.get(ORIGIN) {
        allow(headers, origin.clone());
    }
    response
}

/// Lets a page of `origin` read the answer.
pub(super) fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("*"));
    headers.append(VARY, HeaderValue::from_static("Origin"));
}

/// How long a browser may remember a preflight.
const MAX_AGE_SECONDS: &str = "600";
