//! Who may use the control surface: programs on this machine, and the page that it serves itself; no other web page in its
//! browser.
//!
//! A page in a browser can send requests to localhost. What it cannot do is send them without `Origin` or
//! `Sec-Fetch-Site`, under a loopback Host after it rebound its own name to 127.0.0.1, or with a field of its own
//! choosing but after a preflight, which is never answered. Our own page shows who it is by all three, and by a word that
//! no other page can read.

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, Uri};

use super::dashboard::PageToken;
use super::problem::Problem;
use super::routes;
use crate::net::browser::{Initiator, is_speculative};
use crate::net::host_policy::{is_loopback_host, only_host};
use crate::net::single_field::{Several, at_most_one};

/// The field that each POST of a program needs, with the value `1`; every answer has it too.
pub(super) const CONTROL: &str = "cupbearer-control";
/// Its only value.
pub(super) const CONTROL_VALUE: &str = "1";

/// A refusal, and its reason as the metric has it.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) reason: &'static str,
    pub(super) problem: Problem,
}

/// Lets a request pass, or says why not. `page`: what our own page shows.
pub(super) fn judge(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    page: Option<&PageToken>,
) -> Result<(), Refused> {
    if !local(uri, headers) {
        let detail = "The control surface answers to localhost, 127.0.0.1 and [::1] alone.";
        let problem = Problem::new(StatusCode::MISDIRECTED_REQUEST, "Not our Host", detail);
        return Err(Refused { reason: "host", problem });
    }
    let initiator = Initiator::of(headers);
    if initiator != Initiator::SameOrigin && is_speculative(headers) {
        return Err(foreign("speculative"));
    }
    let path = uri.path();
    // A frame that comes back from the authorization server is another site's doing. What it brings is held against the
    // `state` of a renewal under way, and nothing is done where that is not the same.
    if method == Method::GET && path == routes::SILENT {
        return Ok(());
    }
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|given| given == value);
    // A link may lead to the page: to load it changes nothing, and no frame can hold it.
    if method == Method::GET
        && path == routes::PAGE
        && is("sec-fetch-mode", "navigate")
        && is("sec-fetch-dest", "document")
    {
        return Ok(());
    }
    if !own_origin(headers) {
        return Err(foreign("origin"));
    }
    match initiator {
        Initiator::OtherPage => return Err(foreign("fetch_site")),
        Initiator::Browser => return Err(foreign("unattended")),
        Initiator::Unknown | Initiator::SameOrigin | Initiator::Person => {}
    }
    if method != Method::POST {
        return Ok(());
    }
    let browser = headers.contains_key(ORIGIN) || initiator != Initiator::Unknown;
    // The token itself is for programs: a page has no use for it.
    let allowed = if browser {
        !path.ends_with(routes::ACCESS_TOKEN) && page.is_some_and(|page| page.is_in(headers))
    } else {
        is(CONTROL, CONTROL_VALUE)
    };
    if allowed {
        return Ok(());
    }
    if browser {
        return Err(foreign("secret"));
    }
    let detail = "Each POST needs the header Cupbearer-Control: 1, which no web page can send unasked.";
    let problem = Problem::new(StatusCode::FORBIDDEN, "Control header missing", detail);
    Err(Refused { reason: "secret", problem })
}

fn foreign(reason: &'static str) -> Refused {
    let detail = "The request came from a web page other than the dashboard, from one that was loaded before the program \
        was started anew, or from a browser ahead of time (prefetch). Load the dashboard again, or use the command line: cupbearer status, cupbearer renew.";
    Refused { reason, problem: Problem::new(StatusCode::FORBIDDEN, "Not for other web pages", detail) }
}

/// Whether what says where a page is from says that it is from here: from the very Host that it asks.
fn own_origin(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).map(http::HeaderValue::as_bytes).unwrap_or_default();
    match at_most_one(headers, &ORIGIN) {
        Ok(Some(origin)) => origin.as_bytes().strip_prefix(b"http://") == Some(host),
        Ok(None) => true,
        Err(Several) => false,
    }
}

/// Whether one Host, and the target where it is in absolute form, name this machine's loopback.
fn local(uri: &Uri, headers: &HeaderMap) -> bool {
    let host = only_host(headers).and_then(|host| host.parse().ok());
    host.is_some_and(|host| loopback(&host)) && uri.authority().is_none_or(loopback)
}

