//! TLS handshakes with clients of the proxy: server names (SNI) that are none, and what is known of a handshake that fails.

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use cupbearer_testing::{
    Certificates, ClientCertificate, Config, Origin, PATIENCE, Program, Proxy, curl, eventually, upstream_at,
};

/// A proxy that speaks TLS, with its certificates in a folder.
struct Tls {
    proxy: Proxy,
    _api: Origin,
    dir: TempDir,
    certificates: Certificates,
}

impl Tls {
    async fn start(is_mutual: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::for_loopback(dir.path());
        let at = dir.path().display();
        let mutual = if is_mutual { format!(", client_ca_file = '{at}/ca.pem'") } else { String::new() };
        let tls = format!(
            "header_timeout = \"2s\"\ntls = {{ cert_file = '{at}/server.pem', key_file = '{at}/server.key'{mutual} }}"
        );
        let api = Origin::ok().await;
        let route = "[[routes]]\npath = \"/\"\nupstream = \"api\"\ntoken = \"none\"\n";
        let proxy = Proxy::start(Config::new(upstream_at(&api.url()) + route).server(&tls)).await;
        Self { proxy, _api: api, dir, certificates }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// All that `openssl s_client` shows of a request.
    async fn openssl(&self, words: &[&str]) -> String {
        let mut command = Program::peer("openssl", "openssl");
        command.args(["s_client", "-ign_eof", "-connect", &self.proxy.listen().to_string()]);
        command.args(["-CAfile", self.certificates.ca.to_str().unwrap()]).args(words);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.stderr(std::process::Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // It may have ended by now.
        let _ = input.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    async fn curl(&self, words: &[&str]) {
        let url = format!("https://{}/", self.proxy.listen());
        assert_ne!(curl(&[words, &[&url]].concat()).await.exit, 0, "{words:?}");
    }

    async fn failures(&self, reason: &str) -> u64 {
        let label = format!("reason=\"{reason}\"");
        self.proxy.metric("cupbearer_tls_handshake_failures_total", &[&label]).await as u64
    }

    async fn all_failures(&self) -> u64 {
        let metrics = self.proxy.metrics().await;
        let lines =
            metrics.lines().filter(|line| line.starts_with("cupbearer_tls_handshake_failures_total{"));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// One failure more for this reason alone, and a line that tells it.
    async fn has_failed(&self, reason: &str, sentence: &str, before: u64) {
        eventually(reason, || async { self.failures(reason).await == 1 }).await;
        assert_eq!(self.all_failures().await, before + 1, "{reason}");
        let log = self.proxy.log();
        let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [line] = &lines.iter().filter(|line| line["reason"] == reason).collect::<Vec<_>>()[..] else {
            panic!("one line for {reason}: {log}")
        };
        assert_eq!(line["message"], "a TLS handshake with a client failed");
        assert!(line["error"].as_str().unwrap().contains(sentence), "{line}");
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
        assert!(!line["help"].as_str().unwrap().is_empty(), "{line}");
    }
}

#[tokio::test]
async fn a_server_name_that_is_none_is_ignored() {
    let long = "a.".repeat(120);
    let names = [
        "127.0.0.1:8443",
        "localhost:8443",
        "[::1]:8443",
        "127.0.0.1",
        "::1",
        "localhost.",
        "under_score",
        "größe.example",
        "a b",
        "-",
        &long,
    ];
    for is_mutual in [false, true] {
        let tls = Tls::start(is_mutual).await;
        let [cert, key] = tls.certificates.client("orders").write(tls.dir.path());
        let shown = ["-cert", cert.to_str().unwrap(), "-key", key.to_str().unwrap()];
        for name in names {
            // The last offers a key of a group that is not taken, so that the client has to begin again.
            for more in [&["-tls1_2"][..], &["-tls1_3"], &["-tls1_3", "-groups", "P-521:P-256"]] {
                let words = [&["-servername", name][..], &shown, more].concat();
                let text = tls.openssl(&words).await;
                assert!(text.contains("HTTP/1.1 200 "), "{words:?}: {text}");
            }
        }
        assert_eq!(tls.all_failures().await, 0);
    }
}

#[tokio::test]
async fn a_session_with_a_server_name_that_is_none_is_resumed() {
    let tls = Tls::start(false).await;
    let session = tls.path("session.pem");
    for version in ["-tls1_2", "-tls1_3"] {
        let words = ["-servername", "localhost:8443", version];
        let text = tls.openssl(&[&words[..], &["-sess_out", &session]].concat()).await;
        assert!(text.contains("HTTP/1.1 200 ") && text.contains("New, TLSv1"), "{text}");
        let text = tls.openssl(&[&words[..], &["-sess_in", &session]].concat()).await;
        assert!(text.contains("HTTP/1.1 200 ") && text.contains("Reused, TLSv1"), "{text}");
    }
}

#[tokio::test]
async fn a_handshake_that_fails_is_counted_by_its_reason_and_the_first_is_logged() {
    let tls = Tls::start(false).await;
    let other = tempfile::tempdir().unwrap();
    // Another authority, and one that was made anew under the name of the first.
    let [foreign, _] = ClientCertificate::self_signed("another").write(other.path());
    let anew = Certificates::for_loopback(other.path());
    let mut count = 0;
    let old = ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"];
    let wrong_name = ["-verify_return_error", "-verify_hostname", "another.example"];
    for (words, reason, sentence) in [
        (&old[..], "version", "the client speaks neither TLS 1.2 nor TLS 1.3"),
        (&["-tls1_2", "-cipher", "AES128-SHA"], "cipher", "the client has no cipher suite"),
        (&["-alpn", "smtp"], "alpn", "the client offers no application protocol"),
        (&wrong_name, "certificate_refused", "the client refuses the certificate here"),
    ] {
        let text = tls.openssl(words).await;
        assert!(!text.contains("HTTP/1.1 200 "), "{words:?}: {text}");
        tls.has_failed(reason, sentence, count).await;
        count += 1;
    }
    let ca = foreign.to_str().unwrap();
    tls.curl(&["--cacert", ca]).await;
    tls.has_failed("unknown_authority", "the client does not trust the authority", count).await;
    let plain = curl(&[&format!("http://{}/", tls.proxy.listen())]).await;
    assert_eq!(plain.status, 400);
    tls.has_failed("plain_http", "the client sent plain HTTP", count + 1).await;
    tls.curl(&["--haproxy-protocol"]).await;
    tls.has_failed("proxy_protocol", "the client sent a PROXY protocol header", count + 2).await;
    count += 3;

    for (bytes, closes, reason, sentence) in [
        (&b"\x00\x01nonsense of twenty bytes"[..], false, "not_tls", "what the client sent is not TLS"),
        (&b"\x16\x03\x01\x02\x00\x01"[..], true, "closed", "the client closed the connection"),
        (
            &b"\x16\x03\x01\x02\x00\x01"[..],
            false,
            "timeout",
            "the client did not finish the handshake in time",
        ),
    ] {
        let mut client = TcpStream::connect(tls.proxy.listen()).await.unwrap();
        client.write_all(bytes).await.unwrap();
        if closes {
            client.shutdown().await.unwrap();
        }
        tls.has_failed(reason, sentence, count).await;
        count += 1;
    }

    // A probe, and a burst.
    for _ in 0..3 {
        drop(TcpStream::connect(tls.proxy.listen()).await.unwrap());
    }
    for _ in 0..3 {
        tls.curl(&["--cacert", ca]).await;
    }
    eventually("they are counted", || async { tls.failures("unknown_authority").await == 4 }).await;
    assert_eq!(tls.all_failures().await, count + 3, "a probe is no failure");
    tls.curl(&["--cacert", anew.ca.to_str().unwrap()]).await;
    eventually("it is counted", || async { tls.failures("certificate_refused").await == 2 }).await;
    let log = tls.proxy.log();
    assert_eq!(log.matches("does not trust the authority").count(), 1, "{log}");
}

#[tokio::test]
async fn what_is_neither_tls_nor_http_is_refused_at_once() {
    let tls = Tls::start(false).await;
    // Of SSH and SMTP; and a record that is longer than any may be, of which the rest never comes.
    let foreign = [
        &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
        b"EHLO mail.example.com\r\n",
        b"\x16\x03\x01\xff\xff\x01\x00\x01\xfc",
    ];
    let mut open = Vec::new();
    for bytes in foreign {
        let mut client = TcpStream::connect(tls.proxy.listen()).await.unwrap();
        client.write_all(bytes).await.unwrap();
        open.push(client);
    }
    eventually("they are counted", || async { tls.all_failures().await == 3 }).await;
    assert_eq!(tls.failures("not_tls").await, 3, "{}", tls.proxy.log());
    drop(open);
}

#[tokio::test]
async fn how_many_handshakes_and_requests_failed_is_in_the_log_before_its_end() {
    let tls = Tls::start(false).await;
    for _ in 0..3 {
        tls.curl(&["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0", "--insecure"]).await;
        let url = format!("https://{}/", tls.proxy.listen());
        let refused = curl(&["--insecure", "--request", "TRACE", &url]).await;
        assert_eq!(refused.status, 405, "{refused:?}");
    }
    let (status, log) = tls.proxy.terminate().await;
    assert!(status.success(), "{log}");
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |message: &str| {
        let found = lines.iter().position(|line| line["message"] == message);
        found.unwrap_or_else(|| panic!("no line {message:?}: {log}"))
    };
    let handshakes = find("TLS handshakes with clients failed for this reason");
    let own = find("the proxy responded to requests itself");
    assert_eq!(
        (&lines[handshakes]["reason"], &lines[handshakes]["failures"]),
        (&"version".into(), &3.into())
    );
    assert_eq!((&lines[own]["kind"], &lines[own]["count"]), (&"method_not_allowed".into(), &3.into()));
    assert_eq!(find("ended"), lines.len() - 1, "{log}");
}

#[tokio::test]
async fn what_is_wrong_with_a_client_certificate_is_counted_and_logged() {
    let tls = Tls::start(true).await;
    let foreign = ClientCertificate::self_signed("orders");
    let expired = tls.certificates.expired_client("orders");
    let ca = tls.path("ca.pem");
    let files = |certificate: &ClientCertificate, name: &str| {
        let dir = tls.dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        certificate.write(&dir).map(|file| file.display().to_string())
    };
    let (foreign, expired) = (files(&foreign, "foreign"), files(&expired, "expired"));
    let for_servers = ["server.pem", "server.key"].map(|file| tls.path(file));
    let cases = [
        (None, "no_client_certificate", "the client showed no certificate, and one is demanded"),
        (Some(foreign), "client_certificate_untrusted", "comes from no authority in `client_ca_file`"),
        (Some(expired), "client_certificate_expired", "the client's certificate has expired"),
        (Some(for_servers), "client_certificate_invalid", "is not issued for clients"),
    ];
    for (before, (shown, reason, sentence)) in (0..).zip(cases) {
        let words = match &shown {
            None => vec!["--cacert", &ca],
            Some([cert, key]) => vec!["--cacert", &ca, "--cert", cert, "--key", key],
        };
        tls.curl(&words).await;
        tls.has_failed(reason, sentence, before).await;
    }
}
