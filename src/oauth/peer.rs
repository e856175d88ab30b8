//! An authorization server for tests: it does to a request whatever the test says, and remembers what it was sent.
//!
//! It writes bytes rather than speak HTTP by a library, so that it can lie, drip and break off.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use url::Url;

use super::client::{Client, ClientAuth};
use super::grant::TokenRequest;
use crate::net::outbound_proxy::OutboundProxy;
use crate::net::tls::ClientCertificate;
use crate::oauth::discovery::server::{Location, ServerSettings, Transport};
use crate::oauth::endpoint::dialect::Dialect;
use crate::secret::{Secret, SecretSource};

/// What the peer does to a request.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// Status, more header lines (each ended by CRLF), body.
    Http(u16, &'static str, String),
    /// Bytes as they are, then the end.
    Raw(&'static str),
    /// A head, and then nothing.
    HeadThenSilence,
    /// A byte of the body now and then, for ever.
    Drip,
    /// A body without end, as fast as it is taken.
    Flood,
    /// Nothing; the connection is closed.
    Close,
}

impl Reply {
    pub(super) fn ok(body: impl Into<String>) -> Self {
        Self::Http(200, "Content-Type: application/json\r\n", body.into())
    }

    pub(super) fn token() -> Self {
        Self::ok(r#"{"access_token":"sentinel-token","token_type":"Bearer","expires_in":3600}"#)
    }
}

/// One request as it came in.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) head: String,
    pub(super) body: String,
    /// The client's certificate in DER, where it showed one.
    pub(super) certificate: Option<CertificateDer<'static>>,
}

impl Seen {
    /// Method and target.
    pub(super) fn line(&self) -> &str {
        self.head.lines().next().unwrap().trim_end_matches(" HTTP/1.1")
    }

    /// The parameter `name` of the form, which is there once.
    pub(super) fn parameter(&self, name: &str) -> String {
        let found: Vec<_> = self.form().into_iter().filter(|(key, _)| key == name).collect();
        assert_eq!(found.len(), 1, "{name}");
        found.into_iter().next().unwrap().1
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The form's parameters, decoded, in their order.
    pub(super) fn form(&self) -> Vec<(String, String)> {
        url::form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }
}

pub(super) struct Peer {
    /// Scheme, host and port, without a final slash.
    pub(super) origin: String,
    pub(super) seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

impl Peer {
    pub(super) async fn start(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(reply, None).await
    }

    /// Speaks TLS with `identity`; the origin has the name `localhost`.
    pub(super) async fn start_tls(
        identity: &Identity,
        reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve(reply, Some(identity.acceptor(None))).await
    }

    /// The same, and demands a client certificate of `clients`.
    pub(super) async fn start_mutual_tls(
        identity: &Identity,
        clients: &Authority,
        reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve(reply, Some(identity.acceptor(Some(clients)))).await
    }

    async fn serve(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let origin = if tls.is_some() {
            format!("https://localhost:{port}")
        } else {
            format!("http://127.0.0.1:{port}")
        };
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let (reply, log) = (Arc::new(reply), Arc::clone(&seen));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (reply, log, tls) = (Arc::clone(&reply), Arc::clone(&log), tls.clone());
                connections.spawn(async move {
                    match tls {
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                let shown = stream.get_ref().1.peer_certificates();
                                let shown = shown.and_then(<[_]>::first).map(|one| one.clone().into_owned());
                                converse(stream, &*reply, &log, shown).await;
                            }
                        }
                        None => converse(stream, &*reply, &log, None).await,
                    }
                });
            }
        });
        Self { origin, seen, _tasks: tasks }
    }

    pub(super) fn url(&self, path: &str) -> Url {
        format!("{}{path}", self.origin).parse().unwrap()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|seen| seen.line().to_owned()).collect()
    }

    pub(super) fn last(&self) -> Seen {
        self.seen.lock().unwrap().last().unwrap().clone()
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    reply: &(impl Fn(&Seen) -> Reply + Send + Sync),
    log: &Mutex<Vec<Seen>>,
    certificate: Option<CertificateDer<'static>>,
) {
    let Some(seen) = read(&mut stream).await else { return };
    let seen = Seen { certificate, ..seen };
    log.lock().unwrap().push(seen.clone());
    let text = match reply(&seen) {
        Reply::Http(status, headers, body) => {
            let length = body.len();
            format!(
                "HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
        }
        Reply::Raw(text) => text.to_owned(),
        Reply::Close => String::new(),
        Reply::HeadThenSilence => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n").await;
            std::future::pending().await
        }
        Reply::Drip => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n").await;
            while stream.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            return;
        }
        Reply::Flood => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while stream.write_all(&[b' '; 4096]).await.is_ok() {}
            return;
        }
    };
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Seen> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let seen = Seen { head, body: String::new(), certificate: None };
            let length = seen.header("content-length").map_or(0, |n| n.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                return Some(Seen { body: String::from_utf8(bytes[end + 4..].to_vec()).unwrap(), ..seen });
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// An authority of the test's own.
pub(super) struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    directory: tempfile::TempDir,
}

