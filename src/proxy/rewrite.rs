//! What a route changes in messages so that the application stays with the proxy: fields of responses that hold the
//! upstream's address, cookies that are for the upstream's place, and fields of requests that hold the proxy's address.
//!
//! Bodies pass as they are.

mod cookie;
mod place;
mod reference;

use std::cell::LazyCell;

use http::header::{CONTENT_LOCATION, FORWARDED, HOST, LINK, LOCATION, REFRESH, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use self::place::Place;
use super::forwarded::{X_FORWARDED_HOST, scheme};
use super::peer::Peer;
use super::route::Route;
use super::upstream::{Forwarded, Upstream};

/// What a route rewrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// Whether addresses of the upstream become those that the application uses, and the other way round.
    pub addresses: bool,
    /// Which attributes of cookies become those for the proxy's place.
    pub cookies: CookieAttributes,
}

/// Attributes of cookies (RFC 6265 section 5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CookieAttributes {
    /// A Domain that the proxy's host is not in is left out.
    pub domain: bool,
    /// A Path of the upstream's becomes the one here.
    pub path: bool,
    /// Secure, Partitioned and SameSite=None are left out where the application uses no TLS.
    pub secure: bool,
}

impl Default for Rewrite {
    fn default() -> Self {
        Self { addresses: true, cookies: CookieAttributes::default() }
    }
}

/// The rewriting of one request and its response.
pub(super) struct Rewriter<'r> {
    route: &'r Route,
    scheme: &'static str,
    /// The request's Host, where its target has no authority.
    host: Option<HeaderValue>,
}

impl<'r> Rewriter<'r> {
    /// `None`: the route rewrites nothing.
    pub(super) fn new(route: &'r Route, parts: &Parts, peer: &Peer) -> Option<Self> {
        let Rewrite { addresses, cookies } = route.rewrite;
        if !addresses && cookies == CookieAttributes::default() {
            return None;
        }
        let host = if parts.uri.authority().is_none() { parts.headers.get(HOST).cloned() } else { None };
        Some(Self { route, scheme: scheme(peer), host })
    }

    /// Rewrites the fields of a request that hold the proxy's own address: `Destination` and `If` of `WebDAV` (RFC 4918
    /// sections 10.3 and 10.4), and the `Origin` of a page of the proxy's own, which goes with the Host that the upstream
    /// compares it with.
    pub(super) fn request(&self, upstream: &Upstream, parts: &mut Parts) {
        if !self.route.rewrite.addresses {
            return;
        }
        let Some(place) = self.place(upstream, &parts.uri) else { return };
        let mut changed = Vec::new();
        for name in parts.headers.keys() {
            let mut values = parts.headers.get_all(name).iter();
            // Of several it is not for us to choose.
            let (Some(text), None) = (values.next().and_then(text), values.next()) else { continue };
            let new = match name.as_str() {
                "destination" => place.to_upstream(text),
                "if" => reference::in_brackets(text, |tag| place.to_upstream(tag)),
                "origin" if !learns_clients_host(upstream, &parts.headers) => place.origin(text),
                _ => continue,
            };
            changed.extend(new.and_then(|new| Some((name.clone(), HeaderValue::try_from(new).ok()?))));
        }
        for (name, value) in changed {
            parts.headers.insert(name, value);
        }
    }

    /// Rewrites the fields of a response to the request for `uri`, which may be an interim one.
    pub(super) fn response(&self, upstream: &Upstream, uri: &Uri, headers: &mut HeaderMap) {
        let Rewrite { addresses, cookies } = self.route.rewrite;
        let place = LazyCell::new(|| self.place(upstream, uri));
        for (name, value) in headers.iter_mut() {
            let new = if *name == SET_COOKIE {
                if cookies == CookieAttributes::default() {
                    continue;
                }
                text(value).zip(place.as_ref()).map(|(text, place)| cookie::rewrite(text, cookies, place))
            } else if addresses && let Some(kind) = Kind::of(name, value) {
                text(value).zip(place.as_ref()).and_then(|(text, place)| kind.rewrite(text, place))
            } else {
                continue;
            };
            if let Some(new) = new.and_then(|new| HeaderValue::try_from(new).ok()) {
                *value = new;
            }
        }
    }

