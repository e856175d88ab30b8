//! `[tokens.NAME]`: an access token, whom to ask for it and when.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::dialect::Response;
use super::quantity::{Lifetime, Period, Words};
use super::secret;
use crate::oauth::AssertionTerms;
use crate::oauth::{AssertionAudience, Pkce, RequestFormat, TokenMethod};
use crate::secret::Secret;
use crate::token::RenewVia;
use crate::token::{Backoff, Policy};

/// An access token.
#[expect(clippy::struct_field_names, reason = "the fields are the contract's keys")]
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Token {
    /// The authorization server's issuer identifier, whose metadata names the token endpoint.
    pub(in crate::config) issuer: Option<String>,
    /// The token endpoint itself; wins over the issuer's metadata.
    pub(in crate::config) token_endpoint: Option<String>,
    /// Where tokens are refreshed; left out: at the token endpoint.
    pub(in crate::config) refresh_endpoint: Option<String>,
    /// Where tokens are given back (RFC 7009); wins over the issuer's metadata.
    pub(in crate::config) revocation_endpoint: Option<String>,
    /// Where an opaque token's expiry is asked for (RFC 7662) that came without one; wins over the issuer's metadata.
    pub(in crate::config) introspection_endpoint: Option<String>,
    /// Where a person's browser is sent (RFC 6749 section 3.1); wins over the issuer's metadata.
    pub(in crate::config) authorization_endpoint: Option<String>,
    /// Where a login on another device begins (RFC 8628 section 3.1); wins over the issuer's metadata.
    pub(in crate::config) device_authorization_endpoint: Option<String>,
    /// How the token is earned.
    pub(in crate::config) grant: Grant,
    /// What `grant_type` says on the wire in place of `client_credentials`; "": the parameter is left out.
    pub(in crate::config) grant_type: Option<String>,
    /// The client identifier.
    pub(in crate::config) client_id: Option<String>,
    /// How the client proves that it is the one.
    pub(in crate::config) client_auth: ClientAuth,
    /// File that holds the client secret; read again at each use.
    pub(in crate::config) client_secret_file: Option<String>,
    /// Environment variable that holds the client secret.
    pub(in crate::config) client_secret_env: Option<String>,
    /// The client secret itself; for trials only.
    #[serde(skip_serializing, deserialize_with = "secret")]
    #[schemars(with = "Option<String>")]
    pub(in crate::config) client_secret: Option<Secret<String>>,
    /// File of the private key that client assertions are signed with, PEM or JWK; read again at each use.
    pub(in crate::config) client_key_file: Option<String>,
    /// Environment variable that holds that key.
    pub(in crate::config) client_key_env: Option<String>,
    /// The kid of client assertions; left out: the JWK's own, or none.
    pub(in crate::config) client_key_id: Option<String>,
    /// How client assertions are signed; left out: as fits the key, `RS256` for an RSA key.
    pub(in crate::config) client_key_algorithm: Option<Algorithm>,
    /// Whom client assertions are for: the authorization server's issuer identifier, or its token endpoint's URL. Where
    /// no issuer is configured it is the endpoint.
    pub(in crate::config) client_assertion_audience: AssertionAudience,
    /// What `client_assertion_type` says of the client's assertion; left out: that it is a JWT (RFC 7523).
    pub(in crate::config) client_assertion_type: Option<String>,
    /// PEM file of the client's certificate and its chain, for mutual TLS with the authorization server (RFC 8705). Alone,
    /// with `private_key_jwt`: the certificate whose thumbprint goes into client assertions (x5t#S256).
    pub(in crate::config) client_cert_file: Option<String>,
    /// PEM file of that certificate's private key.
    pub(in crate::config) client_cert_key_file: Option<String>,
    /// File of a client assertion that something else keeps fresh, such as a projected service-account token.
    pub(in crate::config) assertion_file: Option<String>,
    /// File of the first refresh token; a newer one in the store counts instead.
    pub(in crate::config) refresh_token_file: Option<String>,
    /// Where a person's browser comes back to, on this machine; without a port, at one that is free then (RFC 8252). An
    /// https address leads elsewhere: a person pastes the address that the browser ends at.
    pub(in crate::config) redirect_uri: String,
    /// More parameters of the authorization request, such as `login_hint` and `prompt`.
    pub(in crate::config) authorization_params: BTreeMap<String, String>,
    /// Whether the authorization request is pushed ahead (RFC 9126) although the server only offers that; where it
    /// demands it, it is.
    pub(in crate::config) pushed_authorization: bool,
    /// Where the browser goes once a logout has ended its session at the authorization server, as it is registered there.
    pub(in crate::config) post_logout_redirect_uri: Option<String>,
    /// Proof Key for Code Exchange (RFC 7636); "none" for a server that refuses its parameters, and never for a public client.
    pub(in crate::config) pkce: Pkce,
    /// What renews a login: its refresh token, or, where there is none, the browser in which the dashboard is open.
    pub(in crate::config) renew_via: RenewVia,
    /// The resource owner whose password is spent.
    pub(in crate::config) username: Option<String>,
    /// File of the resource owner's password; read again at each use.
    pub(in crate::config) password_file: Option<String>,
    /// Environment variable that holds the password.
    pub(in crate::config) password_env: Option<String>,
    /// The password itself; for trials only.
    #[serde(skip_serializing, deserialize_with = "secret")]
    #[schemars(with = "Option<String>")]
    pub(in crate::config) password: Option<Secret<String>>,
    /// File of the key that signs the assertion of `jwt_bearer`: PEM, JWK or a Google service-account key in JSON.
    pub(in crate::config) key_file: Option<String>,
    /// The kid of that assertion; left out: the key file's own, or none.
    pub(in crate::config) key_id: Option<String>,
    /// How that assertion is signed; left out: as fits the key, `RS256` for an RSA key.
    pub(in crate::config) key_algorithm: Option<Algorithm>,
    /// The assertion's iss; left out: the key file's `client_email`, or the client identifier.
    pub(in crate::config) issuer_claim: Option<String>,
    /// The assertion's sub: whose token is asked for; left out: the same as its iss, or none with a Google key.
    pub(in crate::config) subject: Option<String>,
    /// Further claims of the assertion that is signed: of `jwt_bearer` and `self_signed`, else of the client's own.
    pub(in crate::config) assertion_claims: BTreeMap<String, serde_json::Value>,
    /// How long that assertion is good, from its iat to its exp.
    pub(in crate::config) assertion_lifetime: Period,
    /// The assertion's aud; left out: the key file's `token_uri`, else the issuer, else the token endpoint.
    pub(in crate::config) audience_claim: Option<String>,
    /// File of the token that is traded in, such as a projected service-account token; read again at each use.
    pub(in crate::config) subject_token_file: Option<String>,
    /// "incoming": the token of the request's own Authorization is traded in. "token:NAME": another of the tokens is. With
    /// `jwt_bearer` it is the assertion, in place of one that is signed.
    pub(in crate::config) subject_token: Option<String>,
    /// The type of the token that is traded in; left out: `urn:ietf:params:oauth:token-type:jwt` for a file, else
    /// `urn:ietf:params:oauth:token-type:access_token`.
    pub(in crate::config) subject_token_type: Option<String>,
    /// The type of token that is asked for; left out: the authorization server's choice.
    pub(in crate::config) requested_token_type: Option<String>,
    /// File of the token of the actor, who acts on the subject's behalf; read again at each use.
    pub(in crate::config) actor_token_file: Option<String>,
    /// The type of that token; left out: `urn:ietf:params:oauth:token-type:jwt`.
    pub(in crate::config) actor_token_type: Option<String>,
    /// A helper program and its arguments, which prints a token or a token response in JSON; no shell reads it.
    pub(in crate::config) command: Words,
    /// After which the helper is ended.
    pub(in crate::config) command_timeout: Period,
    /// File of a finished token: plain, or with `grant = "file"` also a token response in JSON.
    pub(in crate::config) token_file: Option<String>,
    /// Environment variable that holds a finished token.
    pub(in crate::config) token_env: Option<String>,
    /// The finished token itself; for trials only.
    #[serde(skip_serializing, deserialize_with = "secret")]
    #[schemars(with = "Option<String>")]
    pub(in crate::config) token: Option<Secret<String>>,
    /// Scopes to ask for, separated by spaces or as a list; empty: no scope parameter is sent.
    pub(in crate::config) scope: Words,
    /// Whether a refresh names the scope; some servers refuse that. One that is refused for it is sent once more without.
    pub(in crate::config) refresh_scope: bool,
    /// The audience parameter, which Auth0 and others ask for.
    pub(in crate::config) audience: Option<String>,
    /// Resource indicators (RFC 8707), absolute URIs.
    pub(in crate::config) resource: Words,
    /// More form parameters of the token request; the protocol's own names are refused.
    pub(in crate::config) params: BTreeMap<String, String>,
    /// Where the parameters of token requests stand.
    pub(in crate::config) request_format: RequestFormat,
    /// What the protocol's parameters are called by this server, by their own names.
    pub(in crate::config) parameter_names: BTreeMap<String, String>,
    /// The method of token requests; the parameters of a GET stand in its query.
    pub(in crate::config) token_method: TokenMethod,
    /// Further header fields of token requests.
    pub(in crate::config) token_headers: BTreeMap<String, String>,
    /// Where the members of a token response stand, as dotted names.
    pub(in crate::config) response: Response,
    /// Whether tokens are bound to a key, so that no other holder can use them (`DPoP`, RFC 9449).
    pub(in crate::config) dpop: bool,
    /// File of that private key, PEM or JWK; left out: one is made.
    pub(in crate::config) dpop_key_file: Option<String>,
    /// The header field that carries the token.
    pub(in crate::config) header: String,
    /// What else this server calls a Bearer token, such as `"bot"`.
    pub(in crate::config) token_type: String,
    /// The scheme before the token; "" sends the bare token.
    pub(in crate::config) scheme: String,
    /// Share of the lifetime after which the token is renewed.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub(in crate::config) renew_at: f64,
    /// Up to this share of the lifetime is taken off at random, so that not all proxies renew together.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub(in crate::config) jitter: f64,
    /// A token this close to its expiry is not sent; counts for at most a tenth of the lifetime.
    pub(in crate::config) expiry_margin: Period,
    /// The lifetime where the authorization server does not say; "unlimited": until an API refuses the token, as it is where
    /// nothing but a person's login brings another one.
    pub(in crate::config) default_lifetime: Lifetime,
    /// How failed renewals are spaced.
    pub(in crate::config) retry: Retry,
    /// How long a request waits for a first token; failures that pass by themselves do not end the wait.
    pub(in crate::config) wait: Period,
    /// Whether readiness waits for this token.
    pub(in crate::config) required: bool,
    /// Whether the token is given back to the authorization server when the program ends (RFC 7009).
    pub(in crate::config) revoke_on_exit: bool,
    /// PEM file of the certificate authorities to trust for the authorization server alone.
    pub(in crate::config) ca_file: Option<String>,
    /// The HTTP proxy on the way to the authorization server, or none; left out: as `HTTPS_PROXY`, `HTTP_PROXY`,
    /// `ALL_PROXY` and `NO_PROXY` say.
    pub(in crate::config) proxy: Option<String>,
    /// For the connection to the authorization server.
    pub(in crate::config) connect_timeout: Period,
    /// For a whole token request.
    pub(in crate::config) timeout: Period,
}

