//! Keys and certificates: what can be known of a file when it is named is said then.

use std::path::PathBuf;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};

use super::*;
use crate::oauth::{Algorithm, ClientAuth, KeySettings};
use crate::token::GrantSettings;

/// A folder with an EC key, an Ed25519 key, a certificate of the first, and things that are neither.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let other = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap().self_signed(&key).unwrap();
        for (name, text) in [
            ("key.pem", key.serialize_pem()),
            ("other.pem", other.serialize_pem()),
            ("cert.pem", certificate.pem()),
            ("none.pem", "no PEM at all, sentinel\n".to_owned()),
            ("empty.pem", String::new()),
            ("google.json", google(&key.serialize_pem())),
        ] {
            write_private(&dir.path().join(name), &text);
        }
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A line that names a file.
    fn line(&self, key: &str, name: &str) -> String {
        format!("{key} = {:?}\n", self.path(name).to_str().unwrap())
    }
}

fn google(pem: &str) -> String {
    serde_json::json!({
        "type": "service_account",
        "private_key_id": "k1",
        "private_key": pem,
        "client_email": "a@p.example",
        "token_uri": "https://oauth2.example.com/token",
    })
    .to_string()
}

fn signed(lines: &str) -> String {
    server_token_of(&format!("client_id = \"orders\"\nclient_auth = \"private_key_jwt\"\n{lines}"))
}

#[test]
fn a_clients_key_is_read_with_what_is_said_of_it() {
    let folder = Folder::new();
    let text = signed(&format!(
        "{}client_key_id = \"k\"\nclient_key_algorithm = \"ES256\"\n{}",
        folder.line("client_key_file", "key.pem"),
        folder.line("client_cert_file", "cert.pem")
    ));
    let ClientAuth::PrivateKeyJwt { key, .. } = server_origin(&text).client.auth else { panic!() };
    assert_eq!(
        key,
        KeySettings {
            key: crate::secret::SecretSource::File(folder.path("key.pem")),
            key_id: Some("k".to_owned()),
            algorithm: Some(Algorithm::Es256),
            certificate: Some(folder.path("cert.pem")),
        }
    );
    assert!(load_text(&text).unwrap().files.contains(&folder.path("cert.pem")));
    let pem = std::fs::read_to_string(folder.path("key.pem")).unwrap();
    let in_a_variable = signed("client_key_env = \"THE_KEY\"");
    assert!(load_in(&in_a_variable, &[("THE_KEY", &pem)]).is_ok());
    let wrong = load_in(&in_a_variable, &[("THE_KEY", "sentinel")]).unwrap_err().to_string();
    assert!(
        wrong.contains("client_key_env: the key cannot be used") && !wrong.contains("sentinel"),
        "{wrong}"
    );
}

#[test]
fn a_key_that_is_none_or_another_is_refused_and_one_that_comes_later_is_not() {
    let folder = Folder::new();
    let with = |name: &str, more: &str| signed(&format!("{}{more}", folder.line("client_key_file", name)));
    one_error(&with("none.pem", ""), "tokens.api.client_key_file", &["the key cannot be used", "help: "]);
    one_error(
        &with("cert.pem", ""),
        "tokens.api.client_key_file",
        &["the key cannot be used", "private key"],
    );
    one_error(&with("google.json", ""), "tokens.api.client_key_file", &["the key cannot be used"]);
    for algorithm in ["RS256", "EdDSA"] {
        let text = with("key.pem", &format!("client_key_algorithm = \"{algorithm}\""));
        one_error(&text, "tokens.api.client_key_algorithm", &[algorithm, "which is for ES256"]);
    }
    one_error(
        &with("key.pem", "client_key_algorithm = \"HS256\""),
        "tokens.api.client_key_algorithm",
        &["a private key", "client_secret_jwt"],
    );
    let unknown = with("key.pem", "client_key_algorithm = \"HS1\"");
    one_error(&unknown, "tokens.api.client_key_algorithm", &["RS256", "ES512"]);
    one_error(&with("key.pem", "client_key_id = \"\""), "tokens.api.client_key_id", &["is empty"]);
    one_warning(&with("empty.pem", ""), "tokens.api.client_key_file", "is empty");
    one_warning(&with("later.pem", ""), "tokens.api.client_key_file", "does not exist");
    let shown = refused(&with("none.pem", "")).to_string();
    assert!(!shown.contains("sentinel"), "{shown}");
    let dpop = |name: &str| {
        good_with("[tokens.api]", &format!("dpop = true\n{}", folder.line("dpop_key_file", name)))
    };
    assert!(server_origin(&dpop("other.pem")).dpop.unwrap().key.is_some());
    one_error(&dpop("none.pem"), "tokens.api.dpop_key_file", &["the key cannot be used"]);
}

