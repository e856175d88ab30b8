//! Where the endpoints of one authorization server are: as they are configured, else as its metadata say.
//!
//! `endpoint`, `introspection` and `revocation` ask here before each request.

use url::Url;

use crate::oauth::discovery::document::{Handshake, Offer};
use crate::oauth::discovery::metadata::Metadata;
use crate::oauth::discovery::role::Role;
use crate::oauth::discovery::server::ServerError;
use crate::oauth::discovery::server::{Issuer, Location, ServerSettings};
use crate::oauth::endpoint::transport::Http;
use crate::oauth::error::Error;
use crate::oauth::error::kind::RequestFault;

/// The endpoints of one authorization server.
#[derive(Debug)]
pub(in crate::oauth) struct Directory {
    location: Location,
    /// `None`: no issuer is configured.
    metadata: Option<Metadata>,
}

impl Directory {
    /// Nothing is asked yet.
    pub(in crate::oauth) fn new(settings: &ServerSettings) -> Result<Self, ServerError> {
        let ServerSettings { location, transport, token_type: _, dialect: _ } = settings;
        if location.token_endpoint.is_none() && location.issuer.is_none() {
            return Err(ServerError::Nowhere);
        }
        let handshake = if transport.certificate.is_some() { Handshake::MutualTls } else { Handshake::Plain };
        let metadata = location.issuer.clone().map(|issuer| Metadata::new(issuer, handshake));
        Ok(Self { location: location.clone(), metadata })
    }

    /// What the server calls itself, where that is configured.
    pub(in crate::oauth) fn issuer(&self) -> Option<&Issuer> {
        self.metadata.as_ref().map(Metadata::issuer)
    }

    /// Where tokens are asked for.
    pub(in crate::oauth) async fn token_endpoint(&self, http: &Http) -> Result<Url, Error> {
        self.needed(Role::Token, http).await
    }

    /// Where tokens are refreshed.
    pub(in crate::oauth) async fn refresh_endpoint(&self, http: &Http) -> Result<Url, Error> {
        match &self.location.refresh_endpoint {
            Some(url) => Ok(url.clone()),
            None => self.token_endpoint(http).await,
        }
    }

    /// Where tokens are given back.
    pub(in crate::oauth) async fn revocation_endpoint(&self, http: &Http) -> Result<Url, Error> {
        self.needed(Role::Revocation, http).await
    }

    /// Where tokens are looked at; `None`: the server does not offer it.
    pub(in crate::oauth) async fn introspection_endpoint(&self, http: &Http) -> Result<Option<Url>, Error> {
        self.offered(Role::Introspection, http).await
    }

    /// Where a person's browser is sent.
    pub(in crate::oauth) async fn authorization_endpoint(&self, http: &Http) -> Result<Url, Error> {
        self.needed(Role::Authorization, http).await
    }

    /// Where authorization requests are pushed to; `None`: the server does not offer it.
    pub(in crate::oauth) async fn pushed_authorization_endpoint(
        &self,
        http: &Http,
    ) -> Result<Option<Url>, Error> {
        self.offered(Role::PushedAuthorization, http).await
    }

    /// Where a login on another device begins.
    pub(in crate::oauth) async fn device_authorization_endpoint(&self, http: &Http) -> Result<Url, Error> {
        self.needed(Role::DeviceAuthorization, http).await
    }

    /// Whether a login on another device may begin, as far as that is known without a request.
    pub(in crate::oauth) fn may_offer_devices(&self) -> bool {
        let role = Role::DeviceAuthorization;
        let known = self.metadata.as_ref().map(Metadata::known);
        self.is_configured(role)
            || known.is_some_and(|known| known.is_none_or(|endpoints| endpoints.get(role).is_some()))
    }

    /// Where a browser ends its session; `None`: the server does not offer it.
    pub(in crate::oauth) async fn end_session_endpoint(&self, http: &Http) -> Result<Option<Url>, Error> {
        self.offered(Role::EndSession, http).await
    }

    /// What the metadata say of the authorization endpoint. Where there are none, nothing is promised.
    pub(in crate::oauth) async fn offer(&self, http: &Http) -> Result<Offer, Error> {
        match &self.metadata {
            Some(metadata) => Ok(metadata.endpoints(http).await?.offer()),
            None => Ok(Offer::default()),
        }
    }

    /// An endpoint of the metadata did not work: the next request looks whether it has moved.
    pub(in crate::oauth) fn doubt(&self, role: Role) {
        if let (None, Some(metadata)) = (self.configured(role), &self.metadata) {
            metadata.doubt();
        }
    }

    /// Whether its place is configured.
    pub(in crate::oauth) const fn is_configured(&self, role: Role) -> bool {
        self.configured(role).is_some()
    }

    async fn needed(&self, role: Role, http: &Http) -> Result<Url, Error> {
        self.offered(role, http).await?.ok_or(Error::here(RequestFault::NoEndpoint(role)))
    }

    /// What is configured wins, and needs no metadata.
    async fn offered(&self, role: Role, http: &Http) -> Result<Option<Url>, Error> {
        match (self.configured(role), &self.metadata) {
            (Some(url), _) => Ok(Some(url.clone())),
            (None, Some(metadata)) => Ok(metadata.endpoints(http).await?.get(role).cloned()),
            (None, None) => Ok(None),
        }
    }

    const fn configured(&self, role: Role) -> Option<&Url> {
        match role {
            Role::Token => self.location.token_endpoint.as_ref(),
            Role::Introspection => self.location.introspection_endpoint.as_ref(),
            Role::Revocation => self.location.revocation_endpoint.as_ref(),
            Role::Authorization => self.location.authorization_endpoint.as_ref(),
            Role::DeviceAuthorization => self.location.device_authorization_endpoint.as_ref(),
            Role::PushedAuthorization | Role::Userinfo | Role::EndSession => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::peer::{Peer, Reply, settings};

    #[tokio::test]
    async fn what_is_configured_wins_and_the_rest_is_discovered() {
        let peer = Peer::start(|seen| {
            let origin = format!("http://{}", seen.header("host").unwrap());
            Reply::ok(format!(
                r#"{{"issuer":"{origin}","token_endpoint":"{origin}/token","revocation_endpoint":"{origin}/revoke"}}"#
            ))
        })
        .await;
        let location = Location {
            issuer: Some(peer.origin.parse().unwrap()),
            token_endpoint: Some(peer.url("/own")),
            ..Location::default()
        };
        let settings = settings(location);
        let directory = Directory::new(&settings).unwrap();
        let http = Http::new(&settings.transport).unwrap();
        assert_eq!(directory.token_endpoint(&http).await.unwrap(), peer.url("/own"));
        assert!(peer.lines().is_empty(), "nothing had to be asked");
        assert_eq!(directory.revocation_endpoint(&http).await.unwrap(), peer.url("/revoke"));
        assert_eq!(directory.introspection_endpoint(&http).await.unwrap(), None);
        assert_eq!(peer.lines().len(), 1);
    }

    #[tokio::test]
    async fn an_endpoint_that_nobody_names_is_an_error_that_says_what_to_set() {
        let settings = settings(Location::endpoint("https://a.example/token".parse().unwrap()));
        let directory = Directory::new(&settings).unwrap();
        let http = Http::new(&settings.transport).unwrap();
        assert_eq!(directory.introspection_endpoint(&http).await.unwrap(), None);
        let error = directory.revocation_endpoint(&http).await.unwrap_err();
        assert!(error.to_string().contains("revocation_endpoint"), "{error}");
        assert_eq!(error.class(), crate::oauth::error::class::Class::Misconfigured);
    }
}
