//! A request in writing: to the token endpoint (RFC 6749 section 4, appendix B), and to others that take a form.
//!
//! The crate `oauth2` is for two things: here it writes the head and the client authentication by secret (RFC 6749
//! section 2.3.1), and in `authorization_code` it makes the challenge of PKCE. It does not write the grants, because each
//! of its calls would lose something:
//!
//! - authorization code, refresh token, password: it holds code, verifier, token and password in plain strings and writes
//!   them into a form that grows, so that copies of them stay in memory. Here each is zeroed after use.
//! - authorization code: its `RedirectUrl` takes URLs alone; some servers register a redirect URI that is none.
//! - device code: its call wants the whole response of the device endpoint and polls by itself. Here the server's pace,
//!   its `slow_down` and the end of the program decide when the next poll is.
//! - all: the names, the format and the method of a [`Dialect`] apply to every parameter, so that its form would be read
//!   again anyway. Later grants and authentications (RFC 7523, RFC 8693) are not in it.
//!
//! `endpoint`, `introspection` and `revocation` call this.

use std::fmt;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use oauth2::basic::BasicClient;
use oauth2::{AuthType, ClientId, ClientSecret, RequestTokenError, TokenUrl};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use crate::oauth::client::Client;
use crate::oauth::client::authentication::{CLIENT_ASSERTION_TYPE, Proof};
use crate::oauth::endpoint::dialect::{Dialect, RequestFormat, TokenMethod};
use crate::oauth::grant::{Exchange, Grant, TokenRequest};

