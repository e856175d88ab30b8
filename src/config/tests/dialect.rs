//! Keys for servers that deviate from the protocol: what they come to, and what contradicts them.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::oauth::{ClientAuth, MemberPath, Pkce, RequestFormat, TokenMethod};
use crate::secret::SecretSource;
use crate::token::{GrantSettings, Origin as TokenOrigin, Subject, TradeGrant};

/// A token of client credentials with these lines.
fn with(lines: &str) -> String {
    good_with("[tokens.api]", lines)
}

/// A token without a client's identifier.
fn anonymous(lines: &str) -> String {
    server_token_of(lines)
}

/// A file with a key to sign with.
fn key() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pem");
    write_private(&path, &rcgen::KeyPair::generate().unwrap().serialize_pem());
    let line = format!("key_file = {:?}\n", path.to_str().unwrap());
    (dir, line)
}

#[test]
fn each_key_is_read_as_it_is_written() {
    let text = with(
        "refresh_endpoint = \"https://login.example.com/refresh?v=1\"\nrequest_format = \"json\"\n\
         parameter_names = { client_id = \"client_key\", scope = \"permissions\" }\n\
         token_headers = { Notion-Version = \"2022-06-28\", User-Agent = \"orders\" }\n\
         response = { access_token = \"authed_user.access_token\", expires_in = \"data.0.life\" }",
    );
    let server = server_origin(&text).server;
    assert_eq!(server.location.refresh_endpoint.unwrap().query(), Some("v=1"));
    let dialect = server.dialect;
    assert_eq!((dialect.format, dialect.method), (RequestFormat::Json, TokenMethod::Post));
    assert_eq!(dialect.parameter_names["client_id"], "client_key");
    let version = &dialect.headers["notion-version"];
    assert!(version == "2022-06-28" && version.is_sensitive());
    assert_eq!(dialect.response.access_token, MemberPath::parse("authed_user.access_token"));
    assert_eq!(dialect.response.expires_in, MemberPath::parse("data.0.life"));
    assert_eq!(dialect.response.refresh_token, None);
    let get = server_origin(&with("token_method = \"GET\"")).server.dialect;
    assert_eq!(get.method, TokenMethod::Get);
    assert_eq!(server_origin(GOOD).server.dialect, crate::oauth::Dialect::default());
}

#[test]
fn another_kind_of_client_assertion_is_an_absolute_uri() {
    let lines = |kind: &str| {
        format!(
            "client_id = \"orders\"\nclient_auth = \"assertion_file\"\nassertion_file = \"svid\"\nclient_assertion_type = \"{kind}\""
        )
    };
    let spiffe = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe";
    let dialect = server_origin(&anonymous(&lines(spiffe))).server.dialect;
    assert_eq!(dialect.client_assertion_type.as_deref(), Some(spiffe));
}

#[test]
fn another_grant_type_may_do_without_a_client() {
    let zoom = server_origin(&with("grant_type = \"account_credentials\"\nparams = { account_id = \"a\" }"));
    assert_eq!(zoom.server.dialect.grant_type.as_deref(), Some("account_credentials"));
    assert_eq!(zoom.client.id, "orders");
    let bare = load_text(&anonymous("grant_type = \"urn:x:apikey\"\nparams = { apikey = \"k\" }")).unwrap();
    assert!(bare.warnings.is_empty(), "{}", bare.warnings);
    let origin = bare.settings.tokens["api"].server().unwrap().clone();
    assert_eq!((origin.client.id.as_str(), origin.client.auth), ("", ClientAuth::None));
    let secret = server_origin(&anonymous(
        "grant_type = \"urn:x:apikey\"\nclient_auth = \"client_secret_post\"\nclient_secret_env = \"ORDERS_SECRET\"\n\
         parameter_names = { client_secret = \"apikey\" }",
    ));
    assert_eq!(secret.client.auth, ClientAuth::SecretPost(SecretSource::Env("ORDERS_SECRET".into())));
    assert_eq!(server_origin(&anonymous("grant_type = \"\"")).server.dialect.grant_type.as_deref(), Some(""));
}

