//! What is asked for: the grant, and the parameters of a token request (RFC 6749 section 4, RFC 8707).

use url::Url;

/// A way to a token (RFC 6749 section 1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// `client_credentials` (RFC 6749 section 4.4).
    ClientCredentials,
}

/// A token request, apart from who asks and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// How the token is earned.
    pub grant: Grant,
    /// Scopes, sent as one space-separated `scope`; none: the parameter is left out.
    pub scope: Vec<String>,
    /// `audience`, which Auth0 and others ask for.
    pub audience: Option<String>,
    /// Resource indicators (RFC 8707), each sent as one `resource`.
    pub resource: Vec<Url>,
    /// More form parameters; never one of the protocol's own names.
    pub params: Vec<(String, String)>,
}