/// Writes the token request in the endpoint's `dialect`. `None`: the parts do not make a request, which no resolved
/// configuration leads to.
pub(in crate::oauth) fn write(
    url: &Url,
    client: &Client,
    proof: &Proof,
    grant: &Grant,
    request: &TokenRequest,
    dialect: &Dialect,
) -> Option<oauth2::HttpRequest> {
    let scopes: Vec<_> = request.scope.iter().map(String::as_str).filter(|scope| !scope.is_empty()).collect();
    let scope = scopes.join(" ");
    let grant_type = match (grant, &dialect.grant_type) {
        (Grant::ClientCredentials, Some(other)) => other,
        _ => grant.grant_type(),
    };
    let mut parameters = Parameters::default();
    parameters.put(dialect.name("grant_type"), grant_type);
    for (name, value) in grant.parameters() {
        parameters.put(dialect.name(name), value);
    }
    parameters.put(dialect.name("scope"), &scope);
    parameters.put(dialect.name("audience"), request.audience.as_deref().unwrap_or_default());
    for resource in &request.resource {
        parameters.put(dialect.name("resource"), resource);
    }
    for (name, value) in &request.params {
        parameters.put(name, value);
    }
    let mut request = head(url, client, proof, dialect, &mut parameters)?;
    let format = match dialect.method {
        TokenMethod::Get => RequestFormat::Query,
        TokenMethod::Post => dialect.format,
    };
    *request.method_mut() = dialect.method.method();
    match format {
        RequestFormat::Form => *request.body_mut() = parameters.form(),
        RequestFormat::Json => {
            *request.body_mut() = parameters.json()?;
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        RequestFormat::Query => {
            *request.uri_mut() = parameters.query(url).as_str().parse().ok()?;
            request.headers_mut().remove(CONTENT_TYPE);
        }
    }
    for (name, value) in &dialect.headers {
        request.headers_mut().insert(name, value.clone());
    }
    Some(request)
}

/// Writes a form to an endpoint where the client authenticates as it does at the token endpoint (RFC 7009 section 2.1,
/// RFC 7662 section 2.1). `None`: as for [`write`].
pub(in crate::oauth) fn form(
    url: &Url,
    client: &Client,
    proof: &Proof,
    pairs: &[(&str, &str)],
) -> Option<oauth2::HttpRequest> {
    form_in(&Dialect::default(), url, client, proof, pairs)
}

/// The same with the names that parameters have in `dialect`.
pub(in crate::oauth) fn form_in(
    dialect: &Dialect,
    url: &Url,
    client: &Client,
    proof: &Proof,
    pairs: &[(&str, &str)],
) -> Option<oauth2::HttpRequest> {
    let mut parameters = Parameters::default();
    for (name, value) in pairs {
        parameters.put(dialect.name(name), value);
    }
    let mut request = head(url, client, proof, dialect, &mut parameters)?;
    *request.body_mut() = parameters.form();
    Some(request)
}

/// The request without its parameters. Those that the client authenticates by are put behind the others.
fn head(
    url: &Url,
    client: &Client,
    proof: &Proof,
    dialect: &Dialect,
    parameters: &mut Parameters,
) -> Option<oauth2::HttpRequest> {
    let mut writer =
        BasicClient::new(ClientId::new(client.id.clone())).set_token_uri(TokenUrl::from_url(url.clone()));
    let (secret, auth_type) = match proof {
        Proof::Basic(secret) => (Some(secret), AuthType::BasicAuth),
        Proof::Post(secret) => (Some(secret), AuthType::RequestBody),
        Proof::Assertion { .. } | Proof::Nothing => (None, AuthType::RequestBody),
    };
    if let Some(secret) = secret {
        writer = writer.set_client_secret(ClientSecret::new(secret.expose().clone()));
    }
    let writer = writer.set_auth_type(auth_type);
    let draft = writer.exchange_client_credentials();
    let Err(RequestTokenError::Request(Written(mut request))) =
        draft.request(&|request| Err(Written(Box::new(request))))
    else {
        return None;
    };
    if let Some(value) = request.headers_mut().get_mut(AUTHORIZATION) {
        value.set_sensitive(true);
    }
    let written = Zeroizing::new(std::mem::take(request.body_mut()));
    for (name, value) in form_urlencoded::parse(&written) {
        let ours = dialect.name(&name);
        // A parameter is there once (RFC 6749 section 3.2): a request that is pushed ahead names its client itself.
        if name != "grant_type" && !parameters.has(ours) {
            parameters.put(ours, &value);
        }
    }
    if let Proof::Assertion { assertion, kind } = proof {
        let kind = kind.as_deref().unwrap_or(CLIENT_ASSERTION_TYPE);
        parameters.put(dialect.name("client_assertion_type"), kind);
        parameters.put(dialect.name("client_assertion"), assertion.expose());
    }
    Some(*request)
}

/// The parameters of a request, in their order.
#[derive(Default)]
struct Parameters(Vec<(String, Zeroizing<String>)>);

impl Parameters {
    /// A parameter without a value is the same as none (RFC 6749 section 3.2), and some servers refuse it.
    fn put(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.0.push((name.to_owned(), Zeroizing::new(value.to_owned())));
        }
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(given, _)| given == name)
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn form(&self) -> Vec<u8> {
        let mut writer = form_urlencoded::Serializer::new(String::with_capacity(MAX_FORM_BYTES));
        writer.extend_pairs(self.pairs());
        writer.finish().into_bytes()
    }

    fn json(&self) -> Option<Vec<u8>> {
        let mut body = Vec::with_capacity(MAX_FORM_BYTES);
        serde_json::to_writer(&mut body, self).ok()?;
        Some(body)
    }

    /// `url` with the parameters behind its own.
    fn query(&self, url: &Url) -> Url {
        let mut url = url.clone();
        if !self.0.is_empty() {
            url.query_pairs_mut().extend_pairs(self.pairs());
        }
        url
    }
}

/// An object of strings; what is there more than once is an array of them.
impl Serialize for Parameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        for (at, (name, value)) in self.pairs().enumerate() {
            let all: Vec<&str> =
                self.pairs().filter(|(other, _)| *other == name).map(|(_, value)| value).collect();
            let is_first = self.pairs().position(|(other, _)| other == name) == Some(at);
            match all.len() {
                1 => object.serialize_entry(name, value)?,
                _ if is_first => object.serialize_entry(name, &all)?,
                _ => {}
            }
        }
        object.end()
    }
}

