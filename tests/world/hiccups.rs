//! Hiccups of an authorization server under a steady load: what worked before works again soon after.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::api;
use super::hydra::{self, Hydra};
use super::keycloak::{PASSWORD, Realm, SECRET};
use super::steady::{Outcome, Steady};
use cupbearer_testing::{Config, Proxy, clock, upstream_at};

/// How long requests may fail once the cause has gone: the few seconds between two attempts, and what a busy machine
/// adds. A fixed minute between attempts, or a backoff that has grown to one, takes longer.
const AFTERMATH: Duration = Duration::from_secs(20);
/// How long a test waits for the end of it, to see how long it is.
const LONGEST: Duration = Duration::from_secs(80);

/// Tokens of ten seconds by `client_credentials`.
const SHORT: &str = "client_id = \"orders\"\nclient_secret_file = \"secret\"";

/// A realm with tokens of ten seconds, and a proxy under load.
struct Stage {
    realm: Realm,
    proxy: Proxy,
    load: Steady,
    _api: cupbearer_testing::Origin,
}

impl Stage {
    async fn new() -> Self {
        let realm = Realm::new(json!({ "accessTokenLifespan": 10 })).await;
        let api = api::reading().await;
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret"), SECRET).unwrap();
        let proxy = Proxy::start_live_in(dir, realm.config(&api.url(), SHORT)).await;
        let load = Steady::start(&[proxy.listen()], &["/orders"]);
        load.until_good(Duration::ZERO, LONGEST).await;
        Self { realm, proxy, load, _api: api }
    }

    /// The cause has gone: the load goes on until it is served again, and a renewal longer.
    async fn recovered(self, event: &str) {
        let gone = self.load.now();
        self.load.until_good(gone, LONGEST).await;
        sleep(Duration::from_secs(10)).await;
        let outcome = self.load.stop().await;
        outcome.row(event, Some(gone));
        judge(&outcome, gone, &self.proxy.log());
    }
}

/// Requests failed while no token could be had, with 503 alone, and hardly longer.
fn judge(outcome: &Outcome, gone: Duration, log: &str) {
    let counts = outcome.counts();
    let first = outcome.first_failure();
    assert!(first.is_some_and(|at| at < gone), "the held token has expired meanwhile: {counts:?}\n{log}");
    assert!(counts.keys().all(|status| [200, 503].contains(status)), "{counts:?}\n{log}");
    let aftermath = outcome.aftermath(gone);
    assert!(aftermath < AFTERMATH, "503 for {aftermath:?} after the cause had gone: {counts:?}\n{log}");
}

#[tokio::test]
async fn a_client_that_is_disabled_for_a_while_is_served_again_soon_after() {
    let stage = Stage::new().await;
    stage.realm.change_client("orders", json!({ "enabled": false })).await;
    sleep(Duration::from_secs(20)).await;
    stage.realm.change_client("orders", json!({ "enabled": true })).await;
    stage.recovered("client disabled for 20 s").await;
}

#[tokio::test]
async fn a_realm_that_is_deleted_and_comes_back_is_used_again_soon_after() {
    let stage = Stage::new().await;
    stage.realm.delete().await;
    sleep(Duration::from_secs(28)).await;
    stage.realm.restore().await;
    stage.recovered("realm deleted, back after 28 s").await;
}

#[tokio::test]
async fn a_secret_that_changes_in_the_file_before_it_does_at_the_server_works_soon_after() {
    let stage = Stage::new().await;
    fs::write(stage.proxy.dir().join("secret"), "the-next-secret").unwrap();
    sleep(Duration::from_secs(15)).await;
    stage.realm.change_client("orders", json!({ "secret": "the-next-secret" })).await;
    stage.recovered("secret changed 15 s earlier in the file").await;
}

#[tokio::test]
async fn six_tokens_of_one_user_get_past_the_detection_of_brute_force() {
    let realm = Realm::new(json!({ "accessTokenLifespan": 10, "bruteForceProtected": true })).await;
    let api = api::reading().await;
    let names: Vec<String> = (1..=6).map(|number| format!("t{number}")).collect();
    let mut text = upstream_at(&api.url());
    for name in &names {
        write!(
            text,
            "[tokens.{name}]\nissuer = \"{}\"\ngrant = \"password\"\nusername = \"alice\"\npassword = '{PASSWORD}'\n\
             client_id = \"orders\"\nclient_secret = \"{SECRET}\"\n",
            realm.issuer()
        )
        .unwrap();
    }
    for name in &names {
        write!(text, "[[routes]]\npath = \"/{name}\"\nupstream = \"api\"\ntoken = \"{name}\"\n").unwrap();
    }
    let proxy = Proxy::start_live(Config::new(text)).await;
    let start = clock::now();
    let paths: Vec<String> = names.iter().map(|name| format!("/{name}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let load = Steady::start(&[proxy.listen()], &paths);
    load.until_good(Duration::ZERO, LONGEST).await;
    let ready = start.elapsed();
    let settled = load.now();
    sleep(Duration::from_secs(25)).await;
    let outcome = load.stop().await;
    outcome.row("six tokens of one user, brute-force detection on", Some(Duration::ZERO));
    let log = proxy.log();
    assert!(ready < AFTERMATH * 2, "all six are there after {ready:?} only\n{log}");
    let late = outcome.aftermath(settled);
    assert_eq!(late, Duration::ZERO, "{:?}, {late:?} after all six were there\n{log}", outcome.counts());
}

#[tokio::test]
async fn a_server_that_was_away_is_used_again_soon_after() {
    let hydra = Hydra::start("5s").await;
    let client = hydra.register(json!({})).await;
    let api = api::introspecting(hydra.introspection()).await;
    let token = format!("client_id = \"{client}\"\nclient_secret = \"{}\"", hydra::SECRET);
    let proxy = Proxy::start(hydra.config(&api.url(), &token)).await;
    let load = Steady::start(&[proxy.listen()], &["/orders"]);
    load.until_good(Duration::ZERO, LONGEST).await;
    let place = hydra.kill().await;
    sleep(Duration::from_secs(30)).await;
    let _hydra = place.restart().await;
    let gone = load.now();
    load.until_good(gone, LONGEST).await;
    sleep(Duration::from_secs(5)).await;
    let outcome = load.stop().await;
    outcome.row("authorization server away for 30 s", Some(gone));
    let counts = outcome.counts();
    // This API cannot introspect either: it says so by 500, until the held token has expired.
    assert!(counts.keys().all(|status| [200, 500, 503].contains(status)), "{counts:?}\n{}", proxy.log());
    let aftermath = outcome.aftermath(gone);
    assert!(counts[&503] > 100 && aftermath < AFTERMATH / 2, "{aftermath:?}: {counts:?}\n{}", proxy.log());
}
