//! `[tokens.NAME]`: an access token, whom to ask for it and when.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use super::quantity::{Period, Words};
use crate::secret::Secret;
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
    /// How the token is earned.
    pub(in crate::config) grant: Grant,
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
    /// Scopes to ask for, separated by spaces or as a list; empty: no scope parameter is sent.
    pub(in crate::config) scope: Words,
    /// The audience parameter, which Auth0 and others ask for.
    pub(in crate::config) audience: Option<String>,
    /// Resource indicators (RFC 8707), absolute URIs.
    pub(in crate::config) resource: Words,
    /// More form parameters of the token request; the protocol's own names are refused.
    pub(in crate::config) params: BTreeMap<String, String>,
    /// The header field that carries the token.
    pub(in crate::config) header: String,
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
    /// The lifetime where the authorization server does not say.
    pub(in crate::config) default_lifetime: Period,
    /// How failed renewals are spaced.
    pub(in crate::config) retry: Retry,
    /// How long a request waits for a first token; failures that pass by themselves do not end the wait.
    pub(in crate::config) wait: Period,
    /// Whether readiness waits for this token.
    pub(in crate::config) required: bool,
    /// PEM file of the certificate authorities to trust for the authorization server alone.
    pub(in crate::config) ca_file: Option<String>,
    /// HTTP proxy on the way to the authorization server.
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
            grant: Grant::default(),
            client_id: None,
            client_auth: ClientAuth::default(),
            client_secret_file: None,
            client_secret_env: None,
            client_secret: None,
            scope: Words::default(),
            audience: None,
            resource: Words::default(),
            params: BTreeMap::new(),
            header: "Authorization".to_owned(),
            scheme: "Bearer".to_owned(),
            renew_at,
            jitter,
            expiry_margin: Period(expiry_margin),
            default_lifetime: Period(default_lifetime),
            retry: Retry::default(),
            wait: Period(wait),
            required: true,
            ca_file: None,
            proxy: None,
            connect_timeout: Period::seconds(5),
            timeout: Period::seconds(30),
        }
    }
}

/// How the token is earned.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum Grant {
    #[default]
    ClientCredentials,
}

/// How the client authenticates at the token endpoint.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum ClientAuth {
    #[default]
    ClientSecretBasic,
    ClientSecretPost,
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

/// A string that goes straight into custody.
struct SecretVisitor;

impl Visitor<'_> for SecretVisitor {
    type Value = Option<Secret<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string in quotes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Secret::new(text.to_owned())))
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret<String>>, D::Error> {
    deserializer.deserialize_str(SecretVisitor)
}
