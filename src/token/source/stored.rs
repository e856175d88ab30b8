//! A token that is kept: what a store has, and what the authorization server gives where that is not enough.
//!
//! Lease, re-read, request, write, publish, in that order (RFC 9700 section 4.14.2): the second process finds what
//! the first one wrote, and a refresh token that was rotated is in its place before the access token that came with it
//! is used. From the request to the write it cannot be interrupted by the caller: an answer that is dropped is a
//! login that is lost.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

use crate::clock;
use crate::oauth::{Dpop, Interruption, Lifetime, MAX_LIFETIME, TokenHint};
use crate::secret::Secret;
use crate::token::account::Account;
use crate::token::error::{AttemptFault, Error, LoginFault, StorageFault};
use crate::token::schedule::usable_for;
use crate::token::settings::Policy;
use crate::token::state::Past;
use crate::token::store::{
    Entry, Fingerprint, Key, LEASE_WAIT, STORE_WAIT, Spending, Store, StoreError, WithheldMark,
};

use super::exchange_failure::ExchangeFailure;
use super::spending::{Spendable, Spends};
use super::token_source::{Fetched, ServerId, Source};

mod earned;
mod forget;
mod interruption;
mod withheld;
mod written;

/// What asks the authorization server, once for each call.
pub(in crate::token) trait Exchange: Send + Sync {
    /// Asks for a token: with the refresh token that is spent, else by the grant that is configured.
    fn ask(&self, spent: Spent) -> BoxFuture<'_, Result<Fetched, ExchangeFailure>>;

    /// On whose behalf the grant itself would be, where the request alone does not say it and it can be read.
    fn subject(&self) -> BoxFuture<'_, Option<Fingerprint>> {
        Box::pin(async { None })
    }

    /// The key that the next token is to be bound to (RFC 9449); `None`: to none. `stored` is the one that was kept
    /// beside the login, and the one that counts where none is configured.
    fn key<'a>(
        &'a self,
        stored: Option<&'a Secret<Vec<u8>>>,
    ) -> BoxFuture<'a, Result<Option<Arc<Dpop>>, Error>>;

    /// The key in PKCS #8 where it is the store's to keep: it is nowhere else.
    fn kept_key(&self, key: &Dpop) -> Option<Secret<Vec<u8>>>;

    /// The person's password that the grant would send; `None`: it sends none, or it cannot be read.
    fn password(&self) -> BoxFuture<'_, Option<Secret<String>>> {
        Box::pin(async { None })
    }

    /// Sends this password no more, until a person wants it.
    fn withhold(&self, _password: &Secret<String>) {}

    /// Counts a refusal of this password that another process saw.
    fn doubt(&self, _password: &Secret<String>) {}

    /// Whether this password was refused, and may be sent once more.
    fn doubts(&self, _password: &Secret<String>) -> bool {
        false
    }

    /// Whether the server takes no scope on a refresh.
    fn takes_no_scope(&self) -> bool {
        false
    }

    /// Gives a token back (RFC 7009).
    fn revoke<'a>(&'a self, token: &'a Secret<String>, hint: TokenHint) -> BoxFuture<'a, Result<(), Error>>;

    /// Which server is asked.
    fn server(&self) -> Option<ServerId> {
        None
    }

    /// See [`Source::pardon`].
    fn pardon(&self) {}

    /// How long either takes at most.
    fn patience(&self) -> Duration;
}

/// What a stored login adds to a token request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::token) struct Spent {
    /// The refresh token; `None`: the grant spends none.
    pub(in crate::token) refresh_token: Option<Secret<String>>,
    /// The scope that the login came with: no more may be asked for. `None`: it is not known.
    pub(in crate::token) granted: Option<Vec<String>>,
}

/// A token that is kept in a store.
pub(in crate::token) struct Stored<E> {
    inner: Arc<Inner<E>>,
}

