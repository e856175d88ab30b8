//! A token from an authorization server: reads what the grant spends, and asks.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tracing::{info, warn};

use crate::clock::{self, BootInstant};
use crate::oauth::{self, AuthorizationServer, Dpop, Grant, Lifetime, TokenHint, TokenRequest, read};
use crate::secret::{Secret, SecretSource};
use crate::token::error::{Error, LoginFault, SubjectTokenFault};
use crate::token::settings::{GrantSettings, ServerOrigin};
use crate::token::store::Fingerprint;
use crate::token::token_registry::TokenRegistry;

use super::bearer;
use super::dpop_key::DpopKey;
use super::exchange::{self, Traded};
use super::exchange_failure::ExchangeFailure;
use super::person::Person;
use super::stored::{Exchange, Spent};
use super::token_source::{Fetched, ServerId, Source};

/// An OAuth client at its authorization server.
#[derive(Debug)]
pub(crate) struct ServerSource {
    server: Arc<AuthorizationServer>,
    origin: ServerOrigin,
    /// Whose password it sends, where it sends one.
    person: Arc<Person>,
    /// The key that its tokens are bound to, where they are.
    dpop_key: Option<DpopKey>,
    registry: TokenRegistry,
    /// How often the registry had been filled when this was made.
    since: u64,
    /// The token's name.
    name: String,
    /// It was said that the token goes to another host than the one that the server names.
    warned: AtomicBool,
    /// The server has refused a refresh for its scope, and not the same one without.
    takes_no_scope: AtomicBool,
}

impl ServerSource {
    /// Sources of the same server may share it.
    #[must_use]
    pub(crate) fn new(
        server: Arc<AuthorizationServer>,
        origin: ServerOrigin,
        registry: TokenRegistry,
    ) -> Self {
        let since = registry.filled();
        let dpop_key = origin.dpop.clone().map(DpopKey::new);
        let (name, warned) = (String::new(), AtomicBool::new(false));
        let takes_no_scope = AtomicBool::new(!origin.refresh_scope);
        Self {
            server,
            origin,
            person: Arc::default(),
            dpop_key,
            registry,
            since,
            name,
            warned,
            takes_no_scope,
        }
    }

    /// The same for the token of this name, whose upstreams are known.
    #[must_use]
    pub(super) fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// The same where other tokens spend the password of the same person.
    #[must_use]
    pub(super) fn of_person(self, person: Arc<Person>) -> Self {
        Self { person, ..self }
    }

    /// Warns once where the server names another host for the API than all those that the token is sent to.
    fn compare_host(&self, fetched: &Fetched) {
        let Some(host) = &fetched.response.api_host else { return };
        if self.registry.goes_elsewhere(&self.name, host) && !self.warned.swap(true, Ordering::Relaxed) {
            warn!(
                token = self.name,
                host,
                "the authorization server names another host for the API than every upstream of this token's routes; compare `url` in [upstreams]"
            );
        }
    }

    /// Reads what the grant spends, and asks.
    async fn ask_with(&self, spent: Spent) -> Result<Fetched, ExchangeFailure> {
        if let Some(token) = spent.refresh_token {
            return self.refresh(token, spent.granted.as_deref()).await;
        }
        match &self.origin.grant {
            GrantSettings::ClientCredentials => self.send(&Grant::ClientCredentials).await,
            // `Stored` brings it.
            GrantSettings::RefreshToken { .. } | GrantSettings::Login(_) => {
                Err(Error::from(LoginFault::Required).into())
            }
            GrantSettings::Password { username, password: source } => {
                let (password, username) = (read(source).await?, username.clone());
                let key = match source {
                    SecretSource::Inline(_) => "password",
                    SecretSource::Env(_) => "password_env",
                    SecretSource::File(_) => "password_file",
                };
                let grant = Grant::Password { username, password: password.clone(), key };
                let ServerOrigin { server, client, request, .. } = &self.origin;
                let unsent = oauth::Error::unsent(&server.location, client, &grant, request);
                self.person.log_in(&password, unsent, self.send(&grant)).await
            }
            GrantSettings::JwtBearer(assertion) => {
                let (dpop, bearer) = (self.proof_key().await?, bearer::bearer(assertion, &self.origin));
                let Self { server, origin, .. } = self;
                let response =
                    server.token_for(&bearer, &origin.client, &origin.request, dpop.as_deref()).await?;
                Ok(Fetched { dpop, ..response.into() })
            }
            GrantSettings::TokenExchange(settings) => {
                self.trade(exchange::configured(settings, &self.registry, self.since).await?).await
            }
        }
    }

