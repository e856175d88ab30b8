//! What an upstream is told of whom a request came from, where it is to be told: `X-Forwarded-*`, or `Forwarded`
//! (RFC 7239). It is made anew from the connection; what an application claims of itself is never added to.

use http::header::FORWARDED;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::peer::Peer;
use super::target::authority;
use crate::proxy::settings::Forwarded;

/// The fields to put on once the application's own are gone; none for most upstreams.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ForwardedHeaders(Vec<(HeaderName, HeaderValue)>);

impl ForwardedHeaders {
    /// What `how` tells of a request that came from `peer` with its head still as it came.
    pub(crate) fn of(how: Forwarded, peer: &Peer, parts: &Parts) -> Self {
        let told = match how {
            Forwarded::Remove | Forwarded::Pass => return Self::default(),
            Forwarded::XForwarded => x_forwarded(peer, authority(parts).unwrap_or_default()),
            Forwarded::Forwarded => vec![(FORWARDED, forwarded(peer, authority(parts).unwrap_or_default()))],
        };
        // All of it is of characters that any field takes.
        let fields = told.into_iter().filter_map(|(name, text)| Some((name, text.parse().ok()?)));
        Self(fields.collect())
    }

    pub(crate) fn put(self, headers: &mut HeaderMap) {
        for (name, value) in self.0 {
            headers.insert(name, value);
        }
    }
}

/// A Unix socket has no address, so nothing is said of one.
fn x_forwarded(peer: &Peer, host: &str) -> Vec<(HeaderName, String)> {
    let mut told = vec![(X_FORWARDED_HOST, host.to_owned()), (X_FORWARDED_PROTO, scheme(peer).to_owned())];
    if let Some(remote) = peer.remote {
        told.push((X_FORWARDED_FOR, remote.ip().to_string()));
    }
    told
}

/// An IPv6 address stands in brackets, and like all with a colon in it in quotes (RFC 7239 sections 4 and 6).
fn forwarded(peer: &Peer, host: &str) -> String {
    let from = match peer.remote.map(|remote| remote.ip()) {
        Some(std::net::IpAddr::V6(ip)) => format!("\"[{ip}]\""),
        Some(ip) => ip.to_string(),
        None => "unknown".to_owned(),
    };
    let is_token = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    let quote = if is_token { "" } else { "\"" };
    format!("for={from};host={quote}{host}{quote};proto={}", scheme(peer))
}

/// Whether a `Forwarded` field names the Host that a client sent (RFC 7239 section 5.3).
pub(crate) fn names_host(value: &HeaderValue) -> bool {
    // What stands in quotes is no parameter.
    let unquoted = value.as_bytes().split(|&byte| byte == b'"').step_by(2);
    unquoted.flat_map(|text| text.split(|byte| matches!(byte, b';' | b','))).any(|parameter| {
        parameter.trim_ascii().get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"host="))
    })
}

/// Whether `origin` (RFC 6454 section 6.2) is that of a page which `scheme` and `authority` lead to.
pub(crate) fn is_origin_of(origin: &str, scheme: &str, authority: &str) -> bool {
    let own = origin.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
    own.is_some_and(|own| own.eq_ignore_ascii_case(authority))
}

pub(crate) const fn scheme(peer: &Peer) -> &'static str {
    if peer.tls { "https" } else { "http" }
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

#[cfg(test)]
mod tests {
    use super::*;

    fn told(how: Forwarded, remote: Option<&str>, tls: bool, host: &'static str) -> HeaderMap {
        let remote = remote.map(|address| address.parse().unwrap());
        let peer = Peer { remote, tls, ..Peer::default() };
        let request = http::Request::builder().uri("/x").header("host", host).body(()).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("a claim"));
        headers.insert("forwarded", HeaderValue::from_static("a claim"));
        ForwardedHeaders::of(how, &peer, &request.into_parts().0).put(&mut headers);
        headers
    }

    #[test]
    fn forwarded_is_made_anew_from_the_connection() {
        for (remote, tls, host, text) in [
            (Some("127.0.0.1:4000"), false, "localhost", "for=127.0.0.1;host=localhost;proto=http"),
            (Some("[::1]:4000"), true, "[::1]:8443", r#"for="[::1]";host="[::1]:8443";proto=https"#),
            (None, false, "localhost:80", r#"for=unknown;host="localhost:80";proto=http"#),
        ] {
            assert_eq!(told(Forwarded::Forwarded, remote, tls, host)["forwarded"], text);
        }
    }

    #[test]
    fn a_host_in_forwarded_is_found_among_the_other_parameters() {
        for (text, want) in [
            ("host=a", true),
            ("for=1.2.3.4; Host=\"a:1\"", true),
            ("for=\"[::1]:9\";host=a", true),
            ("for=1.2.3.4, for=5.6.7.8;host=a", true),
            ("for=1.2.3.4", false),
            ("for=\"_a;host=b\";proto=http", false),
            ("by=host", false),
            ("", false),
        ] {
            assert_eq!(names_host(&HeaderValue::from_static(text)), want, "{text}");
        }
    }

    #[test]
    fn x_forwarded_fields_are_made_anew_from_the_connection() {
        let headers = told(Forwarded::XForwarded, Some("[::1]:4000"), true, "localhost:8443");
        assert_eq!(headers["x-forwarded-for"], "::1");
        assert_eq!(headers["x-forwarded-host"], "localhost:8443");
        assert_eq!(headers["x-forwarded-proto"], "https");
        for how in [Forwarded::Remove, Forwarded::Pass] {
            assert_eq!(told(how, Some("127.0.0.1:1"), false, "localhost")["x-forwarded-for"], "a claim");
        }
    }
}