struct Inner<E> {
    exchange: E,
    store: Store,
    key: Key,
    request: Fingerprint,
    spends: Spends,
    policy: Policy,
    /// How a person logs in for it, where it is a login that is spent.
    account: Option<Arc<Account>>,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// The access token that was handed out last: it is not handed out as a new one.
    handed: Option<Fingerprint>,
    /// It was said that a restart loses the login.
    warned: bool,
    /// The server gives this client refresh tokens and does not let it use them.
    useless: bool,
    /// What the store says of the token of before.
    past: Past,
    /// The mark of a withheld password that is known already.
    withheld: Option<WithheldMark>,
    /// That the store says of a password that it was refused once is known already.
    refused_once: bool,
}

impl<E: Exchange + 'static> Stored<E> {
    /// `request` is the fingerprint of all that is asked for: a stored token of another request is not used.
    pub(in crate::token) fn new(
        exchange: E,
        store: Store,
        key: Key,
        request: Fingerprint,
        spends: Spends,
        policy: Policy,
        account: Option<Arc<Account>>,
    ) -> Self {
        let memory = Mutex::default();
        Self { inner: Arc::new(Inner { exchange, store, key, request, spends, policy, account, memory }) }
    }
}

impl<E: Exchange + 'static> Source for Stored<E> {
    /// The work goes on in a task of its own where this is dropped after the request was sent. That task ends within
    /// [`Source::patience`], and [`Store::flush`] waits for it.
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
        let inner = Arc::clone(&self.inner);
        let (mut wanted, outcome) = oneshot::channel();
        tokio::spawn(async move {
            let _under_way = inner.store.under_way().await;
            let fetched = inner.fetch(&mut wanted).await;
            // Where no caller waits any more, what came of it is in the store.
            let _ = wanted.send(fetched);
        });
        // The channel breaks where the task panicked or the runtime ends.
        Box::pin(async { outcome.await.unwrap_or(Err(Error::from(AttemptFault::Panicked))) })
    }

    /// With the lease: while another process holds it, the newer token is on its way.
    fn find_newer(&self) -> BoxFuture<'_, Option<Fetched>> {
        Box::pin(async {
            let Inner { store, key, .. } = &*self.inner;
            let lease = store.lease(key).await.ok()?;
            let entry = store.load(key, Some(&lease)).await.ok().flatten();
            self.inner.adopt(entry.as_ref()).await
        })
    }

    fn is_shared(&self) -> bool {
        self.inner.store.is_durable()
    }

    fn past(&self) -> Past {
        self.inner.memory().past.clone()
    }

    fn account(&self) -> Option<Arc<Account>> {
        self.inner.account.clone()
    }

    fn server(&self) -> Option<ServerId> {
        self.inner.exchange.server()
    }

    fn pardon(&self) {
        self.inner.exchange.pardon();
    }

    fn patience(&self) -> Duration {
        // Two rounds of a request; to forget is three.
        let exchanges = self.inner.exchange.patience().saturating_mul(ROUNDS + 1);
        exchanges.saturating_add(LEASE_WAIT).saturating_add(STORE_WAIT.saturating_mul(STORE_CALLS))
    }

    fn forget(&self, access_token: Option<Secret<String>>) -> BoxFuture<'_, Result<(), Error>> {
        let inner = Arc::clone(&self.inner);
        let (told, outcome) = oneshot::channel();
        // What has been given back must not be found in the store again: it goes on where no caller waits for it.
        tokio::spawn(async move {
            let _under_way = inner.store.under_way().await;
            let _ = told.send(inner.forget(access_token).await);
        });
        Box::pin(async { outcome.await.unwrap_or(Err(Error::from(AttemptFault::Panicked))) })
    }
}

/// Who waits for the outcome.
type Wanted = oneshot::Sender<Result<Fetched, Error>>;

