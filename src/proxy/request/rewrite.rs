//! What a route changes in messages so that the application stays with the proxy: fields of responses that hold the
//! upstream's address, cookies that are for the upstream's place, and fields of requests that hold the proxy's address.
//!
//! Bodies pass as they are.

mod cookie;
mod place;
mod reference;

use std::borrow::Cow;
use std::cell::LazyCell;

use http::header::{CONTENT_LOCATION, FORWARDED, HOST, LINK, LOCATION, REFRESH, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use place::RewritePlace;

use super::route_table::{RouteEntry, RouteTable};
use crate::net::single_field::only;
use crate::proxy::message::forwarded::{X_FORWARDED_HOST, names_host, scheme};
use crate::proxy::message::peer::Peer;
use crate::proxy::settings::{CookieAttributes, Forwarded, Rewrite};
use crate::proxy::upstream::api::Upstream;

/// The rewriting of one request and its response.
pub(super) struct Rewriter<'r> {
    routes: &'r RouteTable,
    entry: &'r RouteEntry,
    method: Method,
    scheme: &'static str,
    /// The request's Host, where its target has no authority.
    host: Option<HeaderValue>,
}

impl<'r> Rewriter<'r> {
    /// `None`: the route rewrites nothing.
    pub(crate) fn new(
        routes: &'r RouteTable,
        entry: &'r RouteEntry,
        parts: &Parts,
        peer: &Peer,
    ) -> Option<Self> {
        let Rewrite { addresses, cookies } = entry.route.rewrite;
        if !addresses && cookies == CookieAttributes::default() {
            return None;
        }
        let host = if parts.uri.authority().is_none() { parts.headers.get(HOST).cloned() } else { None };
        Some(Self { routes, entry, method: parts.method.clone(), scheme: scheme(peer), host })
    }

    /// Rewrites the fields of a request that hold the proxy's own address: `Destination` and `If` of `WebDAV` (RFC 4918
    /// sections 10.3 and 10.4), and the `Origin` of a page of the proxy's own, which goes with the Host that the upstream
    /// compares it with.
    pub(crate) fn request(&self, upstream: &Upstream, parts: &mut Parts) {
        if !self.entry.route.rewrite.addresses {
            return;
        }
        let Some(place) = self.place(upstream, &parts.uri) else { return };
        let mut changed = Vec::new();
        for name in parts.headers.keys() {
            let Some(value) = only(&parts.headers, name) else { continue };
            let text = FieldText::of(value);
            let to_upstream = |reference: &str| place.to_upstream(&text.address(reference));
            let new = match name.as_str() {
                "destination" => to_upstream(&text.text),
                "if" => reference::in_brackets(&text.text, to_upstream),
                "origin" if !learns_clients_host(upstream, &parts.headers) => place.origin(&text.text),
                _ => continue,
            };
            changed.extend(new.and_then(|new| Some((name.clone(), text.value(&new)?))));
        }
        for (name, value) in changed {
            parts.headers.insert(name, value);
        }
    }

    /// Rewrites the fields of a response to the request for `uri`, which may be an interim one.
    pub(crate) fn response(
        &self,
        upstream: &Upstream,
        uri: &Uri,
        status: StatusCode,
        headers: &mut HeaderMap,
    ) {
        let Rewrite { addresses, cookies } = self.entry.route.rewrite;
        let place = LazyCell::new(|| self.place(upstream, uri));
        for (name, value) in headers.iter_mut() {
            let kind = RewriteKind::of(name, value).filter(|_| addresses);
            let is_cookie = *name == SET_COOKIE && cookies != CookieAttributes::default();
            if kind.is_none() && !is_cookie {
                continue;
            }
            let Some(place) = place.as_ref() else { return };
            let text = FieldText::of(value);
            let new = match kind {
                Some(RewriteKind::Reference) if *name == LOCATION && self.is_repeated_by(status) => {
                    place.redirect(&text.address(&text.text))
                }
                Some(kind) => kind.rewrite(&text, place),
                None => Some(cookie::rewrite(&text.text, cookies, place)),
            };
            if let Some(new) = new.and_then(|new| text.value(&new)) {
                *value = new;
            }
        }
    }

