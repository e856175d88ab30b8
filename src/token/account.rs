//! A person's login: the way from a browser, or another device, into the store.
//!
//! It asks the authorization server what a login asks, and writes what comes of it where the token's source finds it:
//! the renewer reads it there, in this process or in another one. It says nothing of when, nor to whom to show what.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use url::Url;

use crate::clock;
use crate::oauth::{
    Authorization, AuthorizationRequest, AuthorizationServer, Callback, DeviceAuthorization, Dpop, Identity,
    Issued, LoginFailure, LoginWay, Manner, Pending, TokenResponse,
};
use crate::secret::Secret;
use crate::token::error::{Error, LoginFault};

use super::settings::{Flow, LoginSettings, ServerOrigin};
use super::source::DpopKey;
use super::source::renewal_request::RenewalRequest;
use super::store::{Entry, Fingerprint, Key, Spending, Store, StoreError, StoredAccess};

/// One token's login.
pub(crate) struct Account {
    server: Arc<AuthorizationServer>,
    origin: ServerOrigin,
    login: LoginSettings,
    store: Store,
    key: Key,
    request: Fingerprint,
    dpop_key: Option<DpopKey>,
    renewal_request: Option<Arc<RenewalRequest>>,
    /// The login that is kept has no refresh token.
    lacks_refresh_token: AtomicBool,
    /// And its response does not say how long the access token lives.
    lacks_expiry: AtomicBool,
}

