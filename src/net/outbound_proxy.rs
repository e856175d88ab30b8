//! The HTTP proxy on the way out, for upstreams and authorization servers alike.
//!
//! What the environment says of proxies counts as curl and Go have it (`ALL_PROXY` last, an empty variable not at all), with
//! two bounds: it never counts for this machine, and
//! `HTTP_PROXY` counts only where the program is no CGI script, since a request can set it there (CVE-2016-5385).
//! `http_connect` opens the tunnel to an upstream. Callers: `proxy::way` and `http_client` of this room.

use std::ffi::OsString;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::uri::Scheme;
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use url::{ParseError, Url};
use zeroize::Zeroizing;

use super::host_policy::is_loopback_host;
use super::no_proxy::NoProxy;

/// Which HTTP proxy connections go through (CONNECT, RFC 9110 section 9.3.6).
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) enum OutboundProxy {
    /// The one that `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` name.
    #[default]
    Environment,
    /// None.
    Direct,
    /// This one; a user and a password in it are sent to it alone.
    Through(Url),
}

/// An HTTP proxy that tunnels are opened through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpProxy {
    /// Its address, as a URL without user and password.
    pub address: Uri,
    /// `Proxy-Authorization`; sensitive, so that it never prints.
    pub authorization: Option<HeaderValue>,
}

/// What the environment says of proxies; empty: nothing.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    https: Variable,
    http: Variable,
    no: NoProxy,
}

/// A variable that names a proxy; empty: none.
#[derive(Clone, Default)]
struct Variable {
    name: &'static str,
    value: OsString,
}

/// A proxy is configured that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unusable {
    /// Where it is configured: the name of a variable or of a key.
    pub by: &'static str,
    /// What is wrong with it.
    pub flaw: ProxyFlaw,
}

/// What is wrong with the address of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyFlaw {
    /// It begins with `https://`.
    Tls,
    /// It is a SOCKS proxy.
    Socks,
    /// Its port is no number from 0 to 65535.
    Port,
    /// It is not a URL, or one of another kind.
    Malformed,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = self.by;
        match self.flaw {
            ProxyFlaw::Tls => {
                write!(f, "the proxy that {by} names begins with https://, which is not supported")
            }
            ProxyFlaw::Socks => write!(f, "{by} names a SOCKS proxy, which is not supported"),
            ProxyFlaw::Port => write!(f, "the proxy that {by} names has a port that does not exist"),
            ProxyFlaw::Malformed => write!(f, "the value of {by} is not the http:// URL of a proxy"),
        }
    }
}

impl Unusable {
    /// What to do about it.
    #[must_use]
    pub(crate) const fn help(self) -> &'static str {
        match self.flaw {
            ProxyFlaw::Tls => {
                "name the port that it has for http://, there or by `proxy`, or set `proxy` to \"none\""
            }
            ProxyFlaw::Socks => {
                "name an HTTP proxy at http://, there or by `proxy`, or set `proxy` to \"none\""
            }
            ProxyFlaw::Port => {
                "write its port as a number up to 65535, there or by `proxy`, or set `proxy` to \"none\""
            }
            ProxyFlaw::Malformed => {
                "write it as in http://user:password@proxy.example.com:3128, there or by `proxy`, and percent-encode \
                 `#` (%23), `/`, `?`, `@`, `%` and what is not ASCII in its user and password; or set `proxy` to \"none\""
            }
        }
    }
}

