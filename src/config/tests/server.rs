//! `[server]`: Unix sockets and TLS.

use std::path::PathBuf;

use super::*;
use crate::proxy::{ListenAddress, ServerTls};

fn server(lines: &str) -> String {
    format!("[server]\n{lines}\n{GOOD}")
}

/// A folder with the two files of a certificate, as the lines of `[server]` name them.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["proxy.example".to_owned()]).unwrap();
        write_private(&dir.path().join("cert.pem"), &made.cert.pem());
        write_private(&dir.path().join("key.pem"), &made.signing_key.serialize_pem());
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn entry(&self, key: &str, name: &str) -> String {
        format!("{key} = {:?}", self.path(name).to_str().unwrap())
    }
}

/// Without a control surface, that of a restricted proxy cannot be open to more users than the proxy is.
const NO_CONTROL: &str = "[control]\nlisten = \"none\"\n";

#[test]
fn a_memory_limit_has_room_for_a_few_readers() {
    for good in ["8MiB", "8388608B", "64MiB", "none", "auto"] {
        let loaded = load_text(&server(&format!("memory_limit = \"{good}\"")));
        assert!(loaded.is_ok(), "{good}: {:?}", loaded.err());
    }
}

#[test]
fn a_unix_socket_is_listened_on_beside_the_configuration_with_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    let lines = "listen = [\"unix:proxy.sock\", \"127.0.0.1:0\", \"unix:/run/x.sock\"]\nunix_mode = \"0660\"";
    std::fs::write(&config, server(lines)).unwrap();
    let loaded =
        load(&Source::File(config), [("ORDERS_SECRET".into(), "x".into())], Options::default()).unwrap();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let unix = |path: PathBuf| ListenAddress::Unix { path, mode: 0o660 };
    assert_eq!(
        loaded.settings.server.listen,
        [
            unix(dir.path().join("proxy.sock")),
            ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()),
            unix("/run/x.sock".into())
        ]
    );
    let alone = load_text(&server("listen = \"unix:/run/x.sock\"")).unwrap().settings.server.listen;
    assert_eq!(alone, [ListenAddress::Unix { path: "/run/x.sock".into(), mode: 0o600 }]);
}

#[test]
fn a_mode_is_octal_and_lets_somebody_in() {
    let with = |mode: &str| {
        let lines = format!("listen = \"unix:/run/x.sock\"\nunix_mode = \"{mode}\"");
        NO_CONTROL.to_owned() + &server(&lines)
    };
    for mode in ["600", "0600", "0660", "0770"] {
        assert!(load_text(&with(mode)).unwrap().warnings.is_empty(), "{mode}");
    }
    let known = format!("{}\n[guard]\nallowed_uids = [1000]", with("0666"));
    assert!(load_text(&known).unwrap().warnings.is_empty());
}

#[test]
fn whoever_comes_from_another_machine_is_to_show_that_they_may() {
    let open = "listen = \"0.0.0.0:8443\"\nallow_remote = true";
    let secret = load_in(
        &format!("{NO_CONTROL}{}[guard]\nshared_secret_env = \"PROXY_SECRET\"\n", server(open)),
        &[("PROXY_SECRET", "0123456789abcdef")],
    );
    assert!(secret.unwrap().warnings.is_empty());
    let folder = Folder::new();
    let pair = format!("{}, {}", folder.entry("cert_file", "cert.pem"), folder.entry("key_file", "key.pem"));
    one_warning(
        &server(&format!("{open}\ntls = {{ {pair} }}")),
        "server.listen",
        "clients are not authenticated",
    );
    let mutual = format!("{open}\ntls = {{ {pair}, {} }}", folder.entry("client_ca_file", "cert.pem"));
    let mutual = NO_CONTROL.to_owned() + &server(&mutual);
    assert!(load_text(&mutual).unwrap().warnings.is_empty());
}

