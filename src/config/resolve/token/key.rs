//! A private key to sign with: that it is one, and that it can do what is asked of it.

use std::path::PathBuf;

use crate::config::file;
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::config::secret_ref::Found;
use crate::oauth::{Algorithm, KeySettings};

/// What is said of a key, and what it may be.
pub(super) struct Spec<'t> {
    pub(super) id: (KeyPath, Option<&'t str>),
    pub(super) algorithm: (KeyPath, Option<file::Algorithm>),
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
    pub(super) settings: KeySettings,
    /// Whether it says itself whose it is; `None`: it is not there yet.
    pub(super) names_issuer: Option<bool>,
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
        let (_, algorithm) = self.algorithm;
        let settings = KeySettings {
            key: found.source,
            key_id: id.map(str::to_owned),
            algorithm: algorithm.map(|algorithm| match algorithm {
                file::Algorithm::Rs256 => Algorithm::Rs256,
                file::Algorithm::Ps256 => Algorithm::Ps256,
                file::Algorithm::Es256 => Algorithm::Es256,
                file::Algorithm::EdDsa => Algorithm::EdDsa,
            }),
            certificate: self.certificate,
        };
        let names_issuer =
            found.now.as_ref().map(|now| self.kind == Kind::OrGoogle && is_google(now.expose()));
        Some(Checked { settings, names_issuer })
    }
}

fn is_google(text: &str) -> bool {
    text.trim_start().starts_with('{') && text.contains("\"service_account\"")
}