    fn place<'p>(&'p self, upstream: &'p Upstream, uri: &'p Uri) -> Option<Place<'p>> {
        let target = uri.authority().map(http::uri::Authority::as_str);
        let authority = target.or_else(|| self.host.as_ref()?.to_str().ok())?;
        Place::new(self.route, upstream, self.scheme, authority, uri)
    }
}

/// Whether an upstream learns the client's Host beside the one that it is sent. Servers that take it for theirs (Next,
/// Rails) compare `Origin` with that.
fn learns_clients_host(upstream: &Upstream, headers: &HeaderMap) -> bool {
    match upstream.settings.forwarded {
        Forwarded::Remove => false,
        Forwarded::Pass => headers.contains_key(X_FORWARDED_HOST) || headers.contains_key(FORWARDED),
        Forwarded::XForwarded | Forwarded::Forwarded => true,
    }
}

/// A value in UTF-8, as servers write what is not ASCII; a URL has it percent-encoded.
fn text(value: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(value.as_bytes()).ok()
}

/// How a field of a response holds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It is one URI reference (RFC 3986 section 4.1).
    Reference,
    /// Links (RFC 8288 section 3).
    Links,
    /// Seconds, and the address behind them (HTML, "shared declarative refresh steps").
    Refresh,
}

impl Kind {
    /// `None`: it holds none. Beside the fields that are defined to hold an address, every field does whose value is an
    /// absolute one: providers give the addresses to poll and to upload to many names.
    fn of(name: &HeaderName, value: &HeaderValue) -> Option<Self> {
        if *name == LOCATION || *name == CONTENT_LOCATION {
            return Some(Self::Reference);
        }
        if *name == LINK {
            return Some(Self::Links);
        }
        if *name == REFRESH {
            return Some(Self::Refresh);
        }
        let value = value.as_bytes();
        if !matches!(value.first(), Some(b'h' | b'H' | b'/')) {
            return None;
        }
        let name = name.as_str();
        let is_reference = name.ends_with("-location")
            || matches!(
                name,
                "azure-asyncoperation"
                    // ECMA-426 section 11.1.2.1, and its older name.
                    | "sourcemap" | "x-sourcemap"
                    // htmx.
                    | "hx-redirect" | "hx-push-url" | "hx-replace-url"
            );
        // Those name origins that may read, measure or be loaded, and no place to go to.
        let is_policy = name.starts_with("access-control-")
            || name.starts_with("content-security-policy")
            || name == "timing-allow-origin";
        (is_reference || (!is_policy && is_absolute(value))).then_some(Self::Reference)
    }

    fn rewrite(self, text: &str, place: &Place<'_>) -> Option<String> {
        match self {
            Self::Reference => place.to_client(text),
            Self::Links => reference::in_brackets(text, |target| place.to_client(target)),
            Self::Refresh => reference::in_refresh(text, |target| place.to_client(target)),
        }
    }
}

/// Whether a value is one absolute address and nothing else.
fn is_absolute(value: &[u8]) -> bool {
    let begins =
        |scheme: &[u8]| value.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    (begins(b"http://") || begins(b"https://"))
        && !value.iter().any(|byte| matches!(byte, b' ' | b'\t' | b',' | b';' | b'"' | b'\''))
}

#[cfg(test)]
mod tests {
    use super::super::route::tests::{route, settings};
    use super::super::upstream::SentHost;
    use super::*;

    const API: &str = "https://api.example.com/base";

    /// A request to the proxy at `localhost:8080`, on its way to an upstream.
    struct Case {
        route: Route,
        upstream: Upstream,
        parts: Parts,
    }

    impl Case {
        fn new(route: Route, upstream: &str, host: SentHost, target: &str) -> Self {
            let settings = settings(upstream.parse().unwrap(), host);
            let request = http::Request::get(target).header("host", "localhost:8080").body(()).unwrap();
            Self { route, upstream: Upstream::new("api", settings).unwrap(), parts: request.into_parts().0 }
        }

        /// What becomes of a field of the response.
        fn response(&self, scheme: &'static str, name: &'static str, value: &str) -> String {
            let host = self.parts.headers.get(HOST).cloned();
            let rewriter = Rewriter { route: &self.route, scheme, host };
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
            rewriter.response(&self.upstream, &self.parts.uri, &mut headers);
            text(&headers[name]).unwrap().to_owned()
        }

