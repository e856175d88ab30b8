//! The way to one token: the trait, and what a source returns. The renewer knows no more of it than this.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;

use crate::clock::BootInstant;
use crate::oauth::{AuthorizationServer, Dpop, Identity, TokenResponse};
use crate::secret::Secret;
use crate::token::account::Account;
use crate::token::error::{Error, SubjectTokenFault};
use crate::token::state::Past;

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
        Box::pin(async { Err(Error::from(SubjectTokenFault::NoCaller)) })
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

    /// How a person logs in for it; `None`: it needs no login.
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
    pub until: Option<BootInstant>,
    /// The key that it is bound to (RFC 9449); `None`: to none, every holder may use it.
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
