//! Who is asked: the authorization server, found by discovery or named outright.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

/// An authorization server and the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Where its token endpoint is.
    pub location: Location,
    /// How it is reached: apart from any upstream's settings.
    pub transport: Transport,
}

/// Where the token endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// By discovery (RFC 8414, else OpenID Connect Discovery 1.0) from the issuer.
    Issuer(Url),
    /// Named in the configuration, which wins over any metadata. The query component is kept (RFC 6749 section 3.2).
    TokenEndpoint(Url),
}

/// How the authorization server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transport {
    /// PEM file of the certificate authorities to trust; `None`: the platform's.
    pub ca_file: Option<PathBuf>,
    /// An HTTP proxy on the way; `None`: none, the environment's `HTTPS_PROXY` included.
    pub proxy: Option<Url>,
    /// For the connection alone.
    pub connect_timeout: Duration,
    /// For a whole request, from connect to the last byte of the answer.
    pub timeout: Duration,
}
