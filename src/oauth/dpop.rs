//! Proofs that the sender of a token holds its key (RFC 9449): `DPoP` headers for the token endpoint and for upstreams.
//!
//! A proof costs little more than its signature: all that is the same in each is worked out once. `endpoint` sends them
//! with token requests; `token` keeps a [`Dpop`] beside each token that it is bound to, for the proxy to prove with.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::net::single_field::only;
use crate::secret::Secret;

use crate::oauth::jose::key::{KeyError, SigningKey};

pub(in crate::oauth) mod challenge;
mod nonces;

use nonces::Nonces;

/// A key that tokens are bound to, and what the servers that it was proved to said last.
#[derive(Debug)]
pub(crate) struct Dpop {
    key: SigningKey,
    /// The header in base64url and its dot: every proof begins with it.
    header: String,
    nonces: Nonces,
}

/// The request that a proof is for (RFC 9449 section 4.2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    /// `htm`.
    pub method: &'a Method,
    /// The beginning of `htu`: scheme, host in lower case, and the port where it is not the scheme's own.
    pub origin: &'a str,
    /// The rest of it: the path as it goes over the wire, without query. `*` is the server as a whole.
    pub path: &'a str,
}

/// Whether an answer had a nonce for the proofs to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nonce {
    /// It had one; it is used from now on.
    Given,
    /// It had none, or none that a proof could hold.
    None,
}

impl Dpop {
    /// Makes ready to prove possession of `key`.
    #[must_use]
    pub(crate) fn new(key: SigningKey) -> Self {
        let header = format!(
            r#"{{"typ":"dpop+jwt","alg":"{}","jwk":{}}}"#,
            key.algorithm().as_str(),
            key.public_jwk()
        );
        let header = format!("{}.", URL_SAFE_NO_PAD.encode(header));
        Self { key, header, nonces: Nonces::default() }
    }

    /// The same for a key that is made now, for ES256.
    ///
    /// # Errors
    /// [`KeyError::Library`], where the system has no random bytes.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        SigningKey::generate().map(Self::new)
    }

    /// The same for a key that was stored beside a refresh token by [`Dpop::to_pkcs8`].
    ///
    /// # Errors
    /// [`KeyError`] where it is none.
    pub(crate) fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        SigningKey::from_pkcs8(der, None).map(Self::new)
    }

    /// The key in PKCS #8, to be stored beside a refresh token that is bound to it (RFC 9449 section 5).
    ///
    /// # Errors
    /// [`KeyError::Library`]; no key leads to it.
    pub(crate) fn to_pkcs8(&self) -> Result<Secret<Vec<u8>>, KeyError> {
        self.key.to_pkcs8()
    }

    /// The key's thumbprint: `jkt`, and `dpop_jkt` in an authorization request (RFC 9449 sections 6.1 and 10).
    #[must_use]
    pub(crate) fn thumbprint(&self) -> String {
        self.key.thumbprint()
    }

    /// Whether it proves possession of `key`, by the same algorithm.
    #[must_use]
    pub(crate) fn is_of(&self, key: &SigningKey) -> bool {
        self.key.public_jwk() == key.public_jwk() && self.key.algorithm() == key.algorithm()
    }

    /// The value of `DPoP` for one request; each call gives another. `token_hash` is [`token_hash`] of the token that
    /// goes with it; `None`: none does. `now` is the wall clock's.
    ///
    /// # Errors
    /// [`KeyError::Library`], where the system has no random bytes.
    pub(crate) fn proof(
        &self,
        target: Target<'_>,
        token_hash: Option<&str>,
        now: SystemTime,
    ) -> Result<HeaderValue, KeyError> {
        let mut id = [0; ID_BYTES];
        rand::fill(&mut id)?;
        let nonce = self.nonces.newest(target.origin);
        let iat = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());

        // No claim needs to be escaped: a method is a token, and origin, path, hash and nonce hold no quote.
        let length = target.origin.len() + target.path.len() + nonce.as_ref().map_or(0, |nonce| nonce.len());
        let mut claims = String::with_capacity(length + CLAIMS_BYTES);
        claims.push_str(r#"{"jti":""#);
        URL_SAFE_NO_PAD.encode_string(id, &mut claims);
        claims.push_str(r#"","htm":""#);
        claims.push_str(target.method.as_str());
        claims.push_str(r#"","htu":""#);
        claims.push_str(target.origin);
        push_path(&mut claims, target.path);
        // Writing to a String does not fail.
        let _ = write!(claims, r#"","iat":{iat}"#);
        for (name, value) in [("ath", token_hash), ("nonce", nonce.as_deref())] {
            if let Some(value) = value {
                let _ = write!(claims, r#","{name}":"{value}""#);
            }
        }
        claims.push('}');

        let mut proof =
            String::with_capacity(self.header.len() + claims.len() * 4 / 3 + SIGNATURE_CHARACTERS);
        proof.push_str(&self.header);
        URL_SAFE_NO_PAD.encode_string(claims, &mut proof);
        let signature = self.key.sign(proof.as_bytes())?;
        proof.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut proof);
        let mut value = HeaderValue::try_from(proof).map_err(|_| KeyError::Library)?;
        // It is good for one request; no HTTP/2 table need remember it, and no log show it.
        value.set_sensitive(true);
        Ok(value)
    }

    /// Takes note of the nonce in an answer of `origin`'s (RFC 9449 section 8.2): the newest counts.
    pub(crate) fn take_note(&self, origin: &str, answer: &HeaderMap) -> Nonce {
        let Some(field) = only(answer, &DPOP_NONCE) else { return Nonce::None };
        match field.to_str() {
            Ok(nonce) if is_nonce(nonce) => {
                self.nonces.remember(origin, nonce);
                Nonce::Given
            }
            _ => Nonce::None,
        }
    }
}

/// Two that prove possession of the same key are one and the same to a server.
impl PartialEq for Dpop {
    fn eq(&self, other: &Self) -> bool {
        self.is_of(&other.key)
    }
}

impl Eq for Dpop {}

/// `ath`: the hash of an access token, in base64url (RFC 9449 section 4.2).
#[must_use]
pub(crate) fn token_hash(access_token: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, access_token.as_bytes()))
}

