//! A private key to sign with: client assertions, JWT bearer grants and DPoP proofs (RFC 7518 section 3).
//!
//! It is read from PEM or from a JWK, whichever the text is. Nothing of a key gets into an error. `jws` signs with it.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
    RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::secret::Secret;

mod curve;
mod der;
mod jwk;
mod pem;

pub(crate) use curve::Curve;

/// How a JWT is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// ECDSA on secp256k1 with SHA-256 (RFC 8812).
    Es256K,
    /// Ed25519 (RFC 8037).
    EdDsa,
}

impl Algorithm {
    const ALL: [Self; 11] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::Es256K,
        Self::EdDsa,
    ];

    /// What `alg` says (RFC 7518 section 3.1, RFC 8037 section 3.1, RFC 8812 section 3.2).
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Es256K => "ES256K",
            Self::EdDsa => "EdDSA",
        }
    }

    /// What a JWK's `alg` names; `Ed25519` is RFC 9864's name for what it is here.
    fn parse(name: &str) -> Option<Self> {
        let name = if name == "Ed25519" { "EdDSA" } else { name };
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    /// How an RSA key signs by it; `None`: it is for another kind of key.
    const fn of_rsa(self) -> Option<&'static dyn RsaEncoding> {
        Some(match self {
            Self::Rs256 => &RSA_PKCS1_SHA256,
            Self::Rs384 => &RSA_PKCS1_SHA384,
            Self::Rs512 => &RSA_PKCS1_SHA512,
            Self::Ps256 => &RSA_PSS_SHA256,
            Self::Ps384 => &RSA_PSS_SHA384,
            Self::Ps512 => &RSA_PSS_SHA512,
            _ => return None,
        })
    }
}

/// Why a key cannot be used. It says nothing of the key but its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyError {
    /// Neither PEM nor a JSON object.
    #[error("it is neither PEM nor a JWK; give a private key in one of these forms")]
    NotAKey,
    /// PEM without a private key in it.
    #[error(
        "it holds no private key, only a certificate or a public key; give the private key that belongs to it"
    )]
    Public,
    /// A passphrase guards it.
    #[error(
        "it is encrypted; take the passphrase off with `openssl pkey -in KEY -out PLAIN` and guard the file instead"
    )]
    Encrypted,
    /// OpenSSH's own format.
    #[error("it is in OpenSSH's own format; convert it with `ssh-keygen -p -m PKCS8 -f KEY`")]
    OpenSsh,
    /// PEM or DER that does not parse.
    #[error("it is cut off or damaged; copy it again, its first and last line included")]
    Malformed,
    /// A JWK that lacks a member, or has one that is no base64url.
    #[error("the JWK's `{0}` is missing or not what it must be; export the key again, with its private part")]
    Member(&'static str),
    /// JSON that is no JWK: something else, or a set.
    #[error(
        "the JSON is not a JWK of an RSA, EC or OKP key; a set of keys is none either, so give one key of it"
    )]
    NotAJwk,
    /// Another kind of key or another curve.
    #[error(
        "it is of a kind that is not supported; use an RSA, EC (P-256, P-384, P-521, secp256k1) or Ed25519 key"
    )]
    Kind,
    /// An RSA key that can be broken (RFC 7518 section 3.3).
    #[error("the RSA key is shorter than 2048 bits; make a longer one")]
    TooShort,
    /// The parts do not belong together.
    #[error(
        "its parts do not make a key: the public part does not belong to the private one, or a number is wrong"
    )]
    Inconsistent,
    /// The JWK names an algorithm that is not among ours.
    #[error(
        "the JWK's `alg` is not supported; use RS256, PS256, ES256 or another algorithm of that family, or EdDSA"
    )]
    Algorithm,
    /// The algorithm asked for is for another kind of key.
    #[error("{} cannot be used with this key, which is for {}", .asked.as_str(), .kind.algorithms())]
    Mismatch {
        /// The algorithm.
        asked: Algorithm,
        /// The key's kind.
        kind: KeyKind,
    },
    /// The library failed to sign, make or write a key.
    #[error("the cryptographic library failed; please report it")]
    Library,
}

/// What a key is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// RSA.
    Rsa,
    /// ECDSA, on this curve.
    Elliptic(Curve),
    /// An Edwards curve: Ed25519.
    Ed25519,
}

impl KeyKind {
    const fn algorithms(self) -> &'static str {
        match self {
            Self::Rsa => "RS256, RS384, RS512, PS256, PS384 and PS512",
            Self::Elliptic(curve) => curve.algorithm().as_str(),
            Self::Ed25519 => "EdDSA",
        }
    }

    const fn default_algorithm(self) -> Algorithm {
        match self {
            Self::Rsa => Algorithm::Rs256,
            Self::Elliptic(curve) => curve.algorithm(),
            Self::Ed25519 => Algorithm::EdDsa,
        }
    }

    fn takes(self, algorithm: Algorithm) -> bool {
        match self {
            Self::Rsa => algorithm.of_rsa().is_some(),
            Self::Elliptic(_) | Self::Ed25519 => algorithm == self.default_algorithm(),
        }
    }
}

/// A private key and the one algorithm that it is used with. The library zeroes it when it is dropped.
pub(crate) struct SigningKey {
    pair: Pair,
    algorithm: Algorithm,
    key_id: Option<String>,
    public_jwk: String,
}

