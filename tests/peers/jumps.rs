//! A wall clock that is set while tokens are held: nothing is asked for in a storm, and nothing dead is sent.

use std::time::Duration;

use serde_json::json;

use cupbearer_testing::{OidcProvider, Proxy, SECRET, clock, faketime};

#[tokio::test]
async fn a_wall_clock_set_an_hour_forward_or_back_causes_no_storm_and_sends_nothing_dead() {
    let server = OidcProvider::with_api(6).await;
    let lines = format!("client_id = \"orders\"\nclient_secret = \"{SECRET}\"\nwait = \"5s\"");
    let (config, wall) = faketime(server.config(&lines), "+0");
    let proxy = Proxy::start(config).await;
    proxy.accepted("/").await;
    // Renewed after 3.9 to 4.5 s, whatever the wall says; where it jumps forward, the machine may have slept, and
    // one renewal more is right.
    for (jump, off) in
        [("forward", "+1h"), ("back to the truth", "+0"), ("back", "-1h"), ("and forward", "+0")]
    {
        wall.set(off);
        let before = server.token_requests().await;
        let start = clock::now();
        while start.elapsed() < Duration::from_secs(3) {
            let answer = proxy.get("/").await;
            assert_eq!(
                answer.status,
                200,
                "{jump} after {:?}: {}\n{}",
                start.elapsed(),
                answer.text(),
                proxy.log()
            );
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        let asked = server.token_requests().await - before;
        assert!(asked <= 3, "{jump}: {asked} token requests in 3 s");
    }
    let seen = server.api_seen().await;
    assert!(seen.len() > 20 && seen.iter().all(|seen| seen["status"] == 200), "{seen:?}");
}

#[tokio::test]
async fn a_stored_token_is_judged_by_its_absolute_expiry_after_a_jump_and_a_restart() {
    let server = OidcProvider::with_api(600).await;
    server
        .register(json!({
            "client_id": "laptop", "token_endpoint_auth_method": "none", "grant_types": ["refresh_token", "authorization_code"],
            "response_types": ["code"], "redirect_uris": ["http://127.0.0.1/callback"], "application_type": "native",
        }))
        .await;
    let login = server.log_in("laptop").await;
    let dir = tempfile::tempdir().unwrap();
    let seed = dir.path().join("refresh_token");
    std::fs::write(&seed, &login.refresh_token).unwrap();
    let lines = format!(
        "grant = \"refresh_token\"\nclient_id = \"laptop\"\nclient_auth = \"none\"\nrefresh_token_file = '{}'",
        seed.display()
    );
    let store = format!("[store]\nkind = \"file\"\npath = '{}'\n", dir.path().join("store").display());
    let (config, wall) = faketime(server.config(&lines).and(&store), "+0");
    let proxy = Proxy::start(config).await;
    proxy.accepted("/").await;
    assert_eq!(server.requests_of("refresh_token").await, 1);

    let mut proxy = proxy.stop().await.start().await;
    proxy.until_ready().await;
    proxy.accepted("/").await;
    assert_eq!(server.requests_of("refresh_token").await, 1, "still good: used without a call");

    let stopped = proxy.stop().await;
    wall.set("+1h");
    let mut proxy = stopped.start().await;
    proxy.until_ready().await;
    assert_eq!(server.requests_of("refresh_token").await, 2, "an hour later it is over");
    let left = proxy.status().await["tokens"][0]["expires_in_seconds"].as_u64().unwrap();
    assert!(left <= 600, "{left}");
}
