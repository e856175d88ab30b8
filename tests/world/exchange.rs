//! A token exchange at Keycloak that brings a refresh token: the renewals use that.

use std::fs;

use serde_json::json;

use super::api;
use super::keycloak::{PASSWORD, Realm, SECRET};
use super::patience::until;
use cupbearer_testing::Proxy;

#[tokio::test]
async fn a_refresh_token_that_an_exchange_brings_renews_the_token() {
    let realm = Realm::new(json!({ "accessTokenLifespan": 600 })).await;
    realm
        .change_client(
            "orders",
            json!({
                "attributes": {
                    "standard.token.exchange.enabled": "true",
                    "standard.token.exchange.enableRefreshRequestedTokenType": "SAME_SESSION",
                    "access.token.lifespan": "8",
                },
            }),
        )
        .await;
    let form =
        [("grant_type", "password"), ("client_id", "laptop"), ("username", "alice"), ("password", PASSWORD)];
    let subject = realm.token(&form).await["access_token"].as_str().unwrap().to_owned();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("subject"), subject).unwrap();
    let token = format!(
        "grant = \"token_exchange\"\nsubject_token_file = \"subject\"\n\
         subject_token_type = \"urn:ietf:params:oauth:token-type:access_token\"\n\
         requested_token_type = \"urn:ietf:params:oauth:token-type:refresh_token\"\n\
         client_id = \"orders\"\nclient_secret = \"{SECRET}\""
    );
    let api = api::introspecting(realm.introspection()).await;
    let proxy = Proxy::start_live_in(dir, realm.config(&api.url(), &token)).await;
    until("the token is renewed", &proxy, || async {
        proxy.status().await["tokens"][0]["renewals"].as_u64().unwrap() > 3
    })
    .await;
    let (exchanges, refreshes) = (realm.events("TOKEN_EXCHANGE").await, realm.events("REFRESH_TOKEN").await);
    assert!(
        exchanges.len() == 1 && refreshes.len() >= 3,
        "{exchanges:?} {}\n{}",
        refreshes.len(),
        proxy.log()
    );
    assert_eq!(proxy.get("/").await.status, 200, "{}", proxy.log());
    assert_eq!(realm.sessions_of_alice().await, 1);
}
