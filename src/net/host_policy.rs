//! Which Host a request names, and what counts as this machine: the loopback names and addresses that are trusted
//! without TLS.
//!
//! The servers of `control` and `login` judge each request by both; what `proxy` and `config` make of a Host beyond the
//! loopback is their own.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::HOST;

use super::single_field::only;

/// The one Host of a request (RFC 9112 section 3.2). `None`: there is none, or a second, or it is no text.
#[must_use]
pub(crate) fn only_host(headers: &HeaderMap) -> Option<&str> {
    only(headers, &HOST)?.to_str().ok()
}

/// Whether `host` (a name or an address, IPv6 with or without brackets, no port) is this machine's loopback.
#[must_use]
pub(crate) fn is_loopback_host(host: &str) -> bool {
    // What nearly every request says, before anything is parsed.
    if host == "127.0.0.1" || host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback_host;

    #[test]
    fn only_the_loopback_is_this_machine() {
        for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.8.9.10", "::1", "[::1]"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in ["localhost.evil.example", "10.0.0.1", "0.0.0.0", "[::2]", "", "127.0.0.1.evil"] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }
}