        /// What becomes of a field of the request.
        fn request(&mut self, name: &'static str, value: &str) -> String {
            self.parts.headers.insert(HeaderName::from_static(name), value.parse().unwrap());
            let peer = Peer::default();
            Rewriter::new(&self.route, &self.parts, &peer).unwrap().request(&self.upstream, &mut self.parts);
            self.parts.headers[name].to_str().unwrap().to_owned()
        }
    }

    fn all(upstream: &str) -> Case {
        Case::new(route("/"), upstream, SentHost::Upstream, "/x/y?z")
    }

    fn stripped(path: &str, upstream: &str) -> Case {
        let route = Route { strip_prefix: true, ..route(path) };
        Case::new(route, upstream, SentHost::Upstream, &format!("{path}/x/y"))
    }

    #[test]
    fn an_address_of_the_upstream_becomes_the_one_that_the_application_used() {
        let (plain, api) = (all(API), stripped("/api", API));
        for (case, text, want) in [
            (&plain, "https://api.example.com/base/a?b=1#c", "http://localhost:8080/a?b=1#c"),
            (&plain, "HTTPS://API.example.com:443/base", "http://localhost:8080/"),
            (&plain, "//api.example.com/base/a", "http://localhost:8080/a"),
            (&plain, "http://api.example.com/base/a", "http://localhost:8080/a"),
            (&plain, "/base/a?b", "/a?b"),
            (&api, "https://api.example.com/base/a", "http://localhost:8080/api/a"),
            (&api, "/base/a", "/api/a"),
            (&api, "/base", "/api"),
            (&api, "../../base/a", "/api/a"),
        ] {
            assert_eq!(case.response("http", "location", text), want, "{text}");
        }
    }

    #[test]
    fn every_other_address_is_left_alone() {
        for text in [
            "https://login.example.com/auth",
            "https://api.example.com:8443/base/a",
            "https://user@api.example.com/base/a",
            "https://api.example.com.evil.test/base",
            "https://api.example.com/basement",
            "/elsewhere",
            "a/b",
            "?page=2",
            "#top",
            "mailto:a@example.com",
            "javascript:alert(1)",
            "",
        ] {
            assert_eq!(all(API).response("http", "location", text), text);
        }
        // A redirect to TLS: the upstream here is the one without.
        let plain = all("http://api.example.com");
        assert_eq!(
            plain.response("http", "location", "https://api.example.com/x"),
            "https://api.example.com/x"
        );
    }

    #[test]
    fn no_address_of_another_host_is_made() {
        let to = |text| all(API).response("http", "location", text);
        assert_eq!(to("/base//evil.test/a"), "http://localhost:8080//evil.test/a");
        assert_eq!(to("/base/\\evil.test"), "http://localhost:8080//evil.test");
        assert_eq!(to("/\\evil.test/base"), "/\\evil.test/base");
        assert_eq!(to("/base/../../a"), "/base/../../a", "what is read as another path is judged as that");
    }

    #[test]
    fn the_loopback_is_one_host_and_the_scheme_of_one_port_is_no_other_origin() {
        for (upstream, text) in [
            ("http://127.0.0.1:9751", "http://localhost:9751/x"),
            ("http://localhost:9751", "http://[::1]:9751/x"),
            ("http://127.0.0.1:9751", "https://127.0.0.1:9751/x"),
            ("https://api.example.com:8443", "http://api.example.com:8443/x"),
            ("https://api.example.com", "http://api.example.com/x"),
        ] {
            assert_eq!(all(upstream).response("http", "location", text), "http://localhost:8080/x", "{text}");
        }
        let other = "http://localhost:9752/x";
        assert_eq!(all("http://127.0.0.1:9751").response("http", "location", other), other);
    }

    #[test]
    fn an_address_by_the_host_that_the_upstream_is_sent_is_the_upstreams_too() {
        let route = || Route { strip_prefix: true, ..route("/api") };
        let client = Case::new(route(), API, SentHost::Client, "/api/x");
        for text in ["http://localhost:8080/base/a", "https://localhost:8080/base/a"] {
            assert_eq!(client.response("http", "location", text), "http://localhost:8080/api/a", "{text}");
        }
        let named = Case::new(route(), API, SentHost::Name("orders.internal".into()), "/api/x");
        let text = "http://orders.internal/base/a";
        assert_eq!(named.response("https", "location", text), "https://localhost:8080/api/a");
    }

