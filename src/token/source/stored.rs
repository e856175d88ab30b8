//! A token that is kept: what a store has, and what the authorization server gives where that is not enough.
//!
//! Lease, re-read, request, write, publish, in that order (RFC 9700 section 4.14.2): whoever comes second finds what
//! the first one wrote, and a refresh token that was rotated is in its place before the access token that came with it
//! is used. From the request to the write it cannot be interrupted by whoever asked: an answer that is dropped is a
//! login that is lost.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::warn;

use crate::clock;
use crate::oauth::{Dpop, Error, ErrorKind, Issued, MAX_LIFETIME, TokenFailure, TokenHint, TokenResponse};
use crate::secret::Secret;
use crate::token::account::Account;
use crate::token::schedule::usable_for;
use crate::token::settings::Policy;
use crate::token::state::Past;
use crate::token::store::{
    Earned, Entry, Fingerprint, Key, LEASE_WAIT, Lease, STORE_WAIT, Spending, Store, StoreError, StoredAccess,
};

use super::spending::{Spendable, Spends};
use super::{Fetched, ServerId, Source};

mod earned;
mod forget;
mod interruption;

/// What asks the authorization server, once for each call.
pub(in crate::token) trait Exchange: Send + Sync {
    /// Asks for a token: with the refresh token that is spent, else by the grant that is configured.
    fn ask(&self, spent: Spent) -> BoxFuture<'_, Result<Fetched, TokenFailure>>;

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