enum Pair {
    Rsa(RsaKeyPair),
    Elliptic(Curve, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Pair {
    const fn kind(&self) -> KeyKind {
        match self {
            Self::Rsa(_) => KeyKind::Rsa,
            Self::Elliptic(curve, _) => KeyKind::Elliptic(*curve),
            Self::Ed25519(_) => KeyKind::Ed25519,
        }
    }
}

impl SigningKey {
    /// Reads a key out of PEM (PKCS #8, PKCS #1 or SEC 1, the first that is there) or a private JWK (RFC 7517).
    /// `algorithm`: `None`: the JWK's `alg`, else RS256, the curve's own or EdDSA, as the key is.
    ///
    /// # Errors
    /// [`KeyError`], which says what to fix and nothing of the key.
    pub(crate) fn from_text(text: &str, algorithm: Option<Algorithm>) -> Result<Self, KeyError> {
        if text.trim_start().starts_with('{') {
            let jwk = jwk::parse(text)?;
            let algorithm = match (algorithm, jwk.algorithm) {
                (Some(algorithm), _) => Some(algorithm),
                (None, Some(name)) => Some(Algorithm::parse(&name).ok_or(KeyError::Algorithm)?),
                (None, None) => None,
            };
            Self::new(jwk.pair, algorithm, jwk.key_id)
        } else {
            let (form, der) = pem::private_key(text)?;
            Self::new(der::pair(form, &der)?, algorithm, None)
        }
    }

    /// Reads a key out of PKCS #8: what [`SigningKey::to_pkcs8`] wrote.
    ///
    /// # Errors
    /// [`KeyError`] where it is none.
    pub(crate) fn from_pkcs8(der: &[u8], algorithm: Option<Algorithm>) -> Result<Self, KeyError> {
        Self::new(der::pair(pem::Form::Pkcs8, der)?, algorithm, None)
    }

    /// Makes a new key for ES256.
    ///
    /// # Errors
    /// [`KeyError::Library`], where the system has no random bytes.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        let curve = Curve::P256;
        let pair = EcdsaKeyPair::generate(curve.signing())?;
        Self::new(Pair::Elliptic(curve, pair), None, None)
    }

    fn new(pair: Pair, algorithm: Option<Algorithm>, key_id: Option<String>) -> Result<Self, KeyError> {
        let kind = pair.kind();
        let algorithm = algorithm.unwrap_or(kind.default_algorithm());
        if !kind.takes(algorithm) {
            return Err(KeyError::Mismatch { asked: algorithm, kind });
        }
        let public_jwk = jwk::public(&pair)?;
        Ok(Self { pair, algorithm, key_id, public_jwk })
    }

    /// The signature of `message` as JWS has it: of ECDSA both numbers, each as long as the curve's (RFC 7518 section 3.4).
    ///
    /// # Errors
    /// [`KeyError::Library`]; no key that was read leads to it.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let padding = self.algorithm.of_rsa().ok_or(KeyError::Library)?;
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &SystemRandom::new(), message, &mut signature)?;
                Ok(signature)
            }
            Pair::Elliptic(_, pair) => Ok(pair.sign(&SystemRandom::new(), message)?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Ok(pair.try_sign(message)?.as_ref().to_vec()),
        }
    }

    /// The algorithm that it signs with.
    #[must_use]
    pub(crate) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The `kid` of the JWK that it was read from.
    #[must_use]
    pub(crate) fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// The public half as a JWK in JSON, in the form that RFC 7638 section 3 hashes: the members that it must have,
    /// in the order of the alphabet, without space.
    #[must_use]
    pub(crate) fn public_jwk(&self) -> &str {
        &self.public_jwk
    }

    /// The JWK thumbprint with SHA-256 in base64url (RFC 7638): `jkt`.
    #[must_use]
    pub(crate) fn thumbprint(&self) -> String {
        thumbprint_of(&self.public_jwk)
    }

    /// The key in PKCS #8, for the store. It has neither `kid` nor algorithm.
    ///
    /// # Errors
    /// [`KeyError::Library`]; no key leads to it.
    pub(crate) fn to_pkcs8(&self) -> Result<Secret<Vec<u8>>, KeyError> {
        let der = match &self.pair {
            Pair::Rsa(pair) => pair.as_der()?.as_ref().to_vec(),
            Pair::Elliptic(_, pair) => pair.to_pkcs8v1()?.as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.to_pkcs8v1()?.as_ref().to_vec(),
        };
        Ok(Secret::new(der))
    }
}

fn thumbprint_of(public_jwk: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, public_jwk.as_bytes()))
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("algorithm", &self.algorithm)
            .field("key_id", &self.key_id)
            .field("thumbprint", &self.thumbprint())
            .finish_non_exhaustive()
    }
}

impl From<Unspecified> for KeyError {
    fn from(_: Unspecified) -> Self {
        Self::Library
    }
}

/// Why the library refused a key, as far as it says so.
impl From<KeyRejected> for KeyError {
    fn from(rejected: KeyRejected) -> Self {
        match rejected.description_() {
            "TooSmall" => Self::TooShort,
            "WrongAlgorithm" => Self::Kind,
            "InvalidEncoding" => Self::Malformed,
            _ => Self::Inconsistent,
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(in crate::oauth) mod vectors;
