//! A token that the configuration holds, or names the place of: it is not renewed.

use futures_util::future::BoxFuture;

use crate::oauth::Lifetime;
use crate::secret::SecretSource;
use crate::token::error::{Error, TokenHolder};

use super::dated_secret::{READ_PATIENCE, dated};
use super::text;
use super::token_source::{Fetched, Source};

/// A token that stays as it is until someone replaces it.
#[derive(Debug)]
pub(super) struct FixedSource {
    token: SecretSource,
}

impl FixedSource {
    pub(super) const fn new(token: SecretSource) -> Self {
        Self { token }
    }

    async fn read(&self) -> Result<Fetched, Error> {
        let (secret, written) = dated(&self.token).await??;
        let mut response = text::read(secret.expose(), TokenHolder::Configuration)?;
        let mut asked = None;
        match (response.lifetime, written) {
            // A JWT's own claim, and what a file of a known age says.
            (Lifetime::ExpiresAt(_), _) => {}
            (Lifetime::ExpiresIn(_) | Lifetime::NoTime(_), Some(_)) => asked = written,
            _ => response.lifetime = Lifetime::Unbounded,
        }
        Ok(Fetched { asked, ..response.into() })
    }
}

impl Source for FixedSource {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(self.read())
    }

    fn patience(&self) -> std::time::Duration {
        READ_PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::super::tests::jwt;
    use super::*;
    use crate::clock::BootInstant;
    use crate::lifecycle::DrainTrigger;
    use crate::metrics::Metrics;
    use crate::secret::Secret;
    use crate::token::renewer::tests::settings;
    use crate::token::{Limits, Origin, Renewer, Status, TokenSettings};

    fn inline(text: &str) -> SecretSource {
        SecretSource::Inline(Secret::new(text.to_owned()))
    }

    fn fixed(text: &str) -> TokenSettings {
        TokenSettings { origin: Origin::Static(inline(text)), ..settings() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_opaque_token_is_good_for_ever_and_read_once() {
        let (_trigger, drain) = DrainTrigger::new();
        let renewer = Renewer::spawn(Limits::default(), drain, &Metrics::new());
        let token = renewer.add("api", fixed("t"), FixedSource::new(inline("t")));
        let held = token.wait().await.unwrap();
        assert_eq!((held.expires_at, held.value.to_str().unwrap()), (BootInstant::NEVER, "Bearer t"));
        sleep(Duration::from_hours(2 * 365 * 24)).await;
        let state = token.load();
        assert_eq!((state.status(BootInstant::now()), state.attempts()), (Status::Valid, 1));
    }

    #[tokio::test]
    async fn a_jwt_is_used_up_to_its_own_expiry_and_then_the_state_says_what_to_do() {
        let (_trigger, drain) = DrainTrigger::new();
        let renewer = Renewer::spawn(Limits::default(), drain, &Metrics::new());
        let good = renewer.add("good", fixed("good"), FixedSource::new(inline(&jwt(100))));
        let left = (good.wait().await.unwrap().expires_at - BootInstant::now()).as_secs();
        assert!((95..=100).contains(&left), "{left}");
        let bad = renewer.add("bad", fixed("bad"), FixedSource::new(inline(&jwt(-5))));
        let error = bad.wait().await.unwrap_err();
        assert_eq!(error.status, Status::Misconfigured);
        assert_eq!(
            error.cause.unwrap().to_string(),
            "the configured token has expired; put a new one in its place"
        );
    }

    #[tokio::test]
    async fn an_expires_in_without_an_instant_to_count_from_says_nothing() {
        let text = r#"{"access_token":"t","expires_in":60}"#;
        let fetched = FixedSource::new(inline(text)).fetch().await.unwrap();
        assert_eq!((fetched.response.lifetime, fetched.asked), (Lifetime::Unbounded, None));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("t"), text).unwrap();
        let fetched = FixedSource::new(SecretSource::File(dir.path().join("t"))).fetch().await.unwrap();
        assert_eq!(fetched.response.lifetime, Lifetime::ExpiresIn(Duration::from_mins(1)));
        assert!(fetched.asked.is_some());
    }
}
