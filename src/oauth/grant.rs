//! What is asked for: the grant, and the parameters of a token request (RFC 6749 section 4, RFC 8707).

use std::fmt;

use crate::secret::Secret;

pub(in crate::oauth) mod authorization_code;
pub(in crate::oauth) mod bearer;
pub(in crate::oauth) mod callback;
pub(in crate::oauth) mod device_code;
pub(in crate::oauth) mod google;
pub(in crate::oauth) mod id_token;
pub(in crate::oauth) mod login;
pub(in crate::oauth) mod redirect_uri;

/// A way to a token (RFC 6749 section 1.3), with all that it spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    /// `client_credentials` (RFC 6749 section 4.4).
    ClientCredentials,
    /// `refresh_token` (RFC 6749 section 6).
    RefreshToken(Secret<String>),
    /// `password` (RFC 6749 section 4.3), which RFC 9700 section 2.4 forbids new clients.
    Password {
        /// The resource owner's name.
        username: String,
        /// And their password.
        password: Secret<String>,
        /// The key of the configuration that says where the password is.
        key: &'static str,
    },
    /// `urn:ietf:params:oauth:grant-type:jwt-bearer` (RFC 7523 section 2.1): a signed assertion.
    JwtBearer(Secret<String>),
    /// The same with a token that another server, or this one, issued before: nothing in it is ours to change.
    IssuedAssertion(Secret<String>),
    /// `urn:ietf:params:oauth:grant-type:token-exchange` (RFC 8693 section 2.1).
    TokenExchange(Exchange),
    /// `authorization_code` (RFC 6749 section 4.1.3): what a browser brought back.
    AuthorizationCode {
        /// The code: it counts once.
        code: Secret<String>,
        /// The one of the authorization request, to the letter.
        redirect_uri: String,
        /// What the request's challenge was made of (RFC 7636 section 4.5); `None`: it had none.
        verifier: Option<Secret<String>>,
    },
    /// `urn:ietf:params:oauth:grant-type:device_code` (RFC 8628 section 3.4).
    DeviceCode(Secret<String>),
}

/// What a token exchange trades in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// Whose rights the new token has.
    pub subject: TypedToken,
    /// Who acts on their behalf.
    pub actor: Option<TypedToken>,
    /// The type asked for; `None`: the server's choice.
    pub requested_token_type: Option<String>,
}

/// A token and the identifier of its type (RFC 8693 section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypedToken {
    /// The token.
    pub token: Secret<String>,
    /// `urn:ietf:params:oauth:token-type:jwt` and its like.
    pub token_type: String,
}

/// A token request, apart from the grant, who asks and where.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TokenRequest {
    /// Scopes, sent as one space-separated `scope`; none: the parameter is left out.
    pub scope: Vec<String>,
    /// `audience`, which Auth0 and others ask for.
    pub audience: Option<String>,
    /// Resource indicators (RFC 8707), each sent as one `resource`, to the letter: servers compare strings.
    pub resource: Vec<String>,
    /// More form parameters; never one of the protocol's own names.
    pub params: Vec<(String, String)>,
}

/// Some servers take an API key as a parameter: the names are shown, the values never.
impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scope, audience, resource, params } = self;
        let params: Vec<_> = params.iter().map(|(name, _)| name).collect();
        f.debug_struct("TokenRequest")
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
            scope: vec!["orders:read".to_owned()],
            audience: None,
            resource: vec![],
            params: vec![("api_key".to_owned(), "sentinel".to_owned())],
        };
        let shown = format!("{request:?} {request:#?}");
        assert!(shown.contains("api_key") && shown.contains("orders:read"), "{shown}");
        assert!(!shown.contains("sentinel"), "{shown}");
    }

    #[test]
    fn a_grant_never_prints_what_it_spends() {
        let secret = || Secret::new("sentinel".to_owned());
        let typed = || TypedToken { token: secret(), token_type: "jwt".to_owned() };
        for grant in [
            Grant::RefreshToken(secret()),
            Grant::Password { username: "alice".to_owned(), password: secret(), key: "password_file" },
            Grant::JwtBearer(secret()),
            Grant::IssuedAssertion(secret()),
            Grant::AuthorizationCode {
                code: secret(),
                redirect_uri: String::new(),
                verifier: Some(secret()),
            },
            Grant::DeviceCode(secret()),
            Grant::TokenExchange(Exchange {
                subject: typed(),
                actor: Some(typed()),
                requested_token_type: None,
            }),
        ] {
            assert!(!format!("{grant:?} {grant:#?}").contains("sentinel"));
        }
    }
}
