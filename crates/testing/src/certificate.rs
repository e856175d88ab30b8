//! Certificates of a test: an authority, a server certificate for loopback under it, and what clients show.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// PEM files in the test's folder.
#[derive(Debug)]
pub struct Certificates {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

/// What a client shows (RFC 8705): a certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    pub certificate: String,
    pub key: String,
}

impl Certificates {
    /// For `names`, DNS names and addresses alike.
    pub fn for_names(names: &[&str], dir: &Path) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        // Two of one name would pass for a certificate that vouches for itself.
        authority.distinguished_name.push(DnType::CommonName, "an authority of the tests");
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
        Self { ca: ca_file, certificate: certificate_file, key: key_file, authority }
    }

    /// Another certificate of the same key for `name`, valid from one year to another.
    pub fn reissue(&self, name: &str, (from, until): (i32, i32)) {
        let mut server = CertificateParams::new([name.to_owned()]).unwrap();
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        server.not_before = date_time_ymd(from, 1, 1);
        server.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::from_pem(&fs::read_to_string(&self.key).unwrap()).unwrap();
        fs::write(&self.certificate, server.signed_by(&key, &self.authority).unwrap().pem()).unwrap();
    }

    /// For loopback under its usual names.
    pub fn for_loopback(dir: &Path) -> Self {
        Self::for_names(&["localhost", "127.0.0.1"], dir)
    }

    /// What a client of the test's own trusts the server by, and which protocols it knows.
    pub fn trusting(&self, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }

    /// One for a client with the subject `CN=name`, under this authority.
    pub fn client(&self, name: &str) -> ClientCertificate {
        self.client_known_as(name, &[])
    }

    /// The same, with names beside the subject: URIs, and DNS names.
    pub fn client_known_as(&self, name: &str, names: &[&str]) -> ClientCertificate {
        let key = KeyPair::generate().unwrap();
        let mut params = client_params(name);
        params.subject_alt_names = names
            .iter()
            .map(|name| {
                if name.contains("://") {
                    SanType::URI((*name).try_into().unwrap())
                } else {
                    SanType::DnsName((*name).try_into().unwrap())
                }
            })
            .collect();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        ClientCertificate { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Certificates {
    /// One for a client that expired years ago.
    pub fn expired_client(&self, name: &str) -> ClientCertificate {
        let key = KeyPair::generate().unwrap();
        let mut params = client_params(name);
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        ClientCertificate { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl ClientCertificate {
    /// One that no authority has signed.
    pub fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = client_params(name).self_signed(&key).unwrap();
        Self { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Writes both as `client.pem` and `client.key`, over older ones.
    pub fn write(&self, dir: &Path) -> [PathBuf; 2] {
        let files = ["client.pem", "client.key"].map(|file| dir.join(file));
        fs::write(&files[0], &self.certificate).unwrap();
        fs::write(&files[1], &self.key).unwrap();
        files
    }
}

fn client_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}
