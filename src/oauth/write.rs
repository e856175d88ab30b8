//! A token request in writing (RFC 6749 section 4, appendix B), by the crate `oauth2`.
//!
//! That crate knows the grants of RFC 6749. The others are extension grants (section 4.5): the same request with another
//! `grant_type` and parameters of its own. `endpoint` calls this.

use std::fmt;

use http::header::AUTHORIZATION;
use oauth2::basic::BasicClient;
use oauth2::{AuthType, ClientId, ClientSecret, RequestTokenError, Scope, TokenUrl};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use crate::secret::Secret;

use super::client::{Client, ClientAuth};
use super::grant::{Exchange, Grant, TokenRequest};

/// Writes the token request. `None`: the parts do not make a request, which no resolved configuration leads to.
pub(super) fn write(
    url: &Url,
    client: &Client,
    secret: Option<&Secret<String>>,
    grant: &Grant,
    request: &TokenRequest,
) -> Option<oauth2::HttpRequest> {
    let mut writer =
        BasicClient::new(ClientId::new(client.id.clone())).set_token_uri(TokenUrl::from_url(url.clone()));
    match (&client.auth, secret) {
        (ClientAuth::SecretBasic(_), Some(secret)) => {
            writer = writer.set_client_secret(ClientSecret::new(secret.expose().clone()));
            writer = writer.set_auth_type(AuthType::BasicAuth);
        }
        (ClientAuth::SecretPost(_), Some(secret)) => {
            writer = writer.set_client_secret(ClientSecret::new(secret.expose().clone()));
            writer = writer.set_auth_type(AuthType::RequestBody);
        }
        (ClientAuth::None | ClientAuth::Tls, None) => writer = writer.set_auth_type(AuthType::RequestBody),
        _ => return None,
    }
    let mut draft = writer.exchange_client_credentials();
    // An empty parameter is the same as none (RFC 6749 section 3.2), and some servers refuse it.
    let scopes = request.scope.iter().filter(|scope| !scope.is_empty());
    draft = draft.add_scopes(scopes.map(|scope| Scope::new(scope.clone())));
    if let Some(audience) = request.audience.as_ref().filter(|audience| !audience.is_empty()) {
        draft = draft.add_extra_param("audience", audience.clone());
    }
    for resource in &request.resource {
        draft = draft.add_extra_param("resource", resource.as_str());
    }
    for (name, value) in &request.params {
        draft = draft.add_extra_param(name.clone(), value.clone());
    }
    match draft.request(&|request| Err(Written(Box::new(request)))) {
        Err(RequestTokenError::Request(Written(mut request))) => {
            if let Some(value) = request.headers_mut().get_mut(AUTHORIZATION) {
                value.set_sensitive(true);
            }
            if *grant != Grant::ClientCredentials {
                let body = Zeroizing::new(std::mem::take(request.body_mut()));
                *request.body_mut() = respell(&body, grant);
            }
            Some(*request)
        }
        _ => None,
    }
}

/// The same form for another grant: its `grant_type`, and what it spends.
fn respell(form: &[u8], grant: &Grant) -> Vec<u8> {
    let mut writer = form_urlencoded::Serializer::new(String::with_capacity(MAX_FORM_BYTES));
    writer.append_pair("grant_type", grant.grant_type());
    for (name, value) in grant.parameters() {
        writer.append_pair(name, value);
    }
    for (name, value) in form_urlencoded::parse(form).filter(|(name, _)| name != "grant_type") {
        writer.append_pair(&name, &value);
    }
    writer.finish().into_bytes()
}

impl Grant {
    /// What `grant_type` says.
    const fn grant_type(&self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::RefreshToken(_) => "refresh_token",
            Self::Password { .. } => "password",
            Self::JwtBearer(_) => "urn:ietf:params:oauth:grant-type:jwt-bearer",
            Self::TokenExchange(_) => "urn:ietf:params:oauth:grant-type:token-exchange",
        }
    }

    /// The parameters that only this grant has.
    fn parameters(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::ClientCredentials => Vec::new(),
            Self::RefreshToken(token) => vec![("refresh_token", token.expose())],
            Self::Password { username, password } => {
                vec![("username", username), ("password", password.expose())]
            }
            Self::JwtBearer(assertion) => vec![("assertion", assertion.expose())],
            Self::TokenExchange(Exchange { subject, actor, requested_token_type }) => {
                let mut parameters = vec![
                    ("subject_token", subject.token.expose().as_str()),
                    ("subject_token_type", subject.token_type.as_str()),
                ];
                // RFC 8693 section 2.1: the actor's type is there if, and only if, the actor is.
                if let Some(actor) = actor {
                    parameters.push(("actor_token", actor.token.expose()));
                    parameters.push(("actor_token_type", &actor.token_type));
                }
                if let Some(requested) = requested_token_type {
                    parameters.push(("requested_token_type", requested));
                }
                parameters
            }
        }
    }
}

/// Room for most forms at once: a buffer that grows leaves copies of what is in it.
const MAX_FORM_BYTES: usize = 8 * 1024;

/// The request, taken out of the crate's hands before it is sent: its way out is that of an error.
struct Written(Box<oauth2::HttpRequest>);

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Written(***)")
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token request")
    }
}

impl std::error::Error for Written {}