impl<E: Exchange> Inner<E> {
    async fn fetch(&self, wanted: &mut Wanted) -> Result<Fetched, Error> {
        // After a restart: no lease is needed to read, and none is waited for.
        let first = self.memory().handed.is_none();
        if first && let Some(fetched) = self.look().await {
            return Ok(fetched);
        }
        let lease = match self.store.lease(&self.key).await {
            Ok(lease) => lease,
            // Its holder requests the same token, and may have it by now.
            Err(StoreError::Busy(_)) => {
                return self.look().await.ok_or(Error::from(StorageFault::Busy));
            }
            Err(error) => return self.ask_without_store(&error).await,
        };
        let earned = self.earned().await;
        // What the server said of the refresh token that it refused.
        let mut said = None;
        let mut interrupted = None;
        for round in 1..=ROUNDS {
            let entry = match self.store.load(&self.key, Some(&lease)).await {
                Ok(entry) => entry,
                Err(error) => return self.ask_without_store(&error).await,
            };
            if let Some(fetched) = self.adopt(entry.as_ref()).await {
                return Ok(fetched);
            }
            if wanted.is_closed() {
                break;
            }
            let token = match self.spends.choose(entry.as_ref(), earned).await {
                Err(error) if error.wants_login() => {
                    let unrenewable = entry.as_ref().is_some_and(|entry| self.is_unrenewable(entry));
                    let error = if unrenewable { LoginFault::Unrenewable.into() } else { error };
                    let mark = self.store.spending(&self.key, Spending::Read, &lease).await;
                    interrupted = interrupted.or(mark.map(|mark| mark.how));
                    return Err(ended(said.or(Some(error)), interrupted));
                }
                token => token?,
            };
            // What can be repeated is, where a refresh token did not help.
            let repeats = self.spends == Spends::Earned && (round == ROUNDS || self.memory().useless);
            let token = token.filter(|_| !repeats);
            let spent = Spent {
                granted: entry.as_ref().filter(|_| token.is_some()).and_then(|entry| entry.granted.clone()),
                refresh_token: token.as_ref().map(|token| token.secret.clone()),
            };
            // What the login is bound to is asked with, not a key of this process.
            self.exchange.key(entry.as_ref().and_then(|entry| entry.dpop_key.as_ref())).await?;
            let mark = if token.is_none() { self.recall(entry.as_ref()).await } else { None };
            let asked = clock::wall();
            let before = self.begin(token.as_ref(), &lease).await;
            let outcome = self.ask(spent).await;
            let refused = outcome.as_ref().is_err_and(|failure| failure.is_invalid_grant());
            let spent = token.as_ref().map(Spendable::fingerprint);
            let explains = before.filter(|before| refused && Some(before.token) == spent);
            interrupted = interrupted.or(explains.map(|mark| mark.how));
            self.end(token.as_ref(), &outcome, before, interrupted.is_some(), &lease).await;
            let failure = match outcome {
                Ok(fetched) => {
                    let user =
                        entry.as_ref().filter(|_| token.is_some()).and_then(|entry| entry.user.clone());
                    let fetched = Fetched { user, ..fetched };
                    self.keep(entry, token, &fetched, asked, earned, &lease).await;
                    return Ok(self.hand_out(fetched, asked));
                }
                Err(failure) => failure,
            };
            let entry = self.note_refusal(entry, &failure, mark, &lease).await;
            if let Some(issued) = failure.issued() {
                self.save(entry, token, issued, earned, &lease).await;
                return Err(failure.into());
            }
            match token {
                Some(token) if refused || self.repeats(&failure) => {
                    self.bury(entry, &token, &lease).await;
                    said = Some(Error::from(failure)).filter(Error::wants_login).or(said);
                }
                Some(_) if self.is_useless(&failure) => {
                    self.memory().useless = true;
                    warn!(
                        token = self.key.name,
                        error = %*failure,
                        "the server gives refresh tokens and does not accept them from this client; the grant itself \
                         is used for each renewal"
                    );
                }
                _ => return Err(failure.into()),
            }
        }
        Err(ended(said, interrupted))
    }

    /// A token out of the store, without a lease.
    async fn look(&self) -> Option<Fetched> {
        let entry = self.store.load(&self.key, None).await.ok().flatten();
        self.adopt(entry.as_ref()).await
    }

