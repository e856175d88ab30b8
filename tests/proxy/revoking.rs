//! Processes that share a store: at a server that ends the old token at each refresh, as Ory Hydra does, and with tokens of
//! seconds.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::Instant;

use cupbearer_testing::{Behaviour, Config, FIRST, Proxy, Rotating, clock, eventually};

/// A login whose first refresh token lies in a file, in a store that others share.
fn login(server: &Rotating, dir: &Path) -> Config {
    let seed = dir.join("first");
    std::fs::write(&seed, FIRST).unwrap();
    let lines = format!("grant = \"refresh_token\"\nrefresh_token_file = '{}'\n", seed.display());
    server.config(&lines).and(&format!("[store]\nkind = \"file\"\npath = '{}'", dir.join("store").display()))
}

/// Sends requests one after the other until `end`, each third one with a body, and counts the statuses.
async fn requests(url: String, body: std::path::PathBuf, end: Instant) -> BTreeMap<String, u32> {
    let mut statuses = BTreeMap::new();
    for nth in 0.. {
        if clock::now() >= end {
            break;
        }
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", &url]);
        if nth % 3 == 0 {
            curl.arg("--data-binary").arg(format!("@{}", body.display()));
        }
        let said = curl.output().await.unwrap();
        *statuses.entry(String::from_utf8(said.stdout).unwrap()).or_default() += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    statuses
}

#[tokio::test]
async fn no_request_fails_at_a_server_that_ends_the_old_token_at_each_refresh() {
    let dir = tempfile::tempdir().unwrap();
    let body = dir.path().join("body");
    std::fs::write(&body, vec![b'x'; 100_000]).unwrap();
    // The old token ends when the refresh begins: requests meet its end while the response is under way.
    let takes = Duration::from_millis(300);
    let server =
        Rotating::start(Behaviour { lifetime: 3, revokes: true, takes, ..Behaviour::default() }).await;
    let (one, other) =
        (Proxy::start(login(&server, dir.path())).await, Proxy::start(login(&server, dir.path())).await);
    let end = clock::now() + Duration::from_secs(12);
    let (first, second) =
        tokio::join!(requests(one.url("/"), body.clone(), end), requests(other.url("/"), body.clone(), end));
    for (statuses, proxy) in [(&first, &one), (&second, &other)] {
        assert_eq!(statuses.keys().collect::<Vec<_>>(), ["200"], "{statuses:?}: {}", proxy.log());
    }
    assert!(
        server.statuses().contains_key(&401),
        "the API refused none of the old ones: {:?}",
        server.statuses()
    );
    assert!(server.grants("refresh_token") >= 3, "there were refreshes");
    assert_eq!(server.logins(), (1, 0));
}

#[tokio::test]
async fn three_processes_on_one_store_renew_as_often_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let server = Rotating::start(Behaviour { lifetime: 2, ..Behaviour::default() }).await;
    let mut proxies = Vec::new();
    for _ in 0..3 {
        proxies.push(Proxy::start(login(&server, dir.path())).await);
    }
    let (before, began) = (server.grants("refresh_token"), clock::now());
    tokio::time::sleep(Duration::from_secs(12)).await;
    let (renewals, took) = (server.grants("refresh_token") - before, began.elapsed());
    // One process renews a token of two seconds no sooner than after a second, and the first and last may be cut.
    let most = took.as_secs() + 2;
    assert!((2..=most).contains(&renewals), "{renewals} in {took:?}");
    for proxy in &proxies {
        assert_eq!(proxy.get("/").await.status, 200);
    }
    assert_eq!(server.logins(), (1, 0));
}

#[tokio::test]
async fn after_an_outage_one_process_uses_what_another_has_got() {
    let dir = tempfile::tempdir().unwrap();
    let server = Rotating::start(Behaviour { lifetime: 2, ..Behaviour::default() }).await;
    // By its own plan the second waits for most of a day after its first failure, and no request hastens that.
    let slow = "retry = { initial = \"24h\", max = \"24h\" }\n";
    let one = Proxy::start(login(&server, dir.path())).await;
    let patient = {
        let seed = dir.path().join("first");
        let lines = format!("grant = \"refresh_token\"\nrefresh_token_file = '{}'\n{slow}", seed.display());
        let store = format!("[store]\nkind = \"file\"\npath = '{}'", dir.path().join("store").display());
        Proxy::start(server.config(&lines).and(&store)).await
    };
    server.behave(|server| server.down = true);
    let token = || async { patient.status().await["tokens"][0].clone() };
    eventually("the outage is felt", || async {
        one.get("/").await.status == 503 && token().await["status"] == "expired"
    })
    .await;
    let (refreshes, adopted) = (server.grants("refresh_token"), token().await["adoptions"].as_u64().unwrap());
    server.behave(|server| (server.down, server.lifetime) = (false, 600));
    eventually("the first one serves again", || async { one.get("/").await.status == 200 }).await;
    eventually("the second one has the same token", || async { token().await["status"] == "valid" }).await;
    assert_eq!(token().await["adoptions"], adopted + 1, "it is taken from the store");
    assert_eq!(patient.get("/").await.status, 200);
    assert!(server.grants("refresh_token") > refreshes, "one of them has renewed it");
    assert_eq!(server.logins(), (1, 0));
}
