//! Answers that name the upstream, rewritten so that a browser stays with the proxy: where redirects lead, and whom
//! cookies are for. It is asked for by the route, and costs nothing where it is not.

use http::header::{CONTENT_LOCATION, HOST, LOCATION, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use url::{Position, Url};

use super::forwarded::scheme;
use super::peer::Peer;
use super::route::Route;
use super::upstream::Upstream;

/// What a route rewrites in answers. Default: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// `Location` and `Content-Location` that lead to the upstream lead to the proxy instead.
    pub location: bool,
    /// Cookies that are for the upstream's domain and paths are for the proxy's.
    pub cookies: bool,
}

/// The proxy as one request sees it: what takes the upstream's place in the answer.
pub(super) struct Rewriter<'r> {
    route: &'r Route,
    scheme: &'static str,
    authority: String,
}

impl<'r> Rewriter<'r> {
    /// `None`: the route rewrites nothing.
    pub(super) fn new(route: &'r Route, parts: &Parts, peer: &Peer) -> Option<Self> {
        if route.rewrite == Rewrite::default() {
            return None;
        }
        let target = parts.uri.authority().map(http::uri::Authority::as_str);
        let host = || parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        Some(Self { route, scheme: scheme(peer), authority: target.or_else(host)?.to_owned() })
    }

    /// Rewrites an answer of `upstream`.
    pub(super) fn apply(&self, upstream: &Upstream, headers: &mut HeaderMap) {
        let place = Place { url: &upstream.settings.url, base: &upstream.base_path };
        if self.route.rewrite.location {
            for name in [LOCATION, CONTENT_LOCATION] {
                if let Some(value) = headers.get_mut(&name)
                    && let Some(new) = value.to_str().ok().and_then(|text| self.location(place, text))
                    && let Ok(new) = HeaderValue::try_from(new)
                {
                    *value = new;
                }
            }
        }
        if self.route.rewrite.cookies
            && let http::header::Entry::Occupied(mut cookies) = headers.entry(SET_COOKIE)
        {
            for value in cookies.iter_mut() {
                if let Some(new) = value.to_str().ok().map(|text| self.cookie(place, text))
                    && let Ok(new) = HeaderValue::try_from(new)
                {
                    *value = new;
                }
            }
        }
    }

    /// Where a redirect leads instead; `None`: it does not lead to the upstream, or is relative and leads there by itself.
    fn location(&self, place: Place<'_>, text: &str) -> Option<String> {
        let by_path = text.starts_with('/') && !text.starts_with("//") && !text.starts_with("/\\");
        let absolute =
            text.starts_with("//") || text.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http"));
        if !by_path && !absolute {
            return None;
        }
        let url = place.url.join(text).ok()?;
        // Whoever is named in it is asked for by the upstream, and not by us.
        if url.origin() != place.url.origin() || !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let path = self.path(place, url.path())?;
        let rest = &url[Position::AfterPath..];
        // `//name` would be another host.
        if by_path && !path.starts_with("//") {
            return Some(format!("{path}{rest}"));
        }
        Some(format!("{}://{}{path}{rest}", self.scheme, self.authority))
    }

    /// Where a path of the upstream is found at the proxy; `None`: this route does not lead there.
    fn path(&self, place: Place<'_>, path: &str) -> Option<String> {
        let rest = path.strip_prefix(place.base).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
        let prefix = if self.route.strip_prefix { self.route.path.trim_end_matches('/') } else { "" };
        let path = format!("{prefix}{rest}");
        Some(if path.is_empty() { "/".to_owned() } else { path })
    }

    /// A cookie for the proxy. What is not about the upstream's place stays to the letter.
    fn cookie(&self, place: Place<'_>, text: &str) -> String {
        let mut parts = text.split(';');
        let pair = parts.next().unwrap_or_default();
        let name = pair.trim_start();
        // Names that promise something of these attributes (RFC 6265bis section 4.1.3); browsers hold them to it, and take
        // `Secure` from this machine without TLS.
        let (host_only, secured) = (name.starts_with("__Host-"), name.starts_with("__Secure-"));
        let in_the_clear = self.scheme == "http" && !host_only && !secured;
        let mut cookie = pair.to_owned();
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
            match name.as_str() {
                "domain" if place.is_in(value) => continue,
                "path" if !host_only => {
                    cookie.push_str("; Path=");
                    cookie.push_str(&self.cookie_path(place, value));
                    continue;
                }
                "secure" | "partitioned" if in_the_clear => continue,
                // Without `Secure` browsers refuse it.
                "samesite" if in_the_clear && value.eq_ignore_ascii_case("none") => {
                    cookie.push_str("; SameSite=Lax");
                    continue;
                }
                _ => {}
            }
            cookie.push(';');
            cookie.push_str(part);
        }
        cookie
    }

    fn cookie_path(&self, place: Place<'_>, path: &str) -> String {
        if let Some(path) = self.path(place, path) {
            return path;
        }
        // A cookie for more than what the upstream's address covers is for all of what the route leads to.
        let above = place.base.strip_prefix(path.trim_end_matches('/'));
        if above.is_some_and(|rest| rest.starts_with('/')) {
            let prefix = if self.route.strip_prefix { self.route.path.as_str() } else { "/" };
            return prefix.to_owned();
        }
        path.to_owned()
    }
}