#[test]
fn a_service_accounts_key_says_who_and_where() {
    let folder = Folder::new();
    let lines = format!("grant = \"jwt_bearer\"\n{}", folder.line("key_file", "google.json"));
    let origin = server_origin(&token_of(&lines));
    assert_eq!(origin.client.auth, ClientAuth::None);
    assert_eq!(origin.client.id, "");
    assert_eq!(origin.server.location.token_endpoint.unwrap().as_str(), "https://oauth2.example.com/token");
    let elsewhere = server_token_of(&lines);
    assert!(server_origin(&elsewhere).server.location.token_endpoint.is_none(), "what is written wins");
    let user = google("x").replace("service_account", "authorized_user");
    write_private(&folder.path("google.json"), &user);
    one_error(&elsewhere, "tokens.api.key_file", &["service account"]);
    write_private(&folder.path("google.json"), &google("sentinel"));
    let shown = refused(&elsewhere).to_string();
    assert!(
        shown.contains("tokens.api.key_file: the key cannot be used") && !shown.contains("sentinel"),
        "{shown}"
    );
}

#[test]
fn a_plain_key_needs_to_know_who_signs() {
    let folder = Folder::new();
    let with = |lines: &str| {
        server_token_of(&format!("grant = \"jwt_bearer\"\n{}{lines}", folder.line("key_file", "key.pem")))
    };
    one_error(&with(""), "tokens.api.issuer_claim", &["who signs", "`client_id`"]);
    let text = with(
        "issuer_claim = \"i\"\nsubject = \"s\"\naudience_claim = \"a\"\nkey_id = \"k\"\nkey_algorithm = \"ES256\"",
    );
    let GrantSettings::JwtBearer(assertion) = server_origin(&text).grant else { panic!() };
    let claims = [assertion.issuer, assertion.subject, assertion.audience, assertion.key.key_id];
    assert_eq!(claims.map(Option::unwrap), ["i", "s", "a", "k"]);
    assert!(load_text(&with("client_id = \"c\"\nclient_auth = \"none\"")).is_ok());
    one_error(&with("client_id = \"c\""), "tokens.api.client_secret_file", &["\"none\""]);
    for key in ["issuer_claim", "subject", "audience_claim"] {
        one_error(
            &with(&format!("client_id = \"c\"\nclient_auth = \"none\"\n{key} = \"\"")),
            &format!("tokens.api.{key}"),
            &["is empty"],
        );
    }
}

#[test]
fn a_certificate_and_its_key_go_together() {
    let folder = Folder::new();
    let with = |cert: &str, key: &str| {
        format!("{}{}", folder.line("client_cert_file", cert), folder.line("client_cert_key_file", key))
    };
    let tls = |lines: &str| {
        server_token_of(&format!("client_id = \"a\"\nclient_auth = \"tls_client_auth\"\n{lines}"))
    };
    let origin = server_origin(&tls(&with("cert.pem", "key.pem")));
    assert_eq!(origin.client.auth, ClientAuth::Tls);
    assert_eq!(origin.server.transport.certificate.unwrap().cert_file, folder.path("cert.pem"));
    // Beside any other method: for tokens that are bound to it.
    let bound = good_with("[tokens.api]", &with("cert.pem", "key.pem"));
    assert!(server_origin(&bound).server.transport.certificate.is_some());
    let files = load_text(&bound).unwrap().files;
    assert!(files.contains(&folder.path("cert.pem")) && files.contains(&folder.path("key.pem")), "{files:?}");
    let (cert, key) = ("tokens.api.client_cert_file", "tokens.api.client_cert_key_file");
    for (lines, at, words) in [
        (with("cert.pem", "other.pem"), key, "does not belong to"),
        (with("none.pem", "key.pem"), cert, "no certificate"),
        (with("key.pem", "key.pem"), cert, "no certificate"),
        (with("gone.pem", "key.pem"), cert, "gone.pem does not exist"),
        (with("cert.pem", "gone.pem"), key, "gone.pem does not exist"),
        (with("cert.pem", "none.pem"), key, "no private key"),
        (folder.line("client_cert_file", "cert.pem"), key, "needs its private key"),
        (folder.line("client_cert_key_file", "key.pem"), cert, "needs its certificate"),
    ] {
        one_error(&tls(&lines), at, &[words]);
        // A file that is not there yet may come.
        assert_eq!(refused(&tls(&lines)).may_pass(), lines.contains("gone.pem"), "{lines}");
    }
    let clear = tls(&with("cert.pem", "key.pem"))
        .replace("issuer = \"https://login.example.com/\"", "token_endpoint = \"http://127.0.0.1:1/\"");
    one_error(&clear, "tokens.api.token_endpoint", &["must be https"]);
    let named = |cert: &str| {
        signed(&format!(
            "{}{}",
            folder.line("client_key_file", "key.pem"),
            folder.line("client_cert_file", cert)
        ))
    };
    one_error(&named("none.pem"), cert, &["holds no certificate"]);
    let other = signed(&format!(
        "{}{}",
        folder.line("client_key_file", "other.pem"),
        folder.line("client_cert_file", "cert.pem")
    ));
    one_error(&other, cert, &["does not belong to", "was made for this key"]);
}

