//! Certificates of authorization servers and APIs: which are trusted, and in which words the others are refused. The peer is
//! Node.js on OpenSSL, and `openssl` makes the certificates.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use cupbearer_testing::{Config, Program, Proxy, hear, node, token_at, upstream_at};

/// A server that gives tokens and is the API too.
struct Server {
    program: Program,
    port: u64,
}

impl Server {
    async fn start(dir: &Path, pair: &Pair, protocol: &str, tls: &str) -> Self {
        let mut command = node("node/tls.mjs", None);
        command.env("CERTIFICATE", &pair.certificate).env("KEY", &pair.key);
        command.env("PROTOCOL", protocol).env("TLS", tls);
        let mut program = Program::spawn("tls", command, dir);
        let ready = hear(&mut program, "ready", |event| event["event"] == "ready").await;
        let port = ready["port"].as_u64().unwrap();
        Self { program, port }
    }

    /// It as authorization server and as API, each with these keys.
    fn config(&self, keys: &str) -> Config {
        let at = format!("https://localhost:{}", self.port);
        Config::one_route(&(upstream_at(&at) + keys), &(token_at(&format!("{at}/token")) + keys))
    }
}

/// A certificate and its key, in files.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

/// What `openssl req -x509` makes, with these words more.
fn self_signed(dir: &Path, name: &str, words: &[&str]) -> Pair {
    let [certificate, key] = ["pem", "key"].map(|kind| dir.join(format!("{name}.{kind}")));
    made(Command::new("openssl"), &certificate, &key, words);
    Pair { certificate, key }
}

/// The same, at a time long ago: it was good for a day.
fn self_signed_long_ago(dir: &Path, name: &str, words: &[&str]) -> Pair {
    let [certificate, key] = ["pem", "key"].map(|kind| dir.join(format!("{name}.{kind}")));
    let mut command = Command::new("faketime");
    command.args(["2001-02-03 04:05:06", "openssl"]);
    made(command, &certificate, &key, &[words, &["-days", "1"]].concat());
    Pair { certificate, key }
}

fn made(mut command: Command, certificate: &Path, key: &Path, words: &[&str]) {
    command.args(["req", "-x509", "-nodes", "-newkey", "rsa:2048", "-out"]).arg(certificate);
    command.arg("-keyout").arg(key).args(words);
    let output = command.output().expect("they are there: apt-get install openssl faketime");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const NAMED: [&str; 4] = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];

fn ca(file: &Path) -> String {
    format!("ca_file = '{}'\n", file.display())
}

#[tokio::test]
async fn a_servers_own_certificate_in_ca_file_is_trusted_for_tokens_and_for_the_api() {
    let dir = TempDir::new().unwrap();
    let own = self_signed(dir.path(), "own", &NAMED);
    let other = self_signed(dir.path(), "other", &NAMED);
    let server = Server::start(dir.path(), &own, "h1", "{}").await;
    let (code, said) = server.config(&ca(&own.certificate)).checked_online().await;
    assert_eq!(code, Some(0), "{said}");

    // One of many in the file, and not a certificate authority's either.
    let leaf = self_signed(
        dir.path(),
        "leaf",
        &[NAMED.as_slice(), &["-addext", "basicConstraints=critical,CA:FALSE"]].concat(),
    );
    let both = dir.path().join("both.pem");
    let texts = [&other.certificate, &leaf.certificate].map(|file| fs::read_to_string(file).unwrap());
    fs::write(&both, texts.concat()).unwrap();
    let server = Server::start(dir.path(), &leaf, "h1", "{}").await;
    let (code, said) = server.config(&ca(&both)).checked_online().await;
    assert_eq!(code, Some(0), "{said}");

    // Another one of the same name is another one.
    let (code, said) = server.config(&ca(&other.certificate)).checked_online().await;
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(said.matches("the certificate is self-signed and not in `ca_file`").count(), 2, "{said}");
}

#[tokio::test]
async fn name_and_validity_of_a_certificate_in_ca_file_are_checked_all_the_same() {
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let elsewhere = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:elsewhere.test"];
    let pairs = [
        (self_signed(dir, "elsewhere", &elsewhere), "the certificate is for another name"),
        (
            self_signed(dir, "common", &["-subj", "/CN=localhost"]),
            "the certificate has no subject alternative name",
        ),
        (self_signed_long_ago(dir, "over", &NAMED), "the certificate has expired"),
    ];
    for (pair, what) in pairs {
        let server = Server::start(dir, &pair, "h1", "{}").await;
        let (code, said) = server.config(&ca(&pair.certificate)).checked_online().await;
        assert_eq!(code, Some(1), "{said}");
        assert_eq!(said.matches(what).count(), 2, "{said}");
    }
}

#[tokio::test]
async fn a_server_without_a_cipher_or_version_in_common_is_told_from_one_that_wants_a_certificate() {
    let dir = TempDir::new().unwrap();
    let own = self_signed(dir.path(), "own", &NAMED);
    let keys = ca(&own.certificate);
    for (tls, what) in [
        (r#"{"maxVersion":"TLSv1.2","ciphers":"AES128-SHA"}"#, "has no cipher suite, key exchange or"),
        (
            r#"{"maxVersion":"TLSv1.1","minVersion":"TLSv1","ciphers":"DEFAULT@SECLEVEL=0"}"#,
            "speaks neither TLS 1.2 nor TLS 1.3",
        ),
        (r#"{"maxVersion":"TLSv1.2","requestCert":true,"rejectUnauthorized":true}"#, ""),
    ] {
        let server = Server::start(dir.path(), &own, "h1", tls).await;
        let (_, said) = server.config(&keys).checked_online().await;
        assert!(said.contains(what), "{tls}: {said}");
        let wants = said.contains("wants a client certificate");
        assert!(!wants || what.is_empty(), "{tls}: {said}");
        drop(server.program);
    }
}

#[tokio::test]
async fn an_authorization_server_that_speaks_http_2_alone_gives_its_token() {
    let dir = TempDir::new().unwrap();
    let own = self_signed(dir.path(), "own", &NAMED);
    let server = Server::start(dir.path(), &own, "h2", "{}").await;
    let proxy = Proxy::start(server.config(&ca(&own.certificate))).await;
    assert_eq!(proxy.get("/").await.text(), "hello\n");
    let log = server.program.log();
    let asked = log.lines().find(|line| line.contains("/token")).unwrap();
    assert!(asked.contains(r#""version":"2.0""#), "{log}");
}
