//! JSON Web Signatures in compact serialisation (RFC 7515 section 3.1): JWTs that this program signs.
//!
//! Client assertions and JWT bearer grants are made here; `dpop`, which signs for every request, has a way of its own.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use crate::secret::Secret;

use crate::oauth::jose::key::{KeyError, SigningKey};

/// The header, but for `alg`, which is the key's.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(in crate::oauth) struct Header<'a> {
    /// `typ`; most want `JWT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::oauth) typ: Option<&'a str>,
    /// `kid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::oauth) kid: Option<&'a str>,
    /// `x5t#S256`: the SHA-256 of a certificate in base64url.
    #[serde(rename = "x5t#S256", skip_serializing_if = "Option::is_none")]
    pub(in crate::oauth) certificate: Option<&'a str>,
}

/// How a JWT is authenticated with a secret that both sides know (RFC 7518 section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HmacAlgorithm {
    /// HMAC with SHA-256.
    #[default]
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
}

impl HmacAlgorithm {
    /// What `alg` says.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }

    /// The fewest bytes of a secret: as many as the hash has.
    #[must_use]
    pub(crate) const fn least_bytes(self) -> usize {
        match self {
            Self::Hs256 => 32,
            Self::Hs384 => 48,
            Self::Hs512 => 64,
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Hs256 => hmac::HMAC_SHA256,
            Self::Hs384 => hmac::HMAC_SHA384,
            Self::Hs512 => hmac::HMAC_SHA512,
        }
    }
}

/// A JWT signed with `key`. `claims` is a JSON object.
///
/// # Errors
/// [`KeyError::Library`]; no key that was read and no claims of ours lead to it.
pub(in crate::oauth) fn sign(
    key: &SigningKey,
    header: Header<'_>,
    claims: &impl Serialize,
) -> Result<Secret<String>, KeyError> {
    let header = with_algorithm(key.algorithm().as_str(), header)?;
    let claims = serde_json::to_vec(claims).map_err(|_| KeyError::Library)?;
    compact(&header, &claims, |message| key.sign(message))
}

/// A JWT under HMAC (RFC 7518 section 3.2).
///
/// # Errors
/// [`KeyError::Library`]; no claims of ours lead to it.
pub(in crate::oauth) fn authenticate(
    secret: &[u8],
    algorithm: HmacAlgorithm,
    header: Header<'_>,
    claims: &impl Serialize,
) -> Result<Secret<String>, KeyError> {
    let header = with_algorithm(algorithm.as_str(), header)?;
    let claims = serde_json::to_vec(claims).map_err(|_| KeyError::Library)?;
    compact(&header, &claims, |message| Ok(mac(secret, algorithm, message)))
}

fn mac(secret: &[u8], algorithm: HmacAlgorithm, message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(algorithm.hmac(), secret), message).as_ref().to_vec()
}

fn with_algorithm(alg: &str, header: Header<'_>) -> Result<Vec<u8>, KeyError> {
    #[derive(Serialize)]
    struct Whole<'a> {
        alg: &'a str,
        #[serde(flatten)]
        rest: Header<'a>,
    }
    serde_json::to_vec(&Whole { alg, rest: header }).map_err(|_| KeyError::Library)
}

fn compact(
    header: &[u8],
    claims: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, KeyError>,
) -> Result<Secret<String>, KeyError> {
    // Its full size at once: a buffer that grows leaves copies behind.
    let mut text = String::with_capacity((header.len() + claims.len()) * 4 / 3 + MAX_SIGNATURE_CHARACTERS);
    URL_SAFE_NO_PAD.encode_string(header, &mut text);
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(claims, &mut text);
    let signature = sign(text.as_bytes())?;
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut text);
    Ok(Secret::new(text))
}

