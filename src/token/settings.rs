//! One token as it is configured: whom to ask for it, when to renew it, how to attach it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::oauth::{AssertionTerms, Client, KeySettings, Pkce, RedirectUri, ServerSettings, TokenRequest};
use crate::secret::SecretSource;

/// All there is to know about a token before it is fetched. Two that are equal are the same token: a reload
/// leaves it alone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TokenSettings {
    /// Where it comes from.
    pub origin: Origin,
    /// How it goes on a request.
    pub attachment: Attachment,
    /// When it is renewed.
    pub policy: Policy,
    /// Whether readiness waits for it.
    pub required: bool,
    /// Whether it is given back when the program ends (RFC 7009). Default no.
    pub revoke_on_exit: bool,
}

/// Where a token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An authorization server.
    Server(Box<ServerOrigin>),
    /// A helper program that prints it.
    Command(CommandSettings),
    /// A file that another process keeps fresh: the token, or a token response in JSON.
    File(SecretSource),
    /// The configuration: it never changes.
    Static(SecretSource),
    /// A key: the token is a JWT that this program signs.
    SelfSigned(Box<BearerAssertion>),
}

/// An OAuth client at its authorization server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerOrigin {
    /// Whom to ask.
    pub server: ServerSettings,
    /// Who asks.
    pub client: Client,
    /// How the token is earned.
    pub grant: GrantSettings,
    /// What for.
    pub request: TokenRequest,
    /// Whether a refresh names the scope. Default yes.
    pub refresh_scope: bool,
    /// Whether the token is bound to a key of ours (RFC 9449); `None`: it is not.
    pub dpop: Option<DpopSettings>,
}

/// The key that tokens are bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DpopSettings {
    /// PEM or JWK of the private key; `None`: one is made at the start, and kept in the store beside a refresh token.
    pub key: Option<SecretSource>,
}

/// How a token is earned: a grant, and where what it spends is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GrantSettings {
    /// `client_credentials`.
    ClientCredentials,
    /// `refresh_token`: the newest of the store and of this source counts.
    RefreshToken {
        /// The first refresh token; `None`: a login puts it into the store.
        seed: Option<SecretSource>,
    },
    /// `password`.
    Password {
        /// The resource owner.
        username: String,
        /// And their password.
        password: SecretSource,
    },
    /// `jwt_bearer`.
    JwtBearer(BearerAssertion),
    /// `token_exchange`.
    TokenExchange(ExchangeSettings),
    /// `authorization_code` and `device_code`: a person logs in, and what comes of it is refreshed.
    Login(LoginSettings),
}

/// How a person logs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoginSettings {
    /// What a login is, where it is not configured.
    pub flow: Flow,
    /// Where a browser comes back to, on this machine. Without a port: at one that is free then (RFC 8252 section 7.3).
    pub redirect_uri: RedirectUri,
    /// More parameters of the authorization request.
    pub authorization_params: Vec<(String, String)>,
    /// Whether the request is pushed ahead where the server only offers that (RFC 9126); where it demands it, it is.
    pub pushed_authorization: bool,
    /// Whether the code is bound to this program (RFC 7636).
    pub pkce: Pkce,
    /// What a renewal spends.
    pub renew_via: RenewVia,
    /// Where a browser goes once its session at the server has ended; `None`: the server decides.
    pub post_logout_redirect_uri: Option<String>,
}

impl LoginSettings {
    /// Whether a browser renews it where there is no refresh token.
    #[must_use]
    pub(crate) fn renews_in_browser(&self) -> bool {
        self.renew_via == RenewVia::Browser
    }
}

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// With a browser on this machine (RFC 6749 section 4.1, RFC 8252).
    AuthorizationCode,
    /// On another device (RFC 8628).
    DeviceCode,
}

impl Flow {
    /// The configuration's word for it.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::DeviceCode => "device_code",
        }
    }
}

/// What the renewal of a login spends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RenewVia {
    /// The refresh token that came with it.
    #[default]
    RefreshToken,
    /// The session of the browser at the authorization server, where there is no refresh token: in the dashboard.
    Browser,
}

impl RenewVia {
    /// The configuration's word for it.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::RefreshToken => "refresh_token",
            Self::Browser => "browser",
        }
    }
}

