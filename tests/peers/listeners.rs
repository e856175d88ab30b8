//! Unix sockets, TLS and mutual TLS on the proxy's own side, and applications that go away.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::SupportedKxGroup;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, NamedGroup};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use cupbearer_testing::{
    Answer, CREDENTIALS, Certificates, ClientCertificate, Config, Message, Origin, Program, Proxy, Reply,
    cupbearer, curl, eventually, free_address, h2load, token_at, upstream_at,
};

/// An origin, an authorization server, and what a proxy between them is configured by.
async fn between() -> (Origin, Origin, Config) {
    let think = |request: &Message, _: usize| match request.target().as_str() {
        "/never" => Reply::ok().after(Duration::from_hours(1)),
        _ => Reply::ok(),
    };
    let (api, server) = (Origin::start(think).await, Origin::issuing(300).await);
    let config = Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()));
    (api, server, config)
}

/// A proxy that speaks TLS, by the certificates in a folder.
struct Tls {
    proxy: Proxy,
    api: Origin,
    _server: Origin,
    dir: TempDir,
    certificates: Certificates,
}

impl Tls {
    /// `more` stands in the table `tls`, `end` at the end of the file.
    async fn start(more: &str, end: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::for_loopback(dir.path());
        fs::copy(&certificates.ca, dir.path().join("clients.pem")).unwrap();
        let at = |file: &str| dir.path().join(file).display().to_string();
        let tls = format!(
            "header_timeout = \"2s\"\ntls = {{ cert_file = '{}', key_file = '{}'{} }}",
            at("server.pem"),
            at("server.key"),
            more.replace("{clients}", &at("clients.pem")),
        );
        let (api, server, config) = between().await;
        let proxy = Proxy::start(config.server(&tls).and(end)).await;
        Self { proxy, api, _server: server, dir, certificates }
    }

    async fn mutual(end: &str) -> Self {
        Self::start(", client_ca_file = '{clients}'", end).await
    }

    fn url(&self) -> String {
        format!("https://{}/", self.proxy.listen())
    }

    /// Requests that were refused for the name in the client's certificate.
    async fn refusals(&self) -> f64 {
        self.proxy.metric("cupbearer_guard_rejections_total", &["reason=\"subject\""]).await
    }

    /// curl's words for a certificate to show.
    async fn shown(&self, certificate: &ClientCertificate) -> Answer {
        let files = certificate.write(self.dir.path());
        let [cert, key] = files.map(|file| file.display().to_string());
        let ca = self.certificates.ca.display().to_string();
        curl(&["--cacert", &ca, "--cert", &cert, "--key", &key, &self.url()]).await
    }

    /// A connection with TLS of the test's own; `config` remembers sessions.
    async fn connect(&self, config: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.proxy.listen()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::clone(config)).connect(name, tcp).await.unwrap()
    }

    fn client(&self, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        self.certificates.trusting(alpn)
    }
}

async fn get(stream: &mut TlsStream<TcpStream>) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_unix_socket_serves_its_owner_and_goes_with_the_proxy() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("proxy.sock");
    let (api, _server, config) = between().await;
    let uid = rustix::process::getuid().as_raw();
    let config = config
        .listen(&format!("unix:{}", socket.display()))
        .server("unix_mode = \"0620\"")
        .and(&format!("[guard]\nallowed_uids = [{uid}]"));
    let proxy = Proxy::start(config).await;
    assert_eq!(mode(&socket), 0o620);
    let by_socket = ["--unix-socket", socket.to_str().unwrap()];
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let answer = curl(&[&by_socket[..], &[version, "http://localhost/a"]].concat()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(api.seen()[0].field("authorization").as_deref(), Some(CREDENTIALS));
    curl(&[&by_socket[..], &["http://evil.example/"]].concat()).await.assert_proxy_error(421);
    assert!(proxy.status().await.to_string().contains("proxy.sock"), "it is listed");

    // Whoever comes next finds it gone, also where the last one could not clear up.
    let stopped = proxy.stop().await;
    assert!(!socket.exists());
    let stopped = stopped.start().await.kill().await;
    assert!(socket.exists());
    let proxy = stopped.start().await;
    let answer = curl(&[&by_socket[..], &["http://localhost/"]].concat()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    drop(proxy);
}

#[tokio::test]
async fn users_who_are_not_listed_are_refused_at_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("proxy.sock");
    let (api, _server, config) = between().await;
    let uid = rustix::process::getuid().as_raw();
    let config = config
        .listen(&format!("unix:{}", socket.display()))
        .and(&format!("[guard]\nallowed_uids = [{}]", uid + 1));
    let _proxy = Proxy::start(config).await;
    curl(&["--unix-socket", socket.to_str().unwrap(), "http://localhost/"]).await.assert_proxy_error(403);
    assert!(api.seen().is_empty());
}