/// A server's certificate and key.
pub(super) struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn acceptor(&self, clients: Option<&Authority>) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.issuer.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder.with_single_cert(vec![self.certificate.clone()], self.key.clone_key()).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Authority {
    /// A client's certificate, in files as an operator has them.
    pub(super) fn client(&self, name: &str) -> ClientCertificate {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        let path = |extension: &str| self.directory.path().join(format!("{name}.{extension}"));
        std::fs::write(path("pem"), params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(path("key"), key.serialize_pem()).unwrap();
        ClientCertificate::load(&path("pem"), &path("key")).unwrap()
    }

    pub(super) fn new(name: &str) -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer =
            rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A certificate for `name`, good until the end of the year `until`.
    pub(super) fn identity(&self, name: &str, until: i32) -> Identity {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 12, 31);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificate: certificate.der().clone(),
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }
}

/// Settings with short times.
pub(super) fn settings(location: Location) -> ServerSettings {
    ServerSettings {
        location,
        transport: Transport {
            ca_file: None,
            certificate: None,
            proxy: OutboundProxy::Direct,
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(2),
        },
        token_type: None,
        dialect: Dialect::default(),
    }
}

/// A client with the secret `sentinel-secret`, sent by Basic.
pub(super) fn client() -> Client {
    Client { id: "orders".into(), auth: ClientAuth::SecretBasic(inline("sentinel-secret")) }
}

pub(super) fn inline(secret: &str) -> SecretSource {
    SecretSource::Inline(Secret::new(secret.to_owned()))
}

/// A request for nothing in particular.
pub(super) fn plain() -> TokenRequest {
    TokenRequest { scope: vec![], audience: None, resource: vec![], params: vec![] }
}

/// Header and claims of a JWT, its signature verified as a server does it: by the public members of `jwk`, or by the
/// secret that `jwk` is.
pub(super) fn verified(jwt: &str, jwk: &str) -> (Value, Value) {
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let (message, signature) = jwt.rsplit_once('.').unwrap();
    let (header, claims) = message.split_once('.').unwrap();
    let header: Value = serde_json::from_slice(&decode(header)).unwrap();
    let (message, signature) = (message.as_bytes(), decode(signature));
    let jwk: Value = serde_json::from_str(jwk).unwrap_or_else(|_| jwk.into());
    let member = |name: &str| decode(jwk[name].as_str().unwrap());
    match header["alg"].as_str().unwrap() {
        hash @ ("HS256" | "HS384" | "HS512") => {
            let hash = match hash {
                "HS256" => hmac::HMAC_SHA256,
                "HS384" => hmac::HMAC_SHA384,
                _ => hmac::HMAC_SHA512,
            };
            let secret = jwk.as_str().unwrap().as_bytes();
            hmac::verify(&hmac::Key::new(hash, secret), message, &signature).unwrap();
        }
        "ES256" => {
            let point = [vec![4], member("x"), member("y")].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, &signature).unwrap();
        }
        "EdDSA" => UnparsedPublicKey::new(&ED25519, member("x")).verify(message, &signature).unwrap(),
        rsa => {
            let how = match rsa {
                "RS256" => &RSA_PKCS1_2048_8192_SHA256,
                "RS384" => &RSA_PKCS1_2048_8192_SHA384,
                "PS256" => &RSA_PSS_2048_8192_SHA256,
                "PS512" => &RSA_PSS_2048_8192_SHA512,
                other => panic!("{other} is not verified here"),
            };
            let public = RsaPublicKeyComponents { n: member("n"), e: member("e") };
            public.verify(how, message, &signature).unwrap();
        }
    }
    (header, serde_json::from_slice(&decode(claims)).unwrap())
}
