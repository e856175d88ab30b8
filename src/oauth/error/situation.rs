//! What was asked of an authorization server, and with which keys of the configuration: what the meaning of a refusal
//! depends on beside its status and code.
//!
//! `endpoint`, `login` and the others make one for each request; `refusal` reads it.

use crate::oauth::client::{AssertionAudience, Client, ClientAuth};
use crate::oauth::grant::{Grant, TokenRequest};
use crate::secret::SecretSource;

/// The circumstances of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Situation {
    pub(in crate::oauth) asked: Asked,
    pub(in crate::oauth) method: Method,
    /// The keys that are set, by [`Key`].
    keys: u16,
    /// The key that says where a person's password is.
    password: &'static str,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::oauth) enum Asked {
    ClientCredentials,
    Refresh,
    Password,
    Assertion,
    /// A token for an assertion that was issued before.
    IssuedAssertion,
    Exchange,
    /// A token for an authorization code.
    Code,
    /// A token for a device code.
    DeviceCode,
    /// A login on another device.
    DeviceAuthorization,
    /// To take an authorization request ahead (RFC 9126).
    Push,
    /// A login, of a browser.
    Authorization,
    Introspection,
    Revocation,
    Metadata,
}

/// How the client authenticates, and the key that says with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::oauth) enum Method {
    Basic(&'static str),
    Post(&'static str),
    SecretJwt(&'static str, AssertionAudience),
    KeyJwt(&'static str, AssertionAudience),
    AssertionFile,
    Certificate,
    Public,
}

/// A key of `[tokens.X]` that may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(in crate::oauth) enum Key {
    Scope = 1,
    Audience = 1 << 1,
    Resource = 1 << 2,
    Params = 1 << 3,
    AuthorizationParams = 1 << 4,
    Dpop = 1 << 5,
    PushedAuthorization = 1 << 6,
    ClientKeyId = 1 << 7,
    RequestedTokenType = 1 << 8,
    ActorToken = 1 << 9,
}

impl Key {
    pub(in crate::oauth) const fn name(self) -> &'static str {
        match self {
            Self::Scope => "scope",
            Self::Audience => "audience",
            Self::Resource => "resource",
            Self::Params => "params",
            Self::AuthorizationParams => "authorization_params",
            Self::Dpop => "dpop",
            Self::PushedAuthorization => "pushed_authorization",
            Self::ClientKeyId => "client_key_id",
            Self::RequestedTokenType => "requested_token_type",
            Self::ActorToken => "actor_token_file",
        }
    }
}

impl Situation {
    /// A request for metadata: no client is known there.
    pub(in crate::oauth) const METADATA: Self =
        Self { asked: Asked::Metadata, method: Method::Public, keys: 0, password: "password_file" };

    /// A request of `client`, with nothing else set.
    pub(in crate::oauth) const fn of(asked: Asked, client: &Client) -> Self {
        let method = match &client.auth {
            ClientAuth::SecretBasic(source) => Method::Basic(secret_key(source)),
            ClientAuth::SecretPost(source) => Method::Post(secret_key(source)),
            ClientAuth::SecretJwt { secret, audience, .. } => {
                Method::SecretJwt(secret_key(secret), *audience)
            }
            ClientAuth::PrivateKeyJwt { key, audience } => Method::KeyJwt(
                match &key.key {
                    SecretSource::Env(_) => "client_key_env",
                    _ => "client_key_file",
                },
                *audience,
            ),
            ClientAuth::AssertionFile(_) => Method::AssertionFile,
            ClientAuth::Tls => Method::Certificate,
            ClientAuth::None => Method::Public,
        };
        let situation = Self { asked, method, ..Self::METADATA };
        match &client.auth {
            ClientAuth::PrivateKeyJwt { key, .. } => situation.with(Key::ClientKeyId, key.key_id.is_some()),
            _ => situation,
        }
    }

    /// A token request.
    pub(in crate::oauth) fn token(client: &Client, grant: &Grant, request: &TokenRequest) -> Self {
        let asked = match grant {
            Grant::ClientCredentials => Asked::ClientCredentials,
            Grant::RefreshToken(_) => Asked::Refresh,
            Grant::Password { .. } => Asked::Password,
            Grant::JwtBearer(_) => Asked::Assertion,
            Grant::IssuedAssertion(_) => Asked::IssuedAssertion,
            Grant::TokenExchange(_) => Asked::Exchange,
            Grant::AuthorizationCode { .. } => Asked::Code,
            Grant::DeviceCode(_) => Asked::DeviceCode,
        };
        let situation = Self::of(asked, client).asking(request);
        match grant {
            Grant::TokenExchange(exchange) => situation
                .with(Key::RequestedTokenType, exchange.requested_token_type.is_some())
                .with(Key::ActorToken, exchange.actor.is_some()),
            Grant::Password { key, .. } => Self { password: key, ..situation },
            _ => situation,
        }
    }

    /// The same, with what is asked for.
    pub(in crate::oauth) fn asking(self, request: &TokenRequest) -> Self {
        let TokenRequest { scope, audience, resource, params } = request;
        self.with(Key::Scope, scope.iter().any(|scope| !scope.is_empty()))
            .with(Key::Audience, audience.as_ref().is_some_and(|audience| !audience.is_empty()))
            .with(Key::Resource, !resource.is_empty())
            .with(Key::Params, !params.is_empty())
    }

    /// The same, where `key` is set.
    pub(in crate::oauth) const fn with(self, key: Key, is_set: bool) -> Self {
        let bit = if is_set { key as u16 } else { 0 };
        Self { keys: self.keys | bit, ..self }
    }

    pub(in crate::oauth) const fn has(&self, key: Key) -> bool {
        self.keys & key as u16 != 0
    }

    /// What to check where what the request spends is not accepted.
    pub(in crate::oauth) fn spent_help(&self) -> String {
        match self.asked {
            Asked::Password => self.person_help(),
            asked => asked.spent_help().to_owned(),
        }
    }

    /// The same of a person's password.
    pub(in crate::oauth) fn person_help(&self) -> String {
        format!(
            "check `username` and `{}`, and that the user is enabled and has nothing left to do at the server (a new password, a second factor)",
            self.password
        )
    }

    /// What to do about a password that is no longer sent.
    pub(in crate::oauth) fn withheld_help(&self) -> String {
        format!(
            "correct `username` or `{}`, or run `cupbearer renew` to send the password once more",
            self.password
        )
    }

    /// The keys of a person, by name.
    pub(in crate::oauth) const fn person_keys(&self) -> [&'static str; 2] {
        ["username", self.password]
    }

    /// Those of `keys` that are set, by name.
    pub(in crate::oauth) fn set_of(&self, keys: &[Key]) -> Vec<&'static str> {
        keys.iter().filter(|key| self.has(**key)).map(|key| key.name()).collect()
    }
}

