//! Keys in every form, and what is none.

use aws_lc_rs::encoding::{AsBigEndian as _, EcPrivateKeyBin};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256K1_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED,
    ED25519, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    UnparsedPublicKey, VerificationAlgorithm,
};
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::*;

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn read(text: &str) -> Result<SigningKey, KeyError> {
    SigningKey::from_text(text, None)
}

fn pkcs8(text: &str) -> Secret<Vec<u8>> {
    read(text).unwrap().to_pkcs8().unwrap()
}

/// A JWK with one member replaced or, with `Value::Null`, removed.
fn with(jwk: &str, member: &str, value: impl Into<Value>) -> String {
    let mut jwk: Value = serde_json::from_str(jwk).unwrap();
    let members = jwk.as_object_mut().unwrap();
    match value.into() {
        Value::Null => drop(members.remove(member)),
        value => drop(members.insert(member.to_owned(), value)),
    }
    jwk.to_string()
}

fn public_bytes(key: &SigningKey) -> Vec<u8> {
    match &key.pair {
        Pair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
        Pair::Elliptic(_, pair) => pair.public_key().as_ref().to_vec(),
        Pair::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
    }
}

fn verifies(key: &SigningKey, how: &'static dyn VerificationAlgorithm) -> bool {
    let signature = key.sign(b"message").unwrap();
    UnparsedPublicKey::new(how, public_bytes(key)).verify(b"message", &signature).is_ok()
}

#[test]
fn each_kind_of_key_signs_by_default_what_fits_it() {
    assert_eq!(read(vectors::RSA).unwrap().algorithm(), Algorithm::Rs256);
    for (algorithm, how) in [
        (Algorithm::Rs256, &RSA_PKCS1_2048_8192_SHA256),
        (Algorithm::Rs384, &RSA_PKCS1_2048_8192_SHA384),
        (Algorithm::Rs512, &RSA_PKCS1_2048_8192_SHA512),
        (Algorithm::Ps256, &RSA_PSS_2048_8192_SHA256),
        (Algorithm::Ps384, &RSA_PSS_2048_8192_SHA384),
        (Algorithm::Ps512, &RSA_PSS_2048_8192_SHA512),
    ] {
        let key = SigningKey::from_text(vectors::RSA, Some(algorithm)).unwrap();
        assert!(key.algorithm() == algorithm && verifies(&key, how), "{algorithm:?}");
    }
    let edwards = read(vectors::ED25519).unwrap();
    assert!(edwards.algorithm() == Algorithm::EdDsa && verifies(&edwards, &ED25519));
    for key in [read(vectors::P256).unwrap(), SigningKey::generate().unwrap()] {
        assert!(key.algorithm() == Algorithm::Es256 && verifies(&key, &ECDSA_P256_SHA256_FIXED));
        assert_eq!(key.sign(b"message").unwrap().len(), 64);
    }
}

#[test]
fn each_curve_signs_by_its_own_algorithm_in_pem_and_as_a_jwk() {
    for (curve, algorithm, how) in [
        (Curve::P256, Algorithm::Es256, &ECDSA_P256_SHA256_FIXED),
        (Curve::P384, Algorithm::Es384, &ECDSA_P384_SHA384_FIXED),
        (Curve::P521, Algorithm::Es512, &ECDSA_P521_SHA512_FIXED),
        (Curve::Secp256k1, Algorithm::Es256K, &ECDSA_P256K1_SHA256_FIXED),
    ] {
        let pair = EcdsaKeyPair::generate(curve.signing()).unwrap();
        let pkcs8 = pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref());
        let sec1 = pem("EC PRIVATE KEY", pair.private_key().as_der().unwrap().as_ref());
        let public: Value = serde_json::from_str(read(&pkcs8).unwrap().public_jwk()).unwrap();
        assert_eq!(public["crv"], curve.name());
        let number: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().unwrap();
        let jwk = with(&public.to_string(), "d", URL_SAFE_NO_PAD.encode(number.as_ref()));
        for text in [pkcs8, sec1, with(&jwk, "alg", algorithm.as_str()), jwk] {
            let key = read(&text).unwrap();
            assert!(key.algorithm() == algorithm && verifies(&key, how), "{curve:?}");
            assert_eq!(key.sign(b"message").unwrap().len(), 2 * curve.bytes());
            let stored = SigningKey::from_pkcs8(key.to_pkcs8().unwrap().expose(), None).unwrap();
            assert_eq!(stored.thumbprint(), key.thumbprint());
        }
    }
}

