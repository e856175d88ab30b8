//! Whether a response to a request in absolute-form is the HTTP proxy's own, made in the server's place.
//!
//! `Via` does not count: a proxy also adds it to what it passes on, and so do gateways in front of the server (RFC 9110
//! section 7.6.3). Caller: `http_client`.

use http::header::{HeaderMap, PROXY_AUTHENTICATE, SERVER, WWW_AUTHENTICATE};
use http::{HeaderName, StatusCode};

/// A mark on a response that came through an HTTP proxy in the clear and does not show which of the two made it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unattributed;

/// Whether the head of a failed response shows that the proxy made it.
pub(super) fn is_own(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::PROXY_AUTHENTICATION_REQUIRED
        || headers.contains_key(PROXY_AUTHENTICATE)
        || headers.contains_key(SQUID_ERROR)
        || has_failed(headers)
        || is_of_forward_proxy(headers)
}

/// Whether the head shows that the server made the response: a proxy demands credentials of its own with 407 and
/// `Proxy-Authenticate` (RFC 9110 sections 11.7.1 and 15.5.8).
pub(super) fn is_of_server(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::UNAUTHORIZED && headers.contains_key(WWW_AUTHENTICATE)
}

/// Whether the nearest intermediary says that it failed to get this response (RFC 9209 sections 2 and 2.1.1). Those further
/// away stand before it.
fn has_failed(headers: &HeaderMap) -> bool {
    let Some(Ok(nearest)) = headers.get_all(PROXY_STATUS).iter().next_back().map(|value| value.to_str())
    else {
        return false;
    };
    let nearest = unquoted(nearest, ',').pop().unwrap_or_default();
    let mut parameters = unquoted(nearest, ';').into_iter().skip(1);
    parameters.any(|one| one.split('=').next().is_some_and(|name| name.trim() == "error"))
}

/// The parts of a structured field between those `separator`s that are not within a string (RFC 8941 section 3.3.3).
fn unquoted(text: &str, separator: char) -> Vec<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |c| {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => return c == separator && !is_quoted,
        }
        false
    })
    .collect()
}

fn is_of_forward_proxy(headers: &HeaderMap) -> bool {
    let server = headers.get(SERVER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let product = server.split(['/', ' ']).next().unwrap_or_default();
    FORWARD_PROXIES.iter().any(|name| product.eq_ignore_ascii_case(name))
}

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// On the pages that Squid makes itself.
const SQUID_ERROR: HeaderName = HeaderName::from_static("x-squid-error");
/// What calls itself so in `Server` passes that of servers on unchanged. Gateways that put their own name on each response
/// (Envoy, Apache Traffic Server) are not among them.
const FORWARD_PROXIES: &[&str] = &["squid", "tinyproxy", "mitmproxy", "zscaler"];

#[cfg(test)]
mod tests {
    use super::*;

    fn made_by_proxy(status: u16, fields: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        is_own(StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn a_proxys_own_failure_is_known_by_its_head() {
        for (status, fields) in [
            (407, &[][..]),
            (403, &[("proxy-authenticate", "Negotiate")]),
            // Squid 5.7.
            (
                503,
                &[
                    ("server", "squid/5.7"),
                    ("x-squid-error", "ERR_CONNECT_FAIL 111"),
                    ("via", "1.1 p (squid/5.7)"),
                ],
            ),
            (403, &[("x-squid-error", "ERR_ACCESS_DENIED 0")]),
            (500, &[("server", "tinyproxy/1.11.1")]),
            (502, &[("server", "mitmproxy 10.1.5")]),
            (504, &[("proxy-status", "proxy.example; error=connection_timeout")]),
            (502, &[("proxy-status", r#"gateway, "a, \"b;"; details="x, y" ;error = dns_error"#)]),
            (502, &[("proxy-status", "gateway"), ("proxy-status", "proxy;error")]),
        ] {
            assert!(made_by_proxy(status, fields), "{status} {fields:?}");
        }
    }

    #[test]
    fn a_challenge_of_the_servers_shows_that_it_responded() {
        let challenge = HeaderMap::from_iter([(WWW_AUTHENTICATE, "Basic".parse().unwrap())]);
        for (status, headers, want) in [
            (StatusCode::UNAUTHORIZED, challenge.clone(), true),
            (StatusCode::UNAUTHORIZED, HeaderMap::new(), false),
            (StatusCode::FORBIDDEN, challenge, false),
            (StatusCode::OK, HeaderMap::new(), false),
        ] {
            assert_eq!(is_of_server(status, &headers), want, "{status} {headers:?}");
        }
    }

    #[test]
    fn what_a_proxy_passes_on_is_not_taken_for_its_own() {
        for (status, fields) in [
            (401, &[("www-authenticate", "Basic")][..]),
            (403, &[("via", "1.1 p (squid/5.7)"), ("server", "nginx"), ("x-cache", "MISS from p")]),
            (502, &[("server", "envoy"), ("via", "1.1 envoy")]),
            // The server's gateway failed, and the proxy passed that on.
            (502, &[("proxy-status", "gateway; error=connection_refused, proxy")]),
            (502, &[("proxy-status", r#"proxy; details="; error=dns_error""#)]),
            (502, &[("proxy-status", "proxy; next-hop=error")]),
            (400, &[("server", "squidward/1")]),
        ] {
            assert!(!made_by_proxy(status, fields), "{status} {fields:?}");
        }
    }
}