/// An assertion that this program signs: as an authorization grant (RFC 7523 section 2.1), or as the token itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BearerAssertion {
    /// What it is signed with; a Google service-account key brings its own `kid` and `iss`.
    pub key: KeySettings,
    /// `iss`; `None`: the key file's `client_email`, or the client identifier.
    pub issuer: Option<String>,
    /// `sub`; `None`: the same as `iss`.
    pub subject: Option<String>,
    /// `aud`; `None`: the issuer's identifier, or the token endpoint where no issuer is configured.
    pub audience: Option<String>,
    /// Further claims, and its lifetime.
    pub terms: AssertionTerms,
}

/// What is traded in for a token (RFC 8693).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExchangeSettings {
    /// The grant that spends it.
    pub grant: TradeGrant,
    /// Where the subject token is found.
    pub subject: Subject,
    /// The identifier of its type. Default `urn:ietf:params:oauth:token-type:access_token`, or `...:jwt` for a file.
    pub subject_token_type: String,
    /// Who acts, and the type of that token.
    pub actor: Option<(SecretSource, String)>,
    /// The type asked for.
    pub requested_token_type: Option<String>,
}

/// A grant that spends a token which was issued before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TradeGrant {
    /// `token_exchange` (RFC 8693).
    #[default]
    TokenExchange,
    /// `jwt_bearer` (RFC 7523 section 2.1): the token is the assertion, without its type.
    JwtBearer,
}

/// Where a subject token is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A file, read at each use: a projected service-account token.
    File(SecretSource),
    /// Another token of the configuration, by its name.
    Token(String),
    /// The request's own `Authorization`: a token for each caller.
    Incoming,
}

/// A helper program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandSettings {
    /// The program and its arguments; no shell reads them.
    pub command: Vec<String>,
    /// After which it is ended. Default 30 s.
    pub timeout: Duration,
}

/// Where tokens outlive a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum StoreSettings {
    /// Nowhere: in this process alone.
    #[default]
    Memory,
    /// In a folder of files.
    File(FolderSettings),
    /// In the platform's keyring; in a folder where that is not to be had, and then the log says so.
    Keyring(FolderSettings),
}

/// A folder of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FolderSettings {
    /// The folder; made with mode 0700 where it is not there.
    pub path: PathBuf,
    /// 32 bytes in base64 or hexadecimal, which the files are encrypted with; `None`: they are not encrypted.
    pub encryption_key: Option<SecretSource>,
}

impl TokenSettings {
    /// The authorization server's side, where there is one.
    #[must_use]
    pub(crate) fn server(&self) -> Option<&ServerOrigin> {
        match &self.origin {
            Origin::Server(origin) => Some(origin),
            Origin::Command(_) | Origin::File(_) | Origin::Static(_) | Origin::SelfSigned(_) => None,
        }
    }

