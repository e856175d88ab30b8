//! Certificates and private keys of TLS in PEM files (RFC 7468).
//!
//! `tls` and `certificate` call it. The keys that a client signs JWTs with have a reader of their own in `oauth`: it
//! also takes a key whose line breaks an environment variable has lost, and zeroes every buffer.

use std::path::Path;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::tls::TlsError;
use crate::machine;

/// The certificates in `file`, at least one. Blocks for one read.
pub(super) fn certificates(file: &Path, max_bytes: usize) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(file, max_bytes)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|_| TlsError::CertificateMalformed(file.to_owned()))?;
    if found.is_empty() { Err(TlsError::CertificateMissing(file.to_owned())) } else { Ok(found) }
}

/// The first private key in `file`: PKCS #8, PKCS #1 or SEC 1, not encrypted. Blocks for one read.
pub(super) fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(file, MAX_PAIR_BYTES)?).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::KeyMissing(file.to_owned()),
        _ => TlsError::KeyUnusable(file.to_owned()),
    })
}

/// The file's bytes, zeroed after use: they may hold a key.
fn read(file: &Path, max_bytes: usize) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let read = machine::read(file, max_bytes);
    Ok(read.map_err(|why| TlsError::unreadable(file, why))?.bytes)
}

/// A chain of ten certificates, with all that tools write above them.
pub(super) const MAX_PAIR_BYTES: usize = 256 * 1024;

/// A platform's whole bundle of authorities is a quarter of a megabyte.
pub(super) const MAX_CA_BYTES: usize = 10 << 20;
