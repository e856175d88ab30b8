//! The environment overrides the file, key by key.

use super::*;
use crate::proxy::ListenAddress;

fn settings(variables: &[(&str, &str)]) -> Settings {
    load_in(GOOD, variables).unwrap_or_else(|problems| panic!("{problems}")).settings
}

#[track_caller]
fn refused_in(variables: &[(&str, &str)]) -> Problems {
    load_in(GOOD, variables).expect_err("this must be refused")
}

#[test]
fn a_variable_sets_the_key_that_it_names() {
    let settings = settings(&[
        ("CUPBEARER__SERVER__LISTEN", "127.0.0.1:9000"),
        ("CUPBEARER__SERVER__WORKERS", "3"),
        ("CUPBEARER__SERVER__DRAIN_TIMEOUT", "5s"),
        ("CUPBEARER__TOKENS__API__CLIENT_ID", "12345"),
        ("CUPBEARER__TOKENS__API__RENEW_AT", "0.5"),
        ("CUPBEARER__TOKENS__API__REQUIRED", "false"),
        ("CUPBEARER__TOKENS__API__RETRY__MAX", "90s"),
        ("CUPBEARER__TOKENS__API__PARAMS__TENANT", "7"),
        ("CUPBEARER__TOKENS__API__RESOURCE", "[\"https://a\", \"https://b\"]"),
        ("CUPBEARER__ROUTES__0__PATH", "/v1"),
        ("CUPBEARER__GUARD__ALLOWED_HOSTS", "orders.local"),
        ("CUPBEARER_LISTEN", "a flag's own variable"),
        ("PATH", "/bin"),
    ]);
    assert_eq!(settings.server.listen, [ListenAddress::Tcp("127.0.0.1:9000".parse().unwrap())]);
    assert_eq!((settings.server.workers, settings.server.drain_timeout.as_secs()), (Some(3), 5));
    let token = &settings.tokens["api"];
    assert_eq!((token.server().unwrap().client.id.as_str(), token.required), ("12345", false));
    assert!((token.policy.renew_at - 0.5).abs() < f64::EPSILON);
    assert_eq!((token.policy.retry.initial.as_millis(), token.policy.retry.max.as_secs()), (500, 90));
    assert_eq!(token.server().unwrap().request.params, [("tenant".to_owned(), "7".to_owned())]);
    assert_eq!(token.server().unwrap().request.resource.len(), 2);
    assert_eq!(settings.routes[0].path, "/v1");
    assert_eq!(settings.guard.allowed_hosts, ["orders.local"]);
}

#[test]
fn a_name_matches_whatever_its_case_and_dashes() {
    let text =
        GOOD.replace("[tokens.api]", "[tokens.My-Api]").replace("token = \"api\"", "token = \"My-Api\"");
    let loaded = load_in(&text, &[("CUPBEARER__TOKENS__MY_API__CLIENT_ID", "x")]).unwrap();
    assert_eq!(loaded.settings.tokens["My-Api"].server().unwrap().client.id, "x");
}

#[test]
fn the_environment_alone_can_be_the_configuration() {
    let variables = [
        ("CUPBEARER__UPSTREAMS__API__URL", "https://api.example.com"),
        ("CUPBEARER__TOKENS__API__ISSUER", "https://login.example.com"),
        ("CUPBEARER__TOKENS__API__CLIENT_ID", "orders"),
        ("CUPBEARER__TOKENS__API__CLIENT_SECRET_ENV", "ORDERS_SECRET"),
        ("CUPBEARER__ROUTES__0__UPSTREAM", "api"),
        ("CUPBEARER__ROUTES__0__TOKEN", "api"),
        ("CUPBEARER__ROUTES__0__PATH", "/v1"),
        ("CUPBEARER__ROUTES__1", "{ upstream = \"api\", token = \"none\" }"),
    ];
    let loaded = load_in("", &variables).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(loaded.settings.routes.len(), 2);
}

#[test]
fn a_secret_from_the_environment_wins_over_the_files() {
    let variables = [("CUPBEARER__TOKENS__API__CLIENT_SECRET", "sentinel")];
    let loaded = load_in(GOOD, &variables).unwrap();
    assert!(
        matches!(loaded.settings.tokens["api"].server().unwrap().client.auth.secret(), Some(crate::secret::SecretSource::Inline(s)) if s.expose() == "sentinel")
    );
    assert!(!format!("{loaded:?}").contains("sentinel"));
    let endpoint = good_with("[tokens.api]", "token_endpoint = \"https://file.example.com/\"");
    let loaded =
        load_in(&endpoint, &[("CUPBEARER__TOKENS__API__ISSUER", "https://env.example.com")]).unwrap();
    assert!(loaded.settings.tokens["api"].server().unwrap().server.location.token_endpoint.is_none());
}

