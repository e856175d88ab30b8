//! Where a token comes from. The renewer knows no more of it than this.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::oauth::{AuthorizationServer, Client, Error, TokenRequest, TokenResponse};

/// A way to one token. Each call asks once; when to call is the renewer's business.
pub trait Source: Send + Sync {
    /// Asks for a token. It may be dropped at any await.
    ///
    /// # Errors
    /// [`Error`], which says whose fault it is.
    fn fetch(&self) -> BoxFuture<'_, Result<TokenResponse, Error>>;
}

impl<S: Source + ?Sized> Source for Arc<S> {
    fn fetch(&self) -> BoxFuture<'_, Result<TokenResponse, Error>> {
        (**self).fetch()
    }
}

/// An OAuth client at its authorization server.
#[derive(Debug)]
pub struct OAuthSource {
    server: Arc<AuthorizationServer>,
    client: Client,
    request: TokenRequest,
}

impl OAuthSource {
    /// A source that sends `request` as `client`. Sources of the same server may share it.
    #[must_use]
    pub const fn new(server: Arc<AuthorizationServer>, client: Client, request: TokenRequest) -> Self {
        Self { server, client, request }
    }
}

impl Source for OAuthSource {
    fn fetch(&self) -> BoxFuture<'_, Result<TokenResponse, Error>> {
        Box::pin(self.server.token(&self.client, &self.request))
    }
}