    #[test]
    fn no_redirect_leads_in_a_circle() {
        // To TLS at the name that the upstream is sent: this side has none, and would lead to the same again.
        let named = || SentHost::Name("orders.internal".into());
        let plain = Case::new(route("/"), "http://127.0.0.1:9751", named(), "/x");
        let tls = "https://orders.internal/x";
        assert_eq!(plain.response("http", "location", tls), tls);
        assert_eq!(plain.response("https", "location", tls), "https://localhost:8080/x");
        // From the base path with a slash to the one without: both are `/` here.
        let based = Case::new(route("/"), API, SentHost::Upstream, "/");
        assert_eq!(based.response("http", "location", "/base"), "/base");
    }

    #[test]
    fn every_field_that_holds_an_address_is_rewritten() {
        let api = stripped("/api", API);
        let here = "http://localhost:8080/api/a";
        for (name, text, want) in [
            ("content-location", "/base/a", "/api/a"),
            ("operation-location", "https://api.example.com/base/a", here),
            ("operation-location", "/base/a", "/api/a"),
            ("azure-asyncoperation", "https://api.example.com/base/a", here),
            ("x-goog-upload-url", "https://api.example.com/base/a", here),
            ("sourcemap", "/base/a.map", "/api/a.map"),
            ("hx-redirect", "/base/a", "/api/a"),
            ("hx-push-url", "false", "false"),
            ("refresh", "5; url=/base/a", "5; url=/api/a"),
            (
                "link",
                "<https://api.example.com/base/a>; rel=next, </base/z>; rel=\"last\", <https://other.test/>; rel=x",
                "<http://localhost:8080/api/a>; rel=next, </api/z>; rel=\"last\", <https://other.test/>; rel=x",
            ),
            ("access-control-allow-origin", "https://api.example.com", "https://api.example.com"),
            ("x-path", "/base/a", "/base/a"),
            ("server", "http-kit", "http-kit"),
            ("x-forwarded-proto", "https", "https"),
            ("x-upstream-status", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK"),
            ("x-urls", "https://api.example.com/base/a, /b", "https://api.example.com/base/a, /b"),
            ("content-security-policy", "https://api.example.com/base/a", "https://api.example.com/base/a"),
            ("location", "/base/gr\u{f6}", "/api/gr%C3%B6"),
            ("link", "</base/a>; title=\"\u{fc}\"", "</api/a>; title=\"\u{fc}\""),
            ("refresh", "5; \u{fc}rl=/base/a", "5; \u{fc}rl=/base/a"),
            ("etag", "\"https://api.example.com/base/a\"", "\"https://api.example.com/base/a\""),
        ] {
            assert_eq!(api.response("http", name, text), want, "{name}");
        }
    }

    #[test]
    fn fields_of_a_request_that_hold_the_proxys_address_hold_the_upstreams() {
        for (name, text, want) in [
            ("destination", "http://localhost:8080/api/b?c", "https://api.example.com/base/b?c"),
            ("destination", "http://127.0.0.1:8080/api", "https://api.example.com/base"),
            ("destination", "/api/b", "/base/b"),
            ("destination", "http://localhost:8080/api/a%20b", "https://api.example.com/base/a%20b"),
            ("destination", "http://localhost:8080/api/..%2fadmin", "http://localhost:8080/api/..%2fadmin"),
            ("destination", "http://localhost:8080/api/..;/admin", "http://localhost:8080/api/..;/admin"),
            ("destination", "http://localhost:8080/api/../admin", "http://localhost:8080/api/../admin"),
            ("destination", "http://localhost:8080/other/b", "http://localhost:8080/other/b"),
            ("destination", "http://localhost:9/api/b", "http://localhost:9/api/b"),
            ("destination", "https://elsewhere.test/api/b", "https://elsewhere.test/api/b"),
            ("if", "<http://localhost:8080/api/b> (<urn:x>)", "<https://api.example.com/base/b> (<urn:x>)"),
            ("origin", "http://localhost:8080", "https://api.example.com"),
            ("origin", "http://localhost:3000", "http://localhost:3000"),
            ("referer", "http://localhost:8080/api/b", "http://localhost:8080/api/b"),
        ] {
            assert_eq!(stripped("/api", API).request(name, text), want, "{name}: {text}");
        }
        let mut client = Case::new(route("/"), API, SentHost::Client, "/x");
        assert_eq!(client.request("origin", "http://localhost:8080"), "http://localhost:8080");
        for (forwarded, want) in [
            (Forwarded::XForwarded, "http://localhost:8080"),
            (Forwarded::Forwarded, "http://localhost:8080"),
            (Forwarded::Pass, "https://api.example.com"),
        ] {
            let mut case = all(API);
            case.upstream.settings.forwarded = forwarded;
            assert_eq!(case.request("origin", "http://localhost:8080"), want, "{forwarded:?}");
        }
        let mut passed = all(API);
        passed.upstream.settings.forwarded = Forwarded::Pass;
        passed.parts.headers.insert(X_FORWARDED_HOST, HeaderValue::from_static("localhost:8080"));
        assert_eq!(passed.request("origin", "http://localhost:8080"), "http://localhost:8080");
        let mut twice = all(API);
        twice.parts.headers.append("origin", HeaderValue::from_static("https://evil.test"));
        twice.parts.headers.append("origin", HeaderValue::from_static("http://localhost:8080"));
        let before = twice.parts.headers.clone();
        let rewriter = Rewriter::new(&twice.route, &twice.parts, &Peer::default()).unwrap();
        rewriter.request(&twice.upstream, &mut twice.parts);
        assert_eq!(twice.parts.headers, before);
        assert_eq!(client.request("destination", "http://localhost:8080/b"), "http://localhost:8080/base/b");
    }

    #[test]
    fn a_cookie_of_the_upstream_is_the_proxys() {
        let cookies = CookieAttributes { domain: true, path: true, secure: true };
        let with = |cookies, mut case: Case| {
            case.route.rewrite = Rewrite { addresses: false, cookies };
            case
        };
        let plain = with(cookies, all(API));
        for (text, want) in [
            ("a=b; Domain=api.example.com; Path=/base; Secure; HttpOnly", "a=b; Path=/; HttpOnly"),
            ("a=b; domain=.example.com; path=/base/x; SECURE", "a=b; Path=/x"),
            ("a=b; Path=/", "a=b; Path=/"),
            ("a=\"x; y\"; Max-Age=3; Priority=High", "a=\"x; y\"; Max-Age=3; Priority=High"),
            ("a=b; SameSite=None; Secure; Partitioned", "a=b; SameSite=Lax"),
            ("a=b;SameSite=strict;Secure", "a=b;SameSite=strict"),
            ("a=b; Domain=other.test", "a=b"),
            ("a=b; Domain=localhost", "a=b; Domain=localhost"),
            ("__Host-a=b; Path=/; Secure", "__Host-a=b; Path=/; Secure"),
            (
                "__Secure-a=b; Path=/base; Secure; SameSite=None",
                "__Secure-a=b; Path=/; Secure; SameSite=None",
            ),
        ] {
            assert_eq!(plain.response("http", "set-cookie", text), want);
        }
        let api = with(cookies, stripped("/api", API));
        for (text, want) in [
            ("a=b; Path=/base/x/", "a=b; Path=/api/x"),
            ("a=b; Path=/base", "a=b; Path=/api"),
            ("XSRF-TOKEN=b; Path=/", "XSRF-TOKEN=b; Path=/"),
            ("a=b; Path=/other", "a=b; Path=/other"),
        ] {
            assert_eq!(api.response("http", "set-cookie", text), want);
        }
        let text = "a=b; Path=/base/x; Secure; SameSite=None";
        assert_eq!(plain.response("https", "set-cookie", text), "a=b; Path=/x; Secure; SameSite=None");
        let path = CookieAttributes { path: true, ..CookieAttributes::default() };
        let text = "a=b; Domain=api.example.com; Path=/base/x; Secure";
        let want = "a=b; Domain=api.example.com; Path=/api/x; Secure";
        assert_eq!(with(path, stripped("/api", API)).response("http", "set-cookie", text), want);
    }
}
