//! Proofs as a server sees them: taken apart by other code than made them, and verified.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::{Value, json};

use super::*;
use crate::oauth::jose::key::{Algorithm, vectors};

mod endpoint;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_hours(500_000)
}

fn target<'a>(method: &'a Method, origin: &'a str, path: &'a str) -> Target<'a> {
    Target { method, origin, path }
}

fn get(path: &str) -> Target<'_> {
    target(&Method::GET, "https://api.example", path)
}

/// Header and claims.
fn read(proof: &HeaderValue) -> (Value, Value) {
    let parts: Vec<&str> = proof.to_str().unwrap().split('.').collect();
    assert_eq!(parts.len(), 3);
    let part = |n: usize| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[n]).unwrap()).unwrap();
    (part(0), part(1))
}

fn claims(proof: &HeaderValue) -> Value {
    read(proof).1
}

fn octets(value: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(value.as_str().unwrap()).unwrap()
}

/// Verifies a proof by the public key that it brings along.
fn verify(proof: &HeaderValue) {
    let (message, signature) = proof.to_str().unwrap().rsplit_once('.').unwrap();
    let (header, _) = read(proof);
    let jwk = &header["jwk"];
    let (how, key): (&'static dyn VerificationAlgorithm, Vec<u8>) = match header["alg"].as_str().unwrap() {
        "ES256" => (&ECDSA_P256_SHA256_FIXED, [&[4], &octets(&jwk["x"])[..], &octets(&jwk["y"])].concat()),
        "EdDSA" => (&ED25519, octets(&jwk["x"])),
        "PS256" => {
            // RSAPublicKey in DER: both numbers of this key have lengths that are known.
            let (n, e) = (octets(&jwk["n"]), octets(&jwk["e"]));
            assert_eq!((n.len(), e.len()), (256, 3));
            let der = [&[0x30, 0x82, 1, 10, 2, 0x82, 1, 1, 0][..], &n, &[2, 3], &e].concat();
            (&RSA_PSS_2048_8192_SHA256, der)
        }
        other => panic!("{other}"),
    };
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    UnparsedPublicKey::new(how, key).verify(message.as_bytes(), &signature).unwrap();
}

#[test]
fn a_proof_says_what_the_rfc_asks_for_and_is_signed_by_the_key_that_it_shows() {
    let dpop = Dpop::generate().unwrap();
    let proof = dpop.proof(target(&Method::POST, "https://as.example:8443", "/token"), None, now()).unwrap();
    verify(&proof);
    let (header, claims) = read(&proof);
    assert_eq!((&header["typ"], &header["alg"]), (&json!("dpop+jwt"), &json!("ES256")));
    assert_eq!(header.as_object().unwrap().len(), 3);
    let jwk = header["jwk"].as_object().unwrap();
    assert_eq!(jwk.keys().map(String::as_str).collect::<Vec<_>>(), ["crv", "kty", "x", "y"]);
    assert_eq!(claims["htm"], "POST");
    assert_eq!(claims["htu"], "https://as.example:8443/token");
    assert_eq!(claims["iat"], 1_800_000_000);
    assert_eq!(octets(&claims["jti"]).len(), ID_BYTES);
    assert_eq!(claims.as_object().unwrap().len(), 4);
}

#[test]
fn keys_of_every_kind_prove_and_show_no_private_half() {
    for (jwk, algorithm) in
        [(vectors::RSA, Some(Algorithm::Ps256)), (vectors::P256, None), (vectors::ED25519, None)]
    {
        let dpop = Dpop::new(SigningKey::from_text(jwk, algorithm).unwrap());
        let proof = dpop.proof(get("/"), None, now()).unwrap();
        verify(&proof);
        let (header, _) = read(&proof);
        for member in ["d", "p", "q", "dp", "dq", "qi"] {
            assert!(header["jwk"].get(member).is_none(), "{member}");
        }
        assert!(!format!("{dpop:?} {proof:?}").contains("jpsQnnGQ"));
    }
}

