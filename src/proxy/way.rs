//! The way to an upstream: straight, by a Unix socket, or through an HTTP proxy; worked out once for each upstream.
//!
//! `connect` goes it. What the environment says of proxies counts as curl has it, with two bounds: it never counts for this
//! machine, and `HTTP_PROXY` counts in lower case alone, since a request can set the other one in CGI (CVE-2016-5385).

use std::path::PathBuf;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use super::upstream::{Proxy, UpstreamSettings};
use crate::net::loopback::is_loopback_host;

/// How connections to an upstream are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To its address.
    Straight,
    /// By this Unix socket.
    Socket(PathBuf),
    /// Through this proxy.
    Through(HttpProxy),
}

/// An HTTP proxy that is asked for a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HttpProxy {
    /// Its address, as a URL without user and password.
    pub(super) address: Uri,
    /// What it is shown of us; sensitive, so that it never prints.
    pub(super) authorization: Option<HeaderValue>,
}

/// What the environment says of proxies; empty: nothing.
#[derive(Clone, Default)]
pub(super) struct Environment {
    pub(super) https: String,
    pub(super) http: String,
    pub(super) no: String,
}

/// The proxy that is meant cannot be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unusable;

impl Environment {
    /// Reads the process's own.
    pub(super) fn read() -> Self {
        let first = |names: &[&str]| {
            let set = names.iter().filter_map(|name| std::env::var(name).ok());
            set.into_iter().find(|value| !value.is_empty()).unwrap_or_default()
        };
        Self {
            https: first(&["HTTPS_PROXY", "https_proxy"]),
            http: first(&["http_proxy"]),
            no: first(&["NO_PROXY", "no_proxy"]),
        }
    }

    fn proxy_for(&self, target: &Uri) -> Result<Option<HttpProxy>, Unusable> {
        let said = if target.scheme() == Some(&Scheme::HTTPS) { &self.https } else { &self.http };
        if said.is_empty() || is_loopback_host(target.host().unwrap_or_default()) {
            return Ok(None);
        }
        // A proxy that is no proxy must not pass for none: somebody counts on it.
        let matcher = Matcher::builder().all(said.as_str()).no(self.no.as_str()).build();
        if let Some(found) = matcher.intercept(target) {
            return HttpProxy::new(&found).map(Some);
        }
        let meant = Matcher::builder().all(said.as_str()).build().intercept(target);
        meant.map(|_| None).ok_or(Unusable)
    }
}

impl HttpProxy {
    fn new(found: &Intercept) -> Result<Self, Unusable> {
        let address = found.uri().clone();
        if address.scheme() != Some(&Scheme::HTTP) || address.host().is_none_or(str::is_empty) {
            return Err(Unusable);
        }
        let mut authorization = found.basic_auth().cloned();
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Ok(Self { address, authorization })
    }
}

impl Way {
    /// The way to `authority`, as the settings and the environment say.
    pub(super) fn new(
        settings: &UpstreamSettings,
        scheme: &Scheme,
        authority: &Authority,
        environment: &Environment,
    ) -> Result<Self, Unusable> {
        if let Some(socket) = &settings.socket {
            return Ok(Self::Socket(socket.clone()));
        }
        let target = address(scheme, authority);
        let proxy = match &settings.proxy {
            Proxy::Direct => None,
            Proxy::Environment => environment.proxy_for(&target)?,
            Proxy::Through(url) => {
                let found = Matcher::builder().all(url.as_str()).build().intercept(&target);
                Some(HttpProxy::new(&found.ok_or(Unusable)?)?)
            }
        };
        Ok(proxy.map_or(Self::Straight, Self::Through))
    }
}

/// The address of an upstream, as a connector wants it.
pub(super) fn address(scheme: &Scheme, authority: &Authority) -> Uri {
    Uri::builder()
        .scheme(scheme.clone())
        .authority(authority.clone())
        .path_and_query("/")
        .build()
        .expect("scheme, authority and path are all there")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(https: &str, http: &str, no: &str) -> Environment {
        Environment { https: https.to_owned(), http: http.to_owned(), no: no.to_owned() }
    }

    fn proxy_for(url: &str, environment: &Environment) -> Result<Option<String>, Unusable> {
        let found = environment.proxy_for(&url.parse().unwrap())?;
        Ok(found.map(|proxy| proxy.address.authority().unwrap().to_string()))
    }

    #[test]
    fn the_environment_names_a_proxy_by_the_scheme_of_the_upstream() {
        let both = environment("http://secure:1", "clear:2", "");
        assert_eq!(proxy_for("https://api.example.com/", &both), Ok(Some("secure:1".to_owned())));
        assert_eq!(proxy_for("http://api.example.com/", &both), Ok(Some("clear:2".to_owned())));
        assert_eq!(proxy_for("http://api.example.com/", &environment("http://secure:1", "", "")), Ok(None));
    }

    #[test]
    fn who_is_not_to_be_reached_by_the_proxy_is_reached_straight() {
        for (no, host) in [
            ("*", "api.example.com"),
            ("example.com", "api.example.com"),
            (".example.com", "api.example.com"),
            ("other.test, api.example.com", "api.example.com"),
            ("10.0.0.0/8", "10.1.2.3"),
            ("10.1.2.3", "10.1.2.3"),
            ("fd00::/8", "[fd00::1]"),
            ("", "127.0.0.1"),
            ("", "localhost:8080"),
            ("", "[::1]"),
        ] {
            let environment = environment("http://p:1", "", no);
            assert_eq!(proxy_for(&format!("https://{host}/"), &environment), Ok(None), "{no} {host}");
        }
        for (no, host) in [("example.com", "notexample.com"), ("10.0.0.0/8", "11.1.2.3"), ("", "10.0.0.1")] {
            let environment = environment("http://p:1", "", no);
            assert!(proxy_for(&format!("https://{host}/"), &environment).unwrap().is_some(), "{no} {host}");
        }
    }

    #[test]
    fn a_proxy_that_cannot_be_spoken_to_is_not_passed_by() {
        for said in ["https://p:1", "socks5://p:1", "ftp://p", "http://", "::::"] {
            let environment = environment(said, "", "spared.test");
            assert_eq!(proxy_for("https://api.example.com/", &environment), Err(Unusable), "{said}");
        }
    }

    #[test]
    fn credentials_of_a_proxy_are_shown_to_it_and_never_printed() {
        let environment = environment("http://al%40ice:sen%3Atinel@p:3128", "", "");
        let proxy = environment.proxy_for(&"https://api.example.com/".parse().unwrap()).unwrap().unwrap();
        // al@ice:sen:tinel
        assert_eq!(proxy.authorization.as_ref().unwrap(), "Basic YWxAaWNlOnNlbjp0aW5lbA==");
        assert_eq!(proxy.address.authority().unwrap(), "p:3128");
        let shown = format!("{proxy:?}");
        assert!(!shown.contains("tinel") && !shown.contains("YWxA"), "{shown}");
    }
}
