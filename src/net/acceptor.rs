//! TLS for the clients that connect to us: our own certificate, whose certificates we ask for, how both are replaced while
//! connections live on, and the record of the handshakes that fail.
//!
//! `app` loads it and has it look at its files again; `proxy` and `kubernetes` accept connections by what it holds then.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate::{certified, validity};
use super::client_hello::ClientHello;
use super::handshake_fault::HandshakeFault;
use super::handshake_log::HandshakeLog;
use super::tls::{TlsError, roots_from};
use super::transcript::{RestoringVerifier, provider};
use crate::metrics::{CertificateGauges, CertificateUse, Metrics, Validity};

/// What TLS handshakes are made with.
#[derive(Debug)]
pub(crate) struct Acceptor {
    cert_file: PathBuf,
    key_file: PathBuf,
    client_ca_file: Option<PathBuf>,
    /// All workers have the same, and with it the keys of the tickets: a session can be resumed at any of them.
    config: ArcSwap<ServerConfig>,
    validity: ArcSwapOption<Validity>,
    gauges: OnceLock<CertificateGauges>,
    failures: HandshakeLog,
}

impl Acceptor {
    /// Reads the certificate with its chain, its key, and the authorities of client certificates. With these, who shows
    /// no certificate that one of them vouches for is refused. Blocks for three small reads.
    ///
    /// # Errors
    /// [`TlsError`], which names the file.
    pub(crate) fn load(
        cert_file: &Path,
        key_file: &Path,
        client_ca_file: Option<&Path>,
    ) -> Result<Self, TlsError> {
        let (config, validity) = server_config(cert_file, key_file, client_ca_file)?;
        Ok(Self {
            cert_file: cert_file.to_owned(),
            key_file: key_file.to_owned(),
            client_ca_file: client_ca_file.map(Path::to_owned),
            config: ArcSwap::from_pointee(config),
            validity: ArcSwapOption::from_pointee(validity),
            gauges: OnceLock::new(),
            failures: HandshakeLog::default(),
        })
    }

    /// Reads the files again: handshakes from now on are made with what they hold. Sessions from before cannot be
    /// resumed: who was let in by an authority that is gone has to show itself again. Connections are not touched.
    ///
    /// # Errors
    /// As [`Self::load`]; then everything stays as it was.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let (config, validity) =
            server_config(&self.cert_file, &self.key_file, self.client_ca_file.as_deref())?;
        self.config.store(Arc::new(config));
        self.validity.store(validity.map(Arc::new));
        self.show_validity();
        Ok(())
    }

    /// From when until when its certificate is valid; `None`: that cannot be read.
    #[must_use]
    pub(crate) fn validity(&self) -> Option<Validity> {
        self.validity.load().as_deref().copied()
    }

    fn show_validity(&self) {
        if let Some(gauges) = self.gauges.get() {
            gauges.set(self.validity());
        }
    }

    /// Makes TLS of `io`. The caller bounds the time, and reports a failure to [`Self::failed`].
    ///
    /// # Errors
    /// [`HandshakeFault`]
    pub(crate) async fn accept<S>(&self, io: S) -> Result<TlsStream<ClientHello<S>>, HandshakeFault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        acceptor.accept(ClientHello::new(io)).await.map_err(|error| {
            tracing::debug!(%error, "a TLS handshake with a client failed");
            HandshakeFault::of(&error)
        })
    }

    /// A handshake with a client at `peer` has failed: it is counted, and the first of a burst is logged.
    pub(crate) fn failed(&self, fault: HandshakeFault, peer: Option<SocketAddr>) {
        self.failures.record(fault, peer);
    }

    /// Reports the bursts of failed handshakes that have ended; to be called now and then.
    pub(crate) fn report_failures(&self) {
        self.failures.report();
    }

    /// Reports those that have not ended: no client will connect any more.
    pub(crate) fn finish(&self) {
        self.failures.finish();
    }

    /// Adds the count of failed handshakes to the registry, and shows until when its certificate, which is for `one_use`, is valid.
    pub(crate) fn register(&self, metrics: &Metrics, one_use: CertificateUse) {
        self.failures.register(metrics);
        let _ = self.gauges.set(metrics.certificates(one_use));
        self.show_validity();
    }

    /// The files that it was loaded from.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        [self.cert_file.as_path(), &self.key_file].into_iter().chain(self.client_ca_file.as_deref())
    }
}

