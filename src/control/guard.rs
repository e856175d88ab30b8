//! Who may use the control surface: programs on this machine, never a web page in its browser.
//!
//! A page in a browser can send requests to localhost. What it cannot do is send them without `Origin` or
//! `Sec-Fetch-Site`, under a loopback Host after it rebound its own name to 127.0.0.1, or with a field of its own
//! choosing but after a preflight, which is never answered.

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, Uri};

use super::problem::Problem;

/// The field that each POST needs, with the value `1`; every answer has it too.
pub(super) const CONTROL: &str = "cupbearer-control";
/// Its only value.
pub(super) const CONTROL_VALUE: &str = "1";

/// Lets a request pass, or says why not.
pub(super) fn judge(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    if !local(uri, headers) {
        return Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "Not our Host",
            "The control surface answers to localhost, 127.0.0.1 and [::1] alone.",
        ));
    }
    // A frame that comes back from the authorization server is another site's doing. What it brings is held against the
    // `state` of a renewal under way, and nothing is done where that is not the same.
    if method == Method::GET && uri.path() == super::routes::SILENT {
        return Ok(());
    }
    let fetched = headers.get_all(SEC_FETCH_SITE).iter();
    let cross = fetched.into_iter().any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none"));
    if headers.contains_key(ORIGIN) || cross {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "Not for web pages",
            "The request came from a web page. Use the command line: cupbearer status, cupbearer renew.",
        ));
    }
    if method == Method::POST && headers.get(CONTROL).is_none_or(|value| value != CONTROL_VALUE) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "Control header missing",
            "Each POST needs the header Cupbearer-Control: 1, which no web page can send unasked.",
        ));
    }
    Ok(())
}

/// Whether one Host, and the target where it is in absolute form, name this machine's loopback.
fn local(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let host = host.to_str().ok().and_then(|host| host.parse().ok());
    host.is_some_and(|host| loopback(&host)) && uri.authority().is_none_or(loopback)
}

fn loopback(authority: &Authority) -> bool {
    // A user part would let `localhost@elsewhere` be read in two ways.
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || literal.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

const SEC_FETCH_SITE: &str = "sec-fetch-site";

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &Method, target: &str, fields: &[(&'static str, &str)]) -> Option<u16> {
        let headers =
            fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        judge(method, &target.parse().unwrap(), &headers).err().map(|problem| problem.status)
    }

    #[test]
    fn loopback_names_and_literals_may_ask() {
        for host in ["localhost", "localhost:9902", "LocalHost:1", "127.0.0.1:9902", "[::1]:9902", "[::1]"] {
            assert_eq!(status(&Method::GET, "/status", &[("host", host)]), None, "{host}");
        }
    }

    #[test]
    fn another_host_is_misdirected_even_where_it_was_rebound() {
        for host in [
            "evil.example:9902",
            "localhost.attacker.com",
            "localhost.",
            "127.0.0.1.nip.io",
            "10.0.0.1",
            "localhost@evil.example",
            "evil@localhost",
            "0.0.0.0:9902",
            "",
            "a b",
        ] {
            assert_eq!(status(&Method::GET, "/status", &[("host", host)]), Some(421), "{host}");
        }
        assert_eq!(status(&Method::GET, "/status", &[]), Some(421));
        let absolute = status(&Method::GET, "http://evil.example/status", &[("host", "localhost")]);
        assert_eq!(absolute, Some(421));
    }

    #[test]
    fn whatever_a_web_page_sends_is_refused() {
        let host = ("host", "localhost:9902");
        for field in [
            ("origin", "http://localhost.attacker.com"),
            ("origin", "http://localhost:9902"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            for method in [Method::GET, Method::POST, Method::OPTIONS] {
                let control = (CONTROL, CONTROL_VALUE);
                assert_eq!(status(&method, "/status", &[host, field, control]), Some(403), "{field:?}");
            }
        }
        let typed_in = [host, ("sec-fetch-site", "none")];
        assert_eq!(status(&Method::GET, "/status", &typed_in), None, "a person may type the address");
    }

    #[test]
    fn a_post_needs_the_control_field() {
        let host = ("host", "localhost");
        let form = ("content-type", "text/plain");
        assert_eq!(status(&Method::POST, "/tokens/a/renew", &[host, form]), Some(403));
        assert_eq!(status(&Method::POST, "/tokens/a/renew", &[host, (CONTROL, "0")]), Some(403));
        assert_eq!(status(&Method::POST, "/tokens/a/renew", &[host, (CONTROL, "1")]), None);
    }
}