    /// The stored access token, where it is for this request, is still good, and was not handed out before: of this
    /// process before a restart, or of another one that was faster.
    async fn adopt(&self, entry: Option<&Entry>) -> Option<Fetched> {
        let access = entry?.access.as_ref().filter(|access| access.request == self.request);
        let past = Past {
            user: entry?.user.clone(),
            asked: access.map(|access| access.asked),
            until: access.and_then(|access| access.expires),
        };
        self.memory().past = past;
        let access = access?;
        let token = Fingerprint::of_secret(&access.token);
        if self.memory().handed == Some(token) {
            return None;
        }
        let now = clock::wall();
        // Asked for in the future: what its expiry is worth is unknown.
        let age = match now.duration_since(access.asked) {
            Ok(age) => age,
            Err(ahead) if ahead.duration() <= CLOCK_SKEW => Duration::ZERO,
            Err(_) => return None,
        };
        let is_unrenewable = self.is_unrenewable(entry?);
        let lifetime = match access.expires {
            Some(at) => Some(at.duration_since(access.asked).unwrap_or_default()),
            // What nothing can renew, and does not say when it ends, is good until an API refuses it.
            None => self.policy.default_lifetime.filter(|_| !is_unrenewable),
        };
        if lifetime.is_some_and(|lifetime| usable_for(lifetime.min(MAX_LIFETIME), &self.policy) <= age) {
            return None;
        }
        // Without its key the token is worth nothing.
        let dpop = self.exchange.key(entry?.dpop_key.as_ref()).await.ok()?;
        if dpop.as_deref().map(thumbprint) != access.bound_to {
            return None;
        }
        self.memory().handed = Some(token);
        if let (Some(account), Some(entry)) = (&self.account, entry) {
            account.note(entry);
        }
        let user = entry?.user.clone();
        let mut response = access.response();
        if lifetime.is_none() {
            response.lifetime = Lifetime::Unbounded;
        }
        let fetched = Fetched::from(response);
        Some(Fetched { asked: Some(access.asked), dpop, user, adopted: true, ..fetched })
    }

    /// Whether nothing but a person's login follows the access token of `entry`.
    fn is_unrenewable(&self, entry: &Entry) -> bool {
        let by_person = self.account.as_ref().is_some_and(|account| !account.settings().renews_in_browser());
        by_person && entry.refresh_token.is_none() && entry.access.is_some()
    }

    async fn ask(&self, spent: Spent) -> Result<Fetched, ExchangeFailure> {
        // The lease must not be held for ever, whatever the exchange does.
        match timeout(self.exchange.patience(), self.exchange.ask(spent)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(Error::from(AttemptFault::Stalled).into()),
        }
    }

    /// Asks all the same where what is spent cannot be lost; else not at all: another may be spending it.
    async fn ask_without_store(&self, error: &StoreError) -> Result<Fetched, Error> {
        self.store.alarm().raise(&self.key.name, error);
        if matches!(self.spends, Spends::RefreshToken(_)) {
            return Err(Error::from(StorageFault::Unusable));
        }
        let asked = clock::wall();
        let fetched = self.ask(Spent::default()).await?;
        Ok(self.hand_out(fetched, asked))
    }

    fn hand_out(&self, fetched: Fetched, asked: SystemTime) -> Fetched {
        self.memory().handed = Some(Fingerprint::of_secret(&fetched.response.access_token));
        Fetched { asked: fetched.asked.or(Some(asked)), ..fetched }
    }

    fn warn_of_rotation(&self) {
        if !self.store.is_durable() && !std::mem::replace(&mut self.memory().warned, true) {
            warn!(
                token = self.key.name,
                "the server changes the refresh token at each use, and the store is this process' memory: a restart \
                 loses the login; set `kind` in [store] to \"file\" or \"keyring\""
            );
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why nothing is left to spend: what the server said of it counts first, and what became of the last refresh beside it.
fn ended(said: Option<Error>, interrupted: Option<Interruption>) -> Error {
    match (said, interrupted) {
        (Some(error), how) if error.is_counted() => error.interrupted(how),
        (_, Some(how)) => Error::from(LoginFault::Interrupted(how)),
        (said, None) => said.unwrap_or(Error::from(LoginFault::Required)),
    }
}

fn thumbprint(key: &Dpop) -> Fingerprint {
    Fingerprint::of([key.thumbprint().as_bytes()])
}

/// How often it is asked in one attempt: with what is stored, and with what came into its place since.
const ROUNDS: u32 = 2;

/// How often an attempt turns to the store.
const STORE_CALLS: u32 = 8;

/// How far in the future a stored token may have been asked for: another machine's clock on a shared folder.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests;
