//! A client's certificate and its private key, out of two PEM files: what an authorization server knows a client by
//! (RFC 8705 section 2), and what a token can be bound to (section 3).
//!
//! `config` loads it; `oauth` and `proxy` present it on their connections, by way of [`super::tls::client_config`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};
use zeroize::Zeroize as _;

use super::pem::{self, MAX_PAIR_BYTES};
use super::tls::TlsError;
use crate::clock;
use crate::metrics::Validity;

/// A client's certificate and its key, read and checked against each other.
///
/// Two are equal where files and content are: settings that hold a certificate whose file has changed since are others,
/// and what was made of them is made anew. The key need not be compared: a certificate has but one.
#[derive(Clone)]
pub(crate) struct ClientCertificate {
    /// PEM: the certificate, and the chain up to its authority.
    pub cert_file: PathBuf,
    /// PEM: the private key.
    pub key_file: PathBuf,
    /// From when until when it is valid, for people and metrics; `None`: that cannot be read.
    validity: Option<Validity>,
    /// SHA-256 of the first certificate in DER: `x5t#S256` (RFC 8705 section 3.1).
    pub thumbprint: [u8; 32],
    certified: Arc<CertifiedKey>,
}

impl ClientCertificate {
    /// Reads both files, which may be the same one. The key is PKCS #8, PKCS #1 or SEC 1, and not encrypted. Whether
    /// the certificate has expired is for the other side to say, whose clock counts. Blocks for two small reads.
    ///
    /// # Errors
    /// [`TlsError`], which names the file.
    pub(crate) fn load(cert_file: &Path, key_file: &Path) -> Result<Self, TlsError> {
        let (certified, thumbprint) = certified(cert_file, key_file)?;
        let validity = certified.cert.first().and_then(validity);
        Ok(Self {
            validity,
            cert_file: cert_file.to_owned(),
            key_file: key_file.to_owned(),
            thumbprint,
            certified,
        })
    }

    /// When it expired, if it has by this machine's clock.
    #[must_use]
    pub(crate) fn expired(&self) -> Option<SystemTime> {
        let not_after = self.validity.map(|validity| validity.not_after);
        not_after.filter(|at| clock::until(*at).is_zero())
    }

    /// From when until when it is valid; `None`: that cannot be read.
    #[must_use]
    pub(crate) const fn validity(&self) -> Option<Validity> {
        self.validity
    }

    /// Both files: what a watcher looks at.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        [self.cert_file.as_path(), &self.key_file].into_iter()
    }

    /// What TLS presents: as it was read, whatever the files hold by now.
    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }
}

impl PartialEq for ClientCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.cert_file == other.cert_file
            && self.key_file == other.key_file
            && self.certified.cert == other.certified.cert
    }
}

impl Eq for ClientCertificate {}

/// Without the key.
impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate")
            .field("cert_file", &self.cert_file)
            .field("key_file", &self.key_file)
            .finish_non_exhaustive()
    }
}

/// Reads a certificate with its chain and its key, checks them against each other, and takes the certificate's SHA-256.
pub(super) fn certified(
    cert_file: &Path,
    key_file: &Path,
) -> Result<(Arc<CertifiedKey>, [u8; 32]), TlsError> {
    let chain = pem::certificates(cert_file, MAX_PAIR_BYTES)?;
    // There is at least one.
    let thumbprint = digest::digest(&digest::SHA256, &chain[0]);
    let thumbprint = thumbprint.as_ref().try_into().expect("SHA-256 has 32 bytes");
    let mut key = pem::private_key(key_file)?;
    let signing = any_supported_type(&key);
    key.zeroize();
    let signing = signing.map_err(|_| TlsError::KeyUnusable(key_file.to_owned()))?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::KeyMismatch { cert: cert_file.to_owned(), key: key_file.to_owned() }
        }
        _ => TlsError::CertificateMalformed(cert_file.to_owned()),
    })?;
    Ok((Arc::new(certified), thumbprint))
}

/// From when until when a certificate is valid (RFC 5280 section 4.1.2.5).
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let at = |time: ASN1Time| {
        UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or_default()))
    };
    let validity = parsed.validity();
    Some(Validity { not_before: at(validity.not_before)?, not_after: at(validity.not_after)? })
}

