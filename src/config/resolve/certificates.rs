//! The files of certificate authorities: that they are there and hold one.

use std::io::Read;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::findings::Review;
use crate::config::problem::KeyPath;

/// The file at `path`, where one is named.
pub(super) fn ca_file(
    path: &KeyPath,
    text: Option<&str>,
    review: &mut Review<'_>,
) -> Result<Option<PathBuf>, ()> {
    let Some(text) = text else { return Ok(None) };
    let file = review.file(path, text);
    match holds_certificate(&file) {
        Ok(()) => Ok(Some(file)),
        Err(what) => {
            review.error(
                path,
                what,
                "name a PEM file with at least one certificate (-----BEGIN CERTIFICATE-----)",
            );
            Err(())
        }
    }
}

fn holds_certificate(file: &Path) -> Result<(), String> {
    let shown = file.display();
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("the file {shown} does not exist"),
        kind => format!("the file {shown} cannot be read: {kind}"),
    };
    // A pipe would be waited for without an end.
    if !std::fs::metadata(file).map_err(unreadable)?.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    let reader = std::fs::File::open(file).map_err(unreadable)?.take(MAX_FILE_BYTES);
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_reader_iter(reader) {
        let certificate = certificate.map_err(|_| format!("the file {shown} is not valid PEM"))?;
        store.add(certificate).map_err(|_| format!("a certificate in the file {shown} is malformed"))?;
    }
    if store.is_empty() { Err(format!("the file {shown} holds no certificate")) } else { Ok(()) }
}

/// A platform's whole bundle is a quarter of a megabyte.
const MAX_FILE_BYTES: u64 = 10 << 20;
