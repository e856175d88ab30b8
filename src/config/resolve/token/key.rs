//! A private key to sign with: that it is one, and that it can do what is asked of it.

use std::path::PathBuf;

use crate::config::file;
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::config::secret_ref::Found;
use crate::oauth::{Algorithm, GoogleKey, HmacAlgorithm, KeyError, KeySettings, SigningKey};
use crate::secret::Secret;

/// What is said of a key, and what it may be.
pub(super) struct Spec<'t> {
    pub(super) id: (KeyPath, Option<&'t str>),
    pub(super) algorithm: (KeyPath, Option<file::Algorithm>),
    /// The certificate that is named along with it.
    pub(super) certificate: Option<PathBuf>,
    pub(super) kind: Kind,
}

/// What a key file may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// PEM or JWK.
    Plain,
    /// A Google service-account key too, which says whose it is.
    OrGoogle,
}

/// A key that can be used, as far as is known.
pub(super) struct Checked {
    /// The key that says where it is.
    pub(super) path: KeyPath,
    pub(super) settings: KeySettings,
    /// What it says of itself; `None`: it is not there yet.
    pub(super) told: Option<Told>,
}

/// What a key's file says beside the key.
#[derive(Default)]
pub(super) struct Told {
    /// Whether it says whose the key is.
    pub(super) issuer: bool,
    /// Where tokens are asked for with it.
    pub(super) token_uri: Option<String>,
}

impl Spec<'_> {
    /// A key of which nothing more is said.
    pub(super) fn bare(path: &KeyPath) -> Self {
        Self {
            id: (path.clone(), None),
            algorithm: (path.clone(), None),
            certificate: None,
            kind: Kind::Plain,
        }
    }

    /// Checks the key that was found. `None` only where something was reported.
    pub(super) fn check(self, found: Found, review: &mut Review<'_>) -> Option<Checked> {
        let (id_path, id) = self.id;
        if id.is_some_and(str::is_empty) {
            review.error(
                &id_path,
                "is empty",
                "take it out, or name the key as the authorization server does",
            );
            return None;
        }
        let (algorithm_path, algorithm) = self.algorithm;
        let algorithm = match algorithm.map(of_key) {
            Some(None) => {
                let what = "is for a secret that both sides know, and this is a private key";
                let help = "take it out, or set `client_auth = \"client_secret_jwt\"`";
                review.error(&algorithm_path, what, help);
                return None;
            }
            algorithm => algorithm.flatten(),
        };
        let told = match &found.now {
            Some(now) => Some(look_at(now, algorithm, self.kind).map_err(|fault| {
                if matches!(fault, Fault::Key(KeyError::Mismatch { .. })) && algorithm.is_some() {
                    review.error(
                        &algorithm_path,
                        fault.to_string(),
                        "take it out, or give a key that it fits",
                    );
                } else {
                    report(&found.key, &fault, review);
                }
            })),
            None => None,
        };
        let told = told.transpose().ok()?;
        let key_id = id.map(str::to_owned);
        let settings = KeySettings { key: found.source, key_id, algorithm, certificate: self.certificate };
        Some(Checked { path: found.key, settings, told })
    }
}

/// How a private key signs; `None`: it is for a secret.
const fn of_key(algorithm: file::Algorithm) -> Option<Algorithm> {
    Some(match algorithm {
        file::Algorithm::Hs256 | file::Algorithm::Hs384 | file::Algorithm::Hs512 => return None,
        file::Algorithm::Rs256 => Algorithm::Rs256,
        file::Algorithm::Rs384 => Algorithm::Rs384,
        file::Algorithm::Rs512 => Algorithm::Rs512,
        file::Algorithm::Ps256 => Algorithm::Ps256,
        file::Algorithm::Ps384 => Algorithm::Ps384,
        file::Algorithm::Ps512 => Algorithm::Ps512,
        file::Algorithm::Es256 => Algorithm::Es256,
        file::Algorithm::Es384 => Algorithm::Es384,
        file::Algorithm::Es512 => Algorithm::Es512,
        file::Algorithm::Es256K => Algorithm::Es256K,
        file::Algorithm::EdDsa => Algorithm::EdDsa,
    })
}

/// How a secret authenticates; `None`: it is for a private key.
pub(super) const fn of_secret(algorithm: file::Algorithm) -> Option<HmacAlgorithm> {
    match algorithm {
        file::Algorithm::Hs256 => Some(HmacAlgorithm::Hs256),
        file::Algorithm::Hs384 => Some(HmacAlgorithm::Hs384),
        file::Algorithm::Hs512 => Some(HmacAlgorithm::Hs512),
        _ => None,
    }
}

/// Why a key cannot be used; none of it shows the key.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("{0}")]
    Key(KeyError),
    #[error("{0}")]
    Google(String),
}

fn look_at(text: &Secret<String>, algorithm: Option<Algorithm>, kind: Kind) -> Result<Told, Fault> {
    let google = match kind {
        Kind::OrGoogle => GoogleKey::parse(text.expose()).transpose(),
        Kind::Plain => Ok(None),
    };
    let google = google.map_err(|fault| Fault::Google(fault.to_string()))?;
    let key = google.as_ref().map_or(text, |google| &google.private_key);
    SigningKey::from_text(key.expose(), algorithm).map_err(Fault::Key)?;
    let told = |google: GoogleKey| Told { issuer: true, token_uri: google.token_uri };
    Ok(google.map(told).unwrap_or_default())
}

/// The fault is a sentence with its fix behind a semicolon.
fn report(path: &KeyPath, fault: &Fault, review: &mut Review<'_>) {
    let sentence = fault.to_string();
    let (what, help) = sentence.split_once("; ").unwrap_or((&sentence, "give another key"));
    review.error(path, format!("the key cannot be used: {what}"), help);
}
