//! Whom a TLS client trusts: what an authority in the list has issued, or a certificate that is itself in the list, byte for
//! byte, as `openssl req -x509` makes them. Name and validity are checked either way.
//!
//! `tls` makes it; `tls_fault` says in words what it found.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::handshake;
use super::tls_fault::{Progress, TlsFault};

/// Certificates that are trusted: as authorities, and as they are.
#[derive(Clone, Debug)]
pub(super) struct Trusted {
    authorities: Arc<RootCertStore>,
    /// SHA-256 of each in DER.
    exact: Arc<BTreeSet<[u8; 32]>>,
}

impl Trusted {
    /// `authorities` out of `certificates`.
    pub(super) fn new(authorities: RootCertStore, certificates: &[CertificateDer<'_>]) -> Self {
        let exact = certificates.iter().map(fingerprint).collect();
        Self { authorities: Arc::new(authorities), exact: Arc::new(exact) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.authorities.is_empty()
    }

    /// The verifier that trusts them.
    pub(super) fn verifier(&self, provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
        let algorithms = provider.signature_verification_algorithms;
        let authorities = Arc::clone(&self.authorities);
        let chains = WebPkiServerVerifier::builder_with_provider(authorities, provider).build().ok();
        Arc::new(Verifier { chains, algorithms, exact: Arc::clone(&self.exact) })
    }
}

#[derive(Debug)]
struct Verifier {
    /// `None`: there is no authority.
    chains: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
    exact: Arc<BTreeSet<[u8; 32]>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        handshake::came_to(Progress::Certificate);
        if self.exact.contains(&fingerprint(end_entity)) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            verify_validity(end_entity, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        let verified = match &self.chains {
            Some(chains) => {
                chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        verified.map_err(|error| match error {
            Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature | CertificateError::Other(_),
            ) if is_self_issued(end_entity) => {
                CertificateError::Other(OtherError(Arc::new(TlsFault::SelfSigned))).into()
            }
            error => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        // For the ClientHello.
        handshake::came_to(Progress::Hello);
        self.algorithms.supported_schemes()
    }
}

fn verify_validity(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), CertificateError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let time = |seconds: i64| UnixTime::since_unix_epoch(Duration::from_secs(seconds.max(0).unsigned_abs()));
    let not_before = time(parsed.validity().not_before.timestamp());
    let not_after = time(parsed.validity().not_after.timestamp());
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before });
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after });
    }
    Ok(())
}

fn is_self_issued(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| parsed.subject() == parsed.issuer())
}

fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    digest(&SHA256, certificate).as_ref().try_into().expect("SHA-256 has 32 bytes")
}
