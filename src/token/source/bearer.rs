//! What a `jwt_bearer` grant spends: an assertion, signed anew for each attempt.

use crate::oauth::{AssertionUse, Bearer, GoogleKey, read};
use crate::token::settings::{BearerAssertion, ServerOrigin};
use crate::token::store::Fingerprint;

/// What is known of it before its key is read.
pub(super) fn bearer<'a>(assertion: &'a BearerAssertion, origin: &'a ServerOrigin) -> Bearer<'a> {
    Bearer {
        key: &assertion.key,
        issuer: assertion.issuer.as_deref(),
        subject: assertion.subject.as_deref(),
        audience: assertion.audience.as_deref(),
        client_id: &origin.client.id,
        server: &origin.server.location,
        scope: &origin.request.scope,
        terms: &assertion.terms,
        used_as: AssertionUse::Grant,
    }
}

/// Whose name the assertion has where only its key says so: that of a Google service account.
pub(super) async fn subject(assertion: &BearerAssertion) -> Option<Fingerprint> {
    if assertion.issuer.is_some() {
        return None;
    }
    let text = read(&assertion.key.key).await.ok()?;
    let email = GoogleKey::parse(text.expose())?.ok()?.email;
    Some(Fingerprint::of([email.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use crate::clock;
    use crate::oauth::{AssertionTerms, KeySettings, Location};
    use crate::secret::SecretSource;
    use crate::token::settings::GrantSettings;

    use super::super::tests::origin;
    use super::*;

    #[tokio::test]
    async fn each_attempt_signs_with_the_key_that_is_there_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        let assertion = BearerAssertion {
            key: KeySettings {
                key: SecretSource::File(path.clone()),
                key_id: None,
                algorithm: None,
                certificate: None,
            },
            issuer: None,
            subject: Some("alice".to_owned()),
            audience: None,
            terms: AssertionTerms::default(),
        };
        let mut origin = origin(GrantSettings::JwtBearer(assertion.clone()));
        origin.server.location = Location::endpoint("https://as.example/token".parse().unwrap());
        origin.client.id = "orders".to_owned();
        let bearer = bearer(&assertion, &origin);
        let sign = || bearer.sign(clock::wall());
        assert_eq!(sign().await.unwrap_err().cause(), "secret");
        for (kind, alg) in [(&rcgen::PKCS_ECDSA_P256_SHA256, "ES256"), (&rcgen::PKCS_ED25519, "EdDSA")] {
            std::fs::write(&path, rcgen::KeyPair::generate_for(kind).unwrap().serialize_pem()).unwrap();
            let jwt = sign().await.unwrap();
            let part = |n| URL_SAFE_NO_PAD.decode(jwt.expose().split('.').nth(n).unwrap()).unwrap();
            let header = String::from_utf8(part(0)).unwrap();
            assert!(header.contains(alg), "{header}");
            let claims = String::from_utf8(part(1)).unwrap();
            let want = r#""iss":"orders","sub":"alice","aud":"https://as.example/token""#;
            assert!(claims.contains(want), "{claims}");
        }
    }
}
