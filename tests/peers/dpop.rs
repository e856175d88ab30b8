//! Tokens that are bound to a key (RFC 9449): proofs at the authorization server and at the API, with nonces.

use std::collections::BTreeSet;
use std::fs;

use serde_json::json;

use cupbearer_testing::{
    Key, OidcProvider, Origin, Proxy, Reply, SECRET, curl, eventually, token_at, upstream_at,
};

const LINES: &str = "client_id = \"bound\"\ndpop = true\n";

async fn register_bound(server: &OidcProvider) {
    server
        .register(json!({
            "client_id": "bound", "client_secret": SECRET, "token_endpoint_auth_method": "client_secret_basic",
            "dpop_bound_access_tokens": true, "grant_types": ["client_credentials"],
        }))
        .await;
}

fn lines(more: &str) -> String {
    format!("{LINES}client_secret = \"{SECRET}\"\n{more}")
}

#[tokio::test]
async fn each_request_carries_a_proof_of_its_own() {
    let server = OidcProvider::with_api(60).await;
    register_bound(&server).await;
    let proxy = Proxy::start(server.config(&lines(""))).await;
    let seen = proxy.accepted("/orders/7?secret=1#2").await;
    assert_eq!(seen["scheme"], "DPoP");
    let proof = &seen["proof"];
    assert_eq!((&proof["typ"], &proof["htm"]), (&json!("dpop+jwt"), &json!("GET")));
    assert_eq!(
        proof["htu"],
        format!("{}/orders/7", server.api_url()),
        "without the query (RFC 9449 section 4.2)"
    );
    let posted = curl(&["--data", "body", &proxy.url("/orders")]).await.json();
    assert_eq!((&posted["proof"]["htm"], &posted["body"]), (&json!("POST"), &json!("body")));
    for _ in 0..10 {
        proxy.accepted("/").await;
    }
    let proofs: Vec<_> =
        server.api_seen().await.iter().map(|seen| seen["jti"].as_str().unwrap().to_owned()).collect();
    assert_eq!(proofs.iter().collect::<BTreeSet<_>>().len(), proofs.len(), "no proof comes twice");
    assert_eq!(proofs.len(), 12);
}

#[tokio::test]
async fn a_bound_token_is_handed_out_bare_and_by_its_own_scheme() {
    let server = OidcProvider::with_api(60).await;
    register_bound(&server).await;
    let proxy = Proxy::start(server.config(&lines(""))).await;
    let address = format!("http://{}/tokens/api/access_token", proxy.control());
    let answer = curl(&["--request", "POST", "--header", "Cupbearer-Control: 1", &address]).await.json();
    assert_eq!(answer["token_type"], "DPoP");
    assert_eq!(answer["access_token"], proxy.accepted("/").await["token"]);
}

#[tokio::test]
async fn nonces_of_the_authorization_server_and_of_the_api_are_met() {
    let server = OidcProvider::with_api(4).await;
    register_bound(&server).await;
    server.set(json!({ "nonce": true, "api_nonce": true })).await;
    let proxy = Proxy::start(server.config(&lines(""))).await;
    assert!(server.token_requests().await >= 2, "one refusal with a nonce in it, and one with the nonce");
    let seen = proxy.accepted("/").await;
    assert!(seen["proof"]["nonce"].is_string(), "{seen}");
    let statuses = |seen: &[serde_json::Value]| -> Vec<u64> {
        seen.iter().map(|seen| seen["status"].as_u64().unwrap()).collect()
    };
    assert_eq!(statuses(&server.api_seen().await), [401, 200]);

    // What the API announces on its answers is used from then on, without another refusal.
    for round in 0..12 {
        proxy.accepted(&format!("/{round}")).await;
    }
    let refused = statuses(&server.api_seen().await).iter().filter(|status| **status == 401).count();
    assert_eq!(refused, 1, "{:?}", server.api_seen().await);

    // One that ended without a word costs one more round, with a body, too.
    server.turn_nonce().await;
    proxy.accepted("/again").await;
    server.turn_nonce().await;
    let posted = curl(&["--data", "again", &proxy.url("/orders")]).await;
    assert_eq!((posted.status, posted.field("dpop-nonce")), (200, None), "{}", posted.text());
    assert_eq!(posted.json()["body"], "again");

    eventually("renewals meet the nonce too", || async {
        proxy.status().await["tokens"][0]["renewals"].as_u64().unwrap() >= 3
    })
    .await;
    let status = proxy.status().await;
    assert_eq!(status["tokens"][0]["failures"], 0, "{status}");
    let requests = server.token_requests().await;
    let renewals = proxy.status().await["tokens"][0]["renewals"].as_u64().unwrap();
    assert!(requests <= renewals + 2, "the nonce is remembered: {requests} requests for {renewals} tokens");
}