    /// Whether `status` has the application send the same request to another address. Behind a form's POST it is a GET.
    fn is_repeated_by(&self, status: StatusCode) -> bool {
        let is_get = matches!(self.method, Method::GET | Method::HEAD);
        match status {
            StatusCode::SEE_OTHER => is_get,
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method != Method::POST,
            status => status.is_redirection(),
        }
    }

    fn place<'p>(&'p self, upstream: &'p Upstream, uri: &'p Uri) -> Option<RewritePlace<'p>> {
        let target = uri.authority().map(http::uri::Authority::as_str);
        let authority = target.or_else(|| self.host.as_ref()?.to_str().ok())?;
        RewritePlace::new(self, upstream, authority, uri)
    }
}

/// Whether an upstream learns the client's Host beside the one that it is sent. Servers that take it for theirs (Next,
/// Rails by X-Forwarded-Host; Spring and Sinatra by Forwarded, too) compare `Origin` with that.
fn learns_clients_host(upstream: &Upstream, headers: &HeaderMap) -> bool {
    match upstream.settings.forwarded {
        Forwarded::Remove => false,
        Forwarded::Pass => {
            headers.contains_key(X_FORWARDED_HOST) || headers.get_all(FORWARDED).iter().any(names_host)
        }
        Forwarded::XForwarded | Forwarded::Forwarded => true,
    }
}

/// The text of a value: UTF-8, as most servers write what is not ASCII, or else a character for each byte.
struct FieldText<'v> {
    text: Cow<'v, str>,
    is_utf8: bool,
}

impl<'v> FieldText<'v> {
    fn of(value: &'v HeaderValue) -> Self {
        let bytes = value.as_bytes();
        match std::str::from_utf8(bytes) {
            Ok(text) => Self { text: text.into(), is_utf8: true },
            Err(_) => Self { text: bytes.iter().copied().map(char::from).collect(), is_utf8: false },
        }
    }

    /// An address within the text. A URL percent-encodes UTF-8 by itself; other bytes are encoded as they are.
    fn address<'a>(&self, address: &'a str) -> Cow<'a, str> {
        if self.is_utf8 || address.is_ascii() {
            return address.into();
        }
        let encoded = address.chars().map(|char| {
            if char.is_ascii() {
                Cow::from(char.to_string())
            } else {
                format!("%{:02X}", u32::from(char)).into()
            }
        });
        encoded.collect::<String>().into()
    }

    /// The value of which `text` is the text.
    fn value(&self, text: &str) -> Option<HeaderValue> {
        if self.is_utf8 {
            return HeaderValue::from_bytes(text.as_bytes()).ok();
        }
        let bytes = text.chars().map(u8::try_from).collect::<Result<Vec<u8>, _>>().ok()?;
        HeaderValue::from_bytes(&bytes).ok()
    }
}

/// How a field of a response holds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RewriteKind {
    /// It is one URI reference (RFC 3986 section 4.1).
    Reference,
    /// Links (RFC 8288 section 3).
    Links,
    /// Seconds, and the address behind them (HTML, "shared declarative refresh steps").
    Refresh,
}

impl RewriteKind {
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

    fn rewrite(self, text: &FieldText<'_>, place: &RewritePlace<'_>) -> Option<String> {
        let to_client = |reference: &str| place.to_client(&text.address(reference));
        match self {
            Self::Reference => to_client(&text.text),
            Self::Links => reference::in_brackets(&text.text, to_client),
            Self::Refresh => reference::in_refresh(&text.text, to_client),
        }
    }
}

