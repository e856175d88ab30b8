//! The HTTP proxy on the way out, for upstreams and authorization servers alike.
//!
//! What the environment says of proxies counts as curl and Go have it, with two bounds: it never counts for this machine, and
//! `HTTP_PROXY` counts only where the program is no CGI script, since a request can set it there (CVE-2016-5385).
//! `http_connect` opens the tunnel to an upstream. Callers: `proxy::way` and `http_client` of this room.

use std::fmt;

use http::uri::Scheme;
use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use url::Url;

use super::loopback::is_loopback_host;

/// Which HTTP proxy connections go through (CONNECT, RFC 9110 section 9.3.6).
#[derive(Clone, Default, PartialEq, Eq)]
pub enum OutboundProxy {
    /// The one that `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` name.
    #[default]
    Environment,
    /// None.
    Direct,
    /// This one; a user and a password in it are sent to it alone.
    Through(Url),
}

/// An HTTP proxy that tunnels are opened through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProxy {
    /// Its address, as a URL without user and password.
    pub address: Uri,
    /// `Proxy-Authorization`; sensitive, so that it never prints.
    pub authorization: Option<HeaderValue>,
}

/// What the environment says of proxies; empty: nothing.
#[derive(Clone, Default)]
pub struct Environment {
    https: String,
    http: String,
    no: String,
}

/// The configured proxy is no HTTP proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusable;

impl OutboundProxy {
    /// The proxy on the way to `target`; `None`: none.
    ///
    /// # Errors
    /// [`Unusable`]
    pub fn to(&self, target: &Uri, environment: &Environment) -> Result<Option<HttpProxy>, Unusable> {
        match self {
            Self::Direct => Ok(None),
            Self::Environment => environment.proxy_to(target),
            Self::Through(url) => {
                let found = Matcher::builder().all(url.as_str()).build().intercept(target);
                HttpProxy::new(&found.ok_or(Unusable)?).map(Some)
            }
        }
    }
}

/// Without the user and the password.
impl fmt::Debug for OutboundProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("Environment"),
            Self::Direct => f.write_str("Direct"),
            Self::Through(url) => {
                let host = url.host_str().unwrap_or_default();
                write!(f, "Through({host}:{})", url.port_or_known_default().unwrap_or_default())
            }
        }
    }
}

impl Environment {
    /// Reads the process's own.
    #[must_use]
    pub fn read() -> Self {
        Self::of(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| variable(name)).unwrap_or_default();
        let is_cgi = variable("REQUEST_METHOD").is_some();
        Self {
            https: first(&["HTTPS_PROXY", "https_proxy"]),
            http: first(if is_cgi { &["http_proxy"] } else { &["HTTP_PROXY", "http_proxy"] }),
            no: first(&["NO_PROXY", "no_proxy"]),
        }
    }

    /// Whether there is a proxy for https and it cannot be spoken to.
    #[must_use]
    pub fn is_unusable(&self) -> bool {
        let proxy = Matcher::builder().all(self.https.as_str()).build();
        let target = Uri::from_static("https://destination.invalid/");
        !self.https.is_empty() && proxy.intercept(&target).is_none_or(|found| HttpProxy::new(&found).is_err())
    }

    fn proxy_to(&self, target: &Uri) -> Result<Option<HttpProxy>, Unusable> {
        let said = if target.scheme() == Some(&Scheme::HTTPS) { &self.https } else { &self.http };
        if said.is_empty() || is_loopback_host(target.host().unwrap_or_default()) {
            return Ok(None);
        }
        // A value that is no proxy must not count as none: what it was set for would be bypassed.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(https: &str, http: &str, no: &str) -> Environment {
        Environment { https: https.to_owned(), http: http.to_owned(), no: no.to_owned() }
    }

    fn proxy_for(url: &str, environment: &Environment) -> Result<Option<String>, Unusable> {
        let found = environment.proxy_to(&url.parse().unwrap())?;
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
        let proxy = environment.proxy_to(&"https://api.example.com/".parse().unwrap()).unwrap().unwrap();
        // al@ice:sen:tinel
        assert_eq!(proxy.authorization.as_ref().unwrap(), "Basic YWxAaWNlOnNlbjp0aW5lbA==");
        assert_eq!(proxy.address.authority().unwrap(), "p:3128");
        let shown = format!("{proxy:?}");
        assert!(!shown.contains("tinel") && !shown.contains("YWxA"), "{shown}");
    }

    #[test]
    fn variables_count_in_both_cases_and_http_proxy_not_in_a_cgi_script() {
        let of = |set: &'static [(&str, &str)]| {
            Environment::of(|name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        for set in [
            &[("HTTPS_PROXY", "http://a:1"), ("HTTP_PROXY", "http://b:2"), ("NO_PROXY", "spared.test")],
            &[("https_proxy", "http://a:1"), ("http_proxy", "http://b:2"), ("no_proxy", "spared.test")],
        ] {
            let environment = of(set);
            assert_eq!(proxy_for("https://api.test/", &environment), Ok(Some("a:1".to_owned())));
            assert_eq!(proxy_for("http://api.test/", &environment), Ok(Some("b:2".to_owned())));
            assert_eq!(proxy_for("https://spared.test/", &environment), Ok(None));
        }
        let cgi = of(&[("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "http://evil:2")]);
        assert_eq!(proxy_for("http://api.test/", &cgi), Ok(None));
    }

    #[test]
    fn a_setting_wins_over_the_environment() {
        let environment = environment("http://p:1", "", "");
        let target = Uri::from_static("https://api.test/");
        assert_eq!(OutboundProxy::Direct.to(&target, &environment), Ok(None));
        let named = OutboundProxy::Through("http://al%40ice:sentinel@q:2".parse().unwrap());
        let proxy = named.to(&target, &environment).unwrap().unwrap();
        assert_eq!(proxy.address.authority().unwrap(), "q:2");
        assert_eq!(proxy.authorization.unwrap(), "Basic YWxAaWNlOnNlbnRpbmVs");
        assert!(!format!("{named:?}").contains("sentinel"));
        let named = OutboundProxy::Environment.to(&target, &environment).unwrap().unwrap();
        assert_eq!(named.address.authority().unwrap(), "p:1");
        assert!(!environment.is_unusable());
    }
}