/// Why a login did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoginError {
    /// On the way to the authorization server, or there.
    #[error("{}", .0.in_full())]
    Protocol(#[from] Error),
    /// It is not kept.
    #[error("the login cannot be kept: {0}")]
    Store(#[from] StoreError),
    /// It is in the store, and a refresh is next: its response has a refresh token, and no access token that can be used.
    #[error("the login{} is kept, but no usable access token came with it: {}", named(.who.as_ref()), .why.in_full())]
    Kept {
        /// Who logged in, where the server says so.
        who: Option<Identity>,
        /// What is wrong with the response.
        why: Error,
    },
}

fn named(who: Option<&Identity>) -> String {
    who.map(|who| format!(" as {who}")).unwrap_or_default()
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
        let dpop_key = origin.dpop.clone().map(DpopKey::new);
        let renewal_request = login.renews_in_browser().then(Arc::default);
        let (lacks_refresh_token, lacks_expiry) = (AtomicBool::new(false), AtomicBool::new(false));
        Self {
            server,
            origin,
            login,
            store,
            key,
            request,
            dpop_key,
            renewal_request,
            lacks_refresh_token,
            lacks_expiry,
        }
    }

    /// The token's name.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        &self.key.name
    }

    /// How a person logs in.
    #[must_use]
    pub(crate) const fn settings(&self) -> &LoginSettings {
        &self.login
    }

    /// Where logins are kept, in words.
    #[must_use]
    pub(crate) fn place(&self) -> String {
        self.store.describe()
    }

    /// Whether a login outlives this process.
    #[must_use]
    pub(crate) fn is_durable(&self) -> bool {
        self.store.is_durable()
    }

    /// What a person is to know of the login that is kept: that it ends with its access token, and how one comes that does
    /// not. `None`: it lasts.
    #[must_use]
    pub(crate) fn advice(&self) -> Option<String> {
        self.lacks_refresh_token.load(Ordering::Relaxed).then(|| {
            let help = help(&self.origin.request.scope, &self.login);
            let ends = if self.lacks_expiry.load(Ordering::Relaxed) {
                "the server gave no refresh token and does not say how long the access token lives, so it is used until \
                 an API refuses it; then log in again"
            } else {
                "this login ends when its access token expires, as the server gave no refresh token"
            };
            format!("{ends}; {help}")
        })
    }

    /// Takes note of the login that is found in the store: another process may have put it there.
    pub(super) fn note(&self, entry: &Entry) {
        let lacks = entry.refresh_token.is_none() && !self.login.renews_in_browser();
        self.lacks_refresh_token.store(lacks, Ordering::Relaxed);
        let has_expiry = entry.access.as_ref().is_some_and(|access| access.expires.is_some());
        self.lacks_expiry.store(!has_expiry, Ordering::Relaxed);
    }

    /// What calls for the browser that renews this token; `None`: none does.
    #[must_use]
    pub(crate) const fn renewal_request(&self) -> Option<&Arc<RenewalRequest>> {
        self.renewal_request.as_ref()
    }

    /// Whether a login is kept.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be read.
    pub(crate) async fn is_kept(&self) -> Result<bool, StoreError> {
        Ok(self.store.load(&self.key, None).await?.is_some())
    }

    /// Whether the server offers what a login takes, as far as that is known beforehand.
    ///
    /// # Errors
    /// [`Error`]: what is missing, or why the metadata could not be read.
    pub(crate) async fn preview(&self) -> Result<(), Error> {
        let way = match self.login.flow {
            Flow::DeviceCode => LoginWay::Device,
            Flow::AuthorizationCode => {
                LoginWay::Browser { pushed: self.login.pushed_authorization, pkce: self.login.pkce }
            }
        };
        Ok(self.server.preview_login(way).await?)
    }

    /// Where to send a browser that is to come back to `redirect_uri`.
    ///
    /// # Errors
    /// [`Error`]: see [`AuthorizationServer::authorize`].
    pub(crate) async fn authorize(&self, redirect_uri: &str, manner: Manner) -> Result<Authorization, Error> {
        let dpop = self.proof_key().await?;
        let ask = AuthorizationRequest {
            client: &self.origin.client,
            request: &self.origin.request,
            params: &self.login.authorization_params,
            redirect_uri,
            manner,
            pushed: self.login.pushed_authorization,
            dpop: dpop.as_deref(),
            pkce: self.login.pkce,
        };
        Ok(self.server.authorize(ask).await?)
    }

    /// Redeems what the browser brought back, and keeps it, whichever user it is. Who logged in comes back, where the server says
    /// so.
    ///
    /// # Errors
    /// [`LoginError`]. Something is kept with [`LoginError::Kept`] alone.
    pub(crate) async fn redeem(
        &self,
        callback: Callback,
        pending: &Pending,
    ) -> Result<Option<Identity>, LoginError> {
        self.redeem_of(callback, pending, None).await
    }

    /// The same for a renewal: the user is not asked, so that it must be the one who logged in before.
    ///
    /// # Errors
    /// [`LoginError`]; for another user, too, and then nothing is kept.
    pub(crate) async fn redeem_renewal(
        &self,
        callback: Callback,
        pending: &Pending,
    ) -> Result<(), LoginError> {
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
        let redeemed =
            server.redeem(&origin.client, callback, pending, &origin.request, dpop.as_deref()).await;
        self.take(redeemed, before, asked, dpop.as_deref()).await
    }

    /// Begins a login on another device.
    ///
    /// # Errors
    /// [`Error`]: see [`AuthorizationServer::authorize_device`].
    pub(crate) async fn authorize_device(&self) -> Result<DeviceAuthorization, Error> {
        let Self { server, origin, login, .. } = self;
        Ok(server.authorize_device(&origin.client, &origin.request, &login.authorization_params).await?)
    }

    /// Asks once whether the person has finished there, and keeps what comes.
    ///
    /// # Errors
    /// [`LoginError`]; `authorization_pending` and `slow_down` say that it is too early.
    pub(crate) async fn redeem_device(
        &self,
        device: &DeviceAuthorization,
    ) -> Result<Option<Identity>, LoginError> {
        let _under_way = self.store.under_way().await;
        let dpop = self.proof_key().await?;
        let asked = clock::wall();
        let Self { server, origin, .. } = self;
        let redeemed = server.redeem_device(&origin.client, device, &origin.request, dpop.as_deref()).await;
        self.take(redeemed, None, asked, dpop.as_deref()).await
    }

    /// Keeps what a login brought. Of a response with a flaw that is its refresh token: the code that it came for is
    /// spent.
    async fn take(
        &self,
        redeemed: Result<(TokenResponse, Option<Identity>), LoginFailure>,
        before: Option<&Identity>,
        asked: SystemTime,
        dpop: Option<&Dpop>,
    ) -> Result<Option<Identity>, LoginError> {
        let (kept, identity, flaw) = match redeemed {
            Ok((response, identity)) => (Kept::of(response, self.request, asked, dpop), identity, None),
            Err(LoginFailure { error, kept }) => {
                let Some(kept) = kept else { return Err(Error::from(error).into()) };
                let (issued, identity) = *kept;
                (Kept::only(issued), identity, Some(error))
            }
        };
        if let (Some(before), Some(now)) = (before, &identity)
            && now.differs(before)
        {
            return Err(Error::from(LoginFault::OtherUser(now.to_string())).into());
        }
        self.keep(kept, identity.as_ref(), dpop).await?;
        match flaw {
            Some(why) => Err(LoginError::Kept { who: identity, why: why.into() }),
            None => Ok(identity),
        }
    }

    /// Whether a login on another device may begin, as far as that is known without a request.
    #[must_use]
    pub(crate) fn may_offer_devices(&self) -> bool {
        self.login.flow == Flow::DeviceCode || self.server.may_offer_devices()
    }

    /// The origin of the authorization server's pages.
    ///
    /// # Errors
    /// [`Error`] where its metadata could not be had.
    pub(crate) async fn authorization_origin(&self) -> Result<String, Error> {
        Ok(self.server.authorization_origin().await?)
    }

    /// The ID token of the login that is stored, for [`Self::end_session`]: to be read before the login is forgotten.
    pub(crate) async fn id_token(&self) -> Option<Secret<String>> {
        self.store.load(&self.key, None).await.ok().flatten()?.id_token
    }

    /// Where a browser ends its session at the authorization server; `None`: it offers no such place. `id_token` says
    /// which session: without it a server asks the person first, and some lead nowhere afterwards.
    ///
    /// # Errors
    /// [`Error`] where its metadata could not be had.
    pub(crate) async fn end_session(&self, id_token: Option<&Secret<String>>) -> Result<Option<Url>, Error> {
        let back = self.login.post_logout_redirect_uri.as_deref();
        Ok(self.server.end_session(&self.origin.client, id_token, back).await?)
    }

    /// Looks whether a login could be kept at all: before anybody is sent to log in.
    ///
    /// # Errors
    /// [`StoreError`]
    pub(crate) async fn probe(&self) -> Result<(), StoreError> {
        let lease = self.store.lease(&self.key).await?;
        self.store.load(&self.key, Some(&lease)).await.map(drop)
    }

    async fn proof_key(&self) -> Result<Option<Arc<Dpop>>, Error> {
        match &self.dpop_key {
            Some(dpop_key) => Ok(Some(dpop_key.key().await?)),
            None => Ok(None),
        }
    }

    /// In the place of whatever login was there.
    async fn keep(
        &self,
        kept: Kept,
        identity: Option<&Identity>,
        dpop: Option<&Dpop>,
    ) -> Result<(), StoreError> {
        let lease = self.store.lease(&self.key).await?;
        let base = self.store.load(&self.key, Some(&lease)).await?;
        let kept_key = self.dpop_key.as_ref().filter(|dpop_key| !dpop_key.is_configured()).and(dpop);
        let asked_scope = Some(&self.origin.request.scope).filter(|scope| !scope.is_empty());
        let is_answered = kept.access.is_some();
        let mut entry = Entry {
            generation: base.as_ref().map_or(0, |base| base.generation).saturating_add(1),
            refresh_token: kept.refresh_token,
            // Where the response says nothing, all that was asked for was granted (RFC 6749 section 5.1).
            granted: kept.scope.or_else(|| asked_scope.cloned()),
            access: kept.access,
            dpop_key: kept_key.and_then(|key| key.to_pkcs8().ok()),
            user: identity.cloned(),
            id_token: kept.id_token,
            ..Entry::empty(self.key.client)
        };
        if entry.refresh_token.is_none() {
            entry.refresh_token = base.as_ref().and_then(|base| still_good(base, &entry));
        }
        self.note(&entry);
        self.store.keep(&self.key, entry, base.as_ref(), &lease).await;
        // Whatever was interrupted before, this is a login of its own.
        self.store.spending(&self.key, Spending::Over, &lease).await;
        if let Some(renewal_request) = self.renewal_request.as_ref().filter(|_| is_answered) {
            renewal_request.answered();
        }
        Ok(())
    }
}