#[test]
fn a_key_is_the_same_in_pem_of_every_kind_and_as_a_jwk() {
    for jwk in [vectors::RSA, vectors::P256, vectors::ED25519] {
        let key = read(jwk).unwrap();
        let der = key.to_pkcs8().unwrap();
        let again = SigningKey::from_pkcs8(der.expose(), None).unwrap();
        assert_eq!(again.public_jwk(), key.public_jwk());
        let text = pem("PRIVATE KEY", der.expose());
        assert_eq!(read(&text).unwrap().public_jwk(), key.public_jwk());
        let windows = text.replace('\n', "\r\n");
        assert_eq!(read(&windows).unwrap().public_jwk(), key.public_jwk());
    }
    let rsa = read(vectors::RSA).unwrap();
    // PKCS #1 is what a PKCS #8 of an RSA key holds after 26 bytes of wrapping.
    let text = pem("RSA PRIVATE KEY", &pkcs8(vectors::RSA).expose()[26..]);
    assert_eq!(read(&text).unwrap().public_jwk(), rsa.public_jwk());
    let key = read(vectors::P256).unwrap();
    let Pair::Elliptic(Curve::P256, pair) = &key.pair else { panic!("another kind") };
    let sec1 = pem("EC PRIVATE KEY", pair.private_key().as_der().unwrap().as_ref());
    assert_eq!(read(&sec1).unwrap().public_jwk(), key.public_jwk());
    // As `openssl ecparam -genkey` writes it, and after a certificate.
    let curve = pem("EC PARAMETERS", &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07]);
    assert_eq!(read(&format!("{curve}{sec1}")).unwrap().public_jwk(), key.public_jwk());
    let certificate = pem("CERTIFICATE", b"not looked at");
    assert_eq!(read(&format!("{certificate}{sec1}")).unwrap().public_jwk(), key.public_jwk());
}

#[test]
fn the_public_jwk_has_the_public_half_and_nothing_else() {
    for (jwk, want) in [
        (vectors::RSA, &["e", "kty", "n"][..]),
        (vectors::P256, &["crv", "kty", "x", "y"]),
        (vectors::ED25519, &["crv", "kty", "x"]),
    ] {
        let given: Value = serde_json::from_str(jwk).unwrap();
        let key = read(&with(jwk, "kid", "mine")).unwrap();
        let public: Value = serde_json::from_str(key.public_jwk()).unwrap();
        let names: Vec<&str> = public.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, want);
        for name in names {
            assert_eq!(public[name], given[name]);
        }
    }
}

