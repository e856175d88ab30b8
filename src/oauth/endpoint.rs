//! The token endpoint (RFC 6749 section 3.2): one request, one answer.
//!
//! The crate `oauth2` writes the request; it is sent and read here. That crate's own reading of answers is not used:
//! it refuses what real servers send, and its errors hold bodies. `token` calls this, and says when.

use std::fmt;

use http::header::AUTHORIZATION;
use oauth2::basic::BasicClient;
use oauth2::{AuthType, ClientId, ClientSecret, RequestTokenError, Scope, TokenUrl};
use url::Url;

use crate::secret::{Secret, SecretSource};

use super::client::{Client, ClientAuth};
use super::error::{Error, Kind, Place};
use super::grant::{Grant, TokenRequest};
use super::metadata::Metadata;
use super::response::{TokenResponse, parse};
use super::server::{Location, ServerSettings};
use super::transport::{Http, ServerError};

/// An authorization server that can be asked for tokens. Tokens of several clients may share one.
#[derive(Debug)]
pub struct AuthorizationServer {
    endpoint: Endpoint,
    http: Http,
}

#[derive(Debug)]
enum Endpoint {
    Fixed(Url),
    Discovered(Metadata),
}

impl AuthorizationServer {
    /// Sets up the way to a server; no connection is made yet. Blocks while it reads the certificate authorities.
    ///
    /// # Errors
    /// [`ServerError`] where the authorities or the proxy are not usable.
    pub fn new(settings: &ServerSettings) -> Result<Self, ServerError> {
        let endpoint = match &settings.location {
            Location::Issuer(issuer) => Endpoint::Discovered(Metadata::new(issuer.clone())),
            Location::TokenEndpoint(url) => Endpoint::Fixed(url.clone()),
        };
        Ok(Self { endpoint, http: Http::new(&settings.transport)? })
    }

    /// Asks for a token, once. Takes at most one `timeout` of the transport, and two more where discovery is due.
    ///
    /// # Errors
    /// [`Error`], which says whose fault it is. Where the client's secret cannot be read, nothing is sent.
    pub async fn token(&self, client: &Client, request: &TokenRequest) -> Result<TokenResponse, Error> {
        let secret = read(client.auth.secret()).await?;
        let url = match &self.endpoint {
            Endpoint::Fixed(url) => url.clone(),
            Endpoint::Discovered(metadata) => metadata.token_endpoint(&self.http).await?,
        };
        let outcome = self.ask(&url, client, &secret, request).await;
        if let (Endpoint::Discovered(metadata), Err(error)) = (&self.endpoint, &outcome)
            && error.kind().may_have_moved()
        {
            metadata.doubt();
        }
        outcome
    }

    async fn ask(
        &self,
        url: &Url,
        client: &Client,
        secret: &Secret<String>,
        request: &TokenRequest,
    ) -> Result<TokenResponse, Error> {
        let place = Place::of(url);
        let request = write(url, client, secret, request).ok_or(Error::here(Kind::Panicked))?;
        let answer = self.http.send(request, &place).await?;
        parse(answer.status, &answer.body).map_err(|kind| Error::at(place, kind).after(answer.retry_after))
    }
}

impl Kind {
    /// Whether a second request to the same host would fare no better.
    pub(super) const fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Dns | Self::Connect(_) | Self::Proxy | Self::Tls(_) | Self::Timeout(_) | Self::Reset
        )
    }

    /// Whether it is likely that the token endpoint is somewhere else by now.
    fn may_have_moved(&self) -> bool {
        self.is_unreachable()
            || matches!(self, Self::Redirect(_))
            || matches!(self, Self::Status(status) if matches!(status.as_u16(), 404 | 405 | 410))
    }
}

/// Reads a secret without holding up the runtime: its file may lie on a network that hangs.
async fn read(source: &SecretSource) -> Result<Secret<String>, Error> {
    let secret = match source {
        SecretSource::Inline(_) | SecretSource::Env(_) => source.read(),
        SecretSource::File(_) => {
            let source = source.clone();
            match tokio::task::spawn_blocking(move || source.read()).await {
                Ok(secret) => secret,
                Err(_) => return Err(Error::here(Kind::Panicked)),
            }
        }
    };
    Ok(secret?)
}

/// Writes the token request. `None`: the parts do not make a request, which no resolved configuration leads to.
fn write(
    url: &Url,
    client: &Client,
    secret: &Secret<String>,
    request: &TokenRequest,
) -> Option<oauth2::HttpRequest> {
    let auth = match client.auth {
        ClientAuth::SecretBasic(_) => AuthType::BasicAuth,
        ClientAuth::SecretPost(_) => AuthType::RequestBody,
    };
    let writer = BasicClient::new(ClientId::new(client.id.clone()))
        .set_client_secret(ClientSecret::new(secret.expose().clone()))
        .set_auth_type(auth)
        .set_token_uri(TokenUrl::from_url(url.clone()));
    let mut draft = match request.grant {
        Grant::ClientCredentials => writer.exchange_client_credentials(),
    };
    // An empty parameter is the same as none (RFC 6749 section 3.2), and some servers refuse it.
    let scopes = request.scope.iter().filter(|scope| !scope.is_empty());
    draft = draft.add_scopes(scopes.map(|scope| Scope::new(scope.clone())));
    if let Some(audience) = request.audience.as_ref().filter(|audience| !audience.is_empty()) {
        draft = draft.add_extra_param("audience", audience.clone());
    }
    for resource in &request.resource {
        draft = draft.add_extra_param("resource", resource.as_str());
    }
    for (name, value) in &request.params {
        draft = draft.add_extra_param(name.clone(), value.clone());
    }
    match draft.request(&|request| Err(Written(Box::new(request)))) {
        Err(RequestTokenError::Request(Written(mut request))) => {
            if let Some(value) = request.headers_mut().get_mut(AUTHORIZATION) {
                value.set_sensitive(true);
            }
            Some(*request)
        }
        _ => None,
    }
}

/// The request, taken out of the crate's hands before it is sent: its way out is that of an error.
struct Written(Box<oauth2::HttpRequest>);

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Written(***)")
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token request")
    }
}

impl std::error::Error for Written {}