impl Grant {
    /// What `grant_type` says.
    const fn grant_type(&self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::RefreshToken(_) => "refresh_token",
            Self::Password { .. } => "password",
            Self::JwtBearer(_) | Self::IssuedAssertion(_) => "urn:ietf:params:oauth:grant-type:jwt-bearer",
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
            Self::Password { username, password, .. } => {
                vec![("username", username), ("password", password.expose())]
            }
            Self::JwtBearer(assertion) | Self::IssuedAssertion(assertion) => {
                vec![("assertion", assertion.expose())]
            }
            Self::AuthorizationCode { code, redirect_uri, verifier } => {
                let mut parameters =
                    vec![("code", code.expose().as_str()), ("redirect_uri", redirect_uri.as_str())];
                parameters
                    .extend(verifier.as_ref().map(|verifier| ("code_verifier", verifier.expose().as_str())));
                parameters
            }
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

    use super::*;
    use crate::oauth::client::ClientAuth;
    use crate::oauth::grant::TypedToken;
    use crate::oauth::peer::plain;
    use crate::secret::Secret;

    const ODD: &str = r#"a+b/c=d%e&f:g "q" 'ü秘' \ é;?#[]{}~*"#;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    fn client(id: &str) -> Client {
        Client { id: id.to_owned(), auth: ClientAuth::None }
    }

