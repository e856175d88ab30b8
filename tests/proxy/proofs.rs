//! What goes over the wire to an API for a token that is bound to a key (RFC 9449), byte by byte: proofs, repetitions,
//! nonces, and what of the application's own stops here. `dpop` has the real servers.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use cupbearer_testing::{Config, Message, Origin, Proxy, Reply, curl, token_at, upstream_at};

const DEMAND: (&str, &str) = ("www-authenticate", r#"DPoP error="use_dpop_nonce", algs="ES256""#);

/// A proof's claims, after all that a server checks: one field, its header, and its signature by the key that it shows.
fn proof_of(request: &Message) -> Value {
    let [proof] = &request.all("dpop")[..] else { panic!("exactly one proof: {request:?}") };
    let (message, signature) = proof.rsplit_once('.').unwrap();
    let (header, claims) = message.split_once('.').unwrap();
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let header: Value = serde_json::from_slice(&decode(header)).unwrap();
    let claims: Value = serde_json::from_slice(&decode(claims)).unwrap();
    assert_eq!((&header["typ"], &header["alg"]), (&"dpop+jwt".into(), &"ES256".into()));
    assert!(header["jwk"].get("d").is_none());
    let number = |name: &str| decode(header["jwk"][name].as_str().unwrap());
    let point = [vec![4], number("x"), number("y")].concat();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    key.verify(message.as_bytes(), &decode(signature)).unwrap();
    assert_eq!(claims["htm"], request.method());
    let token = request.all("authorization");
    let token = token[0].strip_prefix("DPoP ").unwrap();
    assert_eq!(claims["ath"], URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes())));
    claims
}

/// All proofs that came, each with another name.
fn proofs(api: &Origin) -> Vec<Value> {
    let proofs: Vec<Value> = api.seen().iter().map(proof_of).collect();
    let names: BTreeSet<&str> = proofs.iter().map(|proof| proof["jti"].as_str().unwrap()).collect();
    assert_eq!(names.len(), proofs.len(), "no proof comes twice");
    proofs
}

/// A proxy before `api` with a bound token, and the authorization server behind it.
async fn before(api: &Origin, base: &str, end: &str) -> (Proxy, Origin) {
    with(&upstream_at(&(api.url() + base)), "", end).await
}