impl Default for Token {
    fn default() -> Self {
        let Policy { renew_at, jitter, expiry_margin, default_lifetime, retry: _, wait } = Policy::default();
        Self {
            issuer: None,
            token_endpoint: None,
            refresh_endpoint: None,
            revocation_endpoint: None,
            introspection_endpoint: None,
            authorization_endpoint: None,
            device_authorization_endpoint: None,
            grant: Grant::default(),
            grant_type: None,
            client_id: None,
            client_auth: ClientAuth::default(),
            client_secret_file: None,
            client_secret_env: None,
            client_secret: None,
            client_key_file: None,
            client_key_env: None,
            client_key_id: None,
            client_key_algorithm: None,
            client_assertion_audience: AssertionAudience::default(),
            client_assertion_type: None,
            client_cert_file: None,
            client_cert_key_file: None,
            assertion_file: None,
            refresh_token_file: None,
            redirect_uri: "http://127.0.0.1/callback".to_owned(),
            authorization_params: BTreeMap::new(),
            pushed_authorization: false,
            post_logout_redirect_uri: None,
            pkce: Pkce::default(),
            renew_via: RenewVia::default(),
            username: None,
            password_file: None,
            password_env: None,
            password: None,
            key_file: None,
            key_id: None,
            key_algorithm: None,
            issuer_claim: None,
            subject: None,
            assertion_claims: BTreeMap::new(),
            assertion_lifetime: Period(AssertionTerms::default().lifetime),
            audience_claim: None,
            subject_token_file: None,
            subject_token: None,
            subject_token_type: None,
            requested_token_type: None,
            actor_token_file: None,
            actor_token_type: None,
            command: Words::default(),
            command_timeout: Period::seconds(30),
            token_file: None,
            token_env: None,
            token: None,
            scope: Words::default(),
            refresh_scope: true,
            audience: None,
            resource: Words::default(),
            params: BTreeMap::new(),
            request_format: RequestFormat::default(),
            parameter_names: BTreeMap::new(),
            token_method: TokenMethod::default(),
            token_headers: BTreeMap::new(),
            response: Response::default(),
            dpop: false,
            dpop_key_file: None,
            header: "Authorization".to_owned(),
            token_type: "Bearer".to_owned(),
            scheme: "Bearer".to_owned(),
            renew_at,
            jitter,
            expiry_margin: Period(expiry_margin),
            default_lifetime: Lifetime(default_lifetime),
            retry: Retry::default(),
            wait: Period(wait),
            required: true,
            revoke_on_exit: false,
            ca_file: None,
            proxy: None,
            connect_timeout: Period::seconds(5),
            timeout: Period::seconds(30),
        }
    }
}

