//! Who is asked: the authorization server, found by discovery or named outright.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use url::{Host, Url};

use crate::net::outbound_proxy::{OutboundProxy, Unusable};
use crate::net::tls::{ClientCertificate, TlsError};

use crate::oauth::endpoint::dialect::Dialect;

/// An authorization server and the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerSettings {
    /// Where its endpoints are.
    pub location: Location,
    /// How it is reached: apart from any upstream's settings.
    pub transport: Transport,
    /// What else it calls a Bearer token: `BearerToken`, `bot`. `None`: nothing.
    pub token_type: Option<String>,
    /// How its token endpoint deviates from the protocol.
    pub dialect: Dialect,
}

/// Where an authorization server's endpoints are: named in the configuration, which wins over any metadata, or found
/// by discovery (RFC 8414, else OpenID Connect Discovery 1.0) from the issuer. One of the first two is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Location {
    /// What the server calls itself.
    pub issuer: Option<Issuer>,
    /// Where tokens are asked for. The query component is kept (RFC 6749 section 3.2).
    pub token_endpoint: Option<Url>,
    /// Where tokens are refreshed, where that is another address.
    pub refresh_endpoint: Option<Url>,
    /// Where tokens are given back (RFC 7009).
    pub revocation_endpoint: Option<Url>,
    /// Where tokens are looked at (RFC 7662).
    pub introspection_endpoint: Option<Url>,
    /// Where a person's browser is sent (RFC 6749 section 3.1).
    pub authorization_endpoint: Option<Url>,
    /// Where a login on another device begins (RFC 8628 section 3.1).
    pub device_authorization_endpoint: Option<Url>,
}

impl Location {
    /// A token endpoint and nothing more.
    #[must_use]
    pub(crate) fn endpoint(url: Url) -> Self {
        Self { token_endpoint: Some(url), ..Self::default() }
    }

    /// An issuer, and what its metadata say.
    #[must_use]
    pub(crate) fn issuer(issuer: Issuer) -> Self {
        Self { issuer: Some(issuer), ..Self::default() }
    }
}

/// An issuer identifier (RFC 8414 section 2), kept to the letter: the metadata must repeat it exactly, and a parsed
/// URL would add a final slash that was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issuer {
    text: String,
    url: Url,
}

impl Issuer {
    /// The identifier as it was written.
    #[must_use]
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The same as a URL.
    #[must_use]
    pub(crate) const fn url(&self) -> &Url {
        &self.url
    }
}

impl FromStr for Issuer {
    type Err = url::ParseError;

    /// Takes a URL; scheme, query and fragment are for the caller to judge.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self { text: text.to_owned(), url: Url::parse(text)? })
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// How the authorization server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transport {
    /// PEM file of the certificate authorities to trust; `None`: the platform's.
    pub ca_file: Option<PathBuf>,
    /// The client certificate on each connection (RFC 8705); `None`: none.
    pub certificate: Option<ClientCertificate>,
    /// The HTTP proxy on the way.
    pub proxy: OutboundProxy,
    /// For the connection alone.
    pub connect_timeout: Duration,
    /// For one exchange, from connect to the last byte of the answer; discovery and token request are one each.
    pub timeout: Duration,
}

impl Transport {
    /// The files that were read for it, or will be: a change of one makes it another transport.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let certificate = self.certificate.iter().flat_map(ClientCertificate::files);
        self.ca_file.as_deref().into_iter().chain(certificate)
    }
}

/// What keeps an authorization server from being set up at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ServerError {
    /// The certificate authorities or the client's certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Neither an issuer nor a token endpoint is named.
    #[error("nothing says where the authorization server is")]
    Nowhere,
    /// The HTTP proxy on the way cannot be used.
    #[error("{0}")]
    Proxy(Unusable),
}

/// Whether a secret that goes to `url` stays on this machine.
pub(in crate::oauth) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_kept_to_the_letter() {
        for text in
            ["https://login.example.com", "https://login.example.com/", "HTTPS://Login.Example.com:443"]
        {
            assert_eq!(text.parse::<Issuer>().unwrap().as_str(), text);
        }
        assert!("login.example.com".parse::<Issuer>().is_err());
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (url, want) in [
            ("http://127.0.0.1:9400/token", true),
            ("http://[::1]/token", true),
            ("http://localhost/token", true),
            ("http://localhost.attacker.com/token", false),
            ("http://10.0.0.1/token", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), want, "{url}");
        }
    }
}
