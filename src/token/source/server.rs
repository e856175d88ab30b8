//! A token from an authorization server: reads what the grant spends, and asks.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::oauth::{AuthorizationServer, Dpop, Error, ErrorKind, Grant, TokenHint, read};
use crate::secret::Secret;
use crate::token::handle::Roster;
use crate::token::settings::{GrantSettings, ServerOrigin};

use super::possession::Possession;
use super::stored::{Exchange, Spent};
use super::{Fetched, Source, bearer};

/// An OAuth client at its authorization server.
#[derive(Debug)]
pub struct ServerSource {
    server: Arc<AuthorizationServer>,
    origin: ServerOrigin,
    /// The key that its tokens are bound to, where they are.
    possession: Option<Possession>,
    #[expect(dead_code, reason = "the subject tokens of token_exchange are still to come")]
    roster: Roster,
}

impl ServerSource {
    /// Sources of the same server may share it.
    #[must_use]
    pub fn new(server: Arc<AuthorizationServer>, origin: ServerOrigin, roster: Roster) -> Self {
        let possession = origin.dpop.clone().map(Possession::new);
        Self { server, origin, possession, roster }
    }

    async fn ask(&self) -> Result<Fetched, Error> {
        self.ask_with(Spent::default()).await
    }

    async fn ask_with(&self, spent: Spent) -> Result<Fetched, Error> {
        let grant = match spent.refresh_token {
            Some(token) => Grant::RefreshToken(token),
            None => self.grant().await?,
        };
        let mut request = Cow::Borrowed(&self.origin.request);
        if let Some(granted) = &spent.granted
            && request.scope.iter().any(|scope| !granted.contains(scope))
        {
            request.to_mut().scope.retain(|scope| granted.contains(scope));
        }
        let dpop = match &self.possession {
            Some(possession) => Some(possession.key().await?),
            None => None,
        };
        let client = &self.origin.client;
        let response = self.server.token(client, &grant, &request, dpop.as_deref()).await?;
        Ok(Fetched { dpop, ..response.into() })
    }

    /// The grant, with what it spends read now.
    async fn grant(&self) -> Result<Grant, Error> {
        match &self.origin.grant {
            GrantSettings::ClientCredentials => Ok(Grant::ClientCredentials),
            GrantSettings::Password { username, password } => {
                let password = read(password).await?;
                Ok(Grant::Password { username: username.clone(), password })
            }
            // `Stored` brings it.
            GrantSettings::RefreshToken { .. } => Err(Error::here(ErrorKind::LoginRequired)),
            GrantSettings::JwtBearer(assertion) => {
                bearer::grant(assertion, &self.origin, self.server.now()).await
            }
            GrantSettings::TokenExchange(_) => Err(Error::here(ErrorKind::Panicked)),
        }
    }
}

impl Source for ServerSource {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(self.ask())
    }

    fn forget(&self, access_token: Option<Secret<String>>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            match &access_token {
                Some(token) => self.server.revoke(&self.origin.client, token, TokenHint::AccessToken).await,
                None => Ok(()),
            }
        })
    }

    fn patience(&self) -> Duration {
        self.origin.server.transport.timeout.saturating_mul(EXCHANGES).saturating_add(BACKSTOP)
    }
}

impl Exchange for ServerSource {
    fn key<'a>(
        &'a self,
        stored: Option<&'a Secret<Vec<u8>>>,
    ) -> BoxFuture<'a, Result<Option<Arc<Dpop>>, Error>> {
        Box::pin(async move {
            let Some(possession) = &self.possession else { return Ok(None) };
            let stored = stored.filter(|_| !possession.is_configured());
            match stored.and_then(|der| Dpop::from_pkcs8(der.expose()).ok()) {
                Some(key) => Ok(Some(possession.adopt(key))),
                None => possession.key().await.map(Some),
            }
        })
    }

    fn kept_key(&self, key: &Dpop) -> Option<Secret<Vec<u8>>> {
        self.possession.as_ref().filter(|possession| !possession.is_configured())?;
        key.to_pkcs8().ok()
    }

    fn ask(&self, spent: Spent) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(self.ask_with(spent))
    }

    fn revoke<'a>(&'a self, token: &'a Secret<String>, hint: TokenHint) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.server.revoke(&self.origin.client, token, hint))
    }

    fn patience(&self) -> Duration {
        Source::patience(self)
    }
}

/// How many exchanges an attempt has at most: two for discovery, the token request, the same with a nonce, the same by
/// the server's clock, and a look at the token.
const EXCHANGES: u32 = 7;

/// What an attempt gets beyond the transport's own timeouts before it is given up: it reads a file, too.
const BACKSTOP: Duration = Duration::from_secs(10);