#[test]
fn an_assertions_claims_and_lifetime_are_those_of_what_is_signed() {
    let (_dir, key) = key();
    let claims = "assertion_claims = { box_sub_type = \"enterprise\", n = 7, yes = true, list = [\"a\"], t = { x = 1.5 } }\n\
                  assertion_lifetime = \"45s\"\n";
    let want = json!({"box_sub_type": "enterprise", "n": 7, "yes": true, "list": ["a"], "t": {"x": 1.5}});
    let bearer = format!("grant = \"jwt_bearer\"\nissuer_claim = \"i\"\n{key}{claims}");
    let origin = server_origin(&anonymous(&bearer));
    let GrantSettings::JwtBearer(assertion) = origin.grant else { panic!() };
    assert_eq!(json!(assertion.terms.claims), want);
    assert_eq!(assertion.terms.lifetime, Duration::from_secs(45));
    assert!(origin.server.dialect.client_assertion.claims.is_empty());

    let client = key.replace("key_file", "client_key_file");
    let client = format!("client_id = \"orders\"\nclient_auth = \"private_key_jwt\"\n{client}{claims}");
    let terms = server_origin(&server_token_of(&client)).server.dialect.client_assertion;
    assert_eq!((json!(terms.claims), terms.lifetime), (want, Duration::from_secs(45)));

    for name in ["iss", "sub", "aud", "iat", "exp", "nbf", "jti"] {
        let text = anonymous(&bearer.replace("n = 7", &format!("{name} = 7")));
        one_error(&text, &format!("tokens.api.assertion_claims.{name}"), &["has already"]);
    }
    let short = anonymous(&bearer.replace("45s", "5s"));
    one_error(&short, "tokens.api.assertion_lifetime", &["at least 10s"]);
    let dated = anonymous(&bearer.replace("n = 7", "n = 2026-01-01"));
    one_error(&dated, "tokens.api.assertion_claims.n", &["a string, a number"]);
}

#[test]
fn a_token_that_is_signed_here_needs_a_key_and_says_whose_it_is() {
    let (_dir, key) = key();
    let lines = format!(
        "grant = \"self_signed\"\n{key}key_id = \"2X9R4HXF34\"\nissuer_claim = \"57246542\"\n\
         audience_claim = \"appstoreconnect-v1\"\nassertion_lifetime = \"20m\"\n\
         assertion_claims = {{ scope = [\"GET /v1/apps\"] }}"
    );
    let TokenOrigin::SelfSigned(signed) = origin(&token_of(&lines)) else { panic!() };
    assert_eq!((signed.issuer.as_deref(), signed.subject.as_deref()), (Some("57246542"), None));
    assert_eq!(signed.terms.claims["scope"], json!(["GET /v1/apps"]));
    assert_eq!(load_text(&token_of(&lines)).unwrap().settings.tokens["api"].grant(), "self_signed");

    let no_issuer = token_of(&format!("grant = \"self_signed\"\n{key}"));
    one_error(&no_issuer, "tokens.api.issuer_claim", &["whose token it is", "`subject`"]);
    let server = token_of(&format!("{lines}\ntoken_endpoint = \"https://a.example/t\""));
    one_error(&server, "tokens.api.token_endpoint", &["asks no authorization server"]);
}