/// The path as it stands in the request: a server compares it with the one that it got, and a percent-encoding that
/// was spelt in another way would be another path to most. What no URI has (RFC 3986 section 2) is encoded.
fn push_path(claims: &mut String, path: &str) {
    if path == "*" || path.is_empty() {
        // RFC 9110 section 7.1 leaves no path here, and to leave none is to say this one (RFC 3986 section 6.2.3).
        claims.push('/');
        return;
    }
    let mut rest = path;
    while let Some(at) = rest.bytes().position(|byte| !is_of_a_path(byte)) {
        claims.push_str(&rest[..at]);
        let foreign = rest[at..].chars().next().map_or(1, char::len_utf8);
        for byte in rest[at..at + foreign].bytes() {
            let _ = write!(claims, "%{byte:02X}");
        }
        rest = &rest[at + foreign..];
    }
    claims.push_str(rest);
}

const fn is_of_a_path(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// Whether `text` is a nonce (RFC 9449 section 8.1), and of a length that fits into a request.
fn is_nonce(text: &str) -> bool {
    let is_nqchar = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    !text.is_empty() && text.len() <= MAX_NONCE_BYTES && text.bytes().all(is_nqchar)
}

/// Where a proof stands.
pub(crate) const DPOP: HeaderName = HeaderName::from_static("dpop");
/// Where a server gives a nonce.
pub(crate) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// RFC 9449 section 4.2 asks for 96 bits at least.
const ID_BYTES: usize = 16;
/// A nonce is a few dozen bytes; one that is an encrypted token may be some hundred.
const MAX_NONCE_BYTES: usize = 1024;
/// Room for the claims but for what varies much in length.
const CLAIMS_BYTES: usize = 192;
/// Room for the signature of an elliptic curve, and two dots.
const SIGNATURE_CHARACTERS: usize = 92;

#[cfg(test)]
mod tests;