#[test]
fn thumbprints_are_those_that_the_rfcs_print() {
    // RFC 7638 section 3.1, whose key has no private half.
    let modulus = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    let public = format!(r#"{{"e":"AQAB","kty":"RSA","n":"{modulus}"}}"#);
    assert_eq!(thumbprint_of(&public), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    // RFC 8037 appendix A.3.
    let key = read(vectors::ED25519).unwrap();
    assert_eq!(key.thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn a_jwk_names_itself_and_its_algorithm_and_the_configuration_wins() {
    let jwk = with(&with(vectors::RSA, "kid", "2026-1"), "alg", "PS256");
    let key = read(&jwk).unwrap();
    assert_eq!((key.key_id(), key.algorithm()), (Some("2026-1"), Algorithm::Ps256));
    let key = SigningKey::from_text(&jwk, Some(Algorithm::Rs256)).unwrap();
    assert_eq!(key.algorithm(), Algorithm::Rs256);
    assert_eq!(read(&with(vectors::RSA, "alg", "RS512")).unwrap().algorithm(), Algorithm::Rs512);
    assert_eq!(read(&with(vectors::RSA, "alg", "RSA-OAEP")).unwrap_err(), KeyError::Algorithm);
    assert_eq!(read(&with(vectors::ED25519, "alg", "Ed25519")).unwrap().algorithm(), Algorithm::EdDsa);
}

#[test]
fn an_algorithm_for_another_kind_of_key_is_refused_by_name() {
    for (jwk, asked, kind) in [
        (vectors::RSA, Algorithm::Es256, KeyKind::Rsa),
        (vectors::P256, Algorithm::Es384, KeyKind::Elliptic(Curve::P256)),
        (vectors::ED25519, Algorithm::Ps256, KeyKind::Ed25519),
    ] {
        let error = SigningKey::from_text(jwk, Some(asked)).unwrap_err();
        assert_eq!(error, KeyError::Mismatch { asked, kind });
        assert!(error.to_string().contains(asked.as_str()), "{error}");
    }
}

#[test]
fn what_is_no_key_for_us_is_told_apart() {
    let other_curve = pkcs8(vectors::P256);
    let identifier = Curve::P256.identifier();
    let at = other_curve.expose().windows(identifier.len()).position(|window| window == identifier).unwrap();
    let mut other_curve = other_curve.expose().clone();
    other_curve[at + identifier.len() - 1] = 1;
    let encrypted =
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let good = pem("PRIVATE KEY", pkcs8(vectors::P256).expose());
    for (text, want) in [
        ("", KeyError::NotAKey),
        ("sentinel", KeyError::NotAKey),
        (&pem("CERTIFICATE", b"sentinel"), KeyError::Public),
        (&pem("PUBLIC KEY", b"sentinel"), KeyError::Public),
        (&pem("ENCRYPTED PRIVATE KEY", b"sentinel"), KeyError::Encrypted),
        (encrypted, KeyError::Encrypted),
        (&pem("OPENSSH PRIVATE KEY", b"sentinel"), KeyError::OpenSsh),
        (&pem("DSA PRIVATE KEY", b"sentinel"), KeyError::Kind),
        (&pem("PRIVATE KEY", b"sentinel"), KeyError::Malformed),
        (&pem("PRIVATE KEY", &other_curve), KeyError::Kind),
        (&good[..good.len() / 2], KeyError::Malformed),
        (&good.replacen("MI", "!!", 1), KeyError::Malformed),
        (&good.replace("END PRIVATE", "END OTHER"), KeyError::Malformed),
        (&pem("PRIVATE KEY", &pkcs8(vectors::RSA).expose()[..300]), KeyError::Malformed),
        (RSA_1024, KeyError::TooShort),
        ("{}", KeyError::NotAJwk),
        ("{", KeyError::NotAJwk),
        (r#"{"keys":[]}"#, KeyError::NotAJwk),
        (&with(vectors::P256, "crv", "P-192"), KeyError::Kind),
        (&with(vectors::P256, "crv", "P-384"), KeyError::Member("x")),
        (&with(vectors::P256, "kty", "oct"), KeyError::Kind),
        (&with(vectors::P256, "d", Value::Null), KeyError::Member("d")),
        (&with(vectors::P256, "d", "*"), KeyError::Member("d")),
        (&with(vectors::P256, "x", "AQAB"), KeyError::Member("x")),
        (&with(vectors::P256, "use", "enc"), KeyError::Member("use")),
        (&with(vectors::P256, "d", "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"), KeyError::Inconsistent),
        (&with(vectors::ED25519, "x", "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"), KeyError::Inconsistent),
        (&with(vectors::RSA, "dp", Value::Null), KeyError::Member("dp")),
        (&with(vectors::RSA, "dp", "AQAB"), KeyError::Inconsistent),
        (&with(vectors::RSA, "n", "AQAB"), KeyError::TooShort),
    ] {
        let error = read(text).unwrap_err();
        assert_eq!(error, want, "{text}");
        assert!(!format!("{error} {error:?}").contains("sentinel"));
    }
}

#[test]
fn a_jwk_with_leading_zeros_or_padding_is_taken() {
    let exponent = with(vectors::RSA, "e", "AAEAAQ==");
    assert_eq!(read(&exponent).unwrap().public_jwk(), read(vectors::RSA).unwrap().public_jwk());
}

#[test]
fn a_key_never_prints_its_private_half() {
    let shown = format!("{:?} {:#?}", read(vectors::P256).unwrap(), read(vectors::ED25519).unwrap());
    assert!(!shown.contains("jpsQnnGQ") && !shown.contains("nWGxne_9"), "{shown}");
}

/// Made for this test; it opens nothing.
const RSA_1024: &str = "-----BEGIN RSA PRIVATE KEY-----
MIICXAIBAAKBgQDdivjkJyjPJXY4vq1d+c8d3J7sSTxuDvwuHs2Ef+0Cvl9CEYq6
4bEKid4Y6NrvhMGRJGpAGM4PZJIqSO+7EaXRes8cE9mBWkYLgkyhrribetUdPk/o
ovqN6rtX2eq8ZgzIPjCm3bqqnzdZOvVg2J8Y7HHogiPpmp/X0zWCckaw5wIDAQAB
AoGAC4ODd+gJGOrrf/t46x9mgjjLEaCkwVuKA6OaLr6vRKs8LCTZPukn2FJd9pFz
f2s43CA2XWpsmyQw7H2p5+D86xNjxDOjIN9FMoPvru30dR6SEqBuF2Kz4ep8MBeM
UNtbweSTThNIGJUVvUOYmzKtAEVvdJYl4OdxJ+O6xUc0iZECQQDvdq0768kkqgg6
A+S4ynfv4uEZHi2wU/QvPuEmYeKXHzmXNzRBG+Uuqpa6DUGCXi41mSN3OcSBYUo5
SJ9HuvhTAkEA7Nd8kVPAJYUHjnhTT5GcBkWS/oHdw1qkE7fMQUIrKFLuYglVQTYB
oWFwxx4HVtcEr/PTgOIZRi+4rWruvi1CnQJBAMJqP8teazfxNCyl7JR7DVUdhlO2
RLHb92xESNe4sRawqzkyAKK72x5AMY9sI7uMa0foxPqPVBMWwgQwCeFa0zECQC/Q
pU51uRIaFFd4BWHIBNbjTvTg5ROehgeREMSQBkSC0aurNLIQpC2fjXQ1pMesaz7W
m/mmK/IWilNAhmiQnKUCQHaJJG9Khg4CnNOMDS1TcnQ3BFKY2KdHAXBLSG4MvUJo
8MPpF1qxzGB/8nXwPE6DWNzdKQomcCmEg80+UkPq/10=
-----END RSA PRIVATE KEY-----
";