fn server_config(
    cert_file: &Path,
    key_file: &Path,
    client_ca_file: Option<&Path>,
) -> Result<(ServerConfig, Option<Validity>), TlsError> {
    let (certified, _thumbprint) = certified(cert_file, key_file)?;
    let validity = certified.cert.first().and_then(validity);
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider implements TLS 1.2 and 1.3");
    let builder = match client_ca_file {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let roots: Arc<RootCertStore> = Arc::new(roots_from(file)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
            let verifier = verifier.map_err(|_| TlsError::CertificateMissing(file.to_owned()))?;
            builder.with_client_cert_verifier(Arc::new(RestoringVerifier(verifier)))
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), ALPN_HTTP1.to_vec(), ALPN_HTTP1_0.to_vec()];
    // Tickets cost no memory here; the cache is for clients of TLS 1.2 that know none.
    config.session_storage = ServerSessionMemoryCache::new(MAX_SESSIONS);
    if let Ok(ticketer) = Ticketer::new() {
        config.ticketer = ticketer;
    }
    Ok((config, validity))
}

/// HTTP/2 as TLS names it (RFC 9113 section 3.1).
pub(crate) const ALPN_HTTP2: &[u8] = b"h2";
/// HTTP/1.1 as TLS names it (RFC 7301 section 6).
const ALPN_HTTP1: &[u8] = b"http/1.1";
/// What `curl --http1.0` offers, and nothing else.
const ALPN_HTTP1_0: &[u8] = b"http/1.0";
/// Sessions that are kept to be resumed.
const MAX_SESSIONS: usize = 4096;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn pair(dir: &Path) -> [PathBuf; 2] {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let files = ["server.pem", "server.key"].map(|file| dir.join(file));
        std::fs::write(&files[0], certificate.pem()).unwrap();
        std::fs::write(&files[1], key.serialize_pem()).unwrap();
        files
    }

    #[test]
    fn what_the_files_hold_now_counts_and_broken_ones_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let [cert, key] = pair(dir.path());
        let acceptor = Acceptor::load(&cert, &key, Some(&cert)).unwrap();
        assert_eq!(acceptor.files().count(), 3);
        let first = acceptor.config.load_full();
        std::fs::write(&key, "nothing of the kind").unwrap();
        let error = acceptor.reload().unwrap_err();
        assert!(error.to_string().contains("server.key"), "{error}");
        assert!(Arc::ptr_eq(&first, &acceptor.config.load_full()));
        pair(dir.path());
        acceptor.reload().unwrap();
        assert!(!Arc::ptr_eq(&first, &acceptor.config.load_full()));
    }

    #[test]
    fn the_metrics_show_when_the_certificate_in_force_expires() {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let files = ["server.pem", "server.key"].map(|file| dir.path().join(file));
        let write = |year| {
            let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            std::fs::write(&files[0], params.self_signed(&key).unwrap().pem()).unwrap();
            std::fs::write(&files[1], key.serialize_pem()).unwrap();
        };
        write(2030);
        let acceptor = Acceptor::load(&files[0], &files[1], None).unwrap();
        let metrics = Metrics::new();
        acceptor.register(&metrics, CertificateUse::Webhook);
        let shows = |name: &str, seconds: u64| {
            let text = metrics.render();
            let line =
                format!("cupbearer_certificate_{name}_timestamp_seconds{{use=\"webhook\"}} {seconds}\n");
            assert!(text.contains(&line), "{text}");
        };
        shows("expiry", 1_893_456_000);
        shows("not_before", 1_577_836_800);
        write(2031);
        acceptor.reload().unwrap();
        shows("expiry", 1_924_992_000);
    }

    #[test]
    fn authorities_that_are_none_are_told_by_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let [cert, key] = pair(dir.path());
        let empty = dir.path().join("clients.pem");
        std::fs::write(&empty, "").unwrap();
        assert_eq!(
            Acceptor::load(&cert, &key, Some(&empty)).unwrap_err(),
            TlsError::CertificateMissing(empty)
        );
    }
}
