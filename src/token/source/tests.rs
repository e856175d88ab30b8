//! A source for tests that gives the same token each time.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{Fetched, Source};
use crate::oauth::{
    Client, ClientAuth, Error, Lifetime, Location, ServerSettings, TokenRequest, TokenResponse, TokenType,
    Transport,
};
use crate::secret::Secret;
use crate::token::{GrantSettings, ServerOrigin};

/// Gives a token that lives for an hour.
pub(in crate::token) struct Scripted {
    takes: Duration,
}

impl Scripted {
    pub(in crate::token) fn after(takes: Duration) -> Arc<Self> {
        Arc::new(Self { takes })
    }
}

pub(in crate::token) fn response(token: &str, lives: Duration) -> TokenResponse {
    TokenResponse {
        access_token: Secret::new(token.to_owned()),
        lifetime: Lifetime::ExpiresIn(lives),
        token_type: TokenType::Bearer,
        scope: None,
        refresh_token: None,
        issued_token_type: None,
    }
}

/// An authorization server that nobody calls.
pub(in crate::token) fn origin(grant: GrantSettings) -> ServerOrigin {
    let transport = Transport {
        ca_file: None,
        certificate: None,
        proxy: None,
        connect_timeout: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
    };
    ServerOrigin {
        server: ServerSettings { location: Location::default(), transport },
        client: Client { id: "c".into(), auth: ClientAuth::None },
        grant,
        request: TokenRequest { scope: vec![], audience: None, resource: vec![], params: vec![] },
        dpop: None,
    }
}

impl Source for Scripted {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(async {
            tokio::time::sleep(self.takes).await;
            Ok(response("scripted", Duration::from_hours(1)).into())
        })
    }

    fn patience(&self) -> Duration {
        Duration::from_hours(2)
    }
}
