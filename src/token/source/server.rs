//! A token from an authorization server: reads what the grant spends, and asks.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::oauth::{AuthorizationServer, Error, ErrorKind, Grant, read};
use crate::token::handle::Roster;
use crate::token::settings::{GrantSettings, ServerOrigin};

use super::possession::Possession;
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
        let grant = self.grant().await?;
        let dpop = match &self.possession {
            Some(possession) => Some(possession.key().await?),
            None => None,
        };
        let ServerOrigin { client, request, .. } = &self.origin;
        let response = self.server.token(client, &grant, request, dpop.as_deref()).await?;
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
            GrantSettings::RefreshToken { .. } => Err(Error::here(ErrorKind::Panicked)),
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

    fn patience(&self) -> Duration {
        self.origin.server.transport.timeout.saturating_mul(EXCHANGES).saturating_add(BACKSTOP)
    }
}

/// How many exchanges an attempt has at most: two for discovery, the token request, the same with a nonce, the same by
/// the server's clock, and a look at the token.
const EXCHANGES: u32 = 7;

/// What an attempt gets beyond the transport's own timeouts before it is given up: it reads a file, too.
const BACKSTOP: Duration = Duration::from_secs(10);
