//! Who may use the proxy: the check of Host and Origin that keeps a web page from using the token.
//!
//! Localhost is no boundary: any page in a browser on this machine can send requests here, by name (DNS rebinding)
//! or by address. It cannot choose its `Host`, its `Origin` or its `Sec-Fetch-Site` (Fetch standard), so those
//! three are judged before anything else, and before a token is near.

use std::net::IpAddr;

use http::header::ORIGIN;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::peer::Peer;
use crate::net::loopback::is_loopback_host;
use crate::secret::Secret;

/// The check that comes before everything else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Host names beyond the loopback's own, lower case, without a port.
    pub allowed_hosts: Vec<String>,
    /// Web origins (RFC 6454), serialised: `https://app.example.com`, without a path.
    pub allowed_origins: Vec<String>,
    /// Each request must bring one of these in `X-Cupbearer-Secret`; empty: none is asked for. Several during a rotation.
    pub shared_secrets: Vec<Secret<String>>,
    /// Users that may connect to the Unix sockets; empty: whoever the socket's mode lets in.
    pub allowed_uids: Vec<u32>,
    /// Names in client certificates that may use the proxy; empty: every certificate that is trusted.
    pub allowed_subjects: Vec<String>,
}

/// A request that the guard let pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// No browser, or a page of the proxy's own origin.
    Local,
    /// A page of this origin in [`Guard::allowed_origins`]: it is answered with CORS headers.
    AllowedOrigin,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The Host is none of ours.
    Host,
    /// The Origin is not allowed.
    Origin,
    /// The browser says that another site sent it.
    FetchSite,
}

impl Guard {
    /// Judges a request that names `authority` (host and port, from `Host` or the target) and came from `peer`.
    pub(super) fn judge(
        &self,
        authority: &str,
        peer: &Peer,
        headers: &HeaderMap,
    ) -> Result<Caller, Rejection> {
        if !self.owns(host_of(authority), peer) {
            return Err(Rejection::Host);
        }
        let origin = only(headers, &ORIGIN).map_err(|()| Rejection::Origin)?;
        if let Some(origin) = origin {
            // The page that this proxy itself serves; its Host was found to be ours just now.
            let origin = origin.to_str().map_err(|_| Rejection::Origin)?;
            let same = origin.strip_prefix("http://").is_some_and(|o| o.eq_ignore_ascii_case(authority));
            return match same {
                true => Ok(Caller::Local),
                false if self.allowed_origins.iter().any(|o| o.eq_ignore_ascii_case(origin)) => {
                    Ok(Caller::AllowedOrigin)
                }
                false => Err(Rejection::Origin),
            };
        }
        let site = only(headers, &SEC_FETCH_SITE).map_err(|()| Rejection::FetchSite)?;
        match site.map(HeaderValue::as_bytes) {
            // `same-site` is not enough: every port of localhost is one site.
            None | Some(b"none" | b"same-origin") => Ok(Caller::Local),
            Some(_) => Err(Rejection::FetchSite),
        }
    }

    /// Whether `host` is a name for this proxy.
    fn owns(&self, host: &str, peer: &Peer) -> bool {
        is_loopback_host(host)
            || self.allowed_hosts.iter().any(|h| h.eq_ignore_ascii_case(host))
            || peer.local.is_some_and(|local| is_address(host, local.ip()))
    }
}

/// The host of `host[:port]`; IPv6 keeps its brackets.
pub(super) fn host_of(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

/// A field that a browser sends once. An error says that it is there twice: which one counts is anybody's guess.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, ()> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(()) } else { Ok(first) }
}

/// A literal address cannot be rebound: where it is the one that the connection came in by, it is ours.
fn is_address(host: &str, local: IpAddr) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok_and(|ip| ip == local)
}

/// From the Fetch metadata specification; no constant of the `http` crate.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(host: &str, fields: &[(&'static str, &str)]) -> Result<Caller, Rejection> {
        let guard = Guard {
            allowed_hosts: vec!["orders.local".into()],
            allowed_origins: vec!["http://localhost:3000".into()],
            ..Guard::default()
        };
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(*name, value.parse().unwrap());
        }
        let local = "127.0.0.1:8080".parse().ok();
        guard.judge(host, &Peer { local, ..Peer::default() }, &headers)
    }

    #[test]
    fn the_loopback_and_configured_names_pass_with_any_port() {
        for host in ["localhost:8080", "LocalHost", "127.0.0.1:8080", "[::1]:9", "[::1]", "orders.local:80"] {
            assert_eq!(judge(host, &[]), Ok(Caller::Local), "{host}");
        }
    }

    #[test]
    fn a_rebound_name_is_refused_whatever_else_it_says() {
        for host in ["evil.example:8080", "localhost.attacker.com", "127.0.0.1.evil.example", "10.0.0.1", ""]
        {
            assert_eq!(judge(host, &[]), Err(Rejection::Host), "{host}");
        }
        let rebound = judge("evil.example:8080", &[("origin", "http://evil.example:8080")]);
        assert_eq!(rebound, Err(Rejection::Host));
    }

    #[test]
    fn only_its_own_and_the_allowed_origins_pass() {
        let origin = |o: &str| judge("localhost:8080", &[("origin", o)]);
        assert_eq!(origin("http://localhost:8080"), Ok(Caller::Local));
        assert_eq!(origin("http://localhost:3000"), Ok(Caller::AllowedOrigin));
        for other in
            ["http://localhost.attacker.com", "https://localhost:8080", "null", "http://localhost", ""]
        {
            assert_eq!(origin(other), Err(Rejection::Origin), "{other}");
        }
    }

    #[test]
    fn a_request_that_another_site_began_is_refused() {
        let site = |s: &str| judge("localhost:8080", &[("sec-fetch-site", s)]);
        assert_eq!(site("none"), Ok(Caller::Local));
        assert_eq!(site("same-origin"), Ok(Caller::Local));
        assert_eq!(site("cross-site"), Err(Rejection::FetchSite));
        assert_eq!(
            site("same-site"),
            Err(Rejection::FetchSite),
            "other ports of localhost are the same site"
        );
    }
}
