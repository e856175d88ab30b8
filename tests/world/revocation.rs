//! Hydra revokes the old access token at each refresh: no request fails for that.

use std::fs;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::time::sleep;

use super::api;
use super::hydra::{Hydra, SECRET};
use super::patience::until_ready;
use super::steady::{Outcome, Steady};
use cupbearer_testing::{Origin, Proxy};

/// How long each load goes on: some twenty renewals of a token, of which a few meet a request on its way to the API.
const LOAD: Duration = Duration::from_mins(1);
/// The lifetime of a token. Of three seconds, a machine that does much else leaves too little for a refresh.
const LIFETIME: &str = "4s";

/// A server with short tokens, an API that introspects, and one login in a store.
struct Stage {
    hydra: Hydra,
    api: Origin,
    store: TempDir,
    client: String,
    refresh_token: String,
}

impl Stage {
    async fn new() -> Self {
        let hydra = Hydra::start(LIFETIME).await;
        let client = hydra.register(json!({})).await;
        let api = api::introspecting(hydra.introspection()).await;
        let refresh_token = hydra.log_in(&client).await;
        Self { hydra, api, store: tempfile::tempdir().unwrap(), client, refresh_token }
    }

    async fn proxy(&self) -> Proxy {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("refresh"), &self.refresh_token).unwrap();
        let token = format!(
            "grant = \"refresh_token\"\nclient_id = \"{}\"\nclient_secret = \"{SECRET}\"\nrefresh_token_file = \"refresh\"",
            self.client
        );
        let store = self.store.path().join("tokens");
        let config = self
            .hydra
            .config(&self.api.url(), &token)
            .and(&format!("[store]\nkind = \"file\"\npath = '{}'", store.display()));
        let proxy = Proxy::start_live_in(dir, config).await;
        until_ready(&proxy).await;
        proxy
    }
}

/// No request failed. Only where a machine that does much else delayed a refresh until the token expired, or for longer
/// than a request waits, is another status right.
async fn judge(outcome: &Outcome, proxies: &[&Proxy]) {
    let (mut slow, mut logs) = (0.0, String::new());
    for proxy in proxies {
        const FAMILY: &str = "cupbearer_token_renewal_duration_seconds";
        let all = proxy.metric(&format!("{FAMILY}_count"), &[]).await;
        slow += all - proxy.metric(&format!("{FAMILY}_bucket"), &["le=\"1\""]).await;
        logs += &proxy.log();
    }
    let counts = outcome.counts();
    let right: &[u16] = if slow > 0.0 { &[200, 401, 503] } else { &[200] };
    assert!(counts.keys().all(|status| right.contains(status)), "{counts:?}, {slow} slow refreshes\n{logs}");
    assert!(counts[&200] > 100, "{counts:?}\n{logs}");
}

#[tokio::test]
async fn no_request_fails_where_each_refresh_revokes_the_token_before() {
    let stage = Stage::new().await;
    let proxy = stage.proxy().await;
    let load = Steady::start(&[proxy.listen()], &["/orders"]);
    sleep(LOAD).await;
    let outcome = load.stop().await;
    outcome.row("Hydra, 4-second tokens, one proxy", None);
    let renewals = proxy.status().await["tokens"][0]["renewals"].as_u64().unwrap();
    assert!(renewals >= 10, "{renewals}\n{}", proxy.log());
    judge(&outcome, &[&proxy]).await;
}

#[tokio::test]
async fn no_request_fails_where_another_proxy_on_the_store_makes_the_refresh() {
    let stage = Stage::new().await;
    let (first, second) = (stage.proxy().await, stage.proxy().await);
    let load = Steady::start(&[first.listen(), second.listen()], &["/orders"]);
    sleep(LOAD).await;
    let outcome = load.stop().await;
    outcome.row("Hydra, 4-second tokens, two proxies on one store", None);
    judge(&outcome, &[&first, &second]).await;
}

#[tokio::test]
async fn uploads_too_large_to_be_sent_twice_wait_for_a_refresh_once_it_was_seen_to_revoke() {
    let stage = Stage::new().await;
    let proxy = stage.proxy().await;
    let load = Steady::uploads(&[proxy.listen()], 400_000);
    // The first one that meets a refresh may fail: that is how the proxy learns of it.
    sleep(LOAD / 2).await;
    let learned = load.now();
    sleep(LOAD).await;
    let outcome = load.stop().await;
    outcome.row("Hydra, 4-second tokens, uploads of 400 kB", Some(learned));
    let counts = outcome.counts();
    assert!(counts.keys().all(|status| [200, 401, 503].contains(status)), "{counts:?}\n{}", proxy.log());
    assert_eq!(outcome.since(learned, 401), 0, "{counts:?}\n{}", proxy.log());
}
