//! Where a token comes from. The renewer knows no more of it than this.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;

use crate::clock::Moment;
use crate::oauth::{
    AuthorizationServer, Dpop, Error, ErrorKind, Identity, ServerError, ServerSettings, TokenResponse,
    blocking,
};
use crate::secret::{Secret, SecretError, SecretSource};

use super::account::Account;
use super::roster::Roster;
use super::settings::{
    BearerAssertion, ExchangeSettings, GrantSettings, Origin, ServerOrigin, Subject, TokenSettings,
};
use super::state::Past;
use super::store::{Key, Store, request};

mod bearer;
mod command;
mod exchange;
mod file;
mod fixed;
mod person;
mod possession;
mod server;
mod signed;
mod silent;
mod spending;
mod stored;
#[cfg(test)]
pub(in crate::token) mod tests;
mod text;

use command::CommandSource;
use file::FileSource;
use fixed::FixedSource;
pub(crate) use person::Persons;
pub(in crate::token) use possession::Possession;
pub(crate) use server::ServerSource;
use signed::SignedSource;
use silent::Silent;
pub(crate) use silent::{Summons, Whose};
use spending::Spends;
use stored::Stored;

/// A way to one token. Each call asks once; when to call is the renewer's business.
pub(crate) trait Source: Send + Sync {
    /// Asks for a token. It may be dropped at any await.
    ///
    /// # Errors
    /// [`Error`], which says whose fault it is.
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>>;

    /// Looks whether another process has had a newer token meanwhile. Nothing is asked for: it may be called at any time.
    fn find_newer(&self) -> BoxFuture<'_, Option<Fetched>> {
        Box::pin(async { None })
    }

    /// Whether another process can put one where [`Source::find_newer`] looks.
    fn is_shared(&self) -> bool {
        false
    }

    /// Trades a caller's own token in for one. Each call asks once; it may be dropped at any await.
    ///
    /// # Errors
    /// [`Error`]; of a source that has nothing to do with callers, always.
    fn on_behalf<'a>(&'a self, _subject: &'a Secret<String>) -> BoxFuture<'a, Result<Fetched, Error>> {
        Box::pin(async { Err(Error::here(ErrorKind::NoCaller)) })
    }

    /// Which authorization server is asked: those of one share its part of the slots. `None`: none is.
    fn server(&self) -> Option<ServerId> {
        None
    }

    /// How long a [`Source::fetch`] may take before it is given up. Longer than its own timeouts together.
    fn patience(&self) -> Duration {
        Duration::from_mins(2)
    }

    /// What is known of the token of before: for an attempt that brought none.
    fn past(&self) -> Past {
        Past::default()
    }

    /// How a person logs in for it; `None`: nobody does.
    fn account(&self) -> Option<Arc<Account>> {
        None
    }

    /// A person wants the next attempt: what was refused too often to be sent again may be sent once more.
    fn pardon(&self) {}

    /// Gives back and forgets what is held, here and at the authorization server: the end of a login. `access_token`
    /// is the one that requests carried.
    ///
    /// # Errors
    /// [`Error`] where the server was not told; what was held here is gone all the same.
    fn forget(&self, access_token: Option<Secret<String>>) -> BoxFuture<'_, Result<(), Error>> {
        drop(access_token);
        Box::pin(async { Ok(()) })
    }
}

/// Tells authorization servers apart, for as long as a source of theirs is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServerId(pub(in crate::token) usize);

impl ServerId {
    pub(in crate::token) fn of(server: &Arc<AuthorizationServer>) -> Self {
        Self(Arc::as_ptr(server).addr())
    }
}

/// A token as a source has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// The token.
    pub response: TokenResponse,
    /// When it was asked for, where that was before this call: a token out of a store.
    pub asked: Option<SystemTime>,
    /// Until when it may be used at most, whatever it says itself: the end of what it was traded for.
    pub until: Option<Moment>,
    /// The key that it is bound to (RFC 9449); `None`: to none, whoever has it may use it.
    pub dpop: Option<Arc<Dpop>>,
    /// Who logged in for it, where that is known.
    pub user: Option<Identity>,
    /// Whether it was in the store already: no request brought it.
    pub adopted: bool,
}

impl From<TokenResponse> for Fetched {
    fn from(response: TokenResponse) -> Self {
        Self { response, asked: None, until: None, dpop: None, user: None, adopted: false }
    }
}

impl<S: Source + ?Sized> Source for Arc<S> {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
        (**self).fetch()
    }

    fn find_newer(&self) -> BoxFuture<'_, Option<Fetched>> {
        (**self).find_newer()
    }

    fn is_shared(&self) -> bool {
        (**self).is_shared()
    }

    fn on_behalf<'a>(&'a self, subject: &'a Secret<String>) -> BoxFuture<'a, Result<Fetched, Error>> {
        (**self).on_behalf(subject)
    }

    fn server(&self) -> Option<ServerId> {
        (**self).server()
    }

    fn patience(&self) -> Duration {
        (**self).patience()
    }

    fn past(&self) -> Past {
        (**self).past()
    }

    fn account(&self) -> Option<Arc<Account>> {
        (**self).account()
    }

    fn pardon(&self) {
        (**self).pardon();
    }

    fn forget(&self, access_token: Option<Secret<String>>) -> BoxFuture<'_, Result<(), Error>> {
        (**self).forget(access_token)
    }
}