/// What a login brought.
struct Kept {
    refresh_token: Option<Secret<String>>,
    scope: Option<Vec<String>>,
    access: Option<StoredAccess>,
    id_token: Option<Secret<String>>,
}

impl Kept {
    fn of(response: TokenResponse, request: Fingerprint, asked: SystemTime, dpop: Option<&Dpop>) -> Self {
        let bound_to = dpop.map(|key| Fingerprint::of([key.thumbprint().as_bytes()]));
        let access = Some(StoredAccess::of(&response, request, asked, bound_to));
        let TokenResponse { refresh_token, scope, id_token, .. } = response;
        Self { refresh_token, scope, access, id_token }
    }

    fn only(issued: Issued) -> Self {
        let Issued { refresh_token, scope, id_token } = issued;
        Self { refresh_token: Some(refresh_token), scope, access: None, id_token }
    }
}

/// How a login comes to bring a refresh token, by what this configuration asks for.
fn help(scope: &[String], login: &LoginSettings) -> &'static str {
    let is_asked_for = scope.iter().any(|scope| scope == "offline_access")
        || login.authorization_params.iter().any(|(name, value)| name == "access_type" && value == "offline");
    match (is_asked_for, login.flow) {
        (false, Flow::AuthorizationCode) => {
            "add \"offline_access\" to `scope`; at Google, set `authorization_params = { access_type = \"offline\", prompt = \"consent\" }`"
        }
        (false, Flow::DeviceCode) => "add \"offline_access\" to `scope`",
        (true, Flow::AuthorizationCode) => {
            "allow refresh tokens (offline access) for this client at the server, or set `renew_via = \"browser\"`"
        }
        (true, Flow::DeviceCode) => "allow refresh tokens (offline access) for this client at the server",
    }
}