#[tokio::test]
async fn many_requests_at_once_share_the_nonce_and_no_proof() {
    let server = OidcProvider::with_api(60).await;
    register_bound(&server).await;
    server.set(json!({ "api_nonce": true })).await;
    let proxy = Proxy::start(server.config(&lines(""))).await;
    let url = proxy.url("/");
    let requests = (0..16).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { curl(&[&url]).await.status })
    });
    for request in requests.collect::<Vec<_>>() {
        assert_eq!(request.await.unwrap(), 200);
    }
    let seen = server.api_seen().await;
    assert!(seen.iter().all(|seen| seen["status"] == 200 || seen["error"] == "use_dpop_nonce"), "{seen:?}");
}

#[tokio::test]
async fn a_key_from_a_file_outlives_a_restart() {
    let server = OidcProvider::with_api(60).await;
    register_bound(&server).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dpop.pem");
    fs::write(&file, &Key::new("ES256").await.pem).unwrap();
    let proxy = Proxy::start(server.config(&lines(&format!("dpop_key_file = '{}'\n", file.display())))).await;
    let first = proxy.accepted("/").await;
    let mut proxy = proxy.stop().await.start().await;
    proxy.until_ready().await;
    let second = proxy.accepted("/").await;
    assert_eq!(first["claims"]["cnf"]["jkt"], second["claims"]["cnf"]["jkt"]);
    assert_ne!(first["token"], second["token"]);
}

#[tokio::test]
async fn a_key_of_its_own_is_a_new_one_at_each_start() {
    let server = OidcProvider::with_api(60).await;
    register_bound(&server).await;
    let proxy = Proxy::start(server.config(&lines(""))).await;
    let first = proxy.accepted("/").await;
    let mut proxy = proxy.stop().await.start().await;
    proxy.until_ready().await;
    let second = proxy.accepted("/").await;
    assert_ne!(first["claims"]["cnf"]["jkt"], second["claims"]["cnf"]["jkt"]);
}

#[tokio::test]
async fn a_bearer_token_in_place_of_a_bound_one_is_refused() {
    let server = Origin::start(|_, _| Reply::token("bearer", 300)).await;
    let api = Origin::ok().await;
    let section = token_at(&server.url()) + "dpop = true\nwait = \"1s\"\n";
    let proxy =
        Proxy::start_live(cupbearer_testing::Config::one_route(&upstream_at(&api.url()), &section)).await;
    proxy.get("/").await.assert_proxy_error(503);
    assert_eq!(api.connections(), 0, "no silent downgrade (RFC 9449 section 5)");
    assert!(!server.only().all("dpop").is_empty());
}

#[tokio::test]
async fn an_applications_own_proof_does_not_get_through() {
    let server = OidcProvider::with_api(60).await;
    register_bound(&server).await;
    let proxy = Proxy::start(server.config(&lines(""))).await;
    let answer =
        curl(&["--header", "DPoP: forged", "--header", "Authorization: DPoP forged", &proxy.url("/")]).await;
    assert_eq!(answer.status, 200, "exactly one proof, and it is ours: {}", answer.text());
}

#[tokio::test]
async fn a_wall_clock_hours_off_is_mended_by_a_nonce() {
    let server = OidcProvider::with_api(60).await;
    register_bound(&server).await;
    server.set(json!({ "nonce": true, "api_nonce": true })).await;
    // Claims of time are the server's to judge, and this one goes by its nonce alone.
    let config = cupbearer_testing::faketime(server.config(&lines("")), "-2h").0;
    let proxy = Proxy::start(config).await;
    let status = proxy.status().await;
    assert_eq!(status["tokens"][0]["failures"], 0, "{status}");
}
