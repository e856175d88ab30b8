//! CORS for the origins in `guard.allowed_origins` (Fetch standard, "CORS protocol"): the proxy answers for the API,
//! which knows nothing of the page's origin.
//!
//! `Access-Control-Allow-Credentials` needs `guard.allow_credentials`. The token is put on by the proxy whether the page asks
//! for credentials or not, and a browser's cookies for localhost are those of every server on it.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::guard::{Caller, Sentry};
use crate::proxy::error::{BadRequest, GuardRejection, ProxyError};
use crate::proxy::message::problem::CUPBEARER_RESPONSE;

/// The allowed origin that a request came from, if it came from one.
pub(super) fn origin_of(caller: Caller, headers: &HeaderMap) -> Option<HeaderValue> {
    match caller {
        Caller::AllowedOrigin => headers.get(ORIGIN).cloned(),
        Caller::Local | Caller::Preflight => None,
    }
}

/// The allowed origin whose page may read that its request was refused, and why. Where the guard doubts the origin, none.
pub(super) fn reader(sentry: &Sentry, error: &ProxyError, headers: &HeaderMap) -> Option<HeaderValue> {
    let doubtful = match error {
        ProxyError::Refused(rejected) => rejected.reason != GuardRejection::Secret,
        ProxyError::BadRequest(fault) => {
            matches!(fault, BadRequest::Host | BadRequest::NoHost | BadRequest::TwoHosts | BadRequest::User)
        }
        _ => false,
    };
    let origin = headers.get(ORIGIN).filter(|_| !doubtful)?;
    origin.to_str().is_ok_and(|origin| sentry.allows_origin(origin)).then(|| origin.clone())
}

/// Whether a browser asks leave for a request that it has not sent yet.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Grants what the preflight of an allowed origin asks for: the shared secret's field, and the way from a public page into
/// this machine (Private Network Access), with the rest. The API itself still decides about the request.
pub(super) fn preflight(sentry: &Sentry, asked: &HeaderMap) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    for (ask, grant) in [
        (ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_ALLOW_METHODS),
        (ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_ALLOW_HEADERS),
        (REQUEST_PRIVATE_NETWORK, ALLOW_PRIVATE_NETWORK),
    ] {
        if let Some(wanted) = asked.get(&ask) {
            headers.insert(grant, wanted.clone());
        }
        headers.append(VARY, ask.into());
    }
    headers.insert(CUPBEARER_RESPONSE, HeaderValue::from_static("preflight"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_SECONDS));
    if let Some(origin) = asked.get(ORIGIN) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    if sentry.allows_credentials() {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    vary(headers);
    response
}

/// Tells a browser what it may do with a response to a page of `origin`, if that is an allowed one.
pub(super) fn tell(sentry: &Sentry, headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    match origin {
        Some(origin) => allow(sentry, headers, origin),
        None if sentry.knows_origins() => vary(headers),
        None => {}
    }
}

