//! A person's login: the way from a browser, or another device, into the store.
//!
//! It asks the authorization server what a login asks, and writes what comes of it where the token's source finds it:
//! the renewer reads it there, in this process or in another one. It says nothing of when, nor to whom to show what.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use url::Url;

use crate::clock;
use crate::oauth::{
    Authorization, AuthorizationRequest, AuthorizationServer, Callback, DeviceAuthorization, Dpop, Error,
    ErrorKind, Identity, LoginWay, Manner, Pending, TokenResponse,
};

use crate::secret::Secret;

use super::settings::{Flow, LoginSettings, ServerOrigin};
use super::source::{Possession, Summons};
use super::store::{Entry, Fingerprint, Key, Store, StoreError, StoredAccess};

/// One token's login.
pub struct Account {
    server: Arc<AuthorizationServer>,
    origin: ServerOrigin,
    login: LoginSettings,
    store: Store,
    key: Key,
    request: Fingerprint,
    possession: Option<Possession>,
    summons: Option<Arc<Summons>>,
}

/// Why a login did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// On the way to the authorization server, or there.
    #[error("{}", .0.in_full())]
    Protocol(#[from] Error),
    /// Nobody keeps it.
    #[error("the login cannot be kept: {0}")]
    Store(#[from] StoreError),
}

impl Account {
    pub(super) fn new(
        server: Arc<AuthorizationServer>,
        origin: ServerOrigin,
        login: LoginSettings,
        store: Store,
        key: Key,
        request: Fingerprint,
    ) -> Self {
        let possession = origin.dpop.clone().map(Possession::new);
        let summons = login.renews_in_browser().then(Arc::default);
        Self { server, origin, login, store, key, request, possession, summons }
    }

    /// The token's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.key.name
    }

    /// How a person logs in.
    #[must_use]
    pub const fn settings(&self) -> &LoginSettings {
        &self.login
    }

    /// Where logins are kept, in words.
    #[must_use]
    pub fn place(&self) -> String {
        self.store.describe()
    }

    /// Whether a login outlives this process.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.store.is_durable()
    }

    /// What calls for the browser that renews this token; `None`: none does.
    #[must_use]
    pub const fn summons(&self) -> Option<&Arc<Summons>> {
        self.summons.as_ref()
    }

    /// Whether a login is kept.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub async fn is_kept(&self) -> Result<bool, StoreError> {
        Ok(self.store.load(&self.key, None).await?.is_some())
    }

    /// Whether the server offers what a login takes, as far as that is known beforehand.
    ///
    /// # Errors
    /// [`Error`]: what is missing, or why the metadata could not be read.
    pub async fn preview(&self) -> Result<(), Error> {
        self.server
            .preview_login(match self.login.flow {
                Flow::DeviceCode => LoginWay::Device,
                Flow::AuthorizationCode => LoginWay::Browser { pushed: self.login.pushed_authorization },
            })
            .await
    }

    /// Where to send a browser that is to come back to `redirect_uri`.
    ///
    /// # Errors
    /// [`Error`]: see [`AuthorizationServer::authorize`].
    pub async fn authorize(&self, redirect_uri: &str, manner: Manner) -> Result<Authorization, Error> {
        let dpop = self.proof_key().await?;
        let ask = AuthorizationRequest {
            client: &self.origin.client,
            request: &self.origin.request,
            params: &self.login.authorization_params,
            redirect_uri,
            manner,
            pushed: self.login.pushed_authorization,
            dpop: dpop.as_deref(),
        };
        self.server.authorize(ask).await
    }

    /// Redeems what the browser brought back, and keeps it, whoever it is. Who logged in comes back, where the server says
    /// so.
    ///
    /// # Errors
    /// [`LoginError`]. Where it is the store's, nothing is kept.
    pub async fn redeem(
        &self,
        callback: Callback,
        pending: &Pending,
    ) -> Result<Option<Identity>, LoginError> {
        self.redeem_of(callback, pending, None).await
    }

    /// The same for a renewal: nobody has asked who it is, so that it must be the one who logged in before.
    ///
    /// # Errors
    /// [`LoginError`]; for somebody else, too, and then nothing is kept.
    pub async fn redeem_renewal(&self, callback: Callback, pending: &Pending) -> Result<(), LoginError> {
        let entry = self.store.load(&self.key, None).await?;
        let before = entry.and_then(|entry| entry.user);
        self.redeem_of(callback, pending, before.as_ref()).await.map(drop)
    }

    async fn redeem_of(
        &self,
        callback: Callback,
        pending: &Pending,
        before: Option<&Identity>,
    ) -> Result<Option<Identity>, LoginError> {
        let _under_way = self.store.under_way().await;
        let dpop = self.proof_key().await?;
        let asked = clock::wall();
        let Self { server, origin, .. } = self;
        let (response, identity) =
            server.redeem(&origin.client, callback, pending, &origin.request, dpop.as_deref()).await?;
        if let (Some(before), Some(now)) = (before, &identity)
            && now.differs(before)
        {
            return Err(Error::here(ErrorKind::OtherUser(now.to_string())).into());
        }
        self.keep(&response, identity.as_ref(), asked, dpop.as_deref()).await?;
        Ok(identity)
    }

    /// Begins a login on another device.
    ///
    /// # Errors
    /// [`Error`]: see [`AuthorizationServer::authorize_device`].
    pub async fn authorize_device(&self) -> Result<DeviceAuthorization, Error> {
        let Self { server, origin, login, .. } = self;
        server.authorize_device(&origin.client, &origin.request, &login.authorization_params).await
    }

    /// Asks once whether the person has finished there, and keeps what comes.
    ///
    /// # Errors
    /// [`LoginError`]; `authorization_pending` and `slow_down` say that it is too early.
    pub async fn redeem_device(&self, device: &DeviceAuthorization) -> Result<Option<Identity>, LoginError> {
        let _under_way = self.store.under_way().await;
        let dpop = self.proof_key().await?;
        let asked = clock::wall();
        let Self { server, origin, .. } = self;
        let (response, identity) =
            server.redeem_device(&origin.client, device, &origin.request, dpop.as_deref()).await?;
        self.keep(&response, identity.as_ref(), asked, dpop.as_deref()).await?;
        Ok(identity)
    }

    /// Whether a login on another device may begin, as far as that is known without a request.
    #[must_use]
    pub fn may_offer_devices(&self) -> bool {
        self.login.flow == Flow::DeviceCode || self.server.may_offer_devices()
    }

    /// The origin of the authorization server's pages.
    ///
    /// # Errors
    /// [`Error`] where its metadata could not be had.
    pub async fn authorization_origin(&self) -> Result<String, Error> {
        self.server.authorization_origin().await
    }

    /// The ID token of the login that is stored, for [`Self::end_session`]: to be read before the login is forgotten.
    pub async fn id_token(&self) -> Option<Secret<String>> {
        self.store.load(&self.key, None).await.ok().flatten()?.id_token
    }

    /// Where a browser ends its session at the authorization server; `None`: it offers no such place. `id_token` says
    /// which session: without it a server asks the person first, and some lead nowhere afterwards.
    ///
    /// # Errors
    /// [`Error`] where its metadata could not be had.
    pub async fn end_session(&self, id_token: Option<&Secret<String>>) -> Result<Option<Url>, Error> {
        let back = self.login.post_logout_redirect_uri.as_deref();
        self.server.end_session(&self.origin.client, id_token, back).await
    }

    /// Looks whether a login could be kept at all: before anybody is sent to log in.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn probe(&self) -> Result<(), StoreError> {
        let lease = self.store.lease(&self.key).await?;
        self.store.load(&self.key, Some(&lease)).await.map(drop)
    }

    async fn proof_key(&self) -> Result<Option<Arc<Dpop>>, Error> {
        match &self.possession {
            Some(possession) => possession.key().await.map(Some),
            None => Ok(None),
        }
    }

    /// In the place of whatever login was there.
    async fn keep(
        &self,
        response: &TokenResponse,
        identity: Option<&Identity>,
        asked: SystemTime,
        dpop: Option<&Dpop>,
    ) -> Result<(), StoreError> {
        let lease = self.store.lease(&self.key).await?;
        let base = self.store.load(&self.key, Some(&lease)).await?;
        let kept_key = self.possession.as_ref().filter(|possession| !possession.is_configured()).and(dpop);
        let asked_scope = Some(&self.origin.request.scope).filter(|scope| !scope.is_empty());
        let bound_to = dpop.map(|key| Fingerprint::of([key.thumbprint().as_bytes()]));
        let entry = Entry {
            generation: base.as_ref().map_or(0, |base| base.generation).saturating_add(1),
            refresh_token: response.refresh_token.clone(),
            // Where the answer says nothing, all that was asked for was granted (RFC 6749 section 5.1).
            granted: response.scope.clone().or_else(|| asked_scope.cloned()),
            access: Some(StoredAccess::of(response, self.request, asked, bound_to)),
            dpop_key: kept_key.and_then(|key| key.to_pkcs8().ok()),
            user: identity.cloned(),
            id_token: response.id_token.clone(),
            ..Entry::empty(self.key.client)
        };
        self.store.keep(&self.key, entry, base.as_ref(), &lease).await;
        if let Some(summons) = &self.summons {
            summons.answered();
        }
        Ok(())
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("key", &self.key).finish_non_exhaustive()
    }
}
