//! The assertion that a `jwt_bearer` grant spends (RFC 7523 section 2.1): who says so, of whom, to whom.
//!
//! `token` calls this before each token request; `assertion` writes it.

use std::time::SystemTime;

use crate::secret::Secret;

use super::assertion::{Claims, Signer};
use super::client::KeySettings;
use super::endpoint::read;
use super::error::Error;
use super::google::GoogleKey;
use super::key::SigningKey;
use super::kind::{Held, Kind};
use super::server::Location;

/// What is known of an assertion before its key is read.
#[derive(Clone, Copy, Debug)]
pub struct Bearer<'a> {
    /// What it is signed with: PEM, a JWK, or the key file of a Google service account.
    pub key: &'a KeySettings,
    /// `iss`; `None`: a Google key's `client_email`, else the client identifier.
    pub issuer: Option<&'a str>,
    /// `sub`; `None`: as `iss`; with a Google key no `sub` at all, for there it means delegation.
    pub subject: Option<&'a str>,
    /// `aud`; `None`: a Google key's `token_uri`, else the server's issuer, else its token endpoint, as configured.
    pub audience: Option<&'a str>,
    /// The client that asks.
    pub client_id: &'a str,
    /// Whom it asks.
    pub server: &'a Location,
    /// What for: Google reads it here, as the claim `scope`.
    pub scope: &'a [String],
}

impl Bearer<'_> {
    /// Reads the key and signs. `now` is the server's clock, as far as it is known.
    ///
    /// # Errors
    /// [`Error`] where the key cannot be read or used.
    pub async fn sign(&self, now: SystemTime) -> Result<Secret<String>, Error> {
        let text = read(&self.key.key).await?;
        let held = || Held::by(&self.key.key);
        let google = match GoogleKey::parse(text.expose()) {
            Some(parsed) => Some(parsed.map_err(|fault| Error::here(Kind::GoogleKey(held(), fault)))?),
            None => None,
        };
        let pem = google.as_ref().map_or(text.expose(), |google| google.private_key.expose());
        let key = SigningKey::from_text(pem, self.key.algorithm)
            .map_err(|fault| Error::here(Kind::Key(held(), fault)))?;
        let settings = KeySettings {
            key_id: self.key.key_id.clone().or_else(|| google.as_ref()?.key_id.clone()),
            ..self.key.clone()
        };
        let signer = Signer::key(key, &settings).await?;

        let issuer = self.issuer.or_else(|| Some(google.as_ref()?.email.as_str())).unwrap_or(self.client_id);
        let subject = if google.is_some() { self.subject } else { Some(self.subject.unwrap_or(issuer)) };
        let token_uri = google.as_ref().and_then(|google| google.token_uri.as_deref());
        let Some(audience) = self.audience.or(token_uri).or_else(|| self.server.name()) else {
            return Err(Error::here(Kind::NoIssuer));
        };
        let scope = self.scope.join(" ");
        let scope = Some(scope.as_str()).filter(|scope| google.is_some() && !scope.is_empty());
        let claims = Claims { issuer, subject, audience, scope };
        signer.write(&claims, now).map_err(|_| Error::here(Kind::Panicked))
    }
}

impl Location {
    /// What the configuration calls the server: its issuer, else its token endpoint.
    fn name(&self) -> Option<&str> {
        let issuer = self.issuer.as_ref().map(super::server::Issuer::as_str);
        issuer.or_else(|| self.token_endpoint.as_ref().map(url::Url::as_str))
    }
}
