//! Who asks: an OAuth client (RFC 6749 section 2) and how it authenticates at the token endpoint.

use std::path::{Path, PathBuf};

use crate::secret::SecretSource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::oauth::jose::jws::HmacAlgorithm;
use crate::oauth::jose::key::Algorithm;

pub(in crate::oauth) mod assertion;
pub(in crate::oauth) mod authentication;
pub(in crate::oauth) mod secret_file;

/// A registered client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// The client identifier (RFC 6749 section 2.2). Empty: none is sent, which a `jwt_bearer` grant without client
    /// authentication may do.
    pub id: String,
    /// How the client proves that it is the one.
    pub auth: ClientAuth,
}

/// Client authentication (RFC 6749 section 2.3). Exactly the configured method is used, never probed: a wrong
/// guess would spend a grant that counts once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClientAuth {
    /// `client_secret_basic`: HTTP Basic, both halves form-encoded first (RFC 6749 section 2.3.1).
    SecretBasic(SecretSource),
    /// `client_secret_post`: in the form body.
    SecretPost(SecretSource),
    /// `client_secret_jwt`: an assertion under HMAC with the secret (OpenID Connect Core 1.0 section 9).
    SecretJwt {
        /// The secret; at least as long as the hash (RFC 7518 section 3.2).
        secret: SecretSource,
        /// `alg`.
        algorithm: HmacAlgorithm,
        /// Whom the assertion is for.
        audience: AssertionAudience,
    },
    /// `private_key_jwt`: an assertion that the client signs (RFC 7523 section 2.2).
    PrivateKeyJwt {
        /// What it is signed with.
        key: KeySettings,
        /// Whom it is for.
        audience: AssertionAudience,
    },
    /// `tls_client_auth` and `self_signed_tls_client_auth` (RFC 8705 section 2): the transport's certificate, and
    /// `client_id` in the form.
    Tls,
    /// A client assertion that another program writes into a file, read at each use: a projected service-account token.
    AssertionFile(SecretSource),
    /// A public client: `client_id` alone.
    None,
}

/// Whom a client assertion is for (RFC 7523 section 3, point 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AssertionAudience {
    /// The issuer identifier: what the authorization server calls itself.
    #[default]
    Issuer,
    /// The token endpoint's URL, which older servers demand.
    Endpoint,
}

/// A key to sign with, and what is said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeySettings {
    /// PEM (PKCS #8, PKCS #1 or SEC 1) or JWK; read at each use.
    pub key: SecretSource,
    /// `kid`; `None`: the JWK's own, or none.
    pub key_id: Option<String>,
    /// `alg`; `None`: the JWK's own, else what fits the key, RS256 for an RSA key.
    pub algorithm: Option<Algorithm>,
    /// A certificate whose thumbprint goes into `x5t#S256`, which Entra asks for.
    pub certificate: Option<PathBuf>,
}

impl ClientAuth {
    /// The secrets and keys that it reads at each use.
    #[must_use]
    pub(crate) const fn secret(&self) -> Option<&SecretSource> {
        match self {
            Self::SecretBasic(source)
            | Self::SecretPost(source)
            | Self::SecretJwt { secret: source, .. }
            | Self::PrivateKeyJwt { key: KeySettings { key: source, .. }, .. }
            | Self::AssertionFile(source) => Some(source),
            Self::Tls | Self::None => None,
        }
    }

    /// The files that it reads at each use: whose change may fix it.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let certificate = match self {
            Self::PrivateKeyJwt { key, .. } => key.certificate.as_deref(),
            _ => None,
        };
        self.secret().and_then(SecretSource::file).into_iter().chain(certificate)
    }
}
