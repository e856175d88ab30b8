//! `[guard]`: shared secrets, users and names.

use super::*;
use crate::net::names::Subject;
use crate::secret::Secret;

/// The control surface is where no other user can connect to it.
fn guard(lines: &str) -> String {
    format!("[control]\nlisten = \"unix:@cupbearer\"\n[guard]\n{lines}\n{GOOD}")
}

const FIRST: &str = "first-of-two-secrets";
const SECOND: &str = "second-of-two-secrets";

#[test]
fn shared_secrets_stand_one_per_line_in_a_file_that_is_watched() {
    let dir = tempfile::tempdir().unwrap();
    let (config, file) = (dir.path().join("config.toml"), dir.path().join("proxy-secret"));
    std::fs::write(&config, guard("shared_secret_file = \"proxy-secret\"")).unwrap();
    let load_file =
        || load(&Source::File(config.clone()), [("ORDERS_SECRET".into(), "x".into())], Options::default());
    let shown = load_file().unwrap_err().to_string();
    assert!(shown.contains("guard.shared_secret_file: ") && shown.contains("does not exist"), "{shown}");
    write_private(&file, &format!("{FIRST}\r\n\n  \n{SECOND}\n"));
    let loaded = load_file().unwrap();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let secrets = [FIRST, SECOND].map(|text| Secret::new(text.to_owned()));
    assert_eq!(loaded.settings.guard.shared_secrets, secrets);
    assert_eq!(loaded.settings.guard_secret_file.as_deref(), Some(file.as_path()));
    assert!(loaded.files.contains(&file));
    assert!(!format!("{loaded:?}").contains(FIRST));
    for (content, words) in [
        ("\n", "is empty"),
        (" \n\n", "holds no shared secret"),
        ("short\n", "the secret is shorter than 16 characters"),
        ("0123456789abcdef\n\nshort", "the secret in line 3 is shorter"),
        ("0123456789 abcdef\n", "has a space"),
    ] {
        write_private(&file, content);
        let shown = load_file().unwrap_err().to_string();
        assert!(shown.contains(words), "{words} in {shown}");
        assert!(!shown.contains("short\n") && !shown.contains("0123"), "{shown}");
    }
}

#[test]
fn a_shared_secret_comes_from_one_place_alone_and_must_be_there() {
    let set = [("CUPBEARER__GUARD__SHARED_SECRET_ENV", "P"), ("P", FIRST)];
    assert_eq!(load_in(GOOD, &set).unwrap().settings.guard.shared_secrets.len(), 1);
}

#[test]
fn users_are_those_of_a_unix_socket() {
    let socket = format!("[server]\nlisten = \"unix:/run/x.sock\"\n{}", guard("allowed_uids = [0, 1000]"));
    let loaded = load_text(&socket).unwrap();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(loaded.settings.guard.allowed_uids, [0, 1000]);
}

#[test]
fn names_are_those_of_client_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    let at = |name: &str, text: String| {
        write_private(&dir.path().join(name), &text);
        format!("{:?}", dir.path().join(name).to_str().unwrap())
    };
    let (cert, key) = (at("cert", made.cert.pem()), at("key", made.signing_key.serialize_pem()));
    let tls =
        format!("[server]\ntls = {{ cert_file = {cert}, key_file = {key}, client_ca_file = {cert} }}\n");
    let loaded = load_text(&format!("{tls}{}", guard("allowed_subjects = [\"orders\", \"spiffe://a/b\"]")));
    assert_eq!(
        loaded.unwrap().settings.guard.allowed_subjects,
        ["orders", "spiffe://a/b"].map(|name| Subject::parse(name).unwrap())
    );
    let empty = format!("{tls}{}", guard("allowed_subjects = [\"orders\", \"\"]"));
    one_error(&empty, "guard.allowed_subjects[1]", &["is empty"]);
    for (name, what) in [
        ("*.a.svc", "wildcard"),
        ("spiffe://x/*", "wildcard"),
        ("urn:x:*", "wildcard"),
        ("CN=orders", "cn:NAME"),
        ("cn:", "is empty"),
        ("mailto:a@b.example", "begins with `mailto:`"),
        ("URI:spiffe://x/y", "begins with `URI:`"),
        ("uri:spiffe://x/y", "begins with `URI:`"),
        ("IP Address:10.0.0.1", "begins with `IP Address:`"),
        ("DNS:orders", "begins with `DNS:`"),
        ("<a@b.example>", "cn:NAME"),
        ("://x", "cn:NAME"),
        ("spiffe://", "cn:NAME"),
        ("10.0.0.0/8", "cn:NAME"),
        ("10.0.0.256", "cn:NAME"),
        ("10.0.0.1:443", "cn:NAME"),
    ] {
        let text = format!("{tls}{}", guard(&format!("allowed_subjects = [{name:?}]")));
        one_error(&text, "guard.allowed_subjects[0]", &[what]);
    }
}

#[test]
fn hosts_that_browsers_do_not_trust_are_warned_about_without_tls_and_secret() {
    let hosts = "allowed_hosts = [\"localhost\", \"orders.test\"]";
    let quiet = |text: &str, set: &[(&str, &str)]| {
        let loaded = load_in(text, set).unwrap();
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    };
    quiet(&guard(&format!("{hosts}\nshared_secret_env = \"P\"")), &[("P", FIRST)]);
    quiet(&format!("[server]\nlisten = \"unix:/run/x.sock\"\n{}", guard(hosts)), &[]);
    quiet(&guard("allowed_hosts = [\"localhost\", \"127.0.0.1\"]"), &[]);
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    write_private(&dir.path().join("cert"), &made.cert.pem());
    write_private(&dir.path().join("key"), &made.signing_key.serialize_pem());
    let [cert, key] = ["cert", "key"].map(|file| dir.path().join(file).display().to_string());
    let tls = format!("[server]\ntls = {{ cert_file = {cert:?}, key_file = {key:?} }}\n");
    quiet(&format!("{tls}{}", guard(hosts)), &[]);
}

#[test]
fn an_origin_is_written_as_a_browser_sends_it_and_has_no_wildcard() {
    let with = |origin: &str| format!("{GOOD}[guard]\nallowed_origins = [\"{origin}\"]\n");
    for origin in [
        "https://app.example.com",
        "http://localhost:3000",
        "chrome-extension://abcdefghijklmnop",
        "moz-extension://0b1c2d3e-0000-4000-8000-000000000000",
        "tauri://localhost",
        "capacitor://localhost",
        "vscode-webview://1a2b",
    ] {
        let loaded = load_text(&with(origin)).unwrap_or_else(|problems| panic!("{origin}: {problems}"));
        assert_eq!(loaded.settings.guard.allowed_origins, [origin]);
    }
}

#[test]
fn credentials_are_for_origins_that_are_listed() {
    let guard = |lines: &str| format!("{GOOD}[guard]\n{lines}\n");
    let listed = "allow_credentials = true\nallowed_origins = [\"https://app.example.com\"]";
    assert!(load_text(&guard(listed)).unwrap().settings.guard.allow_credentials);
}