/// That of an RSA key of 8192 bits, the longest there is; and some.
const MAX_SIGNATURE_CHARACTERS: usize = 1400;

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use serde_json::{Value, json};

    use super::*;
    use crate::oauth::jose::key::vectors;

    fn key(jwk: &str) -> SigningKey {
        SigningKey::from_text(jwk, None).unwrap()
    }

    fn decode(part: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(part).unwrap()
    }

    /// What RFC 7515 appendices A.1 to A.3 sign.
    const CLAIMS: &[u8] =
        b"{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}";

    #[test]
    fn hmac_is_that_of_the_rfc() {
        // RFC 7515 appendix A.1.
        let secret =
            decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow");
        let header = b"{\"typ\":\"JWT\",\r\n \"alg\":\"HS256\"}";
        let got = compact(header, CLAIMS, |message| Ok(mac(&secret, HmacAlgorithm::Hs256, message))).unwrap();
        assert_eq!(
            got.expose(),
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
        );
    }

    #[test]
    fn rsa_is_that_of_the_rfc() {
        // RFC 7515 appendix A.2.
        let key = key(vectors::RSA);
        let got = compact(br#"{"alg":"RS256"}"#, CLAIMS, |message| key.sign(message)).unwrap();
        let (_, signature) = got.expose().rsplit_once('.').unwrap();
        assert_eq!(
            signature,
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
        );
    }

    #[test]
    fn ed25519_is_that_of_the_rfc() {
        // RFC 8037 appendix A.4.
        let key = key(vectors::ED25519);
        let payload = b"Example of Ed25519 signing";
        let got = compact(br#"{"alg":"EdDSA"}"#, payload, |message| key.sign(message)).unwrap();
        assert_eq!(
            got.expose(),
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
    }

    #[test]
    fn es256_is_verified_by_the_key_of_the_rfc_as_its_own_signature_is() {
        // RFC 7515 appendix A.3; the algorithm has a random number in it.
        let point = [
            vec![4],
            decode("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"),
            decode("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"),
        ]
        .concat();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        let key = key(vectors::P256);
        let got = compact(br#"{"alg":"ES256"}"#, CLAIMS, |message| key.sign(message)).unwrap();
        let (message, signature) = got.expose().rsplit_once('.').unwrap();
        let printed =
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        for signature in [signature, printed] {
            public.verify(message.as_bytes(), &decode(signature)).unwrap();
        }
    }

    #[test]
    fn the_header_names_the_keys_algorithm_and_only_what_there_is() {
        let parts = |jwt: &Secret<String>| -> Vec<Value> {
            let parts = jwt.expose().split('.').take(2);
            parts.map(|part| serde_json::from_slice(&decode(part)).unwrap()).collect()
        };
        let claims = json!({"iss": "orders", "aud": "https://as.example"});
        let key = key(vectors::RSA);
        let got = sign(&key, Header::default(), &claims).unwrap();
        assert_eq!(parts(&got), [json!({"alg": "RS256"}), claims.clone()]);
        let header = Header { typ: Some("JWT"), kid: Some("2026-1"), certificate: Some("x5t") };
        let got = sign(&key, header, &claims).unwrap();
        let want = json!({"alg": "RS256", "typ": "JWT", "kid": "2026-1", "x5t#S256": "x5t"});
        assert_eq!(parts(&got), [want, claims.clone()]);
        let (message, signature) = got.expose().rsplit_once('.').unwrap();
        assert_eq!(key.sign(message.as_bytes()).unwrap(), decode(signature));
        for (algorithm, name, length) in [
            (HmacAlgorithm::Hs256, "HS256", 32),
            (HmacAlgorithm::Hs384, "HS384", 48),
            (HmacAlgorithm::Hs512, "HS512", 64),
        ] {
            let got = authenticate(b"secret", algorithm, Header::default(), &claims).unwrap();
            assert_eq!(parts(&got), [json!({"alg": name}), claims.clone()]);
            let (_, signature) = got.expose().rsplit_once('.').unwrap();
            assert_eq!((decode(signature).len(), algorithm.least_bytes()), (length, length));
        }
    }

    #[test]
    fn a_signed_token_with_the_longest_key_fits_its_buffer() {
        let signature = vec![0; 1024];
        let got = compact(b"{}", b"{}", |_| Ok(signature)).unwrap();
        assert!(got.expose().len() <= 2 + MAX_SIGNATURE_CHARACTERS);
    }
}