    /// With no more scope than was granted. Without one it is for all that was granted (RFC 6749 section 6), and some servers
    /// take it so alone: a refresh that is refused for its scope is sent once more without.
    async fn refresh(
        &self,
        token: Secret<String>,
        granted: Option<&[String]>,
    ) -> Result<Fetched, ExchangeFailure> {
        let mut request = Cow::Borrowed(&self.origin.request);
        if let Some(granted) = granted
            && request.scope.iter().any(|scope| !granted.contains(scope))
        {
            request.to_mut().scope.retain(|scope| granted.contains(scope));
        }
        if self.takes_no_scope() {
            request.to_mut().scope.clear();
        }
        let grant = Grant::RefreshToken(token);
        let first = self.send_for(&grant, &request).await;
        let names_one = request.scope.iter().any(|scope| !scope.is_empty());
        if !names_one || !first.as_ref().is_err_and(|failure| failure.refuses_scope()) {
            return first;
        }
        let bare = TokenRequest { scope: Vec::new(), ..request.into_owned() };
        let second = self.send_for(&grant, &bare).await;
        if second.is_ok() && !self.takes_no_scope.swap(true, Ordering::Relaxed) {
            info!(
                token = self.name,
                help = "set `refresh_scope = false`",
                "the authorization server refuses `scope` on a refresh; it is left out from now on"
            );
        }
        // Where it wants a scope, too, it is the first one that is wrong.
        if second.as_ref().is_err_and(|failure| failure.refuses_scope()) { first } else { second }
    }

    async fn send(&self, grant: &Grant) -> Result<Fetched, ExchangeFailure> {
        self.send_for(grant, &self.origin.request).await
    }

    /// One token request, with a proof where the token is to be bound to a key.
    async fn send_for(&self, grant: &Grant, request: &TokenRequest) -> Result<Fetched, ExchangeFailure> {
        let dpop = self.proof_key().await?;
        let response = self.server.token(&self.origin.client, grant, request, dpop.as_deref()).await?;
        Ok(Fetched { dpop, ..response.into() })
    }

    async fn proof_key(&self) -> Result<Option<Arc<Dpop>>, Error> {
        match &self.dpop_key {
            Some(dpop_key) => Ok(Some(dpop_key.key().await?)),
            None => Ok(None),
        }
    }

    async fn ask_on_behalf(&self, subject: &Secret<String>) -> Result<Fetched, Error> {
        match &self.origin.grant {
            GrantSettings::TokenExchange(settings) => {
                Ok(self.trade(exchange::on_behalf(settings, subject).await?).await?)
            }
            _ => Err(Error::from(SubjectTokenFault::NoCaller)),
        }
    }

    /// Trades; what comes is used no longer than what it was traded for.
    async fn trade(&self, traded: Traded) -> Result<Fetched, ExchangeFailure> {
        let asked = BootInstant::now();
        let mut fetched = self.send(&traded.grant).await?;
        if let Some(end) = traded.until {
            // For the store: a restart must not give it back what it never had.
            fetched.response.lifetime = match fetched.response.lifetime {
                Lifetime::ExpiresIn(lifetime) => Lifetime::ExpiresIn(lifetime.min(end - asked)),
                Lifetime::ExpiresAt(at) => Lifetime::ExpiresAt(at.min(clock::wall_at(end))),
                other => other,
            };
        }
        Ok(Fetched { until: traded.until, ..fetched })
    }
}