#[test]
fn the_hash_is_that_of_the_rfc() {
    // RFC 9449 section 7.1.
    let hash = token_hash("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU");
    assert_eq!(hash, "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
    let dpop = Dpop::generate().unwrap();
    let proof = dpop.proof(get("/"), Some(&hash), now()).unwrap();
    verify(&proof);
    assert_eq!(claims(&proof)["ath"], hash);
}

#[test]
fn htu_is_the_path_as_it_was_sent_and_json_whatever_it_is() {
    let dpop = Dpop::generate().unwrap();
    for (path, want) in [
        ("/", "/"),
        ("", "/"),
        ("*", "/"),
        ("/a%2fb/%41;v=1", "/a%2fb/%41;v=1"),
        ("/caf%C3%A9", "/caf%C3%A9"),
        ("/café", "/caf%C3%A9"),
        (r#"/a","htm":"GET"#, "/a%22,%22htm%22:%22GET"),
        (r"/a\u0022", "/a%5Cu0022"),
        ("/{a}|b", "/%7Ba%7D%7Cb"),
    ] {
        let proof = dpop.proof(get(path), None, now()).unwrap();
        assert_eq!(claims(&proof)["htu"], format!("https://api.example{want}"));
    }
}

#[test]
fn no_two_proofs_have_the_same_id_across_threads() {
    let dpop = Arc::new(Dpop::generate().unwrap());
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let dpop = Arc::clone(&dpop);
            std::thread::spawn(move || -> Vec<String> {
                let proof = || dpop.proof(get("/"), None, now()).unwrap();
                (0..250).map(|_| claims(&proof())["jti"].as_str().unwrap().to_owned()).collect()
            })
        })
        .collect();
    let ids: HashSet<String> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(ids.len(), 1000);
}

fn answer(nonces: &[&'static str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for nonce in nonces {
        headers.append(DPOP_NONCE, HeaderValue::from_static(nonce));
    }
    headers
}

#[test]
fn the_newest_nonce_goes_into_the_proofs_for_its_origin() {
    let dpop = Dpop::generate().unwrap();
    let nonce = |origin| {
        let proof = dpop.proof(target(&Method::GET, origin, "/"), None, now()).unwrap();
        verify(&proof);
        claims(&proof).get("nonce").map(|nonce| nonce.as_str().unwrap().to_owned())
    };
    let (ours, other) = ("https://api.example", "https://other.example");
    assert_eq!(nonce(ours), None);
    for text in ["eyJ7S_zG.eyJH0-Z.HX4w-7v", "n2"] {
        assert_eq!(dpop.take_note(ours, &answer(&[text])), Nonce::Given);
        assert_eq!((nonce(ours).as_deref(), nonce(other)), (Some(text), None));
    }
}

#[test]
fn what_is_no_nonce_is_not_taken_for_one() {
    let dpop = Dpop::generate().unwrap();
    let long: &'static str = "n".repeat(MAX_NONCE_BYTES + 1).leak();
    for nonces in [&[][..], &[""], &["a b"], &[r#"a","htm":"GET"#], &[r"a\"], &["a", "b"], &[long]] {
        assert_eq!(dpop.take_note("https://api.example", &answer(nonces)), Nonce::None, "{nonces:?}");
    }
    assert_eq!(claims(&dpop.proof(get("/"), None, now()).unwrap()).get("nonce"), None);
}

#[test]
fn a_stored_key_proves_what_it_proved_before() {
    let dpop = Dpop::generate().unwrap();
    let again = Dpop::from_pkcs8(dpop.to_pkcs8().unwrap().expose()).unwrap();
    assert_eq!(again.thumbprint(), dpop.thumbprint());
    assert!(again.is_of(&dpop.key) && !Dpop::generate().unwrap().is_of(&dpop.key));
}

#[test]
fn a_proof_fits_the_room_that_it_is_given() {
    let dpop = Dpop::generate().unwrap();
    dpop.take_note("https://api.example", &answer(&["n".repeat(100).leak()]));
    let proof = dpop.proof(get("/v1/orders/42"), Some(&token_hash("t")), now()).unwrap();
    let [header, claims, signature] = proof.to_str().unwrap().split('.').collect::<Vec<_>>()[..] else {
        panic!()
    };
    assert!(claims.len() * 3 / 4 <= "https://api.example/v1/orders/42".len() + 100 + CLAIMS_BYTES);
    assert!(signature.len() + 2 <= SIGNATURE_CHARACTERS);
    assert_eq!(header.len() + 1, dpop.header.len());
}
