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
use super::support::{Origin, Proxy};

/// How long each load goes on: about ten renewals of a token of three seconds.
const LOAD: Duration = Duration::from_secs(30);

/// A server with tokens of three seconds, an API that introspects, and one login in a store.
struct Stage {
    hydra: Hydra,
    api: Origin,
    store: TempDir,
    client: String,
    refresh_token: String,
}

impl Stage {
    async fn new() -> Self {
        let hydra = Hydra::start("3s").await;
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

/// No request failed. Only where a machine that does much else delayed a refresh for so long that the token expired
/// meanwhile is a 503 right.
async fn judge(outcome: &Outcome, proxies: &[&Proxy]) {
    let (mut slow, mut logs) = (0.0, String::new());
    for proxy in proxies {
        const FAMILY: &str = "cupbearer_token_renewal_duration_seconds";
        let all = proxy.metric(&format!("{FAMILY}_count"), &[]).await;
        slow += all - proxy.metric(&format!("{FAMILY}_bucket"), &["le=\"0.25\""]).await;
        logs += &proxy.log();
    }
    let counts = outcome.counts();
    let right: &[u16] = if slow > 0.0 { &[200, 503] } else { &[200] };
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
    outcome.row("Hydra, 3-second tokens, one proxy", None);
    let renewals = proxy.status().await["tokens"][0]["renewals"].as_u64().unwrap();
    assert!(renewals >= 5, "{renewals}\n{}", proxy.log());
    judge(&outcome, &[&proxy]).await;
}

#[tokio::test]
async fn no_request_fails_where_another_proxy_on_the_store_makes_the_refresh() {
    let stage = Stage::new().await;
    let (first, second) = (stage.proxy().await, stage.proxy().await);
    let load = Steady::start(&[first.listen(), second.listen()], &["/orders"]);
    sleep(LOAD).await;
    let outcome = load.stop().await;
    outcome.row("Hydra, 3-second tokens, two proxies on one store", None);
    judge(&outcome, &[&first, &second]).await;
}

#[tokio::test]
async fn uploads_too_large_to_be_sent_twice_wait_for_a_refresh_once_it_was_seen_to_revoke() {
    let stage = Stage::new().await;
    let proxy = stage.proxy().await;
    let load = Steady::uploads(&[proxy.listen()], 100_000);
    // The first one that meets a refresh may fail: that is how the proxy learns of it.
    sleep(LOAD / 2).await;
    let learned = load.now();
    sleep(LOAD).await;
    let outcome = load.stop().await;
    outcome.row("Hydra, 3-second tokens, uploads of 100 kB", Some(learned));
    let counts = outcome.counts();
    assert!(counts.keys().all(|status| [200, 401, 503].contains(status)), "{counts:?}\n{}", proxy.log());
    assert_eq!(outcome.since(learned, 401), 0, "{counts:?}\n{}", proxy.log());
}