impl OutboundProxy {
    /// The proxy on the way to `target`; `None`: none.
    ///
    /// # Errors
    /// [`Unusable`]
    pub(crate) fn to(&self, target: &Uri, environment: &Environment) -> Result<Option<HttpProxy>, Unusable> {
        match self {
            Self::Direct => Ok(None),
            Self::Environment => environment.proxy_to(target),
            Self::Through(url) => {
                let proxy = HttpProxy::read(url.as_str());
                proxy.map(Some).map_err(|flaw| Unusable { by: "`proxy`", flaw })
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
    pub(crate) fn read() -> Self {
        Self::of(|name| std::env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let first = |names: &[&'static str]| {
            let found = names.iter().find_map(|name| Some(Variable { name, value: variable(name)? }));
            found.unwrap_or_default()
        };
        let is_cgi = variable("REQUEST_METHOD").is_some();
        Self {
            https: first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]),
            http: first(if is_cgi {
                &["http_proxy", "ALL_PROXY", "all_proxy"]
            } else {
                &["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
            }),
            no: NoProxy::read(&first(&["NO_PROXY", "no_proxy"]).value.to_string_lossy()),
        }
    }

    fn proxy_to(&self, target: &Uri) -> Result<Option<HttpProxy>, Unusable> {
        let variable = if target.scheme() == Some(&Scheme::HTTPS) { &self.https } else { &self.http };
        let host = target.host().unwrap_or_default();
        let is_near = is_loopback_host(host.strip_suffix('.').unwrap_or(host));
        if variable.value.is_empty() || is_near || self.no.spares(target) {
            return Ok(None);
        }
        // A value that is no proxy must not count as none: what it was set for would be bypassed.
        let text = variable.value.to_str().ok_or(ProxyFlaw::Malformed);
        let proxy = text.and_then(|text| HttpProxy::read(text.trim()));
        proxy.map(Some).map_err(|flaw| Unusable { by: variable.name, flaw })
    }
}

impl HttpProxy {
    /// Reads the URL of a proxy; without a scheme it is `http://`.
    fn read(text: &str) -> Result<Self, ProxyFlaw> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" => return Err(ProxyFlaw::Tls),
            socks if socks.starts_with("socks") => return Err(ProxyFlaw::Socks),
            _ => return Err(ProxyFlaw::Malformed),
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // Then what stands before the path is a part of the user or the password, and no host.
        if path.contains('@') {
            return Err(ProxyFlaw::Malformed);
        }
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        let url = Url::parse(&format!("http://{host}/")).map_err(|error| match error {
            ParseError::InvalidPort => ProxyFlaw::Port,
            _ => ProxyFlaw::Malformed,
        })?;
        let address = Uri::builder().scheme(Scheme::HTTP).authority(url.authority()).path_and_query("/");
        let address = address.build().map_err(|_| ProxyFlaw::Malformed)?;
        Ok(Self { address, authorization: user.and_then(basic) })
    }
}

/// The credentials of a user and a password as they stand in a URL (RFC 7617).
fn basic(text: &str) -> Option<HeaderValue> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let mut plain = Zeroizing::new(percent_decode_str(user).collect::<Vec<u8>>());
    plain.push(b':');
    plain.extend(percent_decode_str(password));
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(&plain))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(https: &str, http: &str, no: &str) -> Environment {
        let variable = |name, value: &str| Variable { name, value: value.into() };
        Environment {
            https: variable("HTTPS_PROXY", https),
            http: variable("HTTP_PROXY", http),
            no: NoProxy::read(no),
        }
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
        for (value, flaw) in [
            ("https://p:1", ProxyFlaw::Tls),
            ("socks5://p:1", ProxyFlaw::Socks),
            ("http://user:sentinel@p:99999", ProxyFlaw::Port),
            ("ftp://p", ProxyFlaw::Malformed),
            ("http://", ProxyFlaw::Malformed),
            ("::::", ProxyFlaw::Malformed),
            ("http://us%ZZer:p#ss@p:1", ProxyFlaw::Malformed),
            ("http://user:12#ss@p:1", ProxyFlaw::Malformed),
            ("user:p/ss@p:1", ProxyFlaw::Malformed),
        ] {
            let environment = environment(value, "", "spared.test");
            let unusable = Unusable { by: "HTTPS_PROXY", flaw };
            assert_eq!(proxy_for("https://api.example.com/", &environment), Err(unusable), "{value}");
            assert_eq!(proxy_for("https://spared.test/", &environment), Ok(None), "{value}");
            assert!(unusable.to_string().contains("HTTPS_PROXY") && unusable.help().contains("`proxy`"));
        }
    }

    #[cfg(unix)]
    #[test]
    fn bytes_that_are_not_utf8_pass_neither_a_proxy_nor_the_exceptions_by() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;

        let of = |set: &'static [(&str, &[u8])]| {
            Environment::of(|name| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| OsStr::from_bytes(value).to_owned())
            })
        };
        let environment = of(&[
            ("HTTPS_PROXY", b"http://user:sekr\xe9t@p:1"),
            ("HTTP_PROXY", b"http://q:2"),
            ("NO_PROXY", b"\xe9.test,spared.test"),
        ]);
        let unusable = Unusable { by: "HTTPS_PROXY", flaw: ProxyFlaw::Malformed };
        assert_eq!(proxy_for("https://api.test/", &environment), Err(unusable));
        assert_eq!(proxy_for("http://api.test/", &environment), Ok(Some("q:2".to_owned())));
        assert_eq!(proxy_for("https://spared.test/", &environment), Ok(None));
    }

    #[test]
    fn a_password_may_hold_any_byte() {
        for (value, authorization) in [
            // user:p@ss
            ("http://user:p@ss@p:1", "Basic dXNlcjpwQHNz"),
            ("http://user:p%40ss@p:1", "Basic dXNlcjpwQHNz"),
            // The byte E9 alone.
            ("http://user:%E9@p:1", "Basic dXNlcjrp"),
            ("user@p:1", "Basic dXNlcjo="),
        ] {
            let environment = environment(value, "", "");
            let proxy = environment.proxy_to(&Uri::from_static("https://api.test/")).unwrap().unwrap();
            assert_eq!(proxy.authorization.unwrap(), authorization, "{value}");
            assert_eq!(proxy.address, "http://p:1/", "{value}");
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
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
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
        let all = of(&[("ALL_PROXY", "http://c:3"), ("HTTPS_PROXY", "http://a:1")]);
        assert_eq!(proxy_for("https://api.test/", &all), Ok(Some("a:1".to_owned())));
        assert_eq!(proxy_for("http://api.test/", &all), Ok(Some("c:3".to_owned())));
        let socks = of(&[("all_proxy", "socks5h://c:3")]);
        let unusable = Unusable { by: "all_proxy", flaw: ProxyFlaw::Socks };
        assert_eq!(proxy_for("https://api.test/", &socks), Err(unusable));
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
    }
}