#[tokio::test]
async fn tls_is_served_in_both_versions_and_plain_http_is_told_so() {
    let tls = Tls::start("", "").await;
    let ca = tls.certificates.ca.display().to_string();
    for (word, version) in [("--http2", "HTTP/2"), ("--http1.1", "HTTP/1.1")] {
        for limit in ["1.2", "1.3"] {
            let answer = curl(&["--cacert", &ca, "--tls-max", limit, word, &tls.url()]).await;
            assert_eq!((answer.status, answer.version.as_str()), (200, version), "TLS {limit}: {answer:?}");
        }
    }
    assert_eq!(tls.api.seen().len(), 4);
    tls.proxy.get("/").await.assert_proxy_error(400);
    let answer = curl(&[
        "--cacert",
        &ca,
        "--header",
        &format!("Origin: {}", tls.url().trim_end_matches('/')),
        &tls.url(),
    ])
    .await;
    assert_eq!(answer.status, 200, "a page of its own: {answer:?}");
    let plain = format!("Origin: http://{}", tls.proxy.listen());
    curl(&["--cacert", &ca, "--header", &plain, &tls.url()]).await.assert_proxy_error(403);
}

#[tokio::test]
async fn the_key_exchange_is_post_quantum_and_a_session_is_resumed() {
    let tls = Tls::start("", "").await;
    let client = tls.client(&[b"http/1.1"]);
    let mut kinds = Vec::new();
    for _ in 0..4 {
        let mut stream = tls.connect(&client).await;
        assert!(get(&mut stream).await.starts_with("HTTP/1.1 200"), "served");
        let connection = stream.get_ref().1;
        kinds.push(connection.handshake_kind());
        let group = connection.negotiated_key_exchange_group().map(SupportedKxGroup::name);
        assert_eq!(group, Some(NamedGroup::X25519MLKEM768));
    }
    assert_eq!(kinds[0], Some(HandshakeKind::Full));
    // The workers share the tickets' keys: it does not matter which of them comes next.
    assert_eq!(kinds[1..], [Some(HandshakeKind::Resumed); 3]);
}