/// Where the upstream is.
#[derive(Clone, Copy)]
struct Place<'u> {
    url: &'u Url,
    /// Without a slash at its end.
    base: &'u str,
}

impl Place<'_> {
    /// Whether a cookie of this domain is the upstream's (RFC 6265 section 5.1.3).
    fn is_in(self, domain: &str) -> bool {
        let domain = domain.trim_start_matches('.').to_ascii_lowercase();
        let host = self.url.host_str().unwrap_or_default();
        host == domain
            || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.') && !domain.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::super::route::tests::route;
    use super::*;

    fn rewriter<'r>(route: &'r Route, scheme: &'static str) -> Rewriter<'r> {
        Rewriter { route, scheme, authority: "localhost:8080".to_owned() }
    }

    fn stripped(path: &str) -> Route {
        Route { strip_prefix: true, ..route(path) }
    }

    fn location(route: &Route, upstream: &str, text: &str) -> Option<String> {
        let url = Url::parse(upstream).unwrap();
        let base = url.path().trim_end_matches('/').to_owned();
        rewriter(route, "http").location(Place { url: &url, base: &base }, text)
    }

    fn cookie(route: &Route, scheme: &'static str, text: &str) -> String {
        let url = Url::parse("https://api.example.com/base").unwrap();
        rewriter(route, scheme).cookie(Place { url: &url, base: "/base" }, text)
    }

    #[test]
    fn a_redirect_to_the_upstream_leads_to_the_proxy() {
        let (all, api) = (route("/"), stripped("/api"));
        let upstream = "https://api.example.com/base";
        for (route, text, want) in [
            (&all, "https://api.example.com/base/a?b=1#c", "http://localhost:8080/a?b=1#c"),
            (&all, "HTTPS://API.example.com:443/base", "http://localhost:8080/"),
            (&all, "//api.example.com/base/a", "http://localhost:8080/a"),
            (&all, "/base/a?b", "/a?b"),
            (&api, "https://api.example.com/base/a", "http://localhost:8080/api/a"),
            (&api, "/base/a", "/api/a"),
            (&api, "/base", "/api"),
        ] {
            assert_eq!(location(route, upstream, text).as_deref(), Some(want), "{text}");
        }
    }

    #[test]
    fn every_other_redirect_is_left_alone() {
        for text in [
            "https://login.example.com/auth",
            "http://api.example.com/base/a",
            "https://api.example.com:8443/base/a",
            "https://user@api.example.com/base/a",
            "https://api.example.com.evil.test/base",
            "https://api.example.com/basement",
            "/elsewhere",
            "a/b",
            "?page=2",
            "mailto:a@example.com",
            "javascript:alert(1)",
            "",
        ] {
            assert_eq!(location(&route("/"), "https://api.example.com/base", text), None, "{text}");
        }
    }

    #[test]
    fn no_redirect_is_made_to_another_host() {
        let to = |text| location(&route("/"), "https://api.example.com/base", text);
        assert_eq!(to("/base//evil.test/a").as_deref(), Some("http://localhost:8080//evil.test/a"));
        assert_eq!(to("/base/\\evil.test").as_deref(), Some("http://localhost:8080//evil.test"));
        assert_eq!(to("/\\evil.test/base"), None);
        assert_eq!(to("/base/../../a"), None, "what is read as another path is judged as that");
    }

    #[test]
    fn a_cookie_of_the_upstream_is_the_proxys() {
        let all = route("/");
        for (text, want) in [
            ("a=b; Domain=api.example.com; Path=/base; Secure; HttpOnly", "a=b; Path=/; HttpOnly"),
            ("a=b; domain=.example.com; path=/base/x; SECURE", "a=b; Path=/x"),
            ("a=b; Path=/", "a=b; Path=/"),
            ("a=\"x; y\"; Max-Age=3; Priority=High", "a=\"x; y\"; Max-Age=3; Priority=High"),
            ("a=b; SameSite=None; Secure; Partitioned", "a=b; SameSite=Lax"),
            ("a=b;SameSite=strict;Secure", "a=b;SameSite=strict"),
            ("a=b; Domain=other.test", "a=b; Domain=other.test"),
            ("a=b; Domain=ample.com", "a=b; Domain=ample.com"),
            ("__Host-a=b; Path=/; Secure", "__Host-a=b; Path=/; Secure"),
            (
                "__Secure-a=b; Path=/base; Secure; SameSite=None",
                "__Secure-a=b; Path=/; Secure; SameSite=None",
            ),
        ] {
            assert_eq!(cookie(&all, "http", text), want);
        }
        assert_eq!(cookie(&stripped("/api"), "http", "a=b; Path=/base/x"), "a=b; Path=/api/x");
        assert_eq!(cookie(&stripped("/api"), "http", "a=b; Path=/"), "a=b; Path=/api");
        let kept = "a=b; Path=/x; Secure; SameSite=None";
        assert_eq!(cookie(&all, "https", "a=b; Path=/base/x; Secure; SameSite=None"), kept);
    }
}
