//! Each grant and each client authentication: what it takes, what it needs, and what belongs to another.

use std::time::Duration;

use super::*;
use crate::oauth::{AssertionAudience, ClientAuth, HmacAlgorithm};
use crate::secret::{Secret, SecretSource};
use crate::token::{CommandSettings, GrantSettings, Origin as TokenOrigin};

const CLIENT: &str = "client_id = \"orders\"\nclient_secret_env = \"ORDERS_SECRET\"";

fn with_grant(lines: &str) -> String {
    server_token_of(&format!("{CLIENT}\n{lines}"))
}

fn with_auth(lines: &str) -> String {
    server_token_of(&format!("client_id = \"orders\"\n{lines}"))
}

fn env(name: &str) -> SecretSource {
    SecretSource::Env(name.to_owned())
}

#[test]
fn each_grant_means_what_it_says() {
    let seed = SecretSource::File("first".into());
    assert_eq!(
        server_origin(&with_grant("grant = \"refresh_token\"\nrefresh_token_file = \"first\"")).grant,
        GrantSettings::RefreshToken { seed: Some(seed) }
    );
    assert_eq!(
        server_origin(
            &(with_grant("grant = \"refresh_token\"") + "[store]\nkind = \"file\"\npath = \"/tmp/x\"\n")
        )
        .grant,
        GrantSettings::RefreshToken { seed: None }
    );
    let password = "grant = \"password\"\nusername = \"alice\"\npassword_env = \"ORDERS_SECRET\"";
    assert_eq!(
        server_origin(&with_grant(password)).grant,
        GrantSettings::Password { username: "alice".to_owned(), password: env("ORDERS_SECRET") }
    );
    let text = token_of("grant = \"command\"\ncommand = [\"helper\", \"a b\"]\ncommand_timeout = \"5s\"");
    let command = vec!["helper".to_owned(), "a b".to_owned()];
    let command = CommandSettings { command, timeout: Duration::from_secs(5) };
    assert_eq!(origin(&text), TokenOrigin::Command(command));
    let text = token_of("grant = \"file\"\ntoken_file = \"t\"");
    assert_eq!(origin(&text), TokenOrigin::File(SecretSource::File("t".into())));
    let text = token_of("grant = \"static\"\ntoken_env = \"ORDERS_SECRET\"");
    assert_eq!(origin(&text), TokenOrigin::Static(env("ORDERS_SECRET")));
    let text = token_of("grant = \"static\"\ntoken = \"sentinel\"");
    assert!(!format!("{:?}", load_text(&text).unwrap()).contains("sentinel"));
}

#[test]
fn a_token_that_no_server_is_asked_for_takes_nothing_that_is_for_one() {
    for line in [
        "issuer = \"https://login.example.com\"",
        "token_endpoint = \"https://login.example.com\"",
        "revocation_endpoint = \"https://login.example.com\"",
        "introspection_endpoint = \"https://login.example.com\"",
        "client_id = \"x\"",
        "client_auth = \"none\"",
        "client_secret = \"x\"",
        "client_key_file = \"x\"",
        "client_cert_file = \"x\"",
        "client_cert_key_file = \"x\"",
        "scope = \"x\"",
        "audience = \"x\"",
        "resource = \"urn:x:y\"",
        "params = { x = \"y\" }",
        "dpop = true",
        "revoke_on_exit = true",
        "ca_file = \"x\"",
        "proxy = \"http://p\"",
        "connect_timeout = \"1s\"",
        "timeout = \"1s\"",
    ] {
        let key = line.split(' ').next().unwrap();
        for grant in [
            "grant = \"file\"\ntoken_file = \"t\"",
            "grant = \"command\"\ncommand = \"x\"",
            "grant = \"static\"\ntoken_file = \"t\"",
        ] {
            let text = token_of(&format!("{grant}\n{line}"));
            one_error(&text, &format!("tokens.api.{key}"), &["asks no authorization server"]);
        }
    }
}