#[test]
fn an_upstreams_certificate_and_its_key_go_together() {
    let folder = Folder::new();
    let with = |cert: &str, key: &str| {
        let lines =
            format!("{}{}", folder.line("client_cert_file", cert), folder.line("client_key_file", key));
        good_with("[upstreams.api]", &lines)
    };
    let loaded = load_text(&with("cert.pem", "key.pem")).unwrap();
    let before = loaded.settings.upstreams["api"].certificate.clone().unwrap();
    assert_eq!(loaded.files, [folder.path("cert.pem"), folder.path("key.pem")]);
    one_error(&with("cert.pem", "other.pem"), "upstreams.api.client_key_file", &["does not belong to"]);
    one_error(&with("none.pem", "key.pem"), "upstreams.api.client_cert_file", &["no certificate"]);
    let alone = good_with("[upstreams.api]", &folder.line("client_cert_file", "cert.pem"));
    one_error(&alone, "upstreams.api.client_key_file", &["`client_cert_file` needs its private key"]);
    let clear = with("cert.pem", "key.pem").replace("https://api.example.com/base", "http://127.0.0.1:1");
    one_error(&clear, "upstreams.api.client_cert_file", &["in TLS alone"]);
    // Made anew, with the same names: a reload sees that it is another.
    let new = Folder::new();
    for name in ["cert.pem", "key.pem"] {
        std::fs::copy(new.path(name), folder.path(name)).unwrap();
    }
    let after = load_text(&with("cert.pem", "key.pem")).unwrap();
    assert_ne!(after.settings.upstreams["api"].certificate, Some(before));
}

#[test]
fn a_secret_with_odd_characters_is_warned_about_and_never_shown() {
    let folder = Folder::new();
    let file =
        GOOD.replace("client_secret_env = \"ORDERS_SECRET\"", &folder.line("client_secret_file", "secret"));
    for (odd, word) in [
        ("\"sentinel\"\n", "quotation marks"),
        ("sentinel \r\n", "blanks"),
        ("sen\ttinel", "a tab"),
        ("sentinel\u{200b}", "invisible"),
        ("\u{feff}\u{feff}sentinel", "invisible"),
    ] {
        write_private(&folder.path("secret"), odd);
        one_warning(&file, "tokens.api.client_secret_file", word);
        let warnings = load_in(GOOD, &[]).unwrap().warnings;
        assert!(warnings.is_empty(), "{warnings}");
        let variable = GOOD.replace("ORDERS_SECRET", "ODD_SECRET");
        let shown = load_in(&variable, &[("ODD_SECRET", odd)]).unwrap().warnings.to_string();
        assert!(shown.contains(word) && shown.contains("client_secret_env"), "{shown}");
        let inline = GOOD.replace(
            "client_secret_env = \"ORDERS_SECRET\"",
            &format!("client_secret = \"{}\"", odd.escape_default()),
        );
        let inline =
            inline.replace("\\'", "'").replace("\\u{200b}", "\u{200b}").replace("\\u{feff}", "\u{feff}");
        let more = load_text(&inline).unwrap().warnings.to_string();
        assert!(more.contains(word), "{more}");
        assert!(!shown.contains("tinel") && !more.contains("tinel"), "{shown}{more}");
    }
}

#[test]
fn a_secret_that_every_user_may_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let open = |name: &str, mode: u32| {
        std::fs::set_permissions(folder.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    std::fs::set_permissions(folder.0.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    write_private(&folder.path("secret"), "s");
    let text =
        GOOD.replace("client_secret_env = \"ORDERS_SECRET\"", &folder.line("client_secret_file", "secret"));
    assert!(load_text(&text).unwrap().warnings.is_empty());
    open("secret", 0o644);
    one_warning(&text, "tokens.api.client_secret_file", "chmod 600");
    open("secret", 0o666);
    one_warning(&text, "tokens.api.client_secret_file", "may write");
    let text = signed(&folder.line("client_key_file", "key.pem"));
    open("key.pem", 0o644);
    one_warning(&text, "tokens.api.client_key_file", "every user of this machine may read");
    let lines = format!(
        "{}{}",
        folder.line("client_cert_file", "cert.pem"),
        folder.line("client_key_file", "key.pem")
    );
    one_warning(&good_with("[upstreams.api]", &lines), "upstreams.api.client_key_file", "chmod 600");
}
