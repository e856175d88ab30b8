//! Certificates of a test: an authority and a server certificate for loopback under it.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};

/// PEM files in the test's folder.
#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) ca: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificates {
    /// For `names`, DNS names and addresses alike.
    pub(crate) fn for_names(names: &[&str], dir: &Path) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();

        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut server = CertificateParams::new(names).unwrap();
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = server.signed_by(&key, &authority).unwrap();

        let [ca_file, certificate_file, key_file] =
            ["ca.pem", "server.pem", "server.key"].map(|f| dir.join(f));
        fs::write(&ca_file, authority.pem()).unwrap();
        fs::write(&certificate_file, certificate.pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        Self { ca: ca_file, certificate: certificate_file, key: key_file }
    }

    /// For loopback under its usual names.
    pub(crate) fn for_loopback(dir: &Path) -> Self {
        Self::for_names(&["localhost", "127.0.0.1"], dir)
    }
}
