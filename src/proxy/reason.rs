//! The reason phrase of a response on its way to the application (RFC 9112 section 4).

use http::Response;
use hyper::ext::ReasonPhrase;

/// Gives a response of an unknown status an empty reason phrase where it has none: hyper would write `<none>`.
pub(super) fn complete<B>(response: &mut Response<B>) {
    let is_unknown = response.status().canonical_reason().is_none();
    if is_unknown && response.extensions().get::<ReasonPhrase>().is_none() {
        response.extensions_mut().insert(ReasonPhrase::from_static(b""));
    }
}
