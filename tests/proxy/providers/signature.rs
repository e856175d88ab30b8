//! The signatures of what a client signs: assertions and tokens by the keys of its provider's file, proofs by their own.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::stub::SECRET;

/// What the provider has of the keys that files name.
#[derive(Debug)]
pub(super) struct PublicKeys {
    pub(super) rsa: Vec<u8>,
    pub(super) ec: Vec<u8>,
}

impl PublicKeys {
    /// What is wrong with the signature of a JWT.
    pub(super) fn verify(&self, jwt: &str) -> Result<(), String> {
        let decode =
            |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|error| format!("is not base64url: {error}"));
        let (message, signature) = jwt.rsplit_once('.').ok_or("has no signature")?;
        let signature = decode(signature)?;
        let header = decode(message.split('.').next().unwrap_or_default())?;
        let header: Value =
            serde_json::from_slice(&header).map_err(|error| format!("has no header: {error}"))?;
        let own = header.get("jwk").map(|jwk| {
            let member = |name: &str| decode(jwk[name].as_str().unwrap_or_default());
            Ok::<_, String>([vec![4], member("x")?, member("y")?].concat())
        });
        let own = own.transpose()?;
        let of_rsa = |how: &'static dyn VerificationAlgorithm| Some((how, self.rsa.as_slice()));
        let key: Option<(&'static dyn VerificationAlgorithm, &[u8])> =
            match header["alg"].as_str().unwrap_or_default() {
                "HS256" => {
                    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
                    let verified = hmac::verify(&key, message.as_bytes(), &signature);
                    return verified.map_err(|_| "is not authenticated by the client's secret".to_owned());
                }
                "RS256" => of_rsa(&RSA_PKCS1_2048_8192_SHA256),
                "RS384" => of_rsa(&RSA_PKCS1_2048_8192_SHA384),
                "RS512" => of_rsa(&RSA_PKCS1_2048_8192_SHA512),
                "PS256" => of_rsa(&RSA_PSS_2048_8192_SHA256),
                "PS384" => of_rsa(&RSA_PSS_2048_8192_SHA384),
                "PS512" => of_rsa(&RSA_PSS_2048_8192_SHA512),
                "ES256" => Some((&ECDSA_P256_SHA256_FIXED, own.as_deref().unwrap_or(&self.ec))),
                _ => None,
            };
        let (how, key) =
            key.ok_or_else(|| format!("is signed by {}, which is not verified here", header["alg"]))?;
        let verified = UnparsedPublicKey::new(how, key).verify(message.as_bytes(), &signature);
        verified.map_err(|_| "is not signed by the client's key".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cupbearer_testing::Key;

    #[tokio::test]
    async fn a_signature_of_another_key_is_found_out() {
        let (rsa, ec) = (Key::new("RS256").await, Key::new("ES256").await);
        let keys = PublicKeys { rsa: rsa.public().await, ec: ec.public().await };
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#);
        for jwt in ["", "a.b", "a.b.c", &format!("{header}.e30.{}", URL_SAFE_NO_PAD.encode([1; 64]))] {
            assert!(keys.verify(jwt).is_err(), "{jwt}");
        }
    }
}
