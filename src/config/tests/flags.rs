//! `run` without a file.

use super::*;
use crate::proxy::ListenAddress;

fn flags() -> Flags {
    Flags {
        upstream: Some("https://api.example.com".to_owned()),
        issuer: Some("https://login.example.com".to_owned()),
        client_id: Some("orders".to_owned()),
        client_secret_file: Some("/nowhere/secret".to_owned()),
        scope: Some("a b".to_owned()),
        ..Flags::default()
    }
}

fn load_flags(flags: Flags) -> Result<Loaded, Problems> {
    load(&Source::choose(None, flags)?, [], Options::default())
}

#[test]
fn flags_are_one_route_one_upstream_and_one_token() {
    let Loaded { settings, warnings, files } = load_flags(flags()).unwrap();
    assert_eq!(settings.routes.len(), 1);
    let route = &settings.routes[0];
    assert_eq!((route.path.as_str(), route.upstream.as_str()), ("/", "default"));
    assert_eq!(route.token.as_deref(), Some("default"));
    assert_eq!(settings.tokens["default"].server().unwrap().request.scope, ["a", "b"]);
    assert_eq!(files, [PathBuf::from("/nowhere/secret")]);
    assert_eq!(places(&warnings), ["flag --client-secret-file tokens.default.client_secret_file"]);
}

#[test]
fn a_flag_that_is_missing_is_asked_for_by_its_name() {
    let problems =
        load_flags(Flags { listen: Some("127.0.0.1:1".to_owned()), ..Flags::default() }).unwrap_err();
    let shown = problems.to_string();
    for flag in ["--upstream", "--issuer, or give --token-endpoint", "--client-id", "--client-secret-file"] {
        assert!(shown.contains(&format!("help: give {flag}")), "{flag} in:\n{shown}");
    }
    let errors = problems.iter().filter(|p| p.severity == Severity::Error).count();
    assert_eq!(errors, 4, "{shown}");
}

#[test]
fn a_file_that_a_stray_variable_keeps_from_being_read_is_named_where_there_are_problems() {
    // The tests' working directory has a config.toml: the repository's own.
    let stray = Flags { scope: Some("x".to_owned()), ..Flags::default() };
    let shown = load_flags(stray.clone()).unwrap_err().to_string();
    let note =
        "flag --scope: warning: config.toml is left aside, because there is --scope (or CUPBEARER_SCOPE)";
    assert!(shown.contains(note), "{shown}");
    assert!(!load_flags(flags()).unwrap().warnings.to_string().contains("left aside"));
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Source::Flags(stray).left_aside(&dir.path().join("config.toml")), None);
}

#[test]
fn an_empty_flag_is_none() {
    let empty = || Some(String::new());
    let none = Flags { listen: empty(), scope: empty(), ..Flags::default() };
    assert_eq!(Source::choose(None, none.clone()).unwrap(), Source::File("config.toml".into()));
    assert_eq!(Source::choose(Some("a".into()), none).unwrap(), Source::File("a".into()));
    let settings = load_flags(Flags { listen: empty(), scope: empty(), ..flags() }).unwrap().settings;
    let both = ["127.0.0.1:8080", "[::1]:8080"].map(|address| ListenAddress::Tcp(address.parse().unwrap()));
    assert_eq!(settings.server.listen, both);
    assert!(settings.tokens["default"].server().unwrap().request.scope.is_empty());
}

#[test]
fn a_flag_with_a_wrong_value_is_named() {
    let problems =
        load_flags(Flags { upstream: Some("http://api.example.com".to_owned()), ..flags() }).unwrap_err();
    assert!(
        problems.to_string().contains("flag --upstream: upstreams.default.url: must be https"),
        "{problems}"
    );
}

#[test]
fn flags_beside_a_file_are_refused_and_none_at_all_means_the_usual_file() {
    let problems = Source::choose(Some("a.toml".into()), flags()).unwrap_err();
    assert_eq!(problems.len(), 5);
    assert!(problems.to_string().contains("flag --client-id: has no meaning beside --config"), "{problems}");
    assert_eq!(Source::choose(None, Flags::default()).unwrap(), Source::File("config.toml".into()));
    assert_eq!(Source::choose(Some("a".into()), Flags::default()).unwrap(), Source::File("a".into()));
}

#[test]
fn the_environment_overrides_flags_too() {
    let environment = [("CUPBEARER__TOKENS__DEFAULT__RENEW_AT".into(), "0.5".into())];
    let loaded = load(&Source::Flags(flags()), environment, Options::default()).unwrap();
    assert!((loaded.settings.tokens["default"].policy.renew_at - 0.5).abs() < f64::EPSILON);
}
