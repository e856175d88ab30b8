//! What is asked for: the grant, and the parameters of a token request (RFC 6749 section 4, RFC 8707).

use std::fmt;

use url::Url;

/// A way to a token (RFC 6749 section 1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// `client_credentials` (RFC 6749 section 4.4).
    ClientCredentials,
}

/// A token request, apart from who asks and where.
#[derive(Clone, PartialEq, Eq)]
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

/// Some servers take an API key as a parameter: the names are shown, the values never.
impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { grant, scope, audience, resource, params } = self;
        let params: Vec<_> = params.iter().map(|(name, _)| name).collect();
        f.debug_struct("TokenRequest")
            .field("grant", grant)
            .field("scope", scope)
            .field("audience", audience)
            .field("resource", resource)
            .field("params", &params)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_request_never_prints_the_value_of_a_parameter() {
        let request = TokenRequest {
            grant: Grant::ClientCredentials,
            scope: vec!["orders:read".to_owned()],
            audience: None,
            resource: vec![],
            params: vec![("api_key".to_owned(), "sentinel".to_owned())],
        };
        let shown = format!("{request:?} {request:#?}");
        assert!(shown.contains("api_key") && shown.contains("orders:read"), "{shown}");
        assert!(!shown.contains("sentinel"), "{shown}");
    }
}