/// How the token is earned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Grant {
    #[default]
    ClientCredentials,
    RefreshToken,
    AuthorizationCode,
    DeviceCode,
    Password,
    JwtBearer,
    TokenExchange,
    Command,
    File,
    Static,
    SelfSigned,
}

/// How the client authenticates at the token endpoint.
#[expect(clippy::enum_variant_names, reason = "the variants are the contract's words")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum ClientAuth {
    #[default]
    ClientSecretBasic,
    ClientSecretPost,
    ClientSecretJwt,
    PrivateKeyJwt,
    TlsClientAuth,
    AssertionFile,
    None,
}

/// How a JWT is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub(in crate::config) enum Algorithm {
    #[serde(rename = "HS256")]
    Hs256,
    #[serde(rename = "HS384")]
    Hs384,
    #[serde(rename = "HS512")]
    Hs512,
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "RS384")]
    Rs384,
    #[serde(rename = "RS512")]
    Rs512,
    #[serde(rename = "PS256")]
    Ps256,
    #[serde(rename = "PS384")]
    Ps384,
    #[serde(rename = "PS512")]
    Ps512,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "ES384")]
    Es384,
    #[serde(rename = "ES512")]
    Es512,
    #[serde(rename = "ES256K")]
    Es256K,
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// The bounds of the delay after a failed renewal.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Retry {
    /// The bound of the first delay; it doubles from one failure to the next.
    pub(in crate::config) initial: Period,
    /// The bound of any delay.
    pub(in crate::config) max: Period,
}

impl Default for Retry {
    fn default() -> Self {
        let Backoff { initial, max } = Policy::default().retry;
        Self { initial: Period(initial), max: Period(max) }
    }
}
