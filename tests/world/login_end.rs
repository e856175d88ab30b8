//! How a login at Keycloak lives on and ends: by idleness, by an administrator, by a logout.

use std::fs;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::time::sleep;

use super::api;
use super::keycloak::{PASSWORD, Realm};
use super::patience::{until, until_ready};
use super::steady::Steady;
use cupbearer_testing::{Chrome, Config, Program, Proxy, cupbearer, curl, upstream_at};

const REFRESHED: &str = "grant = \"refresh_token\"\nclient_id = \"laptop\"\nclient_auth = \"none\"\nrefresh_token_file = \"refresh\"";

/// A folder with a refresh token of `alice`.
async fn logged_in(realm: &Realm) -> TempDir {
    let form = [
        ("grant_type", "password"),
        ("client_id", "laptop"),
        ("username", "alice"),
        ("password", PASSWORD),
        ("scope", "openid"),
    ];
    let token = realm.token(&form).await["refresh_token"].as_str().unwrap().to_owned();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("refresh"), token).unwrap();
    dir
}

#[tokio::test]
async fn a_login_that_would_be_idle_before_the_token_expires_is_renewed_in_time() {
    let realm = Realm::new(json!({ "accessTokenLifespan": 45, "ssoSessionIdleTimeout": 18 })).await;
    let api = api::introspecting(realm.introspection()).await;
    let proxy = Proxy::start_live_in(logged_in(&realm).await, realm.config(&api.url(), REFRESHED)).await;
    until_ready(&proxy).await;
    sleep(Duration::from_mins(1)).await;
    let (renewed, refused) = (realm.events("REFRESH_TOKEN").await, realm.events("REFRESH_TOKEN_ERROR").await);
    assert!(renewed.len() >= 4 && refused.is_empty(), "{} {refused:?}\n{}", renewed.len(), proxy.log());
    assert_eq!(proxy.get("/").await.status, 200, "{}", proxy.log());
    assert_eq!(realm.sessions_of_alice().await, 1);
}

#[tokio::test]
async fn a_session_that_an_administrator_ends_is_a_login_that_is_required() {
    let realm = Realm::new(json!({ "accessTokenLifespan": 3600 })).await;
    let api = api::introspecting(realm.introspection()).await;
    let proxy = Proxy::start_live_in(logged_in(&realm).await, realm.config(&api.url(), REFRESHED)).await;
    until_ready(&proxy).await;
    let load = Steady::start(&[proxy.listen()], &["/orders"]);
    load.until_good(Duration::ZERO, Duration::from_mins(1)).await;
    let path = format!("/users/{}/logout", realm.alice().await);
    let before = load.now();
    realm.admin("POST", &path, None).await;
    let ended = load.now();
    let state = || async { proxy.status().await["tokens"][0]["status"].clone() };
    load.until_bad(before, Duration::from_mins(1)).await;
    for _ in 0..50 {
        if state().await == "login_required" {
            break;
        }
        sleep(Duration::from_millis(200)).await;
    }
    sleep(Duration::from_secs(5)).await;
    let outcome = load.stop().await;
    outcome.row("session ended by an administrator", Some(ended));
    let (log, counts) = (proxy.log(), outcome.counts());
    assert_eq!(state().await, "login_required", "{counts:?}\n{log}");
    assert!(!proxy.is_ready().await, "{}\n{log}", proxy.readiness().await);
    let metric = proxy.metric("cupbearer_token_state", &["state=\"login_required\""]).await;
    assert!((metric - 1.0).abs() < f64::EPSILON, "{metric}\n{log}");
    // The API's 401 or the proxy's 503, and neither before the session ended.
    assert!(counts.keys().all(|status| [200, 401, 503].contains(status)), "{counts:?}\n{log}");
    assert!(outcome.first_failure().is_some_and(|at| at >= before), "{counts:?}\n{log}");
    let refused = realm.events("REFRESH_TOKEN_ERROR").await.len();
    assert!((1..=3).contains(&refused), "{refused} attempts for {counts:?}\n{log}");
}

#[tokio::test]
async fn a_logout_ends_the_session_at_the_server_without_a_question() {
    let realm = Realm::new(json!({})).await;
    let api = api::introspecting(realm.introspection()).await;
    let store = tempfile::tempdir().unwrap();
    let config = Config::new(format!(
        "{}[tokens.api]\nissuer = \"{}\"\ngrant = \"authorization_code\"\nclient_id = \"laptop\"\n\
         client_auth = \"none\"\nscope = \"openid\"\n[[routes]]\nupstream = \"api\"\ntoken = \"api\"\n\
         [store]\nkind = \"file\"\npath = '{}'\n",
        upstream_at(&api.url()),
        realm.issuer(),
        store.path().join("tokens").display()
    ));
    let proxy = Proxy::start_live(config).await;
    let mut command = cupbearer();
    command.args(["login", "--no-browser", "--config"]).arg(proxy.config_file());
    let mut login = Program::spawn("login", command, store.path());
    let log = login.log_file().to_owned();
    let address = || {
        let said = fs::read_to_string(&log).unwrap_or_default();
        said.lines()
            .map(str::trim)
            .find(|line| line.starts_with("http") && line.contains("/auth?"))
            .map(str::to_owned)
    };
    login.until("waiting for a person", || async { address().is_some() }).await;

    // The server makes its first page slowly; a browser does not wait for as long.
    curl(&["--max-time", "180", &address().unwrap()]).await;
    let mut chrome = Chrome::start().await;
    chrome.open("person", &address().unwrap()).await;
    chrome.wait("person", "#username").await;
    for (field, text) in [("#username", "alice"), ("#password", PASSWORD)] {
        chrome.order(json!({ "do": "fill", "page": "person", "at": field, "text": text })).await;
    }
    chrome.click("person", "#kc-login").await;
    chrome.until("person", "document.body.innerText.includes('You are logged in')").await;
    let status = login.ended(Duration::from_secs(30)).await;
    assert!(status.success(), "{}", login.log());
    assert_eq!(proxy.get("/").await.status, 200, "{}", proxy.log());
    assert_eq!(realm.sessions_of_alice().await, 1);

    let out = proxy.command(&["logout", "--no-browser"]).await;
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    let end =
        said.split_whitespace().find(|word| word.contains("/logout?")).unwrap_or_else(|| panic!("{said}"));
    chrome.goto("person", end).await;
    until("the session has ended", &proxy, || async { realm.sessions_of_alice().await == 0 }).await;
    let shown = chrome.text("person").await;
    assert!(!shown.contains("Do you want to log out"), "{shown}");
    // And the next login asks for the password.
    chrome.goto("person", &address().unwrap()).await;
    chrome.wait("person", "#password").await;
}