/// Lets a page of `origin` read the answer, whatever the upstream said of origins: it may know others, or none.
pub(super) fn allow(sentry: &Sentry, headers: &mut HeaderMap, origin: HeaderValue) {
    for theirs in [
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
        ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_MAX_AGE,
        ALLOW_PRIVATE_NETWORK,
    ] {
        headers.remove(theirs);
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let mut exposed = HeaderValue::from_static("*");
    if sentry.allows_credentials() {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        // An asterisk is a name like any other there.
        let names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        exposed = HeaderValue::try_from(names.join(", ")).unwrap_or(exposed);
    }
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    vary(headers);
}

/// Tells caches that another origin may get another answer (Fetch standard, "CORS protocol and HTTP caches"): also on an
/// answer that has no CORS fields, which a page of an allowed origin could not use.
pub(super) fn vary(headers: &mut HeaderMap) {
    let is_said = headers.get_all(VARY).iter().any(|vary| {
        let mut names = vary.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        names.any(|name| name == b"*" || name.eq_ignore_ascii_case(b"origin"))
    });
    if !is_said {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
}

/// How long a browser may remember a preflight.
const MAX_AGE_SECONDS: &str = "600";
/// From the Private Network Access specification; no constants of the `http` crate.
const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::request::guard::Guard;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn sentry(allow_credentials: bool) -> Sentry {
        let allowed_origins = vec!["https://app.example.com".into()];
        Sentry::new(Guard { allowed_origins, allow_credentials, ..Guard::default() })
    }

    #[test]
    fn a_preflight_is_granted_what_it_asks_for_and_nothing_else() {
        let asked = headers(&[
            ("origin", "https://app.example.com"),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "x-cupbearer-secret, x-a"),
            ("access-control-request-private-network", "true"),
        ]);
        let response = preflight(&sentry(false), &asked);
        assert_eq!(
            (response.status().as_u16(), &response.headers()["cupbearer-response"]),
            (204, &HeaderValue::from_static("preflight"))
        );
        for (name, value) in [
            ("access-control-allow-origin", "https://app.example.com"),
            ("access-control-allow-methods", "PUT"),
            ("access-control-allow-headers", "x-cupbearer-secret, x-a"),
            ("access-control-allow-private-network", "true"),
        ] {
            assert_eq!(response.headers()[name], value);
        }
        let plain = preflight(
            &sentry(false),
            &headers(&[("origin", "https://a.example"), ("access-control-request-method", "PUT")]),
        );
        assert!(!plain.headers().contains_key("access-control-allow-private-network"));
        assert!(!plain.headers().contains_key("access-control-allow-credentials"));
        assert!(plain.headers().get_all("vary").iter().any(|v| v == "Origin"));
    }

    #[test]
    fn what_the_upstream_says_of_origins_is_replaced() {
        let mut map = headers(&[
            ("access-control-allow-origin", "*"),
            ("access-control-allow-origin", "https://other.example"),
            ("access-control-allow-credentials", "true"),
            ("access-control-expose-headers", "x-a"),
            ("vary", "accept-encoding"),
        ]);
        let origin = || HeaderValue::from_static("https://app.example.com");
        let mut with_credentials = map.clone();
        allow(&sentry(true), &mut with_credentials, origin());
        assert_eq!(with_credentials["access-control-allow-credentials"], "true");
        let exposed = with_credentials["access-control-expose-headers"].to_str().unwrap();
        assert!(exposed.contains("vary") && !exposed.contains('*'), "{exposed}");
        allow(&sentry(false), &mut map, origin());
        assert_eq!(
            map,
            headers(&[
                ("access-control-allow-origin", "https://app.example.com"),
                ("access-control-expose-headers", "*"),
                ("vary", "accept-encoding"),
                ("vary", "Origin"),
            ])
        );
    }

    #[test]
    fn vary_is_said_once() {
        for there in ["*", "accept, ORIGIN"] {
            let mut map = headers(&[]);
            map.insert(VARY, HeaderValue::from_static(there));
            vary(&mut map);
            assert_eq!(map.get_all(VARY).iter().count(), 1, "{there}");
        }
    }

    #[test]
    fn a_refused_page_may_read_why_where_its_origin_is_allowed() {
        let guard = Guard { allowed_origins: vec!["https://app.example.com".into()], ..Guard::default() };
        let sentry = Sentry::new(guard);
        let page = headers(&[("origin", "https://app.example.com")]);
        assert!(reader(&sentry, &GuardRejection::Secret.into(), &page).is_some());
        assert!(reader(&sentry, &ProxyError::NoRoute, &page).is_some());
        assert!(reader(&sentry, &GuardRejection::Host.into(), &page).is_none());
        let other = headers(&[("origin", "https://evil.example")]);
        assert!(reader(&sentry, &ProxyError::NoRoute, &other).is_none());
    }
}
