//! Assertions: short-lived JWTs by which a client authenticates (RFC 7523 section 2.2) or earns a token (section 2.1).
//!
//! Each is made for one request: a server refuses one that it has seen before. `authentication` and `bearer` say what
//! is in them; how a key signs is for `jws`.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::machine::{self, Unreadable};
use crate::secret::{Secret, SecretError};

use crate::oauth::client::KeySettings;
use crate::oauth::client::secret_file::{blocking, read};
use crate::oauth::error::Error;
use crate::oauth::error::kind::{CertificateFault, ErrorKind, Held, RequestFault};
use crate::oauth::jose::jws::{self, Header, HmacAlgorithm};
use crate::oauth::jose::key::{KeyError, SigningKey};

/// What an assertion is signed with, as it was read for one attempt.
pub(in crate::oauth) enum Signer {
    /// A client secret, for HMAC.
    Secret(Secret<String>, HmacAlgorithm),
    /// A private key, and what the header says of it.
    Key {
        key: Box<SigningKey>,
        /// `kid`.
        key_id: Option<String>,
        /// `x5t#S256` (RFC 7515 section 4.1.8).
        thumbprint: Option<String>,
    },
}

/// What is configured of an assertion beside who says it, of whom, to whom.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct AssertionTerms {
    /// More claims; none of those that are written here.
    pub claims: Map<String, Value>,
    /// From `iat` to `exp`. Default 3 min: enough for a server whose clock is a minute ahead, and less than the five
    /// minutes that some allow.
    pub lifetime: Duration,
}

impl AssertionTerms {
    /// The claims that each assertion has, or that would contradict them (RFC 7519 section 4.1).
    pub(crate) const RESERVED: [&str; 7] = ["iss", "sub", "aud", "iat", "exp", "nbf", "jti"];
}

impl Default for AssertionTerms {
    fn default() -> Self {
        Self { claims: Map::new(), lifetime: Duration::from_mins(3) }
    }
}

/// A claim may be worth as much as a parameter: the names are shown, the values never.
impl fmt::Debug for AssertionTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.claims.keys().collect();
        f.debug_struct("AssertionTerms").field("claims", &names).field("lifetime", &self.lifetime).finish()
    }
}

/// What an assertion says (RFC 7523 section 3), but for the time and its own name.
#[derive(Clone, Copy, Serialize)]
pub(in crate::oauth) struct Claims<'a> {
    #[serde(rename = "iss", skip_serializing_if = "Option::is_none")]
    pub(in crate::oauth) issuer: Option<&'a str>,
    #[serde(rename = "sub", skip_serializing_if = "Option::is_none")]
    pub(in crate::oauth) subject: Option<&'a str>,
    #[serde(rename = "aud", skip_serializing_if = "Option::is_none")]
    pub(in crate::oauth) audience: Option<&'a str>,
    /// What is asked for, which Google reads here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::oauth) scope: Option<&'a str>,
    #[serde(flatten)]
    pub(in crate::oauth) more: &'a Map<String, Value>,
}

impl Signer {
    /// A client secret of the length that `algorithm` demands.
    pub(in crate::oauth) fn secret(
        secret: Secret<String>,
        algorithm: HmacAlgorithm,
    ) -> Result<Self, ErrorKind> {
        if secret.expose().len() < algorithm.least_bytes() {
            return Err(RequestFault::ShortSecret.into());
        }
        Ok(Self::Secret(secret, algorithm))
    }

    /// The key that `settings` name, and their certificate, read now.
    pub(in crate::oauth) async fn read(settings: &KeySettings) -> Result<Self, Error> {
        let text = read(&settings.key).await?;
        let key = SigningKey::from_text(text.expose(), settings.algorithm)
            .map_err(|fault| Error::here(RequestFault::Key(Held::by(&settings.key), fault)))?;
        Self::key(key, settings).await
    }

    /// A key with what `settings` say of it.
    pub(in crate::oauth) async fn key(key: SigningKey, settings: &KeySettings) -> Result<Self, Error> {
        let key_id = settings.key_id.clone().or_else(|| key.key_id().map(str::to_owned));
        let thumbprint = match settings.certificate.clone() {
            Some(path) => {
                let file = path.clone();
                Some(blocking(&path, move || certificate_thumbprint(&file)).await?.map_err(Error::here)?)
            }
            None => None,
        };
        Ok(Self::Key { key: Box::new(key), key_id, thumbprint })
    }

    /// Writes an assertion that no other is like. `now` is the server's clock, as far as it is known. It is dated back a
    /// little, and still lives no longer than `lifetime`: some servers compare `iat` and `exp`.
    pub(in crate::oauth) fn write(
        &self,
        claims: &Claims<'_>,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Secret<String>, KeyError> {
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(flatten)]
            claims: &'a Claims<'a>,
            iat: u64,
            exp: u64,
            jti: String,
        }
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let iat = now.saturating_sub(BACKDATED.min(lifetime / BACKDATED_SHARE)).as_secs();
        let whole = Whole { claims, iat, exp: iat.saturating_add(lifetime.as_secs()), jti: jti()? };
        let header = Header { typ: Some("JWT"), ..Header::default() };
        match self {
            Self::Secret(secret, algorithm) => {
                jws::authenticate(secret.expose().as_bytes(), *algorithm, header, &whole)
            }
            Self::Key { key, key_id, thumbprint } => {
                let header = Header { kid: key_id.as_deref(), certificate: thumbprint.as_deref(), ..header };
                jws::sign(key, header, &whole)
            }
        }
    }
}

/// A name that no other assertion has: servers refuse one that they have seen.
fn jti() -> Result<String, KeyError> {
    let mut bytes = [0; JTI_BYTES];
    rand::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The SHA-256 of the first certificate in a PEM file.
fn certificate_thumbprint(path: &Path) -> Result<String, ErrorKind> {
    let wrong = |fault| ErrorKind::Request(RequestFault::Certificate(path.to_owned(), fault));
    let read = machine::read(path, MAX_CERTIFICATE_BYTES).map_err(|why| match why {
        Unreadable::Lacking(lack) => {
            ErrorKind::Request(RequestFault::Secret(SecretError::Lacking(path.to_owned(), lack)))
        }
        why => wrong(CertificateFault::Unreadable(why)),
    })?;
    let certificate =
        CertificateDer::from_pem_slice(&read.bytes).map_err(|_| wrong(CertificateFault::NoCertificate))?;
    Ok(URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &certificate)))
}

/// A chain of ten certificates, with all that tools write above them.
const MAX_CERTIFICATE_BYTES: usize = 256 * 1024;

/// 128 bits.
const JTI_BYTES: usize = 16;

/// How long before now an assertion says that it was made, for servers whose clock is a little behind. Not more: some
/// count a minute from here, whatever `exp` says.
const BACKDATED: Duration = Duration::from_secs(10);

/// And no more than this part of its lifetime.
const BACKDATED_SHARE: u32 = 6;
