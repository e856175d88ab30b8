//! Proofs at the token endpoint (RFC 9449 sections 5 and 8).

use super::super::super::client::{AssertionAudience, Client, ClientAuth, KeySettings};
use super::super::super::endpoint::AuthorizationServer;
use super::super::super::error::Error;
use super::super::super::grant::Grant;
use super::super::super::peer::{Peer, Reply, Seen, client, inline, plain, settings};
use super::*;
use crate::oauth::discovery::server::Location;
use crate::oauth::endpoint::response::{TokenResponse, TokenType};
use crate::oauth::error::class::Class;

fn token() -> Reply {
    Reply::ok(r#"{"access_token":"sentinel-token","token_type":"DPoP","expires_in":3600}"#)
}

fn denied(code: &str, headers: &'static str) -> Reply {
    Reply::Http(400, headers, format!(r#"{{"error":"{code}"}}"#))
}

async fn ask(peer: &Peer, client: &Client, dpop: &Dpop) -> Result<TokenResponse, Error> {
    let server =
        AuthorizationServer::new(&settings(Location::endpoint(peer.url("/token?tenant=a")))).unwrap();
    Ok(server.token(client, &Grant::ClientCredentials, &plain(), Some(dpop)).await?)
}

/// The proofs that came, verified, each with another name.
fn proofs(peer: &Peer) -> Vec<Value> {
    let seen = peer.seen.lock().unwrap();
    let proofs: Vec<Value> = seen
        .iter()
        .map(|seen| {
            let proof = HeaderValue::from_str(seen.header("dpop").unwrap()).unwrap();
            verify(&proof);
            claims(&proof)
        })
        .collect();
    let names: HashSet<&str> = proofs.iter().map(|proof| proof["jti"].as_str().unwrap()).collect();
    assert_eq!(names.len(), proofs.len());
    proofs
}

fn nonce_of(seen: &Seen) -> Option<String> {
    let proof = HeaderValue::from_str(seen.header("dpop").unwrap()).unwrap();
    claims(&proof).get("nonce").map(|nonce| nonce.as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_token_request_proves_without_a_token_and_the_answer_must_be_bound() {
    let peer = Peer::start(|_| token()).await;
    let response = ask(&peer, &client(), &Dpop::generate().unwrap()).await.unwrap();
    assert_eq!(response.token_type, TokenType::Dpop);
    let [proof] = &proofs(&peer)[..] else { panic!("one request") };
    assert_eq!((&proof["htm"], &proof["htu"]), (&json!("POST"), &json!(format!("{}/token", peer.origin))));
    assert!(proof.get("ath").is_none() && proof.get("nonce").is_none());

    let peer = Peer::start(|_| Reply::token()).await;
    let error = ask(&peer, &client(), &Dpop::generate().unwrap()).await.unwrap_err();
    assert_eq!((error.class(), error.cause()), (Class::Misconfigured, "unbound"));
}

#[tokio::test]
async fn a_demanded_nonce_costs_one_request_and_the_newest_is_used_from_then_on() {
    let peer = Peer::start(|seen| match nonce_of(seen).as_deref() {
        None => denied("use_dpop_nonce", "DPoP-Nonce: n1\r\n"),
        Some("n1") => Reply::Http(
            200,
            "DPoP-Nonce: n2\r\n",
            r#"{"access_token":"t","token_type":"DPoP","expires_in":3600}"#.into(),
        ),
        Some(_) => token(),
    })
    .await;
    let dpop = Dpop::generate().unwrap();
    for _ in 0..2 {
        ask(&peer, &client(), &dpop).await.unwrap();
    }
    let nonces: Vec<_> =
        proofs(&peer).iter().map(|proof| proof["nonce"].as_str().map(str::to_owned)).collect();
    assert_eq!(nonces, [None, Some("n1".into()), Some("n2".into())]);
}

#[tokio::test]
async fn one_more_request_and_never_a_third() {
    for (reply, count) in [
        (denied("use_dpop_nonce", "DPoP-Nonce: n\r\n"), 2),
        (denied("invalid_dpop_proof", "DPoP-Nonce: n\r\n"), 2),
        (denied("use_dpop_nonce", ""), 1),
        (denied("invalid_dpop_proof", ""), 1),
        (denied("invalid_client", "DPoP-Nonce: n\r\n"), 1),
    ] {
        let answer = reply.clone();
        let peer = Peer::start(move |_| answer.clone()).await;
        let error = ask(&peer, &client(), &Dpop::generate().unwrap()).await.unwrap_err();
        assert_eq!(proofs(&peer).len(), count, "{reply:?} {error}");
    }
}

#[tokio::test]
async fn a_proof_that_is_refused_for_its_date_is_made_by_the_servers_clock() {
    // The clock of a server that gives no nonces is two hours ahead.
    let ahead = || crate::clock::wall() + Duration::from_hours(2);
    let peer = Peer::start(move |seen| {
        let proof = HeaderValue::from_str(seen.header("dpop").unwrap()).unwrap();
        let iat = UNIX_EPOCH + Duration::from_secs(claims(&proof)["iat"].as_u64().unwrap());
        let apart = ahead().duration_since(iat).unwrap_or_default();
        if apart < Duration::from_mins(1) {
            return token();
        }
        denied("invalid_dpop_proof", format!("Date: {}\r\n", httpdate::fmt_http_date(ahead())).leak())
    })
    .await;
    ask(&peer, &client(), &Dpop::generate().unwrap()).await.unwrap();
    assert_eq!(proofs(&peer).len(), 2);
}

#[tokio::test]
async fn the_second_request_has_a_client_assertion_of_its_own() {
    let peer = Peer::start(|seen| match nonce_of(seen) {
        None => denied("use_dpop_nonce", "DPoP-Nonce: n1\r\n"),
        Some(_) => token(),
    })
    .await;
    let key = KeySettings { key: inline(vectors::P256), key_id: None, algorithm: None, certificate: None };
    let auth = ClientAuth::PrivateKeyJwt { key, audience: AssertionAudience::Endpoint };
    ask(&peer, &Client { id: "orders".into(), auth }, &Dpop::generate().unwrap()).await.unwrap();
    let assertions: HashSet<String> = {
        let seen = peer.seen.lock().unwrap();
        let of =
            |seen: &Seen| seen.form().into_iter().find(|(name, _)| name == "client_assertion").unwrap().1;
        seen.iter().map(of).collect()
    };
    assert_eq!((proofs(&peer).len(), assertions.len()), (2, 2));
}
