//! The files of certificates: that they are there and hold what they are to hold.

use std::path::PathBuf;

use crate::config::findings::Review;
use crate::config::permissions;
use crate::config::problem::KeyPath;
use crate::config::shape::last_key;
use crate::net::tls::{ClientCertificate, TlsError, roots_from};

/// The file at `path`, where one is named.
pub(super) fn ca_file(
    path: &KeyPath,
    text: Option<&str>,
    review: &mut Review<'_>,
) -> Result<Option<PathBuf>, ()> {
    let Some(text) = text else { return Ok(None) };
    let file = review.file(path, text);
    match roots_from(&file) {
        Ok(_) => Ok(Some(file)),
        Err(error) => {
            review.unusable(
                path,
                &error,
                "name a PEM file with at least one certificate (-----BEGIN CERTIFICATE-----)",
            );
            Err(())
        }
    }
}

/// The keys that name a certificate and its private key, and what is written at them.
pub(super) struct Pair<'t> {
    /// Whose they are, in a sentence: `the client's`.
    pub(super) whose: &'static str,
    pub(super) cert: (KeyPath, Option<&'t str>),
    pub(super) key: (KeyPath, Option<&'t str>),
}

impl Pair<'_> {
    /// Whether neither is named.
    pub(super) const fn is_empty(&self) -> bool {
        self.cert.1.is_none() && self.key.1.is_none()
    }

    /// Reads both, at each load anew: where a file has changed, what it makes is another. `Err`: that is reported.
    pub(super) fn load(&self, review: &mut Review<'_>) -> Result<Option<ClientCertificate>, ()> {
        let ((cert_path, cert), (key_path, key)) = (&self.cert, &self.key);
        let (cert, key) = match (cert, key) {
            (None, None) => {
                let wrong = review.is_spoken_for(cert_path) || review.is_spoken_for(key_path);
                return if wrong { Err(()) } else { Ok(None) };
            }
            (Some(_), None) => {
                let what =
                    format!("is missing: the certificate of `{}` needs its private key", last_key(cert_path));
                review.missing(key_path, &what, review.set(key_path));
                return Err(());
            }
            (None, Some(_)) => {
                let what =
                    format!("is missing: the private key of `{}` needs its certificate", last_key(key_path));
                review.missing(cert_path, &what, review.set(cert_path));
                return Err(());
            }
            (Some(cert), Some(key)) => (review.file(cert_path, cert), review.file(key_path, key)),
        };
        if permissions::exposed(&key).is_some() {
            let what = format!("every user of this machine may read the file {}", key.display());
            review.warning(key_path, what, format!("chmod 600 {}", key.display()));
        }
        let loaded = ClientCertificate::load(&cert, &key);
        if let Ok(certificate) = &loaded
            && let Some(at) = certificate.expired()
        {
            let at = httpdate::fmt_http_date(at);
            let what = format!("the certificate in the file {} expired at {at}", cert.display());
            review.warning(cert_path, what, "have another one issued, and compare the clock");
        }
        loaded.map(Some).map_err(|error| {
            let cert_mend = cert_mend(self.whose);
            let (path, help) = match &error {
                TlsError::KeyMismatch { .. } => {
                    (key_path, "name the private key that the certificate was made for")
                }
                TlsError::KeyMissing(_) | TlsError::KeyUnusable(_) => (key_path, KEY_MEND),
                TlsError::Unreadable { path, .. } if *path == key && key != cert => (key_path, KEY_MEND),
                _ => (cert_path, cert_mend.as_str()),
            };
            review.unusable(path, &error, help);
        })
    }
}

/// The file of a certificate that is only spoken of, so that its key is not asked for.
pub(super) fn client_certificate_file(
    path: &KeyPath,
    text: &str,
    review: &mut Review<'_>,
) -> Option<PathBuf> {
    let file = review.file(path, text);
    if let Err(error) = roots_from(&file) {
        review.unusable(path, &error, cert_mend("the client's"));
        return None;
    }
    Some(file)
}

fn cert_mend(whose: &str) -> String {
    format!("name a PEM file with {whose} certificate (-----BEGIN CERTIFICATE-----)")
}

const KEY_MEND: &str =
    "name a PEM file with the certificate's private key, not encrypted (-----BEGIN PRIVATE KEY-----)";