/// Whether a value is one absolute address and nothing else. An address may have commas and semicolons; another address
/// behind a comma makes a list.
fn is_absolute(value: &[u8]) -> bool {
    let is_address = |text: &[u8]| {
        let begins = |scheme: &[u8]| text.get(..scheme.len()).is_some_and(|b| b.eq_ignore_ascii_case(scheme));
        begins(b"http://") || begins(b"https://")
    };
    is_address(value)
        && !value.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'"' | b'\''))
        && !value.split(|&byte| byte == b',').skip(1).any(is_address)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::metrics::Metrics;
    use crate::proxy::message::path::judge;
    use crate::proxy::observe::metrics::ProxyMetrics;
    use crate::proxy::request::guard::Guard;
    use crate::proxy::request::route_table::tests::route;
    use crate::proxy::settings::{Route, SentHost, UpstreamSettings};

    const API: &str = "https://api.example.com/base";

    /// A request to the proxy at `localhost:8080`, on its way to an upstream.
    struct Case {
        routes: Vec<Route>,
        settings: UpstreamSettings,
        parts: Parts,
        status: StatusCode,
    }

    impl Case {
        fn new(route: Route, upstream: &str, host: SentHost, target: &str) -> Self {
            let settings = UpstreamSettings { host, ..UpstreamSettings::bare(upstream) };
            let request = http::Request::get(target).header("host", "localhost:8080").body(()).unwrap();
            Self { routes: vec![route], settings, parts: request.into_parts().0, status: StatusCode::FOUND }
        }

        /// Further routes, before the one that the request takes.
        fn beside(mut self, routes: &[Route]) -> Self {
            self.routes.splice(..0, routes.iter().cloned());
            self
        }

        /// The routes, to the upstream and to one called `other`.
        fn table(&self) -> RouteTable {
            let other = UpstreamSettings::bare("http://127.0.0.1:1");
            let named = [("api", self.settings.clone()), ("other", other)];
            let upstreams = named.map(|(name, settings)| Arc::new(Upstream::new(name, settings).unwrap()));
            let metrics = ProxyMetrics::new(&Metrics::new());
            RouteTable::link(Guard::default(), &self.routes, upstreams.into(), |_| None, &metrics).unwrap()
        }

        /// What becomes of a field of the response.
        fn response(&self, scheme: &'static str, name: &'static str, value: &str) -> String {
            String::from_utf8(self.response_of_bytes(scheme, name, value.as_bytes())).unwrap()
        }

        fn response_of_bytes(&self, scheme: &'static str, name: &'static str, value: &[u8]) -> Vec<u8> {
            let table = self.table();
            let path = judge(self.parts.uri.path()).unwrap();
            let entry = table.find("localhost:8080", &path, &self.parts.method).unwrap();
            let peer = Peer { tls: scheme == "https", ..Peer::default() };
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
            if let Some(rewriter) = Rewriter::new(&table, entry, &self.parts, &peer) {
                rewriter.response(&table.upstreams()[0], &self.parts.uri, self.status, &mut headers);
            }
            headers[name].as_bytes().to_owned()
        }

        /// What becomes of a field of the request.
        fn request(&mut self, name: &'static str, value: &str) -> String {
            self.parts.headers.insert(HeaderName::from_static(name), value.parse().unwrap());
            self.send();
            self.parts.headers[name].to_str().unwrap().to_owned()
        }

        fn send(&mut self) {
            let table = self.table();
            let path = judge(self.parts.uri.path()).unwrap();
            let entry = table.find("localhost:8080", &path, &self.parts.method).unwrap();
            let rewriter = Rewriter::new(&table, entry, &self.parts, &Peer::default()).unwrap();
            rewriter.request(&table.upstreams()[0], &mut self.parts);
        }
    }

    fn all(upstream: &str) -> Case {
        Case::new(route("/"), upstream, SentHost::Upstream, "/x/y?z")
    }

    fn strip(path: &str) -> Route {
        Route { strip_prefix: true, ..route(path) }
    }

    fn to_other(path: &str) -> Route {
        Route { upstream: "other".into(), ..route(path) }
    }

    fn stripped(path: &str, upstream: &str) -> Case {
        Case::new(strip(path), upstream, SentHost::Upstream, &format!("{path}/x/y"))
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
        for (upstream, other) in [
            ("http://127.0.0.1:9751", "http://localhost:9752/x"),
            ("http://127.0.0.1:9751", "http://127.0.0.2:9751/x"),
            ("http://127.0.0.2:9751", "http://localhost:9751/x"),
        ] {
            assert_eq!(all(upstream).response("http", "location", other), other);
        }
    }

    #[test]
    fn an_address_by_the_host_that_the_upstream_is_sent_is_the_upstreams_too() {
        let client = Case::new(strip("/api"), API, SentHost::Client, "/api/x");
        for text in ["http://localhost:8080/base/a", "https://localhost:8080/base/a"] {
            assert_eq!(client.response("http", "location", text), "http://localhost:8080/api/a", "{text}");
        }
        let named = Case::new(strip("/api"), API, SentHost::Name("orders.internal".into()), "/api/x");
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
        assert_eq!(plain.response("https", "location", tls), tls, "the API learns of no TLS");
        let elsewhere = "https://orders.internal/y";
        assert_eq!(plain.response("https", "location", elsewhere), "https://localhost:8080/y");
        // From the base path with a slash to the one without: both are `/` here.
        let based = Case::new(route("/"), API, SentHost::Upstream, "/");
        assert_eq!(based.response("http", "location", "/base"), "/base");
        // To another name of the proxy, to another one than the API is sent, to TLS.
        let api = "http://localhost:9751";
        let client = || Case::new(route("/"), api, SentHost::Client, "/x?y");
        let own = || Case::new(route("/"), api, SentHost::Upstream, "/x?y");
        for (case, text) in [
            (client(), "http://127.0.0.1:8080/x?y"),
            (client(), "http://127.0.0.1:8080/other"),
            (client(), "https://localhost:8080/x?y"),
            (client(), "https://localhost:8080/x?y#part"),
            (client(), "https://127.0.0.1:8080/x?y"),
            (client(), "http://localhost:9751/x?y"),
            (own(), "http://127.0.0.1:9751/x?y"),
            (own(), "https://localhost:9751/x?y"),
        ] {
            assert_eq!(case.response("http", "location", text), text);
        }
        // A redirect of the API to the address of the request, with a cookie perhaps, is one here.
        let here = "http://localhost:8080/x?y";
        for (case, text, want) in [
            (own(), "http://localhost:9751/x?y", here),
            (own(), "http://localhost:9751/x?z", "http://localhost:8080/x?z"),
            (own(), "/x?y", "/x?y"),
            (client(), here, here),
            (
                Case::new(strip("/api"), api, SentHost::Client, "/api/x?y"),
                here,
                "http://localhost:8080/api/x?y",
            ),
            (Case::new(strip("/api"), api, SentHost::Client, "/api/x?y"), "/x?y", "/api/x?y"),
            (all("https://api.example.com"), "http://api.example.com/x/y?z", "http://localhost:8080/x/y?z"),
        ] {
            assert_eq!(case.response("http", "location", text), want, "{text}");
        }
        // An API behind TLS that learns that the application has none wants it to use TLS.
        let mut told = all("https://api.example.com");
        told.settings.forwarded = Forwarded::XForwarded;
        let tls = "https://api.example.com/x/y?z";
        assert_eq!(told.response("http", "location", tls), tls);
        assert_eq!(told.response("https", "location", tls), "https://localhost:8080/x/y?z");
    }

    #[test]
    fn an_address_that_is_not_requested_in_the_same_way_again_makes_no_circle() {
        let other_name = "http://127.0.0.1:9751/x";
        for (method, status, name, is_mapped) in [
            (Method::GET, StatusCode::FOUND, "location", false),
            (Method::GET, StatusCode::SEE_OTHER, "location", false),
            (Method::PUT, StatusCode::FOUND, "location", false),
            (Method::POST, StatusCode::PERMANENT_REDIRECT, "location", false),
            (Method::POST, StatusCode::FOUND, "location", true),
            (Method::PUT, StatusCode::SEE_OTHER, "location", true),
            (Method::PATCH, StatusCode::ACCEPTED, "location", true),
            (Method::GET, StatusCode::FOUND, "content-location", true),
        ] {
            let mut case = Case::new(route("/"), "http://localhost:9751", SentHost::Upstream, "/x");
            (case.parts.method, case.status) = (method, status);
            let want = if is_mapped { "http://localhost:8080/x" } else { other_name };
            let Case { parts: Parts { method, .. }, status, .. } = &case;
            assert_eq!(case.response("http", name, other_name), want, "{method} {status} {name}");
        }
    }

    #[test]
    fn an_address_becomes_none_that_leads_elsewhere() {
        let api = "http://api.example.com/v1";
        let aside = || stripped("/api", api).beside(&[to_other("/api/sub")]);
        let unstripped = |routes: &[Route]| {
            Case::new(route("/nostrip"), "http://api.example.com", SentHost::Upstream, "/nostrip/x")
                .beside(routes)
        };
        let here = "http://localhost:8080";
        for (case, name, text, want) in [
            (aside(), "location", "http://api.example.com/v1/sub/x", None),
            (aside(), "location", "/v1/sub/x", None),
            (aside(), "location", "http://api.example.com/v1/subs", Some("/api/subs")),
            (aside(), "link", "<http://api.example.com/v1/sub/x>", None),
            (aside(), "x-next", "http://api.example.com/v1/sub/x", None),
            (unstripped(&[]), "location", "http://api.example.com/login", None),
            (unstripped(&[to_other("/login")]), "location", "http://api.example.com/login", None),
            (unstripped(&[route("/login")]), "location", "http://api.example.com/login", Some("/login")),
            (unstripped(&[strip("/login")]), "location", "http://api.example.com/login", None),
            (unstripped(&[]), "location", "http://api.example.com/nostrip/a", Some("/nostrip/a")),
        ] {
            let want = want.map_or_else(|| text.to_owned(), |path| format!("{here}{path}"));
            assert_eq!(case.response("http", name, text), want, "{text}");
        }
        // A form of the API's that no GET reaches, and an upload whose address takes other methods.
        let mut posted = Case::new(route("/"), "http://api.example.com", SentHost::Upstream, "/x");
        posted.parts.method = Method::POST;
        posted.routes[0].methods = vec![Method::POST];
        assert_eq!(posted.response("http", "location", "http://api.example.com/a"), format!("{here}/a"));

        let mut moved = aside();
        let (own, other) = ("http://localhost:8080/api/b", "http://localhost:8080/api/sub/b");
        assert_eq!(moved.request("destination", own), "http://api.example.com/v1/b");
        assert_eq!(moved.request("destination", other), other);
        assert_eq!(moved.request("if", &format!("<{other}> (<urn:x>)")), format!("<{other}> (<urn:x>)"));
        let mut by_host = aside();
        by_host.routes[0].host = Some("127.0.0.1".into());
        assert_eq!(by_host.request("destination", other), "http://api.example.com/v1/sub/b");
        let other = "http://127.0.0.1:8080/api/sub/b";
        assert_eq!(by_host.request("destination", other), other);
    }

    #[test]
    fn bytes_that_are_no_utf8_stay_what_they_are() {
        let cookies = CookieAttributes { domain: true, path: true, secure: true };
        let mut api = stripped("/v", "http://127.0.0.1:9751/v1");
        api.routes[0].rewrite.cookies = cookies;
        let cases: [(_, &[u8], &[u8]); 7] = [
            ("location", b"http://127.0.0.1:9751/v1/caf\xe9", b"http://localhost:8080/v/caf%E9"),
            ("location", b"/v1/caf\xe9?\xa0", b"/v/caf%E9?%A0"),
            ("location", b"http://elsewhere.test/caf\xe9", b"http://elsewhere.test/caf\xe9"),
            ("link", b"</v1/\xe9>; title=\"\xe9\"", b"</v/%E9>; title=\"\xe9\""),
            ("refresh", b"5; url=/v1/\xe9\xa0", b"5; url=/v/%E9%A0"),
            ("set-cookie", b"a=\xe9; Domain=127.0.0.1; Path=/v1; Secure", b"a=\xe9; Path=/v"),
            ("set-cookie", b"a=\xc3\xa9\xa0; Path=/v1/\xe0\xa0", b"a=\xc3\xa9\xa0; Path=/v/\xe0\xa0"),
        ];
        for (name, bytes, want) in cases {
            let new = api.response_of_bytes("http", name, bytes);
            assert_eq!(new.escape_ascii().to_string(), want.escape_ascii().to_string(), "{name}");
        }
        let mut moved = stripped("/api", API);
        let value = HeaderValue::from_bytes(b"http://localhost:8080/api/caf\xe9").unwrap();
        moved.parts.headers.insert("destination", value);
        moved.send();
        assert_eq!(moved.parts.headers["destination"], "https://api.example.com/base/caf%E9");
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
            (
                "x-urls",
                "https://api.example.com/base/a,https://b",
                "https://api.example.com/base/a,https://b",
            ),
            ("x-upload", "https://api.example.com/base/a?f=a,b", "http://localhost:8080/api/a?f=a,b"),
            ("x-upload", "https://api.example.com/base/a;a=1,httpd", "http://localhost:8080/api/a;a=1,httpd"),
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
            case.settings.forwarded = forwarded;
            assert_eq!(case.request("origin", "http://localhost:8080"), want, "{forwarded:?}");
        }
        for (name, value, is_told) in [
            (X_FORWARDED_HOST, "localhost:8080", true),
            (FORWARDED, "for=1.2.3.4;host=\"localhost:8080\"", true),
            (FORWARDED, "for=1.2.3.4", false),
        ] {
            let mut passed = all(API);
            passed.settings.forwarded = Forwarded::Pass;
            passed.parts.headers.insert(name, HeaderValue::from_static(value));
            let want = if is_told { "http://localhost:8080" } else { "https://api.example.com" };
            assert_eq!(passed.request("origin", "http://localhost:8080"), want, "{value}");
        }
        let mut twice = all(API);
        twice.parts.headers.append("origin", HeaderValue::from_static("https://evil.test"));
        twice.parts.headers.append("origin", HeaderValue::from_static("http://localhost:8080"));
        let before = twice.parts.headers.clone();
        twice.send();
        assert_eq!(twice.parts.headers, before);
        assert_eq!(client.request("destination", "http://localhost:8080/b"), "http://localhost:8080/base/b");
    }

    #[test]
    fn a_cookie_of_the_upstream_is_the_proxys() {
        let cookies = CookieAttributes { domain: true, path: true, secure: true };
        let with = |cookies, mut case: Case| {
            case.routes[0].rewrite = Rewrite { addresses: false, cookies };
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
            ("__host-a=b; Path=/; Secure", "__host-a=b; Path=/; Secure"),
            ("__Host-Http-a=b; Path=/; Secure", "__Host-Http-a=b; Path=/; Secure"),
            ("__HTTP-a=b; Path=/base; Secure", "__HTTP-a=b; Path=/; Secure"),
            ("__SECURE-a=b; Path=/base; Secure", "__SECURE-a=b; Path=/; Secure"),
            ("__Httpa=b; Secure", "__Httpa=b"),
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
