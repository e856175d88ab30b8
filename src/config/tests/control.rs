//! `[control]`: its addresses, and that it is as restricted as the proxy is.

use super::*;
use crate::control::ControlSettings;
use crate::net::local_address::LocalAddress;

fn control(lines: &str) -> String {
    format!("[control]\n{lines}\n{GOOD}")
}

fn settings(lines: &str) -> ControlSettings {
    let loaded = load_text(&control(lines)).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    loaded.settings.control
}

#[test]
fn it_listens_on_loopback_on_a_socket_with_a_path_or_a_name_or_nowhere() {
    for (line, address) in [
        ("", Some("127.0.0.1:9902")),
        ("listen = \"[::1]:1\"", Some("[::1]:1")),
        ("listen = \"unix:/run/c.sock\"", Some("unix:/run/c.sock")),
        ("listen = \"unix:@cupbearer\"", Some("unix:@cupbearer")),
        ("listen = \"none\"", None),
    ] {
        assert_eq!(settings(line).listen, address.and_then(LocalAddress::parse), "{line}");
    }
    for (line, both) in [
        ("", true),
        ("listen = \"localhost:7\"", true),
        ("listen = \"7\"", true),
        ("listen = \"127.0.0.1:7\"", false),
    ] {
        assert_eq!(settings(line).both_loopbacks, both, "{line}");
    }
    assert_eq!(settings("").unix_mode, 0o600);
    assert_eq!(settings("listen = \"unix:/run/c.sock\"\nunix_mode = \"0660\"").unix_mode, 0o660);
}

#[test]
fn a_socket_is_beside_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.toml");
    std::fs::write(&config, control("listen = \"unix:c.sock\"")).unwrap();
    let loaded = load(&Source::File(config), [("ORDERS_SECRET".into(), "x".into())], Options::default());
    let listen = loaded.unwrap().settings.control.listen;
    assert_eq!(listen, Some(LocalAddress::Path(dir.path().join("c.sock"))));
}

#[test]
fn a_variable_moves_the_surface_and_the_mode_in_the_file_stays() {
    let path = "listen = \"unix:/run/c.sock\"\n";
    // A sidecar's environment moves the surface, and the file goes on to say what it said.
    let moved = [("CUPBEARER__CONTROL__LISTEN", "unix:@cupbearer")];
    let loaded = load_in(&control(&format!("{path}unix_mode = \"0660\"")), &moved).unwrap();
    assert_eq!(loaded.settings.control.listen, LocalAddress::parse("unix:@cupbearer"));
}

#[test]
fn a_login_that_no_person_could_begin_is_refused() {
    let login = GOOD
        .replace("grant = \"client_credentials\"", "")
        .replace("[tokens.api]\n", "[tokens.api]\ngrant = \"authorization_code\"\n");
    for (lines, memory) in [
        ("[control]\nlisten = \"none\"\n", "no control surface"),
        ("[guard]\nshared_secret = \"sixteen-characters\"\n", "read-only"),
    ] {
        let text = format!("{lines}[store]\nkind = \"memory\"\n{login}");
        one_error(&text, "tokens.api.grant", &["no person can log in", memory, "`kind` in [store]"]);
        let kept = format!("{lines}[store]\nkind = \"file\"\npath = \"tokens\"\n{login}");
        assert!(load_text(&kept).is_ok(), "`cupbearer login` writes to the store");
    }
}

#[test]
fn a_surface_that_is_open_to_more_users_than_the_proxy_is_warned_about() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
    let at = |name: &str, text: String| {
        write_private(&dir.path().join(name), &text);
        format!("{:?}", dir.path().join(name).to_str().unwrap())
    };
    let (cert, key) = (at("cert", made.cert.pem()), at("key", made.signing_key.serialize_pem()));
    let secret = at("secret", "0123456789abcdef".to_owned());
    let tls =
        format!("[server]\ntls = {{ cert_file = {cert}, key_file = {key}, client_ca_file = {cert} }}\n");
    let restrictions = [
        (format!("[guard]\nshared_secret_file = {secret}\n"), "guard.shared_secret_file restricts"),
        (tls.clone(), "server.tls.client_ca_file restricts"),
        (
            format!("{tls}[guard]\nallowed_subjects = \"orders\"\n"),
            "guard.allowed_subjects and server.tls.client_ca_file restrict ",
        ),
        (
            "[server]\nlisten = \"unix:/run/x.sock\"\n".to_owned(),
            "server.listen, on Unix sockets alone, restricts",
        ),
        (
            "[server]\nlisten = \"unix:/run/x.sock\"\n[guard]\nallowed_uids = [7]\n".to_owned(),
            "guard.allowed_uids and server.listen, on Unix sockets alone, restrict ",
        ),
    ];
    for (restriction, words) in &restrictions {
        let with = |lines: &str| format!("{restriction}{}", control(lines));
        one_warning(&with(""), "control.listen", words);
        one_warning(&with("listen = \"[::1]:1\""), "control.listen", "unix:@cupbearer");
        for line in ["unix:/run/c.sock", "unix:@c", "none"] {
            let loaded = load_text(&with(&format!("listen = \"{line}\""))).unwrap();
            assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        }
        for mode in ["0666", "0660"] {
            let open = with(&format!("listen = \"unix:/run/c.sock\"\nunix_mode = \"{mode}\""));
            if restriction.contains("allowed_uids") {
                assert!(load_text(&open).unwrap().warnings.is_empty());
            } else {
                one_warning(&open, "control.unix_mode", words);
            }
        }
    }
    // A group that uses the proxy may use the control surface, too.
    let group = "[server]\nlisten = \"unix:/run/x.sock\"\nunix_mode = \"0660\"\n";
    let both = format!("{group}{}", control("listen = \"unix:/run/c.sock\"\nunix_mode = \"0660\""));
    assert!(load_text(&both).unwrap().warnings.is_empty());
    // With a TCP address beside it, a socket restricts no user.
    let both = "[server]\nlisten = [\"unix:/run/x.sock\", \"127.0.0.1:8080\"]\n";
    assert!(load_text(&format!("{both}{GOOD}")).unwrap().warnings.is_empty());
    // A socket that every user can connect to, and users of a proxy that has no socket, restrict none either.
    for open in [
        "[server]\nlisten = \"unix:/run/x.sock\"\nunix_mode = \"0666\"\n".to_owned(),
        "[server]\nlisten = [\"unix:/run/x.sock\", \"127.0.0.1:8080\"]\n[guard]\nallowed_uids = [7]\n"
            .to_owned(),
        "[guard]\nallowed_uids = [7]\n".to_owned(),
        format!(
            "{}unix_mode = \"0666\"\n",
            tls.replace("[server]\n", "[server]\nlisten = [\"unix:/run/x.sock\", \"127.0.0.1:8080\"]\n")
        ),
    ] {
        let settings = load_text(&format!("{open}{GOOD}")).unwrap().settings;
        assert_eq!(settings.access().restricted_by, Vec::<&str>::new(), "{open}");
    }
    let each = format!(
        "{}[guard]\nallowed_uids = [7]\n{GOOD}",
        tls.replace("[server]\n", "[server]\nlisten = [\"unix:/run/x.sock\", \"127.0.0.1:8080\"]\n")
    );
    let access = load_text(&each).unwrap().settings.access();
    assert_eq!(access.restricted_by, ["guard.allowed_uids", "server.tls.client_ca_file"]);
    // Users are those of the control surface's socket, too.
    let users = format!("[guard]\nallowed_uids = [7]\n{}", control("listen = \"unix:/run/c.sock\""));
    assert!(load_text(&users).unwrap().warnings.is_empty());
}