impl Source for ServerSource {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(async {
            let fetched = self.ask_with(Spent::default()).await?;
            self.compare_host(&fetched);
            Ok(fetched)
        })
    }

    fn forget(&self, access_token: Option<Secret<String>>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            if let Some(token) = &access_token {
                self.server.revoke(&self.origin.client, token, TokenHint::AccessToken).await?;
            }
            Ok(())
        })
    }

    fn on_behalf<'a>(&'a self, subject: &'a Secret<String>) -> BoxFuture<'a, Result<Fetched, Error>> {
        Box::pin(self.ask_on_behalf(subject))
    }

    fn server(&self) -> Option<ServerId> {
        Some(ServerId::of(&self.server))
    }

    fn pardon(&self) {
        self.person.pardon();
    }

    fn patience(&self) -> Duration {
        self.origin
            .server
            .transport
            .timeout
            .saturating_mul(EXCHANGES)
            .saturating_add(BACKSTOP + exchange::SUBJECT_WAIT)
    }
}

impl Exchange for ServerSource {
    fn key<'a>(
        &'a self,
        stored: Option<&'a Secret<Vec<u8>>>,
    ) -> BoxFuture<'a, Result<Option<Arc<Dpop>>, Error>> {
        Box::pin(async move {
            let Some(dpop_key) = &self.dpop_key else { return Ok(None) };
            let stored = stored.filter(|_| !dpop_key.is_configured());
            match stored.and_then(|der| Dpop::from_pkcs8(der.expose()).ok()) {
                Some(key) => Ok(Some(dpop_key.adopt(key))),
                None => Ok(Some(dpop_key.key().await?)),
            }
        })
    }

    fn kept_key(&self, key: &Dpop) -> Option<Secret<Vec<u8>>> {
        self.dpop_key.as_ref().filter(|dpop_key| !dpop_key.is_configured())?;
        key.to_pkcs8().ok()
    }

    fn ask(&self, spent: Spent) -> BoxFuture<'_, Result<Fetched, ExchangeFailure>> {
        Box::pin(async move {
            let fetched = self.ask_with(spent).await?;
            self.compare_host(&fetched);
            Ok(fetched)
        })
    }

    fn takes_no_scope(&self) -> bool {
        self.takes_no_scope.load(Ordering::Relaxed)
    }

    fn subject(&self) -> BoxFuture<'_, Option<Fingerprint>> {
        Box::pin(async {
            match &self.origin.grant {
                GrantSettings::TokenExchange(settings) => {
                    exchange::subject(settings, &self.registry, self.since).await
                }
                GrantSettings::JwtBearer(assertion) => bearer::subject(assertion).await,
                _ => None,
            }
        })
    }

    fn password(&self) -> BoxFuture<'_, Option<Secret<String>>> {
        Box::pin(async {
            match &self.origin.grant {
                GrantSettings::Password { password, .. } => read(password).await.ok(),
                _ => None,
            }
        })
    }

    fn withhold(&self, password: &Secret<String>) {
        self.person.withhold(password);
    }

    fn doubt(&self, password: &Secret<String>) {
        self.person.doubt(password);
    }

    fn doubts(&self, password: &Secret<String>) -> bool {
        self.person.doubts(password)
    }

    fn revoke<'a>(&'a self, token: &'a Secret<String>, hint: TokenHint) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move { Ok(self.server.revoke(&self.origin.client, token, hint).await?) })
    }

    fn server(&self) -> Option<ServerId> {
        Source::server(self)
    }

    fn pardon(&self) {
        self.person.pardon();
    }

    fn patience(&self) -> Duration {
        Source::patience(self)
    }
}

/// How many exchanges an attempt has at most: two for discovery, the token request, the same with a nonce, both by the
/// server's clock, for the client and for what the grant spends (a refresh: without its scope), and a look at the token.
const EXCHANGES: u32 = 11;

/// What an attempt gets beyond the transport's own timeouts before it is given up: it reads a file, too.
const BACKSTOP: Duration = Duration::from_secs(10);
