//! A token that no server issues: a JWT that this program signs and the API itself verifies.

use futures_util::future::BoxFuture;

use crate::clock;
use crate::oauth::{AssertionUse, Bearer, Location, TokenType, parse_bare};
use crate::token::error::{AttemptFault, Error};
use crate::token::settings::BearerAssertion;

use super::dated_secret::READ_PATIENCE;
use super::token_source::{Fetched, Source};

/// A key, read at each fetch.
#[derive(Debug)]
pub(super) struct SignedSource {
    assertion: BearerAssertion,
}

impl SignedSource {
    pub(super) const fn new(assertion: BearerAssertion) -> Self {
        Self { assertion }
    }

    async fn sign(&self) -> Result<Fetched, Error> {
        let BearerAssertion { key, issuer, subject, audience, terms } = &self.assertion;
        let bearer = Bearer {
            key,
            issuer: issuer.as_deref(),
            subject: subject.as_deref(),
            audience: audience.as_deref(),
            client_id: "",
            server: &Location::default(),
            scope: &[],
            terms,
            used_as: AssertionUse::AccessToken,
        };
        let token = bearer.sign(clock::wall()).await?;
        // What was signed just now is a token; its own `exp` is its end.
        let response = parse_bare(token.expose()).map_err(|_| Error::from(AttemptFault::Panicked))?;
        Ok(crate::oauth::TokenResponse { token_type: TokenType::Bearer, ..response }.into())
    }
}

impl Source for SignedSource {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(self.sign())
    }

    fn patience(&self) -> std::time::Duration {
        READ_PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::lifecycle::DrainTrigger;
    use crate::metrics::Metrics;
    use crate::oauth::{AssertionTerms, KeySettings};
    use crate::secret::SecretSource;
    use crate::token::renewer::tests::settings;
    use crate::token::{Limits, Origin, Renewer, TokenSettings};

    #[tokio::test]
    async fn it_is_signed_anew_before_it_ends_with_the_key_that_is_there_then() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        let write = || std::fs::write(&path, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
        write();
        let key = KeySettings {
            key: SecretSource::File(path.clone()),
            key_id: Some("2X9R4HXF34".to_owned()),
            algorithm: None,
            certificate: None,
        };
        let terms = AssertionTerms { lifetime: Duration::from_mins(20), ..AssertionTerms::default() };
        let audience = Some("appstoreconnect-v1".to_owned());
        let assertion =
            BearerAssertion { key, issuer: Some("57246542".into()), subject: None, audience, terms };
        let source = SignedSource::new(assertion.clone());
        let first = source.fetch().await.unwrap();
        let second = source.fetch().await.unwrap();
        assert_ne!(first.response.access_token, second.response.access_token);

        let (_trigger, drain) = DrainTrigger::new();
        let renewer = Renewer::spawn(Limits::default(), drain, &Metrics::new());
        let settings = TokenSettings { origin: Origin::SelfSigned(Box::new(assertion)), ..settings() };
        assert_eq!((settings.grant(), settings.files()), ("self_signed", vec![path.as_path()]));
        let token = renewer.add("api", settings, source);
        let held = token.wait().await.unwrap();
        let left = (held.expires_at - clock::BootInstant::now()).as_secs();
        assert!((1180..=1200).contains(&left), "{left}");
        assert!(token.load().next_attempt.is_some(), "it is renewed by time");

        std::fs::remove_file(&path).unwrap();
        let gone = SignedSource::new(match &token.settings().origin {
            Origin::SelfSigned(assertion) => (**assertion).clone(),
            other => panic!("{other:?}"),
        });
        assert_eq!(gone.fetch().await.unwrap_err().cause(), "secret");
    }
}