impl Asked {
    /// After "the client may not".
    pub(in crate::oauth) const fn deed(self) -> &'static str {
        match self {
            Self::ClientCredentials => "use the grant client_credentials",
            Self::Refresh => "use refresh tokens",
            Self::Password => "use the grant password (Keycloak: direct access grants)",
            Self::Assertion | Self::IssuedAssertion => "use JWT assertions as a grant",
            Self::Exchange => "exchange tokens",
            Self::Code | Self::Authorization => "use the grant authorization_code",
            Self::DeviceCode | Self::DeviceAuthorization => "log in on another device (device_code)",
            Self::Push => "push authorization requests",
            Self::Introspection => "introspect tokens",
            Self::Revocation => "revoke tokens",
            Self::Metadata => "read its metadata",
        }
    }

    /// The key that says where it was asked.
    pub(in crate::oauth) const fn place(self) -> &'static str {
        match self {
            Self::Metadata => "`issuer`",
            Self::Introspection => "`introspection_endpoint`",
            Self::Revocation => "`revocation_endpoint`",
            Self::Authorization => "`authorization_endpoint`",
            Self::DeviceAuthorization => "`device_authorization_endpoint`",
            Self::Push => "`issuer`, whose metadata name the endpoint",
            _ => "`token_endpoint`, or the `issuer` whose metadata name it",
        }
    }

    const fn spent_help(self) -> &'static str {
        match self {
            Self::Assertion => {
                "check the key of the assertion, `key_id`, `issuer_claim`, `subject`, `audience_claim` and this machine's clock"
            }
            Self::IssuedAssertion => {
                "check what `subject_token` or `subject_token_file` names: the issuer, audience and expiry of that token, and `scope`"
            }
            Self::Code | Self::DeviceCode => "begin again",
            Self::Refresh => "log in again",
            _ => "check `grant` and what it spends",
        }
    }
}

impl Method {
    /// The keys that authenticate the client, as a list.
    pub(in crate::oauth) fn keys(self) -> String {
        let key = match self {
            Self::Basic(key) | Self::Post(key) | Self::SecretJwt(key, _) | Self::KeyJwt(key, _) => key,
            Self::AssertionFile => "assertion_file",
            Self::Certificate => "client_cert_file",
            Self::Public => return "`client_id`".to_owned(),
        };
        format!("`client_id` and `{key}`")
    }

    pub(in crate::oauth) fn help(self, has_key_id: bool) -> String {
        let keys = self.keys();
        let audience = |audience| match audience {
            AssertionAudience::Issuer => {
                "`client_assertion_audience` (now \"issuer\"; some servers want \"endpoint\")"
            }
            AssertionAudience::Endpoint => {
                "`client_assertion_audience` (now \"endpoint\"; some servers want \"issuer\")"
            }
        };
        match self {
            Self::Basic(_) => {
                format!("check {keys}, and whether the server wants `client_auth = \"client_secret_post\"`")
            }
            Self::Post(_) => {
                format!("check {keys}, and whether the server wants `client_auth = \"client_secret_basic\"`")
            }
            Self::SecretJwt(_, whom) => format!("check {keys}, {} and this machine's clock", audience(whom)),
            Self::KeyJwt(_, whom) => {
                let id = if has_key_id {
                    "`client_key_id`, which must be the name that the server knows this key by"
                } else {
                    "whether the server finds keys by their name (then set `client_key_id`)"
                };
                format!("check {keys}, {id}, {} and this machine's clock", audience(whom))
            }
            Self::AssertionFile => format!(
                "check {keys}: the expiry, issuer, subject and audience of the assertion, and that it was not sent before where the server takes each once"
            ),
            Self::Certificate => {
                format!(
                    "check {keys}: its expiry, and that the server knows this certificate or its subject for this client"
                )
            }
            Self::Public => format!(
                "check {keys}; where the client has a secret or a key, set `client_auth` and the file that it is in"
            ),
        }
    }
}

const fn secret_key(source: &SecretSource) -> &'static str {
    match source {
        SecretSource::Inline(_) => "client_secret",
        SecretSource::Env(_) => "client_secret_env",
        SecretSource::File(_) => "client_secret_file",
    }
}
