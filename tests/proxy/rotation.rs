//! Certificates, keys and authorities that change while requests go through: at a server that is authorization server
//! and API in one, demands a client certificate, and binds each token to the one it was asked for with (RFC 8705).

use std::convert::Infallible;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use cupbearer_testing::{Certificates, Config, Proxy, eventually};

/// What an answer of the API says: which connection, and by whose certificate; status 200 only where the token is bound
/// to it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    connection: usize,
    certificate: String,
}

struct Strict {
    certificates: Certificates,
    dir: TempDir,
    port: u16,
    _task: JoinSet<()>,
}

impl Strict {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::for_loopback(dir.path());
        let mut clients = RootCertStore::empty();
        clients.add(CertificateDer::from_pem_file(&certificates.ca).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(clients), Arc::clone(&provider)).build();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_file(&certificates.certificate).unwrap()],
                PrivateKeyDer::from_pem_file(&certificates.key).unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut open = JoinSet::new();
            let count = Arc::new(AtomicUsize::new(0));
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, count) = (acceptor.clone(), Arc::clone(&count));
                open.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let shown = &stream.get_ref().1.peer_certificates().unwrap()[0];
                    let certificate = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, shown);
                    let certificate = URL_SAFE_NO_PAD.encode(certificate);
                    let connection = count.fetch_add(1, Ordering::Relaxed);
                    let service = service_fn(move |request| answer(request, connection, certificate.clone()));
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { certificates, dir, port, _task: task }
    }

    /// Puts a new certificate, and its key, where the proxy looks for them.
    fn rotate(&self) {
        self.certificates.client("pod").write(self.dir.path());
    }

    async fn proxy(&self) -> Proxy {
        self.rotate();
        let (dir, port) = (self.dir.path().display(), self.port);
        fs::copy(&self.certificates.ca, self.dir.path().join("trust.pem")).unwrap();
        let upstream = format!(
            "[upstreams.api]\nurl = \"https://localhost:{port}\"\nca_file = '{dir}/trust.pem'\n\
             client_cert_file = '{dir}/client.pem'\nclient_key_file = '{dir}/client.key'\n"
        );
        let token = format!(
            "[tokens.api]\ntoken_endpoint = \"https://localhost:{port}/token\"\ngrant = \"client_credentials\"\n\
             client_id = \"pod\"\nclient_auth = \"tls_client_auth\"\nca_file = '{dir}/trust.pem'\n\
             client_cert_file = '{dir}/client.pem'\nclient_cert_key_file = '{dir}/client.key'\n"
        );
        Proxy::start(Config::one_route(&upstream, &token)).await
    }
}

async fn answer(
    request: Request<Incoming>,
    connection: usize,
    certificate: String,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/token" {
        let body =
            format!(r#"{{"access_token":"bound.{certificate}","token_type":"Bearer","expires_in":300}}"#);
        return Ok(Response::new(Full::from(body)));
    }
    if request.uri().path() == "/slow" {
        tokio::time::sleep(SLOW).await;
    }
    let credentials = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let bound = credentials == Some(&format!("Bearer bound.{certificate}"));
    let mut response = Response::new(Full::from(format!("{connection} {certificate}")));
    *response.status_mut() = if bound { http::StatusCode::OK } else { http::StatusCode::UNAUTHORIZED };
    Ok(response)
}

/// A request that is under way for as long as a change takes to count.
const SLOW: Duration = Duration::from_secs(5);

async fn get(proxy: &Proxy, path: &str) -> Seen {
    let answer = proxy.get(path).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), proxy.log());
    let text = answer.text();
    let (connection, certificate) = text.split_once(' ').unwrap();
    Seen { connection: connection.parse().unwrap(), certificate: certificate.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_changes_under_load_fails_no_request_and_leaves_no_old_connection_in_use() {
    let server = Strict::start().await;
    let proxy = Arc::new(server.proxy().await);
    let old = get(&proxy, "/").await;
    let slow = tokio::spawn({
        let proxy = Arc::clone(&proxy);
        async move { get(&proxy, "/slow").await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.rotate();
    let mut before = vec![old.connection];
    let new = loop {
        let seen = get(&proxy, "/").await;
        if seen.certificate != old.certificate {
            break seen;
        }
        before.push(seen.connection);
    };
    assert!(!slow.is_finished(), "it outlives the change");
    for _ in 0..20 {
        let seen = get(&proxy, "/").await;
        assert_eq!(seen.certificate, new.certificate);
        assert!(!before.contains(&seen.connection), "a connection by the old certificate was used");
    }
    assert_eq!(slow.await.unwrap().certificate, old.certificate);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_does_not_hold_keeps_the_old_one_and_is_reported() {
    let server = Strict::start().await;
    let proxy = server.proxy().await;
    let old = get(&proxy, "/").await;
    // Of another pair: half of a rotation, or a mistake.
    fs::write(server.dir.path().join("client.pem"), server.certificates.client("pod").certificate).unwrap();
    eventually("the new certificate is refused", || async { proxy.log().contains("refused") }).await;
    assert_eq!(get(&proxy, "/").await.certificate, old.certificate);
    assert!(proxy.log().contains("client.key"), "{}", proxy.log());
    server.rotate();
    eventually("a whole pair counts", || async { get(&proxy, "/").await.certificate != old.certificate })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn authorities_that_change_count_for_the_next_connection() {
    let server = Strict::start().await;
    let proxy = server.proxy().await;
    get(&proxy, "/").await;
    let trust = server.dir.path().join("trust.pem");
    let elsewhere = tempfile::tempdir().unwrap();
    let others = Certificates::for_loopback(elsewhere.path());
    fs::copy(&others.ca, &trust).unwrap();
    eventually("the API is no longer trusted", || async { proxy.get("/").await.status >= 500 }).await;
    fs::copy(&server.certificates.ca, &trust).unwrap();
    eventually("it is again", || async { proxy.get("/").await.status == 200 }).await;
}
