//! Where a request says that it goes: the host that it names and the form of its target (RFC 9112 section 3.2).

use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Uri, Version};

use super::path::without_dot_segments;
use crate::proxy::error::{BadRequest, Malformed, ProxyError};
use crate::proxy::http2::request_heads;

/// The authority that a request is for, by its target or its `Host`.
///
/// # Errors
/// A Host that is missing, doubled, malformed or at odds with the target.
pub(crate) fn authority(parts: &Parts) -> Result<&str, BadRequest> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Err(BadRequest::Host);
    }
    let host = host.map(|h| h.to_str().map_err(|_| BadRequest::Host)).transpose()?;
    // Authority-form is CONNECT's alone (RFC 9112 section 3.2.3).
    if parts.uri.authority().is_some() && parts.uri.scheme().is_none() && parts.method != Method::CONNECT {
        return Err(BadRequest::Target);
    }
    let host = host.filter(|host| is_authority(host));
    match (parts.uri.authority(), host) {
        // Absolute-form: the target's host wins (RFC 9112 section 3.2.2), and a Host there must be all the same. In
        // HTTP/2 it need not, but the two must agree (RFC 9113 section 8.3.1).
        (Some(target), host) => {
            let target = target.as_str();
            let is_http2 = parts.version == Version::HTTP_2;
            match host {
                _ if memchr::memchr(b'@', target.as_bytes()).is_some() => Err(BadRequest::User),
                _ if is_http2 && request_heads::is_marked_authority(target) => {
                    Err(BadRequest::Malformed(Malformed::Authority))
                }
                Some(host) if is_http2 && !host.eq_ignore_ascii_case(target) => Err(BadRequest::TwoHosts),
                None if !is_http2 || parts.headers.contains_key(HOST) => Err(BadRequest::Host),
                _ if !is_authority(target) => Err(BadRequest::Host),
                _ => Ok(target),
            }
        }
        (None, Some(host)) => Ok(host),
        (None, None) if parts.version == Version::HTTP_10 && !parts.headers.contains_key(HOST) => {
            Err(BadRequest::NoHost)
        }
        (None, None) => Err(BadRequest::Host),
    }
}

/// Methods that are never forwarded. CONNECT would make an open tunnel; TRACE would echo the token.
pub(crate) fn refuse_method(method: &Method) -> Result<(), ProxyError> {
    if *method == Method::CONNECT || *method == Method::TRACE {
        return Err(ProxyError::MethodRefused { allow: HeaderValue::from_static(ALLOWED) });
    }
    Ok(())
}

/// The path to judge and to route by. `OPTIONS *` is about the server as a whole, and goes where `/` goes.
pub(crate) fn path(parts: &Parts) -> Result<&str, BadRequest> {
    if let Some(fault) = mark(parts) {
        return Err(fault);
    }
    match parts.uri.path() {
        "*" if parts.method == Method::OPTIONS => Ok("/"),
        path if path.starts_with('/') => Ok(path),
        _ => Err(BadRequest::Target),
    }
}

/// Resolves the dot segments of the request's path: that one spelling is routed by and forwarded.
///
/// # Errors
/// A path that leads above the root.
pub(crate) fn resolve_dot_segments(parts: &mut Parts) -> Result<(), BadRequest> {
    let resolved = without_dot_segments(parts.uri.path()).map_err(BadRequest::Path)?;
    let Some(mut target) = resolved else { return Ok(()) };
    if let Some(query) = parts.uri.query() {
        target.push('?');
        target.push_str(query);
    }
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.path_and_query = Some(PathAndQuery::try_from(target).map_err(|_| BadRequest::Target)?);
    parts.uri = Uri::from_parts(uri).map_err(|_| BadRequest::Target)?;
    Ok(())
}

/// What is wrong with a target of HTTP/2 that a mark stands for.
fn mark(parts: &Parts) -> Option<BadRequest> {
    if parts.version != Version::HTTP_2 {
        return None;
    }
    request_heads::fault(parts.uri.path_and_query()?.as_str())
}

/// `host[:port]` without user or anything else; what is left of the check is the guard's.
fn is_authority(host: &str) -> bool {
    let port_is_digits = match memchr::memrchr(b':', host.as_bytes()) {
        Some(colon) if !host[colon..].contains(']') => {
            let port = &host[colon + 1..];
            port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit())
        }
        _ => true,
    };
    let plain = host.bytes().all(|b| {
        b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']' | b'~' | b'%')
    });
    !host.is_empty() && port_is_digits && plain
}

const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn of(version: Version, target: &str, hosts: &[&'static str]) -> Result<String, BadRequest> {
        let mut request = Request::builder().version(version).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        authority(&request.body(()).unwrap().into_parts().0).map(ToOwned::to_owned)
    }

    #[test]
    fn a_request_names_exactly_one_host() {
        assert_eq!(of(Version::HTTP_11, "/", &["localhost:80"]).unwrap(), "localhost:80");
        assert_eq!(of(Version::HTTP_11, "/", &["[::1]:80"]).unwrap(), "[::1]:80");
        assert_eq!(of(Version::HTTP_10, "/", &[]), Err(BadRequest::NoHost));
        assert_eq!(of(Version::HTTP_10, "/", &["a", "b"]), Err(BadRequest::Host));
        let bad: [&[&str]; 7] = [&[], &["a", "b"], &["a, b"], &["a@b"], &["a:b"], &[""], &["a:999999"]];
        for hosts in bad {
            assert_eq!(of(Version::HTTP_11, "/", hosts), Err(BadRequest::Host), "{hosts:?}");
        }
    }

    #[test]
    fn the_host_of_an_absolute_target_wins_and_http_2_must_agree() {
        assert_eq!(of(Version::HTTP_11, "http://evil.example/", &["localhost"]).unwrap(), "evil.example");
        assert_eq!(of(Version::HTTP_11, "http://localhost/", &[]), Err(BadRequest::Host));
        assert_eq!(of(Version::HTTP_11, "http://localhost/", &["a b"]), Err(BadRequest::Host));
        assert_eq!(of(Version::HTTP_2, "http://localhost/", &[]).unwrap(), "localhost");
        assert_eq!(of(Version::HTTP_2, "http://localhost/", &["localhost"]).unwrap(), "localhost");
        assert_eq!(of(Version::HTTP_2, "http://localhost/", &["evil.example"]), Err(BadRequest::TwoHosts));
        assert_eq!(of(Version::HTTP_2, "http://localhost/", &["a b"]), Err(BadRequest::Host));
        for version in [Version::HTTP_11, Version::HTTP_2] {
            assert_eq!(of(version, "http://user@localhost/", &["localhost"]), Err(BadRequest::User));
        }
        let marked = BadRequest::Malformed(Malformed::Authority);
        assert_eq!(of(Version::HTTP_2, "http://~~~/", &[]), Err(marked));
    }
}