#[test]
fn a_callers_token_or_another_may_be_the_assertion() {
    let lines = "grant = \"jwt_bearer\"\nclient_id = \"orders\"\nclient_auth = \"client_secret_post\"\n\
                 client_secret_env = \"ORDERS_SECRET\"\nparams = { requested_token_use = \"on_behalf_of\" }\n";
    let incoming = server_token_of(&format!("{lines}subject_token = \"incoming\""));
    let GrantSettings::TokenExchange(settings) = server_origin(&incoming).grant else { panic!() };
    assert_eq!((settings.grant, settings.subject), (TradeGrant::JwtBearer, Subject::Incoming));
    let token = load_text(&incoming).unwrap().settings.tokens["api"].clone();
    assert!(token.is_per_caller() && token.grant() == "jwt_bearer");
    let file = server_token_of(&format!("{lines}subject_token_file = \"s\""));
    let GrantSettings::TokenExchange(settings) = server_origin(&file).grant else { panic!() };
    assert_eq!(settings.subject, Subject::File(SecretSource::File("s".into())));

    let (_dir, key) = key();
    let both = server_token_of(&format!("{lines}{key}subject_token = \"incoming\""));
    one_error(&both, "tokens.api.key_file", &["has no place beside `subject_token`"]);
}

#[test]
fn pkce_is_left_out_for_a_client_that_authenticates_alone() {
    let login = |lines: &str| {
        with(&format!("grant = \"authorization_code\"\n{lines}\n")) + "[store]\nkind = \"memory\"\n"
    };
    let pkce = |text: &str| {
        let GrantSettings::Login(login) = server_origin(text).grant else { panic!() };
        login.pkce
    };
    assert_eq!(pkce(&login("")), Pkce::S256);
    assert_eq!(pkce(&login("pkce = \"none\"")), Pkce::None);
    let warned = load_text(&login("pkce = \"none\"")).unwrap().warnings.to_string();
    assert!(warned.contains("tokens.api.pkce") && warned.contains("`code_challenge`"), "{warned}");
}

#[test]
fn a_redirect_uri_elsewhere_is_encrypted() {
    let login = |uri: &str| {
        with(&format!("grant = \"authorization_code\"\nredirect_uri = \"{uri}\"\n"))
            + "[store]\nkind = \"memory\"\n"
    };
    for (uri, here) in [
        ("http://127.0.0.1/cb", true),
        ("https://orders.example.com/cb?app=1", false),
        ("https://localhost/cb", false),
    ] {
        let GrantSettings::Login(login) = server_origin(&login(uri)).grant else { panic!() };
        assert_eq!((login.redirect_uri.as_str(), login.redirect_uri.is_here()), (uri, here));
    }
}

#[test]
fn a_redirect_uri_that_no_browser_opens_is_sent_as_it_is_written() {
    for uri in [
        "Orders_Inc-OrdersIn-orders-xkzqp",
        "com.example.orders:/callback",
        "orders://callback",
        "urn:ietf:wg:oauth:2.0:oob",
    ] {
        let text = with(&format!("grant = \"authorization_code\"\nredirect_uri = \"{uri}\"\n"));
        let loaded = load_text(&format!("{text}[store]\nkind = \"memory\"\n")).unwrap();
        assert!(loaded.warnings.is_empty(), "{uri}: {}", loaded.warnings);
        let GrantSettings::Login(login) = loaded.settings.tokens["api"].server().unwrap().clone().grant
        else {
            panic!()
        };
        assert_eq!((login.redirect_uri.as_str(), login.redirect_uri.is_here()), (uri, false));
    }
}

#[test]
fn a_renewal_by_the_browser_is_warned_about_where_the_login_ends_elsewhere() {
    let text = |uri: &str| {
        with(&format!("grant = \"authorization_code\"\nrenew_via = \"browser\"\nredirect_uri = \"{uri}\"\n"))
            + "[store]\nkind = \"memory\"\n"
    };
    let words = &["an http address on this machine", "`redirect_uri` leads elsewhere"];
    for uri in ["https://orders.example.com/cb", "com.example.orders:/callback"] {
        let warnings = load_text(&text(uri)).unwrap().warnings.to_string();
        assert!(warnings.contains("tokens.api.renew_via"), "{warnings}");
        for word in words {
            assert!(warnings.contains(word), "{uri}: {warnings}");
        }
    }
    let here = load_text(&text("http://127.0.0.1/cb")).unwrap();
    assert!(here.warnings.is_empty(), "{}", here.warnings);
}
