//! The reason phrase of a response on its way to the application (RFC 9112 section 4).

use http::Response;
use hyper::ext::ReasonPhrase;

/// Gives a response of an unknown status an empty reason phrase where it has none: hyper would write `<none>`.
pub(crate) fn complete<B>(response: &mut Response<B>) {
    let is_unknown = response.status().canonical_reason().is_none();
    if is_unknown && response.extensions().get::<ReasonPhrase>().is_none() {
        response.extensions_mut().insert(ReasonPhrase::from_static(b""));
    }
}

/// Names the failure in the status line of the proxy's own `response`: package managers, registry clients and git report
/// nothing else of a response that they have no use for.
pub(super) fn name_failure<B>(response: &mut Response<B>, kind: &str) {
    let status = response.status();
    let words = format!("{} (cupbearer: {kind})", status.canonical_reason().unwrap_or("Error"));
    if let Ok(phrase) = ReasonPhrase::try_from(words) {
        response.extensions_mut().insert(phrase);
    }
}

/// Status and reason phrase of a response as its status line has them.
pub(crate) fn status_line<B>(response: &Response<B>) -> Vec<u8> {
    let status = response.status();
    let own = response.extensions().get::<ReasonPhrase>().map(ReasonPhrase::as_bytes);
    let words = own.unwrap_or_else(|| status.canonical_reason().unwrap_or_default().as_bytes());
    [b"HTTP/1.1 ", status.as_str().as_bytes(), b" ", words, b"\r\n"].concat()
}