#[test]
fn each_client_authentication_means_what_it_says() {
    let secret = || env("ORDERS_SECRET");
    let auth = |lines: &str| server_origin(&with_auth(lines)).client.auth;
    assert_eq!(auth("client_secret_env = \"ORDERS_SECRET\""), ClientAuth::SecretBasic(secret()));
    assert_eq!(
        auth("client_auth = \"client_secret_post\"\nclient_secret_env = \"ORDERS_SECRET\""),
        ClientAuth::SecretPost(secret())
    );
    let long = "0123456789abcdef0123456789abcdef";
    for (line, audience) in [
        ("", AssertionAudience::Issuer),
        ("client_assertion_audience = \"issuer\"", AssertionAudience::Issuer),
        ("client_assertion_audience = \"endpoint\"", AssertionAudience::Endpoint),
    ] {
        let lines = format!("client_auth = \"client_secret_jwt\"\nclient_secret = \"{long}\"\n{line}");
        let secret = SecretSource::Inline(Secret::new(long.to_owned()));
        let algorithm = HmacAlgorithm::Hs256;
        assert_eq!(auth(&lines), ClientAuth::SecretJwt { secret, algorithm, audience });
    }
    let longer = long.repeat(2);
    for (name, want) in [("HS384", HmacAlgorithm::Hs384), ("HS512", HmacAlgorithm::Hs512)] {
        let lines = format!(
            "client_auth = \"client_secret_jwt\"\nclient_secret = \"{longer}\"\nclient_key_algorithm = \"{name}\""
        );
        assert!(
            matches!(auth(&lines), ClientAuth::SecretJwt { algorithm, .. } if algorithm == want),
            "{name}"
        );
    }
    assert_eq!(
        auth("client_auth = \"assertion_file\"\nassertion_file = \"a\""),
        ClientAuth::AssertionFile(SecretSource::File("a".into()))
    );
    assert_eq!(
        auth("client_auth = \"none\"\ngrant = \"refresh_token\"\nrefresh_token_file = \"first\""),
        ClientAuth::None
    );
}

#[test]
fn what_a_client_authentication_needs_is_named() {
    let without = with_auth("client_auth = \"tls_client_auth\"");
    assert_eq!(refused(&without).len(), 2);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key.pem");
    write_private(&file, &rcgen::KeyPair::generate().unwrap().serialize_pem());
    let lines = format!(
        "client_auth = \"private_key_jwt\"\nclient_key_file = {:?}\nclient_key_algorithm = \"HS256\"",
        file.to_str().unwrap()
    );
    one_error(&with_auth(&lines), "tokens.api.client_key_algorithm", &["a private key", "client_secret_jwt"]);
}

#[test]
fn an_assertion_for_the_issuer_needs_one() {
    let long = "0123456789abcdef0123456789abcdef";
    let lines = format!(
        "token_endpoint = \"https://login.example.com/t\"\nclient_id = \"a\"\nclient_auth = \"client_secret_jwt\"\nclient_secret = \"{long}\""
    );
    assert!(matches!(
        server_origin(&token_of(&lines)).client.auth,
        ClientAuth::SecretJwt { audience: AssertionAudience::Endpoint, .. }
    ));
}

#[test]
fn endpoints_stand_beside_an_issuer_and_are_secure() {
    let text = with_grant(
        "token_endpoint = \"https://a/t\"\nrevocation_endpoint = \"https://a/r\"\nintrospection_endpoint = \"https://a/i?x=1\"\nrevoke_on_exit = true",
    );
    let location = server_origin(&text).server.location;
    assert!(location.issuer.is_some() && location.token_endpoint.is_some());
    assert_eq!(location.revocation_endpoint.unwrap().path(), "/r");
    assert_eq!(location.introspection_endpoint.unwrap().query(), Some("x=1"));
    assert!(load_text(&text).unwrap().settings.tokens["api"].revoke_on_exit);
}

#[test]
fn a_bound_token_goes_in_authorization() {
    let dpop = |lines: &str| with_grant(&format!("dpop = true\n{lines}"));
    assert_eq!(server_origin(&dpop("")).dpop.unwrap().key, None);
    assert_eq!(server_origin(&with_grant("dpop = false")).dpop, None);
    assert!(load_text(&dpop("scheme = \"DPoP\"")).is_ok());
}