/// Makes sources of settings. Tokens of one authorization server share its connections and its metadata.
#[derive(Debug)]
pub(crate) struct Sources {
    roster: Roster,
    store: Store,
    servers: Vec<(ServerSettings, Arc<AuthorizationServer>)>,
    persons: Persons,
}

impl Sources {
    /// `roster` is where a source finds the tokens that it trades in, `store` where it keeps its own.
    #[must_use]
    pub(crate) fn new(roster: Roster, store: Store) -> Self {
        Self { roster, store, servers: Vec::new(), persons: Persons::default() }
    }

    /// The same where sources of before send passwords of `persons`.
    #[must_use]
    pub(crate) fn of(self, persons: Persons) -> Self {
        Self { persons, ..self }
    }

    /// The source of the token `name`. Blocks while it reads certificates.
    ///
    /// # Errors
    /// [`ServerError`] where the way to its authorization server cannot be set up.
    pub(crate) fn make(
        &mut self,
        name: &str,
        settings: &TokenSettings,
    ) -> Result<Arc<dyn Source>, ServerError> {
        match &settings.origin {
            Origin::Server(origin) => {
                let server = self.server(&origin.server)?;
                let mut source =
                    ServerSource::new(Arc::clone(&server), (**origin).clone(), self.roster.clone())
                        .named(name);
                if let GrantSettings::Password { username, .. } = &origin.grant {
                    source = source.of_person(self.persons.get(&origin.server.location, username));
                }
                let Some((spends, store)) = self.kept(origin) else { return Ok(Arc::new(source)) };
                let (key, request, policy) =
                    (Key::of(name, origin), request(origin), settings.policy.clone());
                let login = match &origin.grant {
                    GrantSettings::Login(login) => Some(login.clone()),
                    _ => None,
                };
                let account = login.map(|login| {
                    let (origin, store, key) = ((**origin).clone(), store.clone(), key.clone());
                    Arc::new(Account::new(server, origin, login, store, key, request))
                });
                let summons = account.as_ref().and_then(|account| account.summons().cloned());
                let stored = Stored::new(source, store, key, request, spends, policy, account);
                Ok(match summons {
                    Some(summons) => Arc::new(Silent::new(stored, summons)),
                    None => Arc::new(stored),
                })
            }
            Origin::Command(settings) => Ok(Arc::new(CommandSource::new(settings.clone()))),
            Origin::File(file) => Ok(Arc::new(FileSource::new(file.clone()))),
            Origin::Static(token) => Ok(Arc::new(FixedSource::new(token.clone()))),
            Origin::SelfSigned(assertion) => Ok(Arc::new(SignedSource::new((**assertion).clone()))),
        }
    }

    /// What a token spends, and where it is kept; `None`: to keep it would be of no use, and cost memory.
    fn kept(&self, origin: &ServerOrigin) -> Option<(Spends, Store)> {
        let spends = match &origin.grant {
            GrantSettings::RefreshToken { seed } => Spends::RefreshToken(seed.clone()),
            GrantSettings::Login(_) => Spends::RefreshToken(None),
            // A token for each caller: the cache that they are in is bounded, and no disk is.
            GrantSettings::TokenExchange(ExchangeSettings { subject: Subject::Incoming, .. }) => return None,
            // Only the key's file may say whose it is (Google): with another's file in its place at the next start, the
            // token kept would be somebody else's.
            GrantSettings::JwtBearer(BearerAssertion { issuer: None, .. }) => {
                return Some((Spends::Earned, Store::memory()));
            }
            GrantSettings::Password { .. }
            | GrantSettings::JwtBearer(_)
            | GrantSettings::TokenExchange(_) => Spends::Earned,
            GrantSettings::ClientCredentials => {
                return self.store.is_durable().then(|| (Spends::Nothing, self.store.clone()));
            }
        };
        Some((spends, self.store.clone()))
    }

    fn server(&mut self, settings: &ServerSettings) -> Result<Arc<AuthorizationServer>, ServerError> {
        if let Some((_, server)) = self.servers.iter().find(|(one, _)| one == settings) {
            return Ok(Arc::clone(server));
        }
        let server = Arc::new(AuthorizationServer::new(settings)?);
        self.servers.push((settings.clone(), Arc::clone(&server)));
        Ok(server)
    }
}

/// Reads a secret and when its file was written, without holding up the runtime: the file may lie on a network that
/// hangs. The outer error is a defect.
async fn dated(
    source: &SecretSource,
) -> Result<Result<(Secret<String>, Option<SystemTime>), SecretError>, Error> {
    let source = source.clone();
    let Some(file) = source.file().map(Path::to_owned) else { return Ok(source.read_dated()) };
    blocking(&file, move || source.read_dated()).await
}

/// How long the reading of a file may take before it is given up.
const READ_PATIENCE: Duration = Duration::from_secs(10);