#[tokio::test]
async fn http_2s_preface_is_refused_where_http_1_was_agreed() {
    let tls = Tls::start("", "").await;
    for alpn in [&[&b"http/1.1"[..]][..], &[]] {
        let mut stream = tls.connect(&tls.client(alpn)).await;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    }
    assert!(tls.api.seen().is_empty());
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_not_waited_for() {
    let tls = Tls::start("", "").await;
    let mut silent = tls.proxy.wire().await;
    let mut dawdling = tls.proxy.wire().await;
    dawdling.send(b"\x16\x03\x01").await;
    let ca = tls.certificates.ca.display().to_string();
    assert_eq!(curl(&["--cacert", &ca, &tls.url()]).await.status, 200, "meanwhile");
    for wire in [&mut silent, &mut dawdling] {
        assert!(wire.closes(Duration::from_secs(10)).await, "header_timeout is two seconds");
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_answered_within_tls() {
    let tls = Tls::start("", "").await;
    let mut stream = tls.connect(&tls.client(&[b"http/1.1"])).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: local").await.unwrap();
    let mut answer = Vec::new();
    // An end without close_notify would be an error here.
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
}

/// The end that TLS has of its own: the TCP connection stays open, as that of a client that has hung does.
#[tokio::test]
async fn an_application_that_closes_its_side_of_tls_alone_has_gone() {
    let tls = Tls::start("", "").await;
    let under_way = async || tls.proxy.metric("cupbearer_requests_in_flight", &["route=\"/\""]).await;
    let open = async || tls.proxy.metric("cupbearer_connections", &["side=\"downstream\""]).await;
    // The second has sent the beginning of another request before.
    for behind in ["", "G"] {
        let mut stream = tls.connect(&tls.client(&[b"http/1.1"])).await;
        let request = format!("GET /never HTTP/1.1\r\nHost: localhost\r\n\r\n{behind}");
        stream.write_all(request.as_bytes()).await.unwrap();
        eventually("it is under way", async || under_way().await > 0.5).await;
        stream.get_mut().1.send_close_notify();
        stream.flush().await.unwrap();
        eventually("its request is cancelled", async || under_way().await < 0.5).await;
        eventually("its connection is closed", async || open().await < 0.5).await;
    }
    let gone = tls.proxy.metric("cupbearer_proxy_errors_total", &["kind=\"client_gone\""]).await;
    assert!(gone > 1.5, "both are counted: {}", tls.proxy.log());
}

#[tokio::test]
async fn mutual_tls_lets_in_who_is_vouched_for_and_listed() {
    let tls = Tls::mutual("[guard]\nallowed_subjects = [\"cn:orders\"]").await;
    let listed = tls.certificates.client("orders");
    let answer = tls.shown(&listed).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    tls.shown(&tls.certificates.client("payments")).await.assert_proxy_error(403);
    let answer = tls.shown(&ClientCertificate::self_signed("orders")).await;
    assert!(answer.exit != 0 && answer.status == 0, "{answer:?}");
    let ca = tls.certificates.ca.display().to_string();
    let answer = curl(&["--cacert", &ca, &tls.url()]).await;
    assert!(answer.exit != 0 && answer.status == 0, "without any: {answer:?}");
    assert_eq!(tls.api.seen().len(), 1);
}

#[tokio::test]
async fn who_may_use_the_proxy_is_read_off_a_certificates_alternative_names() {
    let guard =
        "[guard]\nallowed_subjects = [\"spiffe://example.org/orders\", \"orders.internal\", \"orders\"]";
    let tls = Tls::mutual(guard).await;
    let of = |name: &str, names: &[&str]| tls.certificates.client_known_as(name, names);
    for certificate in [
        of("anybody", &["spiffe://example.org/orders"]),
        of("anybody", &["payments.internal", "Orders.Internal"]),
        of("anybody", &["orders"]),
    ] {
        let answer = tls.shown(&certificate).await;
        assert_eq!((answer.status, answer.proxy_error()), (200, None), "{answer:?}");
    }
    assert!(tls.refusals().await < 0.5);
    let strangers = [
        of("payments", &[]),
        // A common name counts where it is listed as one alone.
        of("orders", &[]),
        of("orders.internal", &["payments.internal"]),
        of("anybody", &["spiffe://example.org/orders/x", "x.orders.internal"]),
        of("anybody", &["spiffe://example.org/Orders"]),
    ];
    for (certificate, before) in strangers.iter().zip(0_u8..) {
        let answer = tls.shown(certificate).await;
        answer.assert_proxy_error(403);
        assert_eq!(answer.proxy_error(), Some("peer_refused"), "{answer:?}");
        assert!((tls.refusals().await - f64::from(before + 1)).abs() < 0.1);
    }
    assert_eq!(tls.api.seen().len(), 3, "no token went out for a stranger");
}

/// An authority, one below it that may issue DNS names under `other.test` alone, and what each of them issues: made by
/// `openssl`, as people make theirs.
struct Authorities {
    dir: TempDir,
}

impl Authorities {
    async fn new() -> Self {
        let this = Self { dir: tempfile::tempdir().unwrap() };
        let subject = ["-subj", "/CN=an authority of the tests", "-out", "root.pem"];
        let key = ["-newkey", "rsa:2048", "-noenc", "-keyout", "root.key"];
        this.openssl(&[&["req", "-x509", "-days", "2"][..], &key, &subject].concat()).await;
        let constraints = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n\
                           nameConstraints=critical,permitted;DNS:other.test\n";
        this.issue("root", "sub", "/CN=a sub-authority", constraints).await;
        this
    }

    async fn openssl(&self, arguments: &[&str]) {
        let mut command = Program::peer("openssl", "openssl");
        let output = command.args(arguments).current_dir(self.dir.path()).output().await.unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A certificate and its key, as `name.pem` and `name.key`.
    async fn issue(&self, issuer: &str, name: &str, subject: &str, extensions: &str) {
        let [pem, key, request, conf] = ["pem", "key", "csr", "cnf"].map(|kind| format!("{name}.{kind}"));
        let [ca, ca_key] = ["pem", "key"].map(|kind| format!("{issuer}.{kind}"));
        fs::write(self.dir.path().join(&conf), extensions).unwrap();
        let asked = ["req", "-new", "-newkey", "rsa:2048", "-noenc", "-keyout", &key, "-subj", subject];
        self.openssl(&[&asked[..], &["-out", &request]].concat()).await;
        let signed = ["x509", "-req", "-days", "2", "-in", &request, "-CA", &ca, "-CAkey", &ca_key];
        self.openssl(&[&signed[..], &["-CAcreateserial", "-extfile", &conf, "-out", &pem]].concat()).await;
    }

    /// What a client shows: a certificate with the common name `orders.default.svc` and these alternative names.
    async fn client(&self, issuer: &str, alternatives: &str) -> ClientCertificate {
        let names =
            if alternatives.is_empty() { String::new() } else { format!("subjectAltName={alternatives}\n") };
        self.issue(
            issuer,
            "leaf",
            "/CN=orders.default.svc",
            &format!("extendedKeyUsage=clientAuth\n{names}"),
        )
        .await;
        let read = |file: &str| fs::read_to_string(self.dir.path().join(file)).unwrap();
        let chain = if issuer == "sub" { read("sub.pem") } else { String::new() };
        ClientCertificate { certificate: read("leaf.pem") + &chain, key: read("leaf.key") }
    }
}

#[tokio::test]
async fn an_authority_for_other_names_lets_nobody_in_by_a_common_name_or_another_kind_of_name() {
    let authorities = Authorities::new().await;
    let ca = authorities.dir.path().join("root.pem");
    let guard = "[guard]\nallowed_subjects = [\"orders.default.svc\", \"ops@default.svc\", \"10.0.0.7\"]";
    let tls = Tls::start(&format!(", client_ca_file = '{}'", ca.display()), guard).await;
    for alternatives in [
        "",
        "DNS:other.test",
        "email:orders.default.svc",
        "URI:orders.default.svc",
        "otherName:1.2.3.4;UTF8:orders.default.svc",
        "URI:mailto:ops@default.svc",
        "URI:10.0.0.7",
    ] {
        let answer = tls.shown(&authorities.client("sub", alternatives).await).await;
        answer.assert_proxy_error(403);
        assert_eq!(answer.proxy_error(), Some("peer_refused"), "{alternatives}: {answer:?}");
    }
    let outside = tls.shown(&authorities.client("sub", "DNS:orders.default.svc").await).await;
    assert!(outside.exit != 0 && outside.status == 0, "TLS itself refuses it: {outside:?}");
    assert!(tls.api.seen().is_empty());
    for alternatives in ["DNS:Orders.Default.SVC", "email:ops@Default.svc", "IP:10.0.0.7"] {
        let answer = tls.shown(&authorities.client("root", alternatives).await).await;
        assert_eq!((answer.status, answer.proxy_error()), (200, None), "{alternatives}: {answer:?}");
    }
    let wildcard = tls.shown(&authorities.client("root", "DNS:*.default.svc").await).await;
    assert_eq!(wildcard.proxy_error(), Some("peer_refused"), "a wildcard names nobody: {wildcard:?}");
}

#[tokio::test]
async fn certificates_are_replaced_under_load_and_no_request_fails() {
    let tls = Tls::mutual("").await;
    let dir = tls.dir.path();
    let old_ca = dir.join("old.pem");
    fs::copy(&tls.certificates.ca, &old_ca).unwrap();
    let old = tls.certificates.client("orders");
    let [cert, key] = old.write(dir).map(|file| file.display().to_string());
    let (plain, url) = (Tls::start("", "").await, tls.url());
    let load_url = plain.url();
    let load = async { h2load(&["-n6000", "-c8", "-m4", &load_url]).await.assert_flawless(6000) };
    let swap = async {
        for _ in 0..3 {
            Certificates::for_loopback(plain.dir.path());
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    };
    tokio::join!(load, swap);
    drop(plain);

    // Broken: the old ones stay, and the log says which file it is.
    fs::write(dir.join("server.pem"), "nothing of the kind").unwrap();
    eventually("the refusal is reported", || async {
        let log = tls.proxy.log();
        log.contains("the listeners' new certificate is refused") && log.contains("server.pem")
    })
    .await;
    let show = |ca: &Path, cert: &str, key: &str| {
        let words = [ca.display().to_string(), cert.to_owned(), key.to_owned(), url.clone()];
        async move { curl(&["--cacert", &words[0], "--cert", &words[1], "--key", &words[2], &words[3]]).await }
    };
    assert_eq!(show(&old_ca, &cert, &key).await.status, 200);

    // Another authority for both sides: who was let in by the old one is not any more.
    let next = Certificates::for_loopback(dir);
    fs::copy(&next.ca, dir.join("clients.pem")).unwrap();
    let others = dir.join("next");
    fs::create_dir(&others).unwrap();
    let [next_cert, next_key] = next.client("orders").write(&others).map(|file| file.display().to_string());
    eventually("new connections are made with the new ones", || async {
        show(&next.ca, &next_cert, &next_key).await.status == 200
    })
    .await;
    assert_eq!(show(&next.ca, &cert, &key).await.status, 0, "its authority is gone");
    assert_ne!(show(&old_ca, &next_cert, &next_key).await.exit, 0, "the certificate is another's");
}

#[tokio::test]
async fn health_on_every_address_is_asked_by_either_family() {
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "made-up").unwrap();
    let port = free_address().port();
    let mut command = cupbearer();
    command.arg("run").current_dir(dir.path());
    for (name, value) in [
        ("LISTEN", free_address().to_string()),
        ("UPSTREAM", api.url()),
        ("TOKEN_ENDPOINT", server.url() + "/token"),
        ("CLIENT_ID", "orders".to_owned()),
        ("CLIENT_SECRET_FILE", secret.display().to_string()),
        ("_HEALTH__LISTEN", format!("[::]:{port}")),
        ("_CONTROL__LISTEN", free_address().to_string()),
    ] {
        command.env(format!("CUPBEARER_{name}"), value);
    }
    let mut proxy = Program::spawn("cupbearer", command, dir.path());
    for host in ["127.0.0.1", "[::1]"] {
        let url = format!("http://{host}:{port}/readyz");
        proxy.until("ready", || async { curl(&[&url]).await.status == 200 }).await;
    }
    let mut wait = cupbearer();
    wait.arg("wait").env("CUPBEARER__HEALTH__LISTEN", format!("[::]:{port}")).current_dir(dir.path());
    assert!(wait.status().await.unwrap().success());
}
