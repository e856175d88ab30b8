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
use tracing::{info, warn};

use crate::clock;
use crate::oauth::{Dpop, Error, ErrorKind, MAX_LIFETIME, TokenHint, read};
use crate::secret::{Secret, SecretSource};
use crate::token::account::Account;
use crate::token::schedule::usable_for;
use crate::token::settings::Policy;
use crate::token::store::{
    Entry, Fingerprint, Key, LEASE_WAIT, Lease, STORE_WAIT, Store, StoreError, StoredAccess,
};

use super::{Fetched, ServerId, Source};

/// What asks the authorization server, once for each call.
pub(in crate::token) trait Exchange: Send + Sync {
    /// Asks for a token.
    fn ask(&self, spent: Spent) -> BoxFuture<'_, Result<Fetched, Error>>;

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

/// What a grant spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::token) enum Spends {
    /// Nothing that counts once: it may be asked for without a store, too.
    Nothing,
    /// A refresh token: the newest of the store and of the configuration.
    RefreshToken(Option<SecretSource>),
}

/// A token that is kept in a store.
pub(in crate::token) struct Stored<E> {
    inner: Arc<Inner<E>>,
    /// How a person logs in for it, where it is a login that is spent.
    account: Option<Arc<Account>>,
}

struct Inner<E> {
    exchange: E,
    store: Store,
    key: Key,
    request: Fingerprint,
    spends: Spends,
    policy: Policy,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// The access token that was handed out last: it is not handed out as a new one.
    handed: Option<Fingerprint>,
    /// It was said that a restart loses the login.
    warned: bool,
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
    ) -> Self {
        let memory = Mutex::default();
        let inner = Arc::new(Inner { exchange, store, key, request, spends, policy, memory });
        Self { inner, account: None }
    }

    /// The same, with the way in which a person logs in for it.
    #[must_use]
    pub(in crate::token) fn with_account(self, account: Arc<Account>) -> Self {
        Self { account: Some(account), ..self }
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

    fn account(&self) -> Option<Arc<Account>> {
        self.account.clone()
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
        let mut refused = None;
        for _ in 0..ROUNDS {
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
            let token = match self.refresh_token(entry.as_ref()).await {
                // What the server said says more than that nothing is left.
                Err(error) if error.wants_login() => return Err(refused.unwrap_or(error)),
                token => token?,
            };
            let spent = Spent {
                granted: entry.as_ref().filter(|_| token.is_some()).and_then(|entry| entry.granted.clone()),
                refresh_token: token.as_ref().map(|token| token.secret.clone()),
            };
            // What the login is bound to is asked with, not a key of this process.
            self.exchange.key(entry.as_ref().and_then(|entry| entry.dpop_key.as_ref())).await?;
            let asked = clock::wall();
            match (self.ask(spent).await, token) {
                (Ok(fetched), token) => {
                    let user = entry.as_ref().and_then(|entry| entry.user.clone());
                    let fetched = Fetched { user, ..fetched };
                    self.keep(entry, token, &fetched, asked, &lease).await;
                    return Ok(self.hand_out(fetched, asked));
                }
                (Err(error), Some(token)) if error.is_invalid_grant() => {
                    self.bury(entry, &token, &lease).await;
                    refused = Some(error).filter(Error::wants_login).or(refused);
                }
                (Err(error), _) => return Err(error),
            }
        }
        Err(refused.unwrap_or(Error::here(ErrorKind::LoginRequired)))
    }

    /// A token out of the store, without a lease.
    async fn look(&self) -> Option<Fetched> {
        let entry = self.store.load(&self.key, None).await.ok().flatten();
        self.adopt(entry.as_ref()).await
    }

    /// The stored access token, where it is for this request, is still good, and was not handed out before: of this
    /// process before a restart, or of another one that was faster.
    async fn adopt(&self, entry: Option<&Entry>) -> Option<Fetched> {
        let access = entry?.access.as_ref().filter(|access| access.request == self.request)?;
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
        let user = entry?.user.clone();
        Some(Fetched { asked: Some(access.asked), dpop, user, ..Fetched::from(access.response()) })
    }

    /// What is to be spent. `None`: the grant spends nothing.
    async fn refresh_token(&self, entry: Option<&Entry>) -> Result<Option<Spendable>, Error> {
        let Spends::RefreshToken(source) = &self.spends else { return Ok(None) };
        let seed = match source {
            Some(source) => Some(read(source).await),
            None => None,
        };
        let stored = entry.and_then(|entry| Some((entry.refresh_token.as_ref()?, entry.seed)));
        let known = entry.and_then(|entry| entry.seed);
        let of_store = |token: &Secret<String>, seed| Spendable { secret: token.clone(), seed };
        match (stored, seed) {
            // A login's; or its seed is not there to be compared with.
            (Some((token, seed @ None)), _) | (Some((token, seed)), None | Some(Err(_))) => {
                Ok(Some(of_store(token, seed)))
            }
            (Some((token, Some(seed))), Some(Ok(configured)))
                if Fingerprint::of_secret(&configured) == seed =>
            {
                Ok(Some(of_store(token, Some(seed))))
            }
            // New, or changed since the one that the stored token came from.
            (_, Some(Ok(configured))) => {
                let seed = Fingerprint::of_secret(&configured);
                // It was spent, and what came of it was refused.
                if known == Some(seed) {
                    return Err(Error::here(ErrorKind::LoginRequired));
                }
                Ok(Some(Spendable { secret: configured, seed: Some(seed) }))
            }
            (None, Some(Err(error))) => Err(error),
            (None, None) => Err(Error::here(ErrorKind::LoginRequired)),
        }
    }

    async fn ask(&self, spent: Spent) -> Result<Fetched, Error> {
        // The lease must not be held for ever, whatever the exchange does.
        match timeout(self.exchange.patience(), self.exchange.ask(spent)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(Error::here(ErrorKind::Stalled)),
        }
    }

    /// Asks all the same where what is spent cannot be lost; else not at all: another may be spending it.
    async fn ask_without_store(&self, error: &StoreError) -> Result<Fetched, Error> {
        self.store.alarm().raise(&self.key.name, error);
        if self.spends != Spends::Nothing {
            return Err(Error::here(ErrorKind::Store));
        }
        let asked = clock::wall();
        let fetched = self.ask(Spent::default()).await?;
        Ok(self.hand_out(fetched, asked))
    }

    /// Writes what an answer brought.
    async fn keep(
        &self,
        base: Option<Entry>,
        spent: Option<Spendable>,
        fetched: &Fetched,
        asked: SystemTime,
        lease: &Lease,
    ) {
        let Fetched { response, dpop, .. } = fetched;
        let mut entry = self.next(base.as_ref());
        let bound_to = dpop.as_deref().map(thumbprint);
        entry.access = Some(StoredAccess::of(response, self.request, asked, bound_to));
        if let Some(key) = dpop.as_deref().and_then(|key| self.exchange.kept_key(key)) {
            entry.dpop_key = Some(key);
        }
        if let Some(spent) = spent {
            if entry.seed != spent.seed {
                entry.granted = None;
            }
            entry.seed = spent.seed;
            if response.refresh_token.is_some() {
                self.warn_of_rotation();
            }
            // RFC 6749 section 6: without a new one, the old one stays.
            entry.refresh_token = Some(response.refresh_token.clone().unwrap_or(spent.secret));
        }
        self.store.keep(&self.key, entry, base.as_ref(), lease).await;
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

    /// The refresh token first: with it goes what came of it. What is held here goes whatever the server says.
    async fn forget(&self, held: Option<Secret<String>>) -> Result<(), Error> {
        let lease = self.store.lease(&self.key).await.ok();
        let (entry, mut outcome) = match self.store.load(&self.key, lease.as_ref()).await {
            Ok(entry) => (entry, Ok(())),
            // What nobody could read, nobody can give back.
            Err(error) => {
                self.store.alarm().raise(&self.key.name, &error);
                (None, Err(Error::here(ErrorKind::Unread)))
            }
        };
        let (refresh, stored) = match entry {
            Some(entry) => (entry.refresh_token, entry.access.map(|access| access.token)),
            None => (None, None),
        };
        let held = held.filter(|held| stored.as_ref() != Some(held));
        let access = [stored, held].into_iter().flatten().map(|token| (token, TokenHint::AccessToken));
        let refresh = refresh.into_iter().map(|token| (token, TokenHint::RefreshToken));
        let mut login_ended = false;
        for (token, hint) in refresh.chain(access) {
            let told = match timeout(self.exchange.patience(), self.exchange.revoke(&token, hint)).await {
                Ok(told) => told,
                Err(_elapsed) => Err(Error::here(ErrorKind::Stalled)),
            };
            // Few servers take back a JWT; with the refresh token the login has ended, and what is left of it ends soon.
            if login_ended && told.as_ref().is_err_and(Error::is_unsupported_token_type) {
                info!(
                    token = self.key.name,
                    "the login has ended; its access token is good until it expires"
                );
                continue;
            }
            login_ended |= hint == TokenHint::RefreshToken && told.is_ok();
            outcome = outcome.and(told);
        }
        if self.store.delete(&self.key).await.is_err() {
            // It has raised the alarm. That the token would come back is worse than that the server was not told.
            outcome = Err(Error::here(ErrorKind::StillStored));
        }
        if let (Spends::RefreshToken(Some(source)), Some(lease)) = (&self.spends, &lease)
            && let Ok(seed) = read(source).await
        {
            // The configured refresh token is still there, and would log in again: it counts as spent.
            let entry = Entry { seed: Some(Fingerprint::of_secret(&seed)), ..self.next(None) };
            self.store.keep(&self.key, entry, None, lease).await;
        }
        self.memory().handed = None;
        outcome
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

fn thumbprint(key: &Dpop) -> Fingerprint {
    Fingerprint::of([key.thumbprint().as_bytes()])
}

/// A refresh token, and the configured one that it came from.
struct Spendable {
    secret: Secret<String>,
    seed: Option<Fingerprint>,
}

/// How often it is asked in one attempt: with what is stored, and with what came into its place since.
const ROUNDS: u32 = 2;

/// How often an attempt turns to the store.
const STORE_CALLS: u32 = 8;

/// How far in the future a stored token may have been asked for: another machine's clock on a shared folder.
const CLOCK_SKEW: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests;
