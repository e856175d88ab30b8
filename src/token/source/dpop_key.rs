//! The key that a source's tokens are bound to (RFC 9449): read from its file for each token request, else made once.

use std::sync::{Arc, Mutex, PoisonError};

use crate::oauth::{Dpop, Error, Held, RequestFault, SigningKey, read};
use crate::secret::SecretSource;
use crate::token::settings::DpopSettings;

/// The key for the next token. A token that is held keeps the key that it was asked for with.
#[derive(Debug)]
pub(in crate::token) struct DpopKey {
    settings: DpopSettings,
    /// Kept, and its servers' nonces with it, until the file has another key.
    current: Mutex<Option<Arc<Dpop>>>,
}

impl DpopKey {
    pub(in crate::token) const fn new(settings: DpopSettings) -> Self {
        Self { settings, current: Mutex::new(None) }
    }

    /// Whether the key is the configuration's to keep, and not the store's.
    pub(in crate::token) const fn is_configured(&self) -> bool {
        self.settings.key.is_some()
    }

    /// The key to ask for a token with: that of the file as it is now; without a file, the one made or adopted before.
    pub(in crate::token) async fn key(&self) -> Result<Arc<Dpop>, Error> {
        match &self.settings.key {
            Some(source) => self.configured(source).await,
            None => self.own(),
        }
    }

    /// Takes the key that was stored beside a refresh token (RFC 9449 section 5): only with it is the token good.
    pub(super) fn adopt(&self, key: Dpop) -> Arc<Dpop> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(known) if **known == key => Arc::clone(known),
            _ => Arc::clone(current.insert(Arc::new(key))),
        }
    }

    async fn configured(&self, source: &SecretSource) -> Result<Arc<Dpop>, Error> {
        let text = read(source).await?;
        let key = SigningKey::from_text(text.expose(), None)
            .map_err(|fault| Error::here(RequestFault::Key(Held::by(source), fault)))?;
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(known) if known.is_of(&key) => Ok(Arc::clone(known)),
            _ => Ok(Arc::clone(current.insert(Arc::new(Dpop::new(key))))),
        }
    }

    fn own(&self) -> Result<Arc<Dpop>, Error> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*current {
            return Ok(Arc::clone(known));
        }
        let made = Dpop::generate().map_err(|_| Error::here(RequestFault::Panicked))?;
        Ok(Arc::clone(current.insert(Arc::new(made))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dpop_key(key: Option<SecretSource>) -> DpopKey {
        DpopKey::new(DpopSettings { key })
    }

    fn pem() -> String {
        use base64::Engine as _;
        let der = SigningKey::generate().unwrap().to_pkcs8().unwrap();
        let text = base64::engine::general_purpose::STANDARD.encode(der.expose());
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    }

    #[tokio::test]
    async fn a_key_that_nobody_gave_is_made_once() {
        let dpop_key = dpop_key(None);
        let first = dpop_key.key().await.unwrap();
        assert!(Arc::ptr_eq(&first, &dpop_key.key().await.unwrap()));
    }

    #[tokio::test]
    async fn a_rotated_key_file_counts_at_the_next_token_request() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        std::fs::write(&path, pem()).unwrap();
        let dpop_key = dpop_key(Some(SecretSource::File(path.clone())));
        let first = dpop_key.key().await.unwrap();
        assert!(Arc::ptr_eq(&first, &dpop_key.key().await.unwrap()), "its nonces are kept");
        std::fs::write(&path, pem()).unwrap();
        let second = dpop_key.key().await.unwrap();
        assert_ne!(first.thumbprint(), second.thumbprint());
        std::fs::write(&path, "sentinel").unwrap();
        let error = dpop_key.key().await.unwrap_err();
        assert_eq!(error.cause(), "key");
        let shown = error.to_string();
        assert!(shown.contains(path.to_str().unwrap()) && !shown.contains("sentinel"), "{shown}");
    }

    #[tokio::test]
    async fn a_stored_key_is_used_from_then_on() {
        let dpop_key = dpop_key(None);
        let made = dpop_key.key().await.unwrap();
        let stored = Dpop::generate().unwrap();
        let thumbprint = stored.thumbprint();
        let der = stored.to_pkcs8().unwrap();
        let adopted = dpop_key.adopt(stored);
        let again = dpop_key.adopt(Dpop::from_pkcs8(der.expose()).unwrap());
        assert!(Arc::ptr_eq(&adopted, &again), "the same key keeps its nonces");
        assert_eq!(dpop_key.key().await.unwrap().thumbprint(), thumbprint);
        assert_ne!(made.thumbprint(), thumbprint);
    }
}
