//! The target that a request has upstream.

use http::Uri;
use http::uri::PathAndQuery;

use super::api::Upstream;
use crate::proxy::error::BadRequest;

/// The target to send upstream, in origin-form: the upstream's base path, and `rest` in place of the path, as it came. Where
/// the route's prefix was the whole path, it is the path of the upstream's address as that is written: a single endpoint.
pub(crate) fn forwarded(uri: &Uri, upstream: &Upstream, rest: &str) -> Result<Uri, BadRequest> {
    // Absolute-form may leave the path out (RFC 9112 section 3.2.2); origin-form may not, so it is made anew then.
    let has_path = uri.path_and_query().is_some_and(|target| !target.as_str().starts_with('?'));
    let same = has_path && upstream.base_path.is_empty() && rest.len() == uri.path().len();
    if same {
        return match uri.path_and_query() {
            Some(_) if uri.authority().is_none() => Ok(uri.clone()),
            Some(path) => {
                let target = Uri::from(path.clone());
                // In HTTP/2 a fragment may be all that there was: of that, nothing is left.
                if target.path().is_empty() { Err(BadRequest::Target) } else { Ok(target) }
            }
            None => Err(BadRequest::Target),
        };
    }
    let mut target =
        String::with_capacity(upstream.base_path.len() + rest.len() + uri.query().map_or(0, str::len) + 2);
    if rest.is_empty() && !uri.path().ends_with('/') {
        target.push_str(upstream.settings.url.path());
    } else {
        target.push_str(&upstream.base_path);
        if !rest.starts_with('/') {
            target.push('/');
        }
        target.push_str(rest);
    }
    if let Some(query) = uri.query() {
        target.push('?');
        target.push_str(query);
    }
    PathAndQuery::from_maybe_shared(bytes::Bytes::from(target)).map(Uri::from).map_err(|_| BadRequest::Target)
}