/// The same of the first certificate in a PEM file; `None`: that cannot be read.
#[must_use]
pub(crate) fn validity_in(file: &Path) -> Option<Validity> {
    validity(pem::certificates(file, MAX_PAIR_BYTES).ok()?.first()?)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
            let path = self.0.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        }
    }

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["orders".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_and_its_key_are_read_from_two_files_or_from_one() {
        let files = Files::new();
        let (cert, key) = pair();
        let two = [files.write("cert.pem", &cert), files.write("key.pem", &key)];
        let loaded = ClientCertificate::load(&two[0], &two[1]).unwrap();
        let der = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
        assert_eq!(loaded.thumbprint, digest::digest(&digest::SHA256, &der).as_ref());
        assert_eq!(loaded.files().collect::<Vec<_>>(), two);
        let one = files.write("both.pem", format!("{key}{cert}"));
        assert_eq!(ClientCertificate::load(&one, &one).unwrap().thumbprint, loaded.thumbprint);
    }

    #[test]
    fn keys_in_every_usual_form_are_taken() {
        let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let rsa: Pkcs8V1Der<'_> = rsa.as_der().unwrap();
        let rsa = rcgen::KeyPair::try_from(rsa.as_ref()).unwrap();
        let ec = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let ed = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        for (form, key, pem) in [
            ("RSA, PKCS #8", &rsa, pem("PRIVATE KEY", rsa.serialized_der())),
            ("RSA, PKCS #1", &rsa, pem("RSA PRIVATE KEY", bare(rsa.serialized_der()))),
            ("EC, PKCS #8", &ec, pem("PRIVATE KEY", ec.serialized_der())),
            ("EC, SEC 1", &ec, pem("EC PRIVATE KEY", bare(ec.serialized_der()))),
            ("Ed25519, PKCS #8", &ed, pem("PRIVATE KEY", ed.serialized_der())),
        ] {
            let files = Files::new();
            let params = rcgen::CertificateParams::new(["orders".to_owned()]).unwrap();
            let cert = files.write("c", params.self_signed(key).unwrap().pem());
            let loaded = ClientCertificate::load(&cert, &files.write("k", pem));
            assert!(loaded.is_ok(), "{form}: {loaded:?}");
        }
    }

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    /// The key inside PKCS #8: what its OCTET STRING holds, after version and algorithm (RFC 5958 section 2).
    fn bare(pkcs8: &[u8]) -> &[u8] {
        fn open(der: &[u8]) -> (&[u8], &[u8]) {
            let (length, start) = match der[1] {
                0x82 => (usize::from(der[2]) << 8 | usize::from(der[3]), 4),
                0x81 => (usize::from(der[2]), 3),
                short => (usize::from(short), 2),
            };
            der[start..].split_at(length)
        }
        let (inside, _) = open(pkcs8);
        let (_version, rest) = open(inside);
        let (_algorithm, rest) = open(rest);
        open(rest).0
    }

    #[test]
    fn what_does_not_hold_is_refused_by_its_file() {
        let files = Files::new();
        let ((cert, key), (other, _)) = (pair(), pair());
        let cert_file = files.write("cert.pem", &cert);
        let key_file = files.write("key.pem", &key);
        let other_file = files.write("other.pem", &other);
        let gone = files.0.path().join("gone.pem");
        let text = files.write("text.pem", "nothing of the kind");
        let broken = files.write("broken.pem", cert.replace("MII", "!!!"));
        let no_certificate =
            files.write("odd.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let odd_key =
            files.write("odd.key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        let locked = files.write(
            "locked.key",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        let huge = files.write("huge.pem", vec![b' '; MAX_PAIR_BYTES + 1]);
        let load = |cert: &Path, key: &Path| ClientCertificate::load(cert, key).unwrap_err();
        let folder = files.0.path();
        for (error, name, says) in [
            (load(&gone, &key_file), "gone.pem", "does not exist"),
            (load(&cert_file, &gone), "gone.pem", "does not exist"),
            (load(folder, &key_file), folder.to_str().unwrap(), "is a directory, not a file"),
            (load(&huge, &key_file), "huge.pem", "is larger than 262144 bytes"),
            (load(&text, &key_file), "text.pem", "no certificate"),
            (load(&key_file, &key_file), "key.pem", "no certificate"),
            (load(&broken, &key_file), "broken.pem", "malformed"),
            (load(&no_certificate, &key_file), "odd.pem", "malformed"),
            (load(&cert_file, &text), "text.pem", "no private key"),
            (load(&cert_file, &cert_file), "cert.pem", "no private key"),
            (load(&cert_file, &locked), "locked.key", "encrypted"),
            (load(&cert_file, &odd_key), "odd.key", "RSA"),
            (load(&other_file, &key_file), "other.pem", "does not belong"),
        ] {
            let said = error.to_string();
            assert!(said.contains(name) && said.contains(says), "{said}");
        }
    }

    #[test]
    fn a_certificate_says_when_it_ended() {
        let files = Files::new();
        let key = rcgen::KeyPair::generate().unwrap();
        let key_file = files.write("key.pem", key.serialize_pem());
        for (until, has_expired) in [(2002, true), (2999, false)] {
            let mut params = rcgen::CertificateParams::new(["orders".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(2001, 1, 1);
            params.not_after = rcgen::date_time_ymd(until, 1, 1);
            let cert = files.write("cert.pem", params.self_signed(&key).unwrap().pem());
            let loaded = ClientCertificate::load(&cert, &key_file).unwrap();
            assert_eq!(loaded.expired().is_some(), has_expired, "{until}");
        }
    }

    #[test]
    fn any_change_of_the_certificate_or_its_chain_makes_it_another() {
        let files = Files::new();
        let ((cert, key), (next, next_key)) = (pair(), pair());
        let (cert_file, key_file) = (files.write("cert.pem", &cert), files.write("key.pem", &key));
        let first = ClientCertificate::load(&cert_file, &key_file).unwrap();
        assert_eq!(ClientCertificate::load(&cert_file, &key_file).unwrap(), first);
        files.write("cert.pem", format!("{cert}{next}"));
        assert_ne!(ClientCertificate::load(&cert_file, &key_file).unwrap(), first, "the chain");
        files.write("cert.pem", &next);
        files.write("key.pem", &next_key);
        assert_ne!(ClientCertificate::load(&cert_file, &key_file).unwrap(), first);
    }

    #[test]
    fn it_never_prints_its_key() {
        let files = Files::new();
        let (cert, key) = pair();
        let loaded =
            ClientCertificate::load(&files.write("cert.pem", cert), &files.write("key.pem", &key)).unwrap();
        let shown = format!("{loaded:?}");
        assert!(shown.contains("cert.pem") && !shown.to_lowercase().contains("certified"), "{shown}");
    }
}
