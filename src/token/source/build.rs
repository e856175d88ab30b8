//! Sources of settings: each grant with what it needs around it, a store, a login, a browser.

use std::sync::Arc;

use crate::oauth::{AuthorizationServer, ServerError, ServerSettings};
use crate::token::account::Account;
use crate::token::settings::{
    BearerAssertion, ExchangeSettings, GrantSettings, Origin, ServerOrigin, Subject, TokenSettings,
};
use crate::token::store::{Key, Store, request};
use crate::token::token_registry::TokenRegistry;

use super::command::CommandSource;
use super::file::FileSource;
use super::fixed::FixedSource;
use super::person::Persons;
use super::server::ServerSource;
use super::signed::SignedSource;
use super::silent::Silent;
use super::spending::Spends;
use super::stored::Stored;
use super::token_source::Source;

/// Makes sources of settings. Tokens of one authorization server share its connections and its metadata.
#[derive(Debug)]
pub(crate) struct Sources {
    registry: TokenRegistry,
    store: Store,
    servers: Vec<(ServerSettings, Arc<AuthorizationServer>)>,
    persons: Persons,
}

impl Sources {
    /// `registry` is where a source finds the tokens that it trades in, `store` where it keeps its own.
    #[must_use]
    pub(crate) fn new(registry: TokenRegistry, store: Store) -> Self {
        Self { registry, store, servers: Vec::new(), persons: Persons::default() }
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
                    ServerSource::new(Arc::clone(&server), (**origin).clone(), self.registry.clone())
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
                let renewal_request = account.as_ref().and_then(|account| account.renewal_request().cloned());
                let stored = Stored::new(source, store, key, request, spends, policy, account);
                Ok(match renewal_request {
                    Some(renewal_request) => Arc::new(Silent::new(stored, renewal_request)),
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
    pub(super) fn kept(&self, origin: &ServerOrigin) -> Option<(Spends, Store)> {
        let spends = match &origin.grant {
            GrantSettings::RefreshToken { seed } => Spends::RefreshToken(seed.clone()),
            GrantSettings::Login(_) => Spends::RefreshToken(None),
            // A token for each caller: the cache that they are in is bounded, and no disk is.
            GrantSettings::TokenExchange(ExchangeSettings { subject: Subject::Incoming, .. }) => return None,
            // Only the key's file may say whose it is (Google): with another's file in its place at the next start, the
            // token kept would be another user's.
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
