//! TLS of connections that the program opens: which authorities are trusted, which protocols are offered.
//!
//! Called by `proxy` for upstreams, by `oauth` for authorization servers and by `traces` for a collector; each has its own trust.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};

pub(crate) use super::certificate::ClientCertificate;
use super::pem;
use super::trust::Trusted;
use crate::machine::{Lack, Unreadable};

/// Why a TLS configuration could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TlsError {
    /// The platform has no store of certificate authorities.
    #[error("this system has no certificate authorities; install ca-certificates or name a ca_file")]
    NoPlatformRoots,
    /// A file of certificates or of a key cannot be read.
    #[error("the file {} {why}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: Unreadable,
    },
    /// A file cannot be read for what this machine lacks.
    #[error("the file {} cannot be read: {}", .0.display(), .1)]
    Lacking(PathBuf, #[source] Lack),
    /// The file of a certificate or of authorities holds none.
    #[error("{} holds no certificate in PEM form", .0.display())]
    CertificateMissing(PathBuf),
    /// The file of a certificate holds something broken.
    #[error("the certificate in {} is malformed", .0.display())]
    CertificateMalformed(PathBuf),
    /// The key's file holds none that could be read.
    #[error("{} holds no private key in PEM form; an encrypted one cannot be used", .0.display())]
    KeyMissing(PathBuf),
    /// The key is of a kind that TLS cannot sign with, or broken.
    #[error("the private key in {} is no RSA, EC or Ed25519 key that can be used", .0.display())]
    KeyUnusable(PathBuf),
    /// Certificate and key are of two pairs.
    #[error("the private key in {} does not belong to the certificate in {}", .key.display(), .cert.display())]
    KeyMismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

impl TlsError {
    /// Whether a file is only not there yet.
    #[must_use]
    pub(crate) const fn may_pass(&self) -> bool {
        match self {
            Self::Unreadable { why, .. } => why.may_pass(),
            Self::Lacking(..) => true,
            _ => false,
        }
    }
}

impl TlsError {
    /// That `path` cannot be read.
    pub(crate) fn unreadable(path: &Path, why: Unreadable) -> Self {
        match why {
            Unreadable::Lacking(lack) => Self::Lacking(path.to_owned(), lack),
            why => Self::Unreadable { path: path.to_owned(), why },
        }
    }
}

/// What it means that the platform has no certificate authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoots {
    /// An error.
    Refused,
    /// That no authority is trusted; without TLS none is needed.
    Allowed,
}

/// A client's TLS: the authorities of `ca_file`, or the platform's where that is `None`, and the `certificate` to
/// present where the other side asks for one. Its certificates are always checked; there is no way to switch that off.
///
/// # Errors
/// [`TlsError`], which names the file.
pub(crate) fn client_config(
    ca_file: Option<&Path>,
    no_roots: NoRoots,
    certificate: Option<&ClientCertificate>,
) -> Result<ClientConfig, TlsError> {
    let trusted = match ca_file {
        Some(path) => trusted_by(path)?,
        None => platform_trust(no_roots)?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider implements TLS 1.2 and 1.3");
    // As strict as rustls' own about names and validity; `trust` says in what it differs.
    let builder = builder.dangerous().with_custom_certificate_verifier(trusted.verifier(provider));
    Ok(match certificate {
        // What was loaded and checked, rather than what the files hold by now.
        Some(certificate) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certificate.certified())))
        }
        None => builder.with_no_client_auth(),
    })
}

/// The certificate authorities in a PEM file, at least one.
///
/// # Errors
/// [`TlsError`], which names the file.
pub(crate) fn roots_from(path: &Path) -> Result<RootCertStore, TlsError> {
    Ok(read_certificates(path)?.0)
}

/// The certificates in a PEM file, as authorities and as they are.
fn trusted_by(path: &Path) -> Result<Trusted, TlsError> {
    let (authorities, certificates) = read_certificates(path)?;
    Ok(Trusted::new(authorities, &certificates))
}

fn read_certificates(path: &Path) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let certificates = pem::certificates(path, pem::MAX_CA_BYTES)?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone()).map_err(|_| TlsError::CertificateMalformed(path.to_owned()))?;
    }
    Ok((roots, certificates))
}

/// Read once: the platform's store has some hundred certificates, and every upstream may want it.
fn platform_trust(no_roots: NoRoots) -> Result<Trusted, TlsError> {
    static TRUSTED: OnceLock<Trusted> = OnceLock::new();
    let trusted = TRUSTED.get_or_init(|| {
        let certificates = rustls_native_certs::load_native_certs().certs;
        let mut roots = RootCertStore::empty();
        // A store may hold relics that cannot be parsed; the others count.
        roots.add_parsable_certificates(certificates.iter().cloned());
        Trusted::new(roots, &certificates)
    });
    if trusted.is_empty() && no_roots == NoRoots::Refused {
        return Err(TlsError::NoPlatformRoots);
    }
    Ok(trusted.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an upstream of ours is spoken to with, and one that trusts no authority to its server.
    fn pair() -> (ClientConfig, rustls::ServerConfig) {
        let made = rcgen::generate_simple_self_signed(["api.example".to_owned()]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), made.cert.pem()).unwrap();
        let client = client_config(Some(&dir.path().join("ca.pem")), NoRoots::Refused, None).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![made.cert.der().clone()],
                rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
            )
            .unwrap();
        (client, server)
    }

    /// A handshake to its end, the session tickets after it included.
    fn shake(client: &Arc<ClientConfig>, server: &Arc<rustls::ServerConfig>) -> rustls::ClientConnection {
        let name = "api.example".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::clone(client), name).unwrap();
        let mut server = rustls::ServerConnection::new(Arc::clone(server)).unwrap();
        while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets().unwrap();
            bytes.clear();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets().unwrap();
        }
        client
    }

    #[test]
    fn the_key_exchange_withstands_quantum_computers_where_the_other_side_can() {
        let (client, server) = pair();
        let first = client.crypto_provider().kx_groups[0].name();
        assert_eq!(first, rustls::NamedGroup::X25519MLKEM768);
        let client = shake(&Arc::new(client), &Arc::new(server));
        let agreed = client.negotiated_key_exchange_group().unwrap().name();
        assert_eq!(agreed, rustls::NamedGroup::X25519MLKEM768);
    }

    #[test]
    fn a_session_is_resumed_whatever_protocol_is_spoken_in_it() {
        let (client, mut server) = pair();
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let server = Arc::new(server);
        let with = |protocol: &[u8]| {
            let mut client = client.clone();
            client.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(client)
        };
        let (h2, h1) = (with(b"h2"), with(b"http/1.1"));
        let kind = |client| shake(client, &server).handshake_kind().unwrap();
        assert_eq!(kind(&h2), rustls::HandshakeKind::Full);
        assert_eq!(kind(&h2), rustls::HandshakeKind::Resumed);
        assert_eq!(kind(&h1), rustls::HandshakeKind::Resumed, "a WebSocket's connection beside HTTP/2's");
    }

    #[test]
    fn a_file_that_holds_no_certificate_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        assert!(matches!(
            client_config(Some(&path), NoRoots::Refused, None),
            Err(TlsError::Unreadable { .. })
        ));
        std::fs::write(&path, "no certificate").unwrap();
        let error = client_config(Some(&path), NoRoots::Refused, None).unwrap_err();
        assert_eq!(error, TlsError::CertificateMissing(path.clone()));
        assert!(error.to_string().contains("ca.pem"));
    }
}