#[test]
fn a_variable_that_names_no_key_is_refused_by_its_name() {
    let problems = refused_in(&[("CUPBEARER__SERVER__LISTN", "127.0.0.1:1")]);
    let shown = problems.to_string();
    assert!(shown.contains("variable CUPBEARER__SERVER__LISTN: server.listn: "), "{shown}");
    assert!(shown.contains("did you mean CUPBEARER__SERVER__LISTEN?"), "{shown}");
    for name in ["CUPBEARER__", "CUPBEARER__X", "CUPBEARER__SERVER__LISTEN__X", "CUPBEARER__ROUTES__X__PATH"]
    {
        assert_eq!(places(&refused_in(&[(name, "1")])).len(), 1, "{name}");
    }
    let later = refused_in(&[("CUPBEARER__TOKENS__API__IDENTITIES_FILE", "x")]).to_string();
    assert!(later.contains("does not support"), "{later}");
}

#[test]
fn a_value_of_the_wrong_shape_is_a_problem_of_its_variable() {
    for (name, value, key) in [
        ("CUPBEARER__SERVER__WORKERS", "four", "server.workers"),
        ("CUPBEARER__TOKENS__API__RENEW_AT", "2", "tokens.api.renew_at"),
        ("CUPBEARER__TOKENS__API__REQUIRED", "yes", "tokens.api.required"),
        ("CUPBEARER__SERVER__LISTEN", "nowhere", "server.listen"),
        ("CUPBEARER__TOKENS__API__RETRY", "{ max = 7 }", "tokens.api.retry.max"),
        ("CUPBEARER__ROUTES__5__PATH", "/x", "routes[5].path"),
        ("CUPBEARER__ROUTES__99999999999999999999__PATH", "/x", "routes.99999999999999999999"),
        ("CUPBEARER__SERVER", "7", "server"),
    ] {
        let problems = refused_in(&[(name, value)]);
        assert_eq!(places(&problems), [format!("variable {name} {key}")], "{problems}");
    }
}

#[test]
fn the_mend_of_a_variable_is_one_for_a_variable() {
    for (name, value, help) in [
        (
            "CUPBEARER__UPSTREAMS__API__CONNECT_TIMEOUT",
            "5",
            "set it as in CUPBEARER__UPSTREAMS__API__CONNECT_TIMEOUT=5s",
        ),
        (
            "CUPBEARER__SERVER__MAX_HEADER_SIZE",
            "1TiB",
            "set it as in CUPBEARER__SERVER__MAX_HEADER_SIZE=64KiB",
        ),
        ("CUPBEARER__SERVER__WORKERS", "four", "set it as in CUPBEARER__SERVER__WORKERS=0"),
        ("CUPBEARER__SERVER__LISTEN", "[1]", "set it as in CUPBEARER__SERVER__LISTEN='[\"localhost:8080\"]'"),
        (
            "CUPBEARER__TOKENS__API__RETRY",
            "{ max = 7 }",
            "set it as in CUPBEARER__TOKENS__API__RETRY__MAX=1m",
        ),
        ("CUPBEARER__SERVER", "7", "set its keys, each as in CUPBEARER__SERVER__KEY=VALUE"),
        ("CUPBEARER__SERVER__HEADER_TIMEOUT", "0s", "set CUPBEARER__SERVER__HEADER_TIMEOUT to a duration"),
        ("CUPBEARER__TOKENS__API__CLIENT_ID", "", "set CUPBEARER__TOKENS__API__CLIENT_ID"),
    ] {
        let shown = refused_in(&[(name, value)]).to_string();
        assert!(shown.contains(&format!("help: {help}")), "{help} in: {shown}");
        assert!(!shown.contains("in quotes"), "{shown}");
    }
}

#[test]
fn a_list_is_given_as_the_reference_says() {
    let example = include_str!("../../../config.toml")
        .lines()
        .find_map(|line| line.split_once("CUPBEARER__GUARD__ALLOWED_HOSTS='")?.1.split_once('\''))
        .expect("the reference has an example")
        .0;
    let hosts = settings(&[("CUPBEARER__GUARD__ALLOWED_HOSTS", example)]).guard.allowed_hosts;
    assert_eq!(hosts, ["a.local", "b.local"]);
}

#[cfg(unix)]
#[test]
fn a_value_that_is_no_text_is_a_problem_of_its_variable() {
    use std::os::unix::ffi::OsStringExt;
    let value = OsString::from_vec(vec![0xff]);
    let environment = [("ORDERS_SECRET".into(), "x".into()), ("CUPBEARER__LOG__LEVEL".into(), value)];
    let problems = load(&source(GOOD), environment, Options::default()).unwrap_err();
    assert_eq!(places(&problems), ["variable CUPBEARER__LOG__LEVEL log.level"]);
}