/// The refresh token of an earlier login of the same person, where the new one brought none: servers give it once, or
/// only where consent is given. It is good for the key that it was bound to alone.
fn still_good(base: &Entry, new: &Entry) -> Option<Secret<String>> {
    let (before, now) = (base.user.as_ref()?, new.user.as_ref()?);
    let is_same = !now.subject().is_empty() && now.subject() == before.subject();
    let fits = base.earned.is_none() && base.dpop_key == new.dpop_key;
    base.refresh_token.clone().filter(|_| is_same && fits)
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::{Pkce, RedirectUri};
    use crate::token::settings::RenewVia;
    use crate::token::store::Earned;
    use crate::token::store::tests::{full, print};

    fn identity(subject: &str) -> Identity {
        Identity::stored("Alice", subject.to_owned())
    }

    #[test]
    fn the_refresh_token_of_the_same_person_and_key_is_kept_and_no_other() {
        let login = |base: &Entry| Entry { refresh_token: None, earned: None, ..base.clone() };
        let base = Entry { earned: None, user: Some(identity("u1")), ..full() };
        let kept = |base: &Entry, new: &Entry| still_good(base, new).is_some();
        assert!(kept(&base, &login(&base)));
        let another = Entry { user: Some(identity("u2")), ..login(&base) };
        let unnamed = Entry { user: None, ..login(&base) };
        let nameless = Entry { user: Some(identity("")), ..login(&base) };
        let other_key = Entry { dpop_key: None, ..login(&base) };
        for new in [another, unnamed, nameless, other_key] {
            assert!(!kept(&base, &new), "{new:?}");
        }
        let earned = Entry { earned: Some(Earned { request: print("r"), subject: None }), ..base.clone() };
        assert!(!kept(&earned, &login(&base)), "it is a grant's, and no login's");
        let refused = Entry { refresh_token: None, ..base.clone() };
        assert!(!kept(&refused, &login(&base)));
    }

    #[test]
    fn the_help_for_a_login_without_a_refresh_token_is_what_this_configuration_lacks() {
        let login = |flow, params: &[(&str, &str)]| LoginSettings {
            flow,
            redirect_uri: RedirectUri::parse("http://127.0.0.1/callback").unwrap(),
            authorization_params: params.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect(),
            pushed_authorization: false,
            pkce: Pkce::S256,
            renew_via: RenewVia::RefreshToken,
            post_logout_redirect_uri: None,
        };
        let offline = [("access_type", "offline")];
        for (scope, flow, params, want) in [
            (&[][..], Flow::AuthorizationCode, &[][..], "access_type"),
            (&["openid".to_owned()], Flow::DeviceCode, &[], "add \"offline_access\""),
            (&["offline_access".to_owned()], Flow::AuthorizationCode, &[], "renew_via"),
            (&[], Flow::AuthorizationCode, &offline, "allow refresh tokens"),
            (&["offline_access".to_owned()], Flow::DeviceCode, &[], "allow refresh tokens"),
        ] {
            let text = help(scope, &login(flow, params));
            assert!(text.contains(want), "{text}");
            assert_eq!(
                text.contains("add \"offline"),
                scope.iter().all(|s| s != "offline_access") && params.is_empty()
            );
        }
    }
}