    /// The word for its grant, as the configuration has it.
    #[must_use]
    pub(crate) fn grant(&self) -> &'static str {
        match &self.origin {
            Origin::Server(origin) => match origin.grant {
                GrantSettings::ClientCredentials => "client_credentials",
                GrantSettings::RefreshToken { .. } => "refresh_token",
                GrantSettings::Password { .. } => "password",
                GrantSettings::JwtBearer(_) => "jwt_bearer",
                GrantSettings::TokenExchange(ref exchange) => match exchange.grant {
                    TradeGrant::TokenExchange => "token_exchange",
                    TradeGrant::JwtBearer => "jwt_bearer",
                },
                GrantSettings::Login(ref login) => login.flow.as_str(),
            },
            Origin::Command(_) => "command",
            Origin::File(_) => "file",
            Origin::Static(_) => "static",
            Origin::SelfSigned(_) => "self_signed",
        }
    }

    /// How a person logs in for it; `None`: it needs no login.
    #[must_use]
    pub(crate) fn login(&self) -> Option<&LoginSettings> {
        match &self.server()?.grant {
            GrantSettings::Login(login) => Some(login),
            _ => None,
        }
    }

    /// Whether each caller's own token is traded in for it: there is none without a caller.
    #[must_use]
    pub(crate) fn is_per_caller(&self) -> bool {
        self.server().is_some_and(|origin| match &origin.grant {
            GrantSettings::TokenExchange(exchange) => exchange.subject == Subject::Incoming,
            _ => false,
        })
    }

    /// The name of the token of the configuration that is traded in for it.
    #[must_use]
    pub(crate) fn subject(&self) -> Option<&str> {
        match &self.server()?.grant {
            GrantSettings::TokenExchange(ExchangeSettings { subject: Subject::Token(name), .. }) => {
                Some(name)
            }
            _ => None,
        }
    }

    /// Whether it is earned with a refresh token: the store holds a login then, and not a token alone.
    #[must_use]
    pub(crate) fn spends_a_login(&self) -> bool {
        let spends = |grant: &GrantSettings| {
            matches!(grant, GrantSettings::RefreshToken { .. } | GrantSettings::Login(_))
        };
        self.server().is_some_and(|origin| spends(&origin.grant))
    }

    /// Whether a person logs in for it.
    #[must_use]
    pub(crate) fn is_login(&self) -> bool {
        self.server().is_some_and(|origin| matches!(origin.grant, GrantSettings::Login(_)))
    }

    /// Whether its files hold the token itself, and not what it is earned with.
    #[must_use]
    pub(crate) const fn is_read(&self) -> bool {
        matches!(self.origin, Origin::File(_) | Origin::Static(_))
    }

    /// The files whose change may bring a token where none could be had: secrets, keys, tokens to trade in.
    #[must_use]
    pub(crate) fn files(&self) -> Vec<&Path> {
        let mut files = Vec::new();
        match &self.origin {
            Origin::Server(origin) => {
                files.extend(origin.client.auth.files());
                files.extend(origin.dpop.iter().filter_map(|dpop| dpop.key.as_ref()?.file()));
                files.extend(origin.grant.files());
            }
            Origin::File(source) | Origin::Static(source) => files.extend(source.file()),
            Origin::SelfSigned(assertion) => files.extend(assertion.files()),
            Origin::Command(_) => {}
        }
        files
    }
}

impl BearerAssertion {
    fn files(&self) -> impl Iterator<Item = &Path> {
        self.key.key.file().into_iter().chain(self.key.certificate.as_deref())
    }
}

impl GrantSettings {
    fn files(&self) -> Vec<&Path> {
        match self {
            Self::ClientCredentials | Self::Login(_) => Vec::new(),
            Self::RefreshToken { seed } => seed.iter().filter_map(SecretSource::file).collect(),
            Self::Password { password, .. } => password.file().into_iter().collect(),
            Self::JwtBearer(assertion) => assertion.files().collect(),
            Self::TokenExchange(exchange) => {
                let subject = match &exchange.subject {
                    Subject::File(source) => source.file(),
                    Subject::Token(_) | Subject::Incoming => None,
                };
                subject
                    .into_iter()
                    .chain(exchange.actor.iter().filter_map(|(source, _)| source.file()))
                    .collect()
            }
        }
    }
}

/// How a token goes on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// The header field; default `Authorization`.
    pub header: HeaderName,
    /// The scheme before the token; default `Bearer` (RFC 6750 section 2.1); empty: the bare token.
    pub scheme: String,
}

/// When a token is renewed and for how long one is waited for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policy {
    /// Share of the lifetime after which it is renewed; above 0, at most 1. Default 0.75.
    pub renew_at: f64,
    /// Jitter takes up to this share of the lifetime off the renewal instant; from 0 to `renew_at`. Default 0.10.
    pub jitter: f64,
    /// A token this close to its expiry is not sent. Default 10 s; never more than a tenth of the lifetime, so that
    /// a short-lived token can be used at all.
    pub expiry_margin: Duration,
    /// The lifetime where neither `expires_in` nor a JWT's `exp` says, of what can be renewed; `None`: until an API refuses
    /// the token. Default 5 min.
    pub default_lifetime: Option<Duration>,
    /// How failed renewals are spaced.
    pub retry: Backoff,
    /// How long a request waits for a first token, failures that pass by themselves included. Default 10 s.
    pub wait: Duration,
}

/// Full-jitter exponential backoff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// The bound of the first delay. Default 500 ms.
    pub initial: Duration,
    /// The bound of any delay. Default 60 s.
    pub max: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            renew_at: 0.75,
            jitter: 0.10,
            expiry_margin: Duration::from_secs(10),
            default_lifetime: Some(Duration::from_mins(5)),
            retry: Backoff { initial: Duration::from_millis(500), max: Duration::from_mins(1) },
            wait: Duration::from_secs(10),
        }
    }
}
