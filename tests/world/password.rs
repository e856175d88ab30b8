//! A person's password at Keycloak: one session for all renewals, and few attempts with a wrong one.

use std::fs;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::api;
use super::keycloak::{PASSWORD, Realm, SECRET};
use super::patience::{until, until_ready};
use cupbearer_testing::Proxy;

fn password(lines: &str) -> String {
    format!(
        "grant = \"password\"\nusername = \"alice\"\npassword_file = \"password\"\nclient_id = \"orders\"\n\
         client_secret = \"{SECRET}\"\n{lines}"
    )
}

/// A proxy with this password in its file.
async fn proxy(realm: &Realm, written: &str, lines: &str) -> Proxy {
    let api = api::introspecting(realm.introspection()).await;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("password"), written).unwrap();
    Proxy::start_live_in(dir, realm.config(&api.url(), &password(lines))).await
}

async fn renewed(proxy: &Proxy, times: u64) {
    until("the token is renewed", proxy, || async {
        proxy.status().await["tokens"][0]["renewals"].as_u64().unwrap() > times
    })
    .await;
}

#[tokio::test]
async fn a_password_is_one_session_however_often_its_token_is_renewed() {
    let realm = Realm::new(json!({ "accessTokenLifespan": 8 })).await;
    let proxy = proxy(&realm, PASSWORD, "revoke_on_exit = true").await;
    renewed(&proxy, 4).await;
    assert_eq!(realm.sessions("orders", "user-sessions").await, 1, "{}", proxy.log());
    assert_eq!(realm.events("LOGIN").await.len(), 1, "{}", proxy.log());
    proxy.stop().await;
    assert_eq!(realm.sessions("orders", "user-sessions").await, 0);
}

#[tokio::test]
async fn a_password_with_rotation_and_offline_access_is_one_session_too() {
    let realm = Realm::new(
        json!({ "accessTokenLifespan": 8, "revokeRefreshToken": true, "refreshTokenMaxReuse": 0 }),
    )
    .await;
    let proxy = proxy(&realm, PASSWORD, "scope = \"openid offline_access\"\nrevoke_on_exit = true").await;
    renewed(&proxy, 4).await;
    assert_eq!(realm.sessions("orders", "offline-sessions").await, 1, "{}", proxy.log());
    proxy.stop().await;
    assert_eq!(realm.sessions("orders", "offline-sessions").await, 0);
}

#[tokio::test]
async fn a_wrong_password_is_tried_twice_at_most_and_its_user_is_not_locked_out() {
    let realm = Realm::new(json!({
        "accessTokenLifespan": 10, "bruteForceProtected": true, "failureFactor": 3, "permanentLockout": true,
    }))
    .await;
    // Of a program that tries again at each end of the backoff there would be a dozen attempts.
    let proxy = proxy(&realm, "wrong", "retry = { initial = \"500ms\", max = \"2s\" }").await;
    sleep(Duration::from_secs(25)).await;
    let attempts = realm.events("LOGIN_ERROR").await.len();
    assert!((1..=2).contains(&attempts), "{attempts} attempts\n{}", proxy.log());
    let attacks = format!("/attack-detection/brute-force/users/{}", realm.alice().await);
    let detected = realm.admin("GET", &attacks, None).await;
    assert_eq!(detected["disabled"], false, "{detected}\n{}", proxy.log());

    fs::write(proxy.dir().join("password"), PASSWORD).unwrap();
    until_ready(&proxy).await;
}