#[test]
fn tls_needs_a_certificate_and_its_key() {
    let folder = Folder::new();
    let (cert, key) = (folder.entry("cert_file", "cert.pem"), folder.entry("key_file", "key.pem"));
    let ca = folder.entry("client_ca_file", "cert.pem");
    let tls = |entries: &str| server(&format!("tls = {{ {entries} }}"));
    let loaded = load_text(&tls(&format!("{cert}, {key}, {ca}"))).unwrap();
    let want = ServerTls {
        cert_file: folder.path("cert.pem"),
        key_file: folder.path("key.pem"),
        client_ca_file: Some(folder.path("cert.pem")),
    };
    assert_eq!(loaded.settings.server.tls, Some(want));
    assert_eq!(loaded.files, [folder.path("cert.pem"), folder.path("key.pem")]);
    assert_eq!(loaded.settings.certificate_files().len(), 3);
    one_error(&tls(&cert), "server.tls.key_file", &["needs its private key"]);
    one_error(&tls(&key), "server.tls.cert_file", &["needs its certificate"]);
    let neither = refused(&tls(&ca));
    assert_eq!(neither.len(), 2, "{neither}");
    let swapped =
        format!("{}, {}", folder.entry("cert_file", "key.pem"), folder.entry("key_file", "key.pem"));
    one_error(&tls(&swapped), "server.tls.cert_file", &["no certificate", "the proxy's certificate"]);
    let gone = format!("{cert}, {key}, {}", folder.entry("client_ca_file", "gone.pem"));
    one_error(&tls(&gone), "server.tls.client_ca_file", &["does not exist"]);
    let gone = format!("{}, {key}", folder.entry("cert_file", "gone.pem"));
    let words = ["gone.pem does not exist", "name a PEM file with the proxy's certificate"];
    one_error(&tls(&gone), "server.tls.cert_file", &words);
    let gone = format!("{cert}, {}", folder.entry("key_file", "gone.pem"));
    one_error(&tls(&gone), "server.tls.key_file", &["gone.pem does not exist", "private key"]);
    let plain = format!("listen = \"unix:/run/x.sock\"\ntls = {{ {cert}, {key} }}");
    one_error(&server(&plain), "server.tls", &["only Unix sockets"]);
    // As a section, and by a variable.
    let section = format!("[server.tls]\n{cert}\n{GOOD}");
    let key_file = folder.path("key.pem");
    let variable = [("CUPBEARER__SERVER__TLS__KEY_FILE", key_file.to_str().unwrap())];
    assert!(load_in(&section, &variable).unwrap().settings.server.tls.is_some());
}

#[test]
fn a_flag_can_name_a_socket() {
    let flags = Flags {
        listen: Some("unix:proxy.sock".to_owned()),
        upstream: Some("https://api.example.com".to_owned()),
        issuer: Some("https://login.example.com".to_owned()),
        client_id: Some("orders".to_owned()),
        client_secret_file: Some("/nonexistent/secret".to_owned()),
        ..Flags::default()
    };
    let loaded = load(&Source::Flags(flags), [], Options::default()).unwrap();
    let [ListenAddress::Unix { path, .. }] = loaded.settings.server.listen.as_slice() else { panic!() };
    assert_eq!(path, Path::new("proxy.sock"), "from the working directory");
}

#[test]
fn an_end_that_takes_longer_than_the_grace_period_is_warned_about() {
    const POD: (&str, &str) = ("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    let grace = |time| ("CUPBEARER_GRACE_PERIOD", time);
    for (lines, variables, finding) in [
        ("drain_delay = \"10s\"", vec![POD], Some("take up to 35s, and the grace period is 30s")),
        ("drain_delay = \"10s\"\ndrain_timeout = \"15s\"", vec![POD], None),
        ("drain_delay = \"10s\"", vec![POD, grace("60s")], None),
        ("drain_delay = \"10s\"", vec![grace("20s")], Some("grace period is 20s (CUPBEARER_GRACE_PERIOD)")),
        ("drain_delay = \"10s\"", vec![grace("soon")], Some("must be a duration such as \"30s\"")),
        ("drain_timeout = \"90s\"", vec![grace("30s")], Some("take up to 90s")),
        ("drain_delay = \"10m\"", vec![], None),
        ("", vec![POD], None),
    ] {
        let loaded = load_in(&server(lines), &variables).unwrap_or_else(|problems| panic!("{problems}"));
        let shown = loaded.warnings.to_string();
        assert_eq!(shown.is_empty(), finding.is_none(), "{lines} {variables:?}: {shown}");
        assert!(finding.is_none_or(|finding| shown.contains(finding)), "{lines} {variables:?}: {shown}");
    }
}

#[test]
fn readiness_is_by_token_unless_it_is_by_the_start() {
    use crate::health::ReadyOnce;
    let ready =
        |text: &str| load_text(text).unwrap_or_else(|problems| panic!("{problems}")).settings.health.ready;
    assert_eq!(ready(GOOD), ReadyOnce::TokensUsable);
    assert_eq!(ready(&format!("[health]\nready = \"started\"\n{GOOD}")), ReadyOnce::Started);
}
