//! A request in writing: to the token endpoint (RFC 6749 section 4, appendix B), and to others that take a form.
//!
//! The crate `oauth2` writes head and client authentication. It knows neither the grants nor the authentications of the
//! later RFCs, so that the form's other parameters are added here. `endpoint`, `introspection` and `revocation` call
//! this.

use std::fmt;

use http::header::AUTHORIZATION;
use oauth2::basic::BasicClient;
use oauth2::{AuthType, ClientId, ClientSecret, RequestTokenError, TokenUrl};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::authentication::{CLIENT_ASSERTION_TYPE, Proof};
use super::client::Client;
use super::grant::{Exchange, Grant, TokenRequest};

/// Writes the token request. `None`: the parts do not make a request, which no resolved configuration leads to.
pub(super) fn write(
    url: &Url,
    client: &Client,
    proof: &Proof,
    grant: &Grant,
    request: &TokenRequest,
) -> Option<oauth2::HttpRequest> {
    let scopes: Vec<_> = request.scope.iter().map(String::as_str).filter(|scope| !scope.is_empty()).collect();
    let scope = scopes.join(" ");
    let mut pairs = vec![("grant_type", grant.grant_type())];
    pairs.extend(grant.parameters());
    pairs.push(("scope", &scope));
    pairs.extend(request.audience.as_deref().map(|audience| ("audience", audience)));
    pairs.extend(request.resource.iter().map(|resource| ("resource", resource.as_str())));
    pairs.extend(request.params.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    form(url, client, proof, &pairs)
}

/// Writes a form to an endpoint where the client authenticates as it does at the token endpoint (RFC 7009 section 2.1,
/// RFC 7662 section 2.1). `None`: as for [`write`].
pub(super) fn form(
    url: &Url,
    client: &Client,
    proof: &Proof,
    pairs: &[(&str, &str)],
) -> Option<oauth2::HttpRequest> {
    let mut writer =
        BasicClient::new(ClientId::new(client.id.clone())).set_token_uri(TokenUrl::from_url(url.clone()));
    let (secret, auth_type) = match proof {
        Proof::Basic(secret) => (Some(secret), AuthType::BasicAuth),
        Proof::Post(secret) => (Some(secret), AuthType::RequestBody),
        Proof::Assertion(_) | Proof::Nothing => (None, AuthType::RequestBody),
    };
    if let Some(secret) = secret {
        writer = writer.set_client_secret(ClientSecret::new(secret.expose().clone()));
    }
    let writer = writer.set_auth_type(auth_type);
    let draft = writer.exchange_client_credentials();
    match draft.request(&|request| Err(Written(Box::new(request)))) {
        Err(RequestTokenError::Request(Written(mut request))) => {
            if let Some(value) = request.headers_mut().get_mut(AUTHORIZATION) {
                value.set_sensitive(true);
            }
            let authentication = Zeroizing::new(std::mem::take(request.body_mut()));
            *request.body_mut() = fill(&authentication, proof, pairs);
            Some(*request)
        }
        _ => None,
    }
}

/// The form with `pairs` before what the crate wrote there of the client. A parameter without a value is the same as
/// none (RFC 6749 section 3.2), and some servers refuse it.
fn fill(authentication: &[u8], proof: &Proof, pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = form_urlencoded::Serializer::new(String::with_capacity(MAX_FORM_BYTES));
    let mut put = |name: &str, value: &str| {
        if !value.is_empty() {
            writer.append_pair(name, value);
        }
    };
    for (name, value) in pairs {
        put(name, value);
    }
    // A parameter is there once (RFC 6749 section 3.2): a request that is pushed ahead names its client itself.
    let given = |name: &str| name == "grant_type" || pairs.iter().any(|(given, _)| *given == name);
    for (name, value) in form_urlencoded::parse(authentication).filter(|(name, _)| !given(name)) {
        put(&name, &value);
    }
    if let Proof::Assertion(assertion) = proof {
        put("client_assertion_type", CLIENT_ASSERTION_TYPE);
        put("client_assertion", assertion.expose());
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
            Self::AuthorizationCode { .. } => "authorization_code",
            Self::DeviceCode(_) => "urn:ietf:params:oauth:grant-type:device_code",
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
            Self::AuthorizationCode { code, redirect_uri, verifier } => vec![
                ("code", code.expose()),
                ("redirect_uri", redirect_uri),
                ("code_verifier", verifier.expose()),
            ],
            Self::DeviceCode(code) => vec![("device_code", code.expose())],
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::client::ClientAuth;
    use super::super::grant::TypedToken;
    use super::super::peer::plain;
    use super::*;
    use crate::secret::Secret;

    const ODD: &str = r#"a+b/c=d%e&f:g "q" 'ü秘' \ é;?#[]{}~*"#;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    fn client(id: &str) -> Client {
        Client { id: id.to_owned(), auth: ClientAuth::None }
    }

    fn url() -> Url {
        "https://as.example/token?v=2".parse().unwrap()
    }

    fn pairs(request: &oauth2::HttpRequest) -> Vec<(String, String)> {
        form_urlencoded::parse(request.body()).into_owned().collect()
    }

    fn typed(token: &str, token_type: &str) -> TypedToken {
        TypedToken { token: secret(token), token_type: token_type.to_owned() }
    }

    fn exchange(actor: Option<TypedToken>, requested: Option<&str>) -> Grant {
        Grant::TokenExchange(Exchange {
            subject: typed(ODD, "urn:ietf:params:oauth:token-type:jwt"),
            actor,
            requested_token_type: requested.map(str::to_owned),
        })
    }

    /// Every grant with the parameters that are its own.
    fn grants() -> Vec<(Grant, Vec<(&'static str, &'static str)>)> {
        let jwt = "urn:ietf:params:oauth:token-type:jwt";
        let exchange_type = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
        let subject = [exchange_type, ("subject_token", ODD), ("subject_token_type", jwt)];
        let actor = [("actor_token", "a.b.c"), ("actor_token_type", "urn:a")];
        vec![
            (Grant::ClientCredentials, vec![("grant_type", "client_credentials")]),
            (Grant::RefreshToken(secret(ODD)), vec![("grant_type", "refresh_token"), ("refresh_token", ODD)]),
            (
                Grant::Password { username: ODD.to_owned(), password: secret(ODD) },
                vec![("grant_type", "password"), ("username", ODD), ("password", ODD)],
            ),
            (
                Grant::JwtBearer(secret("e30.e30.x")),
                vec![
                    ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
                    ("assertion", "e30.e30.x"),
                ],
            ),
            (exchange(None, None), subject.to_vec()),
            (exchange(None, Some("")), subject.to_vec()),
            (
                exchange(Some(typed("a.b.c", "urn:a")), Some("urn:b")),
                [&subject[..], &actor, &[("requested_token_type", "urn:b")]].concat(),
            ),
        ]
    }

    #[test]
    fn each_grant_is_spelled_out_whatever_is_in_it() {
        for (grant, own) in grants() {
            let request = TokenRequest {
                scope: vec!["orders:read".into(), String::new(), "orders:write".into()],
                audience: Some(ODD.to_owned()),
                resource: ["https://a.example/x?y=%26", "https://b.example/", "https://c.example/"]
                    .map(|url| url.parse().unwrap())
                    .to_vec(),
                params: vec![("tenant".into(), ODD.into()), ("empty".into(), String::new())],
            };
            let rest = [
                ("scope", "orders:read orders:write"),
                ("audience", ODD),
                ("resource", "https://a.example/x?y=%26"),
                ("resource", "https://b.example/"),
                ("resource", "https://c.example/"),
                ("tenant", ODD),
                ("client_id", ODD),
            ];
            let want: Vec<_> =
                own.iter().chain(&rest).map(|(name, value)| (name.to_string(), value.to_string())).collect();
            let written = write(&url(), &client(ODD), &Proof::Nothing, &grant, &request).unwrap();
            assert_eq!(pairs(&written), want, "{grant:?}");
            assert!(written.body().is_ascii() && !written.body().contains(&b' '));
            assert_eq!(written.uri(), "https://as.example/token?v=2", "nothing is added to the query");
            assert_eq!(written.headers()["content-type"], "application/x-www-form-urlencoded");
        }
    }

    #[test]
    fn no_parameter_is_there_twice_and_none_without_a_value() {
        let proofs = || {
            [
                Proof::Basic(secret(ODD)),
                Proof::Post(secret(ODD)),
                Proof::Assertion(secret("e30.e30.x")),
                Proof::Nothing,
            ]
        };
        for (grant, _) in grants() {
            for proof in proofs() {
                let empty = TokenRequest {
                    scope: vec![String::new()],
                    audience: Some(String::new()),
                    params: vec![("x".into(), String::new())],
                    ..plain()
                };
                let written = write(&url(), &client("orders"), &proof, &grant, &empty).unwrap();
                let pairs = pairs(&written);
                let names: HashSet<_> = pairs.iter().map(|(name, _)| name).collect();
                assert_eq!(names.len(), pairs.len(), "{pairs:?}");
                assert!(pairs.iter().all(|(_, value)| !value.is_empty()), "{pairs:?}");
                assert_eq!(pairs[0].0, "grant_type");
                let (basic, post) = (matches!(proof, Proof::Basic(_)), matches!(proof, Proof::Post(_)));
                let header = written.headers().get(AUTHORIZATION);
                assert_eq!(header.is_some_and(http::HeaderValue::is_sensitive), basic);
                assert_eq!(names.contains(&"client_secret".to_owned()), post);
                assert_eq!(names.contains(&"client_id".to_owned()), !basic);
            }
        }
    }

    #[test]
    fn a_grant_that_needs_no_client_names_none() {
        let grant = Grant::JwtBearer(secret("e30.e30.x"));
        let written = write(&url(), &client(""), &Proof::Nothing, &grant, &plain()).unwrap();
        assert!(!pairs(&written).iter().any(|(name, _)| name == "client_id"));
    }
}