fn loopback(authority: &Authority) -> bool {
    // A user part would let `localhost@elsewhere` be read in two ways.
    !authority.as_str().contains('@') && is_loopback_host(authority.host())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(
        method: &Method,
        target: &str,
        fields: &[(&str, &str)],
        page: &PageToken,
    ) -> Option<(u16, &'static str)> {
        let headers =
            fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let refused = judge(method, &target.parse().unwrap(), &headers, Some(page)).err();
        refused.map(|refused| (refused.problem.status, refused.reason))
    }

    fn status(method: &Method, target: &str, fields: &[(&'static str, &str)]) -> Option<u16> {
        judged(method, target, fields, &PageToken::generate().unwrap()).map(|(status, _)| status)
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
            for path in ["/status", "/", "/silent?state=x"] {
                assert_eq!(status(&Method::GET, path, &[("host", host)]), Some(421), "{host}");
            }
        }
        assert_eq!(status(&Method::GET, "/status", &[]), Some(421));
        let absolute = status(&Method::GET, "http://evil.example/status", &[("host", "localhost")]);
        assert_eq!(absolute, Some(421));
    }

    #[test]
    fn whatever_another_web_page_sends_is_refused() {
        let host = ("host", "localhost:9902");
        for (field, reason) in [
            (("origin", "http://localhost.attacker.com"), "origin"),
            (("origin", "http://localhost:3000"), "origin"),
            (("origin", "http://127.0.0.1:9902"), "origin"),
            (("origin", "https://localhost:9902"), "origin"),
            (("origin", "null"), "origin"),
            (("sec-fetch-site", "cross-site"), "fetch_site"),
            (("sec-fetch-site", "same-site"), "fetch_site"),
            (("sec-fetch-site", "none"), "unattended"),
            (("sec-purpose", "prefetch;prerender"), "speculative"),
            (("purpose", "prefetch"), "speculative"),
        ] {
            for method in [Method::GET, Method::POST, Method::OPTIONS] {
                let page = PageToken::generate().unwrap();
                let control = (CONTROL, CONTROL_VALUE);
                let told = judged(&method, "/status", &[host, field, control], &page);
                assert_eq!(told, Some((403, reason)), "{field:?}");
            }
        }
        let typed_in =
            [host, ("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate"), ("sec-fetch-user", "?1")];
        assert_eq!(status(&Method::GET, "/status", &typed_in), None, "a person may type the address");
    }

    #[test]
    fn our_own_page_reads_and_acts_by_what_only_it_knows() {
        let page = PageToken::generate().unwrap();
        let other = PageToken::generate().unwrap();
        let own = [("host", "127.0.0.1:9902"), ("sec-fetch-site", "same-origin")];
        for path in ["/", "/events", "/status"] {
            assert_eq!(judged(&Method::GET, path, &own, &page), None, "{path}");
        }
        let origin = ("origin", "http://127.0.0.1:9902");
        let act = |token: &PageToken, path: &str| {
            let (_, value) = token.field();
            let fields = [own[0], own[1], origin, (super::super::dashboard::PAGE, value.as_str())];
            judged(&Method::POST, path, &fields, &page)
        };
        assert_eq!(act(&page, "/tokens/api/renew"), None);
        assert_eq!(act(&page, "/tokens/api/login"), None);
        assert_eq!(act(&other, "/tokens/api/renew"), Some((403, "secret")));
        assert_eq!(act(&page, "/tokens/api/access_token"), Some((403, "secret")), "no page gets a token");
        let without = [own[0], own[1], origin, (CONTROL, CONTROL_VALUE)];
        assert_eq!(judged(&Method::POST, "/tokens/api/renew", &without, &page), Some((403, "secret")));
    }

    #[test]
    fn a_link_may_lead_to_the_page_and_a_frame_may_come_back_from_the_server() {
        let host = ("host", "127.0.0.1:9902");
        let link = [
            host,
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        assert_eq!(status(&Method::GET, "/", &link), None);
        assert_eq!(status(&Method::GET, "/events", &link), Some(403));
        let framed = [
            host,
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "iframe"),
        ];
        assert_eq!(status(&Method::GET, "/", &framed), Some(403));
        assert_eq!(status(&Method::GET, "/silent?state=x", &framed), None);
        let prerendered = [
            host,
            ("sec-purpose", "prefetch;prerender"),
            ("sec-fetch-site", "none"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
        ];
        for path in ["/", "/silent?state=x"] {
            assert_eq!(status(&Method::GET, path, &prerendered), Some(403), "{path}");
        }
        assert_eq!(status(&Method::POST, "/silent", &framed), Some(403));
    }

    #[test]
    fn a_programs_post_needs_the_control_field() {
        let host = ("host", "localhost");
        let form = ("content-type", "text/plain");
        assert_eq!(status(&Method::POST, "/tokens/a/renew", &[host, form]), Some(403));
        assert_eq!(status(&Method::POST, "/tokens/a/renew", &[host, (CONTROL, "0")]), Some(403));
        assert_eq!(status(&Method::POST, "/tokens/a/renew", &[host, (CONTROL, "1")]), None);
    }
}