    fn rfc() -> Dialect {
        Dialect::default()
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
                Grant::Password { username: ODD.to_owned(), password: secret(ODD), key: "password_file" },
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
            let written = write(&url(), &client(ODD), &Proof::Nothing, &grant, &request, &rfc()).unwrap();
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
                Proof::Assertion { assertion: secret("e30.e30.x"), kind: None },
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
                let written = write(&url(), &client("orders"), &proof, &grant, &empty, &rfc()).unwrap();
                let pairs = pairs(&written);
                let names: HashSet<_> = pairs.iter().map(|(name, _)| name).collect();
                assert_eq!(names.len(), pairs.len(), "{pairs:?}");
                assert!(pairs.iter().all(|(_, value)| !value.is_empty()), "{pairs:?}");
                assert_eq!(pairs[0].0, "grant_type");
                let (basic, post) = (matches!(proof, Proof::Basic(_)), matches!(proof, Proof::Post(_)));
                let header = written.headers().get(AUTHORIZATION);
                assert_eq!(header.is_some_and(HeaderValue::is_sensitive), basic);
                assert_eq!(names.contains(&"client_secret".to_owned()), post);
                assert_eq!(names.contains(&"client_id".to_owned()), !basic);
            }
        }
    }

    #[test]
    fn a_grant_that_needs_no_client_names_none() {
        let grant = Grant::JwtBearer(secret("e30.e30.x"));
        let written = write(&url(), &client(""), &Proof::Nothing, &grant, &plain(), &rfc()).unwrap();
        assert!(!pairs(&written).iter().any(|(name, _)| name == "client_id"));
    }

    fn dialect(format: RequestFormat) -> Dialect {
        let names = [("client_id", "app_id"), ("client_secret", "app_secret"), ("scope", "permissions")];
        let parameter_names = names.map(|(name, there)| (name.to_owned(), there.to_owned())).into();
        let mut version = HeaderValue::from_static("2022-06-28");
        version.set_sensitive(true);
        let headers = [(http::HeaderName::from_static("notion-version"), version)].into_iter().collect();
        Dialect { format, parameter_names, headers, ..rfc() }
    }

    fn asked(dialect: &Dialect, proof: &Proof) -> oauth2::HttpRequest {
        let request = TokenRequest {
            scope: vec!["a".into(), "b".into()],
            resource: vec!["https://a.example".into(), "https://b.example".into()],
            params: vec![("scope_of_params".into(), ODD.into())],
            ..plain()
        };
        write(&url(), &client("orders"), proof, &Grant::ClientCredentials, &request, dialect).unwrap()
    }

    #[test]
    fn a_json_endpoint_gets_an_object_of_strings_with_its_own_names() {
        let written = asked(&dialect(RequestFormat::Json), &Proof::Post(secret("s")));
        let body: serde_json::Value = serde_json::from_slice(written.body()).unwrap();
        let want = serde_json::json!({
            "grant_type": "client_credentials",
            "permissions": "a b",
            "resource": ["https://a.example", "https://b.example"],
            "scope_of_params": ODD,
            "app_id": "orders",
            "app_secret": "s",
        });
        assert_eq!(body, want);
        assert_eq!(written.headers()["content-type"], "application/json");
        assert_eq!(written.headers()["accept"], "application/json");
        assert_eq!(written.headers()["notion-version"], "2022-06-28");
        assert_eq!((written.method(), written.uri().to_string()), (&http::Method::POST, url().to_string()));
    }

    #[test]
    fn a_query_holds_the_parameters_behind_its_own_and_the_body_is_empty() {
        for method in [TokenMethod::Post, TokenMethod::Get] {
            let query = Dialect { method, ..dialect(RequestFormat::Query) };
            let written = asked(&query, &Proof::Post(secret("s&t")));
            let uri: Url = written.uri().to_string().parse().unwrap();
            let pairs: Vec<_> = uri.query_pairs().into_owned().collect();
            let got: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let want = [
                ("v", "2"),
                ("grant_type", "client_credentials"),
                ("permissions", "a b"),
                ("resource", "https://a.example"),
                ("resource", "https://b.example"),
                ("scope_of_params", ODD),
                ("app_id", "orders"),
                ("app_secret", "s&t"),
            ];
            assert_eq!(got, want);
            assert!(written.body().is_empty() && written.headers().get(CONTENT_TYPE).is_none());
            assert_eq!(*written.method(), method.method());
        }
        // A GET has no body, whatever the format.
        let get = Dialect { method: TokenMethod::Get, ..rfc() };
        let written = asked(&get, &Proof::Nothing);
        assert!(written.body().is_empty() && written.uri().query().unwrap().contains("client_id=orders"));
    }

    #[test]
    fn another_grant_type_stands_in_place_of_client_credentials_alone() {
        let type_of = |grant: &Grant, grant_type: &str| {
            let dialect = Dialect { grant_type: Some(grant_type.to_owned()), ..rfc() };
            let written =
                write(&url(), &client("orders"), &Proof::Nothing, grant, &plain(), &dialect).unwrap();
            pairs(&written).into_iter().find(|(name, _)| name == "grant_type").map(|(_, value)| value)
        };
        let other = "urn:ibm:params:oauth:grant-type:apikey";
        assert_eq!(type_of(&Grant::ClientCredentials, other).as_deref(), Some(other));
        assert_eq!(type_of(&Grant::ClientCredentials, ""), None, "it is left out");
        assert_eq!(type_of(&Grant::RefreshToken(secret("r")), other).as_deref(), Some("refresh_token"));
    }

    #[test]
    fn a_client_that_authenticates_by_a_header_keeps_it_in_each_format() {
        for format in [RequestFormat::Form, RequestFormat::Json, RequestFormat::Query] {
            let written = asked(&dialect(format), &Proof::Basic(secret("s")));
            assert!(written.headers()[AUTHORIZATION].is_sensitive(), "{format:?}");
            assert!(!String::from_utf8_lossy(written.body()).contains("app_id"), "{format:?}");
            let assertion = Proof::Assertion { assertion: secret("e30.e30.x"), kind: None };
            let written = asked(&dialect(format), &assertion);
            let whole = format!("{}{}", written.uri(), String::from_utf8_lossy(written.body()));
            assert!(whole.contains("e30.e30.x") && whole.contains("app_id"), "{whole}");
        }
    }
}