    /// The key in PKCS #8 where it is the store's to keep: nobody else has it.
    fn kept_key(&self, key: &Dpop) -> Option<Secret<Vec<u8>>>;

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
    /// The scope that the login came with: no more may be asked for. `None`: nobody knows.
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
            // Where nobody waits any more, what came of it is in the store.
            let _ = wanted.send(fetched);
        });
        // The channel breaks where the task panicked or the runtime ends.
        Box::pin(async { outcome.await.unwrap_or(Err(Error::here(ErrorKind::Panicked))) })
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
        // What has been given back must not be found in the store again: it goes on where nobody waits for it.
        tokio::spawn(async move {
            let _under_way = inner.store.under_way().await;
            let _ = told.send(inner.forget(access_token).await);
        });
        Box::pin(async { outcome.await.unwrap_or(Err(Error::here(ErrorKind::Panicked))) })
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
            // Whoever holds it asks for the same token, and may have it by now.
            Err(StoreError::Busy(_)) => {
                return self.look().await.ok_or(Error::here(ErrorKind::StoreBusy));
            }
            Err(error) => return self.ask_without_store(&error).await,
        };
        let earned = self.earned().await;
        // What the server said of the refresh token that it refused.
        let mut said = None;
        let mut interrupted = false;
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
                    interrupted |= self.store.spending(&self.key, Spending::Read, &lease).await.is_some();
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
            let asked = clock::wall();
            let before = self.begin(token.as_ref(), &lease).await;
            let outcome = self.ask(spent).await;
            let refused = outcome.as_ref().is_err_and(|failure| failure.is_invalid_grant());
            interrupted |=
                refused && before.is_some() && before == token.as_ref().map(Spendable::fingerprint);
            self.end(token.as_ref(), &outcome, before, interrupted, &lease).await;
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
        let past = Past { user: entry?.user.clone(), until: access.and_then(|access| access.expires) };
        self.memory().past = past;
        let access = access?;
        let token = Fingerprint::of_secret(&access.token);
        if self.memory().handed == Some(token) {
            return None;
        }
        let now = clock::wall();
        // Asked for in the future: nobody can say what its expiry is worth.
        let age = match now.duration_since(access.asked) {
            Ok(age) => age,
            Err(ahead) if ahead.duration() <= CLOCK_SKEW => Duration::ZERO,
            Err(_) => return None,
        };
        let lifetime = match access.expires {
            Some(at) => at.duration_since(access.asked).unwrap_or_default(),
            None => self.policy.default_lifetime,
        };
        if usable_for(lifetime.min(MAX_LIFETIME), &self.policy) <= age {
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
        let fetched = Fetched::from(access.response());
        Some(Fetched { asked: Some(access.asked), dpop, user, adopted: true, ..fetched })
    }

    async fn ask(&self, spent: Spent) -> Result<Fetched, TokenFailure> {
        // The lease must not be held for ever, whatever the exchange does.
        match timeout(self.exchange.patience(), self.exchange.ask(spent)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(Error::here(ErrorKind::Stalled).into()),
        }
    }

    /// Asks all the same where what is spent cannot be lost; else not at all: another may be spending it.
    async fn ask_without_store(&self, error: &StoreError) -> Result<Fetched, Error> {
        self.store.alarm().raise(&self.key.name, error);
        if matches!(self.spends, Spends::RefreshToken(_)) {
            return Err(Error::here(ErrorKind::Store));
        }
        let asked = clock::wall();
        let fetched = self.ask(Spent::default()).await?;
        Ok(self.hand_out(fetched, asked))
    }

    /// Writes what a response brought.
    async fn keep(
        &self,
        base: Option<Entry>,
        spent: Option<Spendable>,
        fetched: &Fetched,
        asked: SystemTime,
        earned: Earned,
        lease: &Lease,
    ) {
        let Fetched { response, dpop, .. } = fetched;
        let TokenResponse { refresh_token, scope, .. } = response;
        let mut entry = self.next(base.as_ref());
        let bound_to = dpop.as_deref().map(thumbprint);
        entry.access = Some(StoredAccess::of(response, self.request, asked, bound_to));
        if let Some(key) = dpop.as_deref().and_then(|key| self.exchange.kept_key(key)) {
            entry.dpop_key = Some(key);
        }
        self.put(&mut entry, spent, refresh_token.as_ref(), scope.as_ref(), earned);
        self.store.keep(&self.key, entry, base.as_ref(), lease).await;
    }

    /// Writes the refresh token of a response that is of no other use: the one that was spent for it is gone.
    async fn save(
        &self,
        base: Option<Entry>,
        spent: Option<Spendable>,
        issued: &Issued,
        earned: Earned,
        lease: &Lease,
    ) {
        if self.spends == Spends::Nothing {
            return;
        }
        let mut entry = self.next(base.as_ref());
        if entry.dpop_key.is_none()
            && let Ok(Some(key)) = self.exchange.key(None).await
        {
            entry.dpop_key = self.exchange.kept_key(&key);
        }
        self.put(&mut entry, spent, Some(&issued.refresh_token), issued.scope.as_ref(), earned);
        self.store.keep(&self.key, entry, base.as_ref(), lease).await;
    }

    /// Puts a refresh token into `entry`, and where it is from.
    fn put(
        &self,
        entry: &mut Entry,
        spent: Option<Spendable>,
        refresh_token: Option<&Secret<String>>,
        scope: Option<&Vec<String>>,
        earned: Earned,
    ) {
        match (&self.spends, spent) {
            (Spends::Nothing, _) | (Spends::RefreshToken(_), None) => {}
            // RFC 6749 section 6: without a new one, the old one stays.
            (Spends::Earned, Some(spent)) => {
                entry.refresh_token = Some(refresh_token.cloned().unwrap_or(spent.secret));
            }
            (Spends::Earned, None) => {
                entry.refresh_token = refresh_token.cloned();
                entry.earned = refresh_token.map(|_| earned);
                entry.granted = scope.cloned();
                (entry.seed, entry.user) = (None, None);
            }
            (Spends::RefreshToken(_), Some(spent)) => {
                if entry.seed != spent.seed {
                    entry.granted = None;
                }
                if refresh_token.is_some() {
                    self.warn_of_rotation();
                }
                entry.refresh_token = Some(refresh_token.cloned().unwrap_or(spent.secret));
                (entry.seed, entry.earned) = (spent.seed, None);
            }
        }
    }

    /// Remembers that a refresh token is worth nothing, unless another has come into the store meanwhile. A stored one
    /// that was not the one refused is kept, and tried next.
    async fn bury(&self, base: Option<Entry>, dead: &Spendable, lease: &Lease) {
        let now = self.store.load(&self.key, Some(lease)).await;
        let refresh_token =
            |entry: &Option<Entry>| entry.as_ref().and_then(|entry| entry.refresh_token.clone());
        if matches!(&now, Ok(now) if refresh_token(now) != refresh_token(&base)) {
            return;
        }
        let mut entry = self.next(base.as_ref());
        if entry.seed != dead.seed {
            entry.granted = None;
        }
        if entry.refresh_token.as_ref() == Some(&dead.secret) {
            entry.refresh_token = None;
        } else if entry.refresh_token.is_some() {
            warn!(
                token = self.key.name,
                "the configured refresh token is refused; the one in the token store is used"
            );
        }
        entry.seed = dead.seed;
        self.store.keep(&self.key, entry, base.as_ref(), lease).await;
    }

    /// The entry that follows `base`, as it is.
    fn next(&self, base: Option<&Entry>) -> Entry {
        let mut entry = base.cloned().unwrap_or_else(|| Entry::empty(self.key.client));
        entry.generation = entry.generation.saturating_add(1);
        entry.written = clock::wall();
        entry
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

/// Why nothing is left to spend: what the server said of it counts first, and that a refresh was interrupted beside it.
fn ended(said: Option<Error>, interrupted: bool) -> Error {
    match said {
        Some(error) if error.is_counted() => error.interrupted(interrupted),
        _ if interrupted => Error::here(ErrorKind::LoginInterrupted),
        said => said.unwrap_or(Error::here(ErrorKind::LoginRequired)),
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