/// The same with an upstream's section and lines of the token's of the test's own.
async fn with(upstream: &str, token: &str, end: &str) -> (Proxy, Origin) {
    let server = Origin::start(|_, _| {
        Reply::json(200, r#"{"access_token":"bound","token_type":"DPoP","expires_in":300}"#)
    })
    .await;
    let token = token_at(&server.url()) + "dpop = true\n" + token;
    (Proxy::start(Config::one_route(upstream, &token).and(end)).await, server)
}

#[tokio::test]
async fn a_proof_is_for_the_request_as_the_upstream_sees_it() {
    let api = Origin::ok().await;
    let (proxy, _server) = before(&api, "/base/", "").await;
    for path in ["/orders/7?q=1", "/caf%c3%a9", "/"] {
        assert_eq!(proxy.get(path).await.status, 200);
    }
    curl(&["--request", "DELETE", &proxy.url("/x")]).await;
    let seen: Vec<_> = proofs(&api).iter().map(|proof| proof["htu"].as_str().unwrap().to_owned()).collect();
    let want = ["/base/orders/7", "/base/caf%c3%a9", "/base/", "/base/x"];
    assert_eq!(seen, want.map(|path| api.url() + path));
}

#[tokio::test]
async fn a_proof_names_the_host_that_the_upstream_is_sent() {
    let api = Origin::ok().await;
    let upstream = upstream_at(&api.url()) + "host = \"orders.internal\"\n";
    let (proxy, _server) = with(&upstream, "", "").await;
    assert_eq!(proxy.get("/x").await.status, 200);
    assert_eq!(api.only().field("host").as_deref(), Some("orders.internal"));
    assert_eq!(proofs(&api)[0]["htu"], "http://orders.internal/x");
}

#[tokio::test]
async fn a_nonce_costs_one_round_and_is_ours_alone() {
    let api = Origin::start(|request, before| {
        let nonced = proof_of(request).get("nonce").is_some();
        match (nonced, before) {
            (false, _) => Reply::new(401, &[DEMAND, ("dpop-nonce", "n1")], "a nonce, please"),
            (true, 1) => Reply::new(200, &[("dpop-nonce", "n2")], "ok"),
            (true, _) => Reply::ok(),
        }
    })
    .await;
    let (proxy, _server) = before(&api, "", "").await;
    let get = || async {
        let answer = proxy.get("/").await;
        assert_eq!((answer.status, answer.field("dpop-nonce")), (200, None));
    };
    get().await;
    assert_eq!(api.connections(), 1, "the refused one's connection lives on");
    get().await;
    let nonces: Vec<_> =
        proofs(&api).iter().map(|proof| proof["nonce"].as_str().map(str::to_owned)).collect();
    assert_eq!(nonces, [None, Some("n1".into()), Some("n2".into())]);
}

#[tokio::test]
async fn a_server_that_always_wants_another_nonce_is_asked_twice_and_no_more() {
    let api = Origin::start(|_, before| {
        let nonce: &str = &format!("n{before}");
        Reply::new(401, &[DEMAND, ("dpop-nonce", nonce)], "never")
    })
    .await;
    let (proxy, _server) = before(&api, "", "").await;
    let answer = proxy.get("/").await;
    assert_eq!((answer.status, answer.text().as_str()), (401, "never"));
    assert!(answer.field("www-authenticate").unwrap().contains("use_dpop_nonce"));
    assert_eq!(answer.field("dpop-nonce"), None);
    assert_eq!(proofs(&api).len(), 2);
}

#[tokio::test]
async fn a_body_is_sent_again_with_the_nonce_where_it_was_kept() {
    for (limit, first) in [("64KiB", 200), ("2B", 401)] {
        let api = Origin::start(|request, _| match proof_of(request).get("nonce") {
            None => Reply::new(401, &[DEMAND, ("dpop-nonce", "n1")], ""),
            Some(_) => Reply::ok(),
        })
        .await;
        let (proxy, server) = before(&api, "", &format!("replay_body_limit = \"{limit}\"\n")).await;
        let post = || async { curl(&["--data", "x=1", &proxy.url("/")]).await.status };
        assert_eq!((post().await, post().await), (first, 200));
        assert_eq!(proofs(&api).len(), if first == 200 { 3 } else { 2 });
        assert!(api.seen().iter().all(|request| request.text() == "x=1"));
        assert_eq!(server.seen().len(), 1, "the token is good");
    }
    // An empty one is as good as none.
    let api = Origin::start(|request, _| match proof_of(request).get("nonce") {
        None => Reply::new(401, &[DEMAND, ("dpop-nonce", "n1")], ""),
        Some(_) => Reply::ok(),
    })
    .await;
    let (proxy, _server) = before(&api, "", "").await;
    assert_eq!(curl(&["--data", "", &proxy.url("/")]).await.status, 200);
}

#[tokio::test]
async fn a_request_repeated_on_another_connection_has_another_proof() {
    // The second request of each connection is read, and the connection closed without an answer.
    let api = Origin::scripted({
        let record = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        move |mut wire| {
            let record = std::sync::Arc::clone(&record);
            async move {
                for answered in [true, false] {
                    let Some(request) = wire.request().await else { return };
                    let name = proof_of(&request)["jti"].as_str().unwrap().to_owned();
                    let fresh = {
                        let mut record = record.lock().unwrap();
                        let fresh = !record.contains(&name);
                        record.push(name);
                        fresh
                    };
                    let count = record.lock().unwrap().len().to_string();
                    if answered {
                        let status = if fresh { 200 } else { 409 };
                        wire.send(Reply::new(status, &[("count", &count)], "ok").into_bytes()).await;
                    }
                }
            }
        }
    })
    .await;
    let (proxy, _server) = before(&api, "", "").await;
    let mut count = 0;
    for _ in 0..4 {
        let answer = proxy.get("/").await;
        assert_eq!(answer.status, 200, "the same proof came twice");
        count = answer.field("count").unwrap().parse().unwrap();
    }
    assert!(count > 4, "requests were repeated, or this shows nothing: {count}");
}

#[tokio::test]
async fn the_applications_own_proof_goes_with_its_own_token_alone() {
    let api = Origin::start(|_, _| Reply::new(200, &[("dpop-nonce", "theirs")], "ok")).await;
    let (proxy, _server) = before(&api, "", "own_authorization = \"keep\"\n").await;
    let theirs = ["--header", "DPoP: their-proof", "--header", "Authorization: DPoP their-token"];
    let answer = curl(&[&theirs[..], &[&proxy.url("/")]].concat()).await;
    assert_eq!(answer.field("dpop-nonce"), Some("theirs"), "whose proof it was for");
    let seen = api.only();
    assert_eq!(
        (seen.all("dpop"), seen.all("authorization")),
        (vec!["their-proof".into()], vec!["DPoP their-token".into()])
    );

    let api = Origin::ok().await;
    let (proxy, _server) = before(&api, "", "").await;
    curl(&[&theirs[..], &[&proxy.url("/")]].concat()).await;
    proof_of(&api.only());

    // With a token that is bound to nothing, no proof goes at all.
    let (api, server) = (Origin::ok().await, Origin::issuing(300).await);
    let proxy = Proxy::start(Config::one_route(&upstream_at(&api.url()), &token_at(&server.url()))).await;
    curl(&[&theirs[..], &[&proxy.url("/")]].concat()).await;
    let seen = api.only();
    assert_eq!((seen.all("dpop"), seen.all("authorization")), (vec![], vec!["Bearer token-0".into()]));
}

#[tokio::test]
async fn the_scheme_of_a_bound_token_is_not_for_the_configuration_to_say() {
    let api = Origin::ok().await;
    let (proxy, server) = with(&upstream_at(&api.url()), "scheme = \"Bearer\"\n", "").await;
    proxy.get("/").await;
    assert_eq!(api.only().all("authorization"), ["DPoP bound"]);
    let asked = server.only();
    assert_eq!(asked.all("dpop").len(), 1);
}