#[test]
fn variables_set_the_new_keys() {
    let settings = load_in(
        &with_grant("grant = \"refresh_token\""),
        &[
            ("CUPBEARER__TOKENS__API__GRANT", "command"),
            ("CUPBEARER__TOKENS__API__COMMAND", "[\"helper\", \"x\"]"),
            ("CUPBEARER__TOKENS__API__COMMAND_TIMEOUT", "3s"),
        ],
    );
    let shown = settings.unwrap_err().to_string();
    assert!(shown.contains("tokens.api.issuer: has no meaning with grant = \"command\""), "{shown}");
    let loaded = load_in(
        &with_grant("grant = \"password\"\nusername = \"a\"\npassword_file = \"x\""),
        &[
            ("CUPBEARER__TOKENS__API__PASSWORD", "sentinel"),
            ("CUPBEARER__TOKENS__API__USERNAME", "12345"),
            ("CUPBEARER__TOKENS__API__DPOP", "true"),
            ("CUPBEARER__TOKENS__API__REVOKE_ON_EXIT", "true"),
        ],
    )
    .unwrap();
    let token = &loaded.settings.tokens["api"];
    let password = SecretSource::Inline(Secret::new("sentinel".to_owned()));
    assert_eq!(
        token.server().unwrap().grant,
        GrantSettings::Password { username: "12345".to_owned(), password }
    );
    assert!(token.revoke_on_exit && token.server().unwrap().dpop.is_some());
    assert!(!format!("{loaded:?} {}", loaded.warnings).contains("sentinel"));
}

#[test]
fn no_secret_of_a_new_key_is_ever_shown() {
    for line in [
        "password = [\"sentinel\"]",
        "password = 8675309867",
        "pasword = \"sentinel\"",
        "token = { x = \"sentinel\" }",
        "token = sentinel",
        "token_env = \"sentinel=8675309867\"",
        "grant = \"static\"\ntoken = \"sentinel sentinel\"",
        "client_key_env = [\"sentinel\"]",
        "grant = \"token_exchange\"\nsubject_token = \"sentinel\"",
        "grant = \"token_exchange\"\nsubject_token_type = \"sentinel\"",
        "command = { x = \"sentinel\" }",
        "dpop = \"sentinel\"",
        "key_algorithm = 8675309867",
        "revocation_endpoint = \"https://u:sentinel@p\"",
        "revocation_endpoint = \"sentinel\"",
    ] {
        let problems = refused(&with_grant(line));
        let shown = format!("{problems} {problems:?}");
        assert!(!shown.contains("sentinel") && !shown.contains("8675309867"), "{line}:\n{shown}");
    }
}

#[test]
fn a_persons_login_has_a_loopback_redirect_and_is_kept_where_a_restart_finds_it() {
    use crate::token::{Flow, GrantSettings, RenewVia, StoreSettings};

    let text = with_grant(
        "grant = \"authorization_code\"\nredirect_uri = \"http://127.0.0.1:8976/cb\"\nrenew_via = \"browser\"\n\
         authorization_params = { login_hint = \"alice\" }",
    );
    let settings = load_in(&text, &[("HOME", "/home/alice")]).unwrap().settings;
    let origin = settings.tokens["api"].server().unwrap();
    let GrantSettings::Login(login) = &origin.grant else { panic!("{origin:?}") };
    assert_eq!((login.flow, login.renew_via), (Flow::AuthorizationCode, RenewVia::Browser));
    assert_eq!(login.redirect_uri.port(), Some(8976));
    assert_eq!(login.authorization_params, [("login_hint".to_owned(), "alice".to_owned())]);
    assert!(matches!(settings.store, StoreSettings::Keyring(_)), "{:?}", settings.store);

    let written = with_grant(
        "grant = \"authorization_code\"\nredirect_uri = \"http://127.0.0.1:80/cb\"\n[store]\nkind = \"memory\"",
    );
    let settings = load_text(&written).unwrap().settings;
    let origin = settings.tokens["api"].server().unwrap();
    let GrantSettings::Login(login) = &origin.grant else { panic!("{origin:?}") };
    assert_eq!(
        (login.redirect_uri.as_str(), login.redirect_uri.port()),
        ("http://127.0.0.1:80/cb", Some(80)),
        "the port that is written is the one that is registered"
    );
}
