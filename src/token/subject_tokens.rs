//! Tokens on behalf of callers: each caller's own token is traded in for one (RFC 8693), which is kept as long as it is
//! good and given to that caller alone.
//!
//! What is kept is found by the SHA-256 of the caller's token, all of it; the caller's token itself is forgotten once it
//! was sent. Each entry is a [`TokenState`] and follows the same rules as the renewer's tokens, but is renewed only when
//! it is used. `handle` calls this; the lock is held for a look-up and never across an await.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use aws_lc_rs::digest::{SHA256, digest};
use futures_util::FutureExt as _;
use lru::LruCache;
use tokio::runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::clock::{BootInstant, timeout_at};
use crate::oauth::MAX_LIFETIME;
use crate::secret::Secret;
use crate::token::error::{AttemptFault, Error};
use crate::traces::Traces;

use super::attempt::{self, Attempt};
use super::metrics::TokenMetrics;
use super::rejection::{Judgement, Refusals, Rejection, Renewal, newer};
use super::settings::TokenSettings;
use super::source::{Fetched, Source};
use super::span;
use super::state::{Credentials, TokenState};
use super::unavailable::Unavailable;

/// The SHA-256 of a caller's token.
type Key = [u8; 32];

/// Why a caller gets no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallerError {
    /// What the caller brought is not accepted: another token of theirs may be.
    #[error(transparent)]
    Refused(Error),
    /// The proxy or the authorization server is at fault.
    #[error("no token can be had for the caller now")]
    Unavailable(Unavailable),
}

/// What the exchanges of all tokens share.
#[derive(Debug)]
pub(super) struct Exchanges {
    /// Where they run: connections to authorization servers belong to it.
    runtime: runtime::Handle,
    /// As many at once, of all tokens together.
    slots: Semaphore,
    metrics: TokenMetrics,
    traces: Traces,
}

impl Exchanges {
    /// On the current runtime.
    pub(super) fn new(concurrent: usize, metrics: TokenMetrics, traces: Traces) -> Self {
        let slots = Semaphore::new(concurrent.max(1));
        Self { runtime: runtime::Handle::current(), slots, metrics, traces }
    }
}

/// One token of the configuration, for all its callers.
pub(super) struct Callers {
    name: String,
    settings: Arc<TokenSettings>,
    source: Arc<dyn Source>,
    exchanges: Arc<Exchanges>,
    cache: Mutex<Cache>,
    this: Weak<Self>,
}

struct Cache {
    /// Those that a token was had for.
    held: LruCache<Key, TokenState>,
    /// Those that none was ever had for: kept apart, so that they push out no one else.
    failed: LruCache<Key, TokenState>,
    /// Those whose token an upstream refused.
    refused: LruCache<Key, Refusals>,
    flights: HashMap<Key, Flight>,
    /// What the authorization server asked for (`Retry-After`) counts for all.
    hold: Option<TokenState>,
    /// The failure that was logged last: a server that is down fails every caller in the same way.
    logged: Option<Error>,
    /// A caller's token was taken once.
    proven: bool,
    retired: bool,
}

/// An exchange under way.
struct Flight {
    told: watch::Receiver<Option<TokenState>>,
    task: AbortHandle,
}

enum Look {
    Known(Result<Arc<Credentials>, CallerError>),
    UnderWay(watch::Receiver<Option<TokenState>>),
}

impl Callers {
    pub(super) fn new(
        name: &str,
        settings: Arc<TokenSettings>,
        source: Arc<dyn Source>,
        exchanges: Arc<Exchanges>,
    ) -> Arc<Self> {
        let cache = Cache {
            held: LruCache::sparse(MOST_CALLERS),
            failed: LruCache::sparse(MOST_FAILED),
            refused: LruCache::sparse(MOST_CALLERS),
            flights: HashMap::new(),
            hold: None,
            logged: None,
            proven: false,
            retired: false,
        };
        Arc::new_cyclic(|this| Self {
            name: name.to_owned(),
            settings,
            source,
            exchanges,
            cache: Mutex::new(cache),
            this: this.clone(),
        })
    }

    /// The credentials for the bearer of `subject`. Those who bring the same wait for the same exchange, each up to
    /// `policy.wait`; dropping it ends nothing but the wait.
    pub(super) async fn credentials(&self, subject: Secret<String>) -> Result<Arc<Credentials>, CallerError> {
        let deadline = BootInstant::now() + self.settings.policy.wait.min(MAX_LIFETIME);
        let mut told = match self.look(subject) {
            Look::Known(known) => return known,
            Look::UnderWay(told) => told,
        };
        match timeout_at(deadline, told.wait_for(Option::is_some)).await {
            Ok(Ok(state)) => judge(&state.clone().unwrap_or_default(), BootInstant::now()),
            // The time ran out; or the exchange was ended because the token is let go.
            Ok(Err(_)) | Err(_) => Err(unavailable(&TokenState::default())),
        }
    }

    /// An upstream has refused what `subject` was traded in for: see [`TokenHandle::reject`](super::TokenHandle::reject).
    /// It stays in use until another has come.
    pub(super) fn reject(&self, subject: Secret<String>, refused: u64, deadline: BootInstant) -> Rejection {
        let key = key_of(&subject);
        let now = BootInstant::now();
        let mut cache = self.cache();
        let cache = &mut *cache;
        // Gone by now: there is nothing to replace, and the next request trades anew.
        let Some(state) = cache.held.get(&key).cloned() else { return Rejection::NotNow };
        if let Some(newer) = newer(&state, refused) {
            return Rejection::Newer(newer);
        }
        if let Some(told) = cache.under_way(&key) {
            return Rejection::Asked(Renewal::exchange(told, refused, deadline));
        }
        if state.last_error.is_some() && state.next_attempt.is_none_or(|at| at > now) {
            return Rejection::NotNow;
        }
        if cache.may_start(now).is_err() {
            return Rejection::NotNow;
        }
        let refusals = cache.refused.get_or_insert_mut(key, Refusals::default);
        if refusals.judge(refused, state.attempts(), now, self.settings.policy.retry.max) != Judgement::Ask {
            return Rejection::NotNow;
        }
        debug!(token = self.name, "an upstream refused a caller's token; another is traded for");
        Rejection::Asked(Renewal::exchange(self.start(cache, key, subject, state), refused, deadline))
    }

    /// An upstream took what came after a refusal.
    pub(super) fn accepted(&self, subject: &Secret<String>, generation: u64) {
        if let Some(refusals) = self.cache().refused.get_mut(&key_of(subject)) {
            refusals.mended(generation);
        }
    }

    /// How many callers a token is held for.
    pub(super) fn count(&self) -> usize {
        self.cache().held.len()
    }

    /// Something that was at fault may have changed: failures are forgotten, but not what the server asked for.
    pub(super) fn forgive(&self) {
        let now = BootInstant::now();
        let mut cache = self.cache();
        cache.failed.clear();
        cache.held.retain(|_, state| state.usable(now).is_some());
    }

    /// Lets go of all that is held.
    pub(super) fn forget(&self) {
        let mut cache = self.cache();
        cache.held.clear();
        cache.failed.clear();
        cache.refused.clear();
    }

    /// Ends what is under way. Tokens that are held stay good until they expire.
    pub(super) fn retire(&self) {
        let mut cache = self.cache();
        cache.retired = true;
        for (_, flight) in cache.flights.drain() {
            flight.task.abort();
        }
    }

    fn look(&self, subject: Secret<String>) -> Look {
        let key = key_of(&subject);
        let now = BootInstant::now();
        let mut cache = self.cache();
        let cache = &mut *cache;
        let known = cache.held.get(&key).or_else(|| cache.failed.get(&key)).cloned();
        if let Some(state) = &known
            && let Some(credentials) = state.usable(now)
        {
            let due = state.next_attempt.is_some_and(|at| at <= now);
            if due && !cache.flights.contains_key(&key) && cache.may_start(now).is_ok() {
                self.start(cache, key, subject, state.clone());
            }
            return Look::Known(Ok(Arc::clone(credentials)));
        }
        if let Some(told) = cache.under_way(&key) {
            return Look::UnderWay(told);
        }
        let state = known.unwrap_or_default();
        if state.last_error.is_some() && state.next_attempt.is_none_or(|at| at > now) {
            return Look::Known(judge(&state, now));
        }
        match cache.may_start(now) {
            Ok(()) => Look::UnderWay(self.start(cache, key, subject, state)),
            Err(error) => Look::Known(Err(error)),
        }
    }

    /// Starts an exchange. It belongs to the cache, which ends it when the token is let go.
    fn start(
        &self,
        cache: &mut Cache,
        key: Key,
        subject: Secret<String>,
        old: TokenState,
    ) -> watch::Receiver<Option<TokenState>> {
        let (tell, told) = watch::channel(None);
        let (this, source) = (self.this.clone(), Arc::clone(&self.source));
        let exchanges = Arc::clone(&self.exchanges);
        let task = self.exchanges.runtime.spawn(async move {
            // It is never closed; if it were, no slot is the safer reading.
            let Ok(_slot) = exchanges.slots.acquire().await else { return };
            let sent = BootInstant::now();
            let outcome = exchange(&*source, &subject).await;
            if let Some(this) = this.upgrade() {
                tell.send_replace(Some(this.settle(key, &old, sent, outcome)));
            }
        });
        cache.flights.insert(key, Flight { told: told.clone(), task: task.abort_handle() });
        told
    }

    fn settle(
        &self,
        key: Key,
        old: &TokenState,
        sent: BootInstant,
        outcome: Result<Fetched, Error>,
    ) -> TokenState {
        let now = BootInstant::now();
        let attempt = Attempt { sent, now, jitter: fastrand::f64(), inputs: None };
        let mut state = attempt::apply(old, outcome, &attempt, &self.settings);
        // It would cost more than the token, and it is not read.
        state.scope = None;
        let error = state.last_error.as_ref().map(|failure| failure.error.clone());
        span::renewal(&self.exchanges.traces, &self.name, now - sent, &state);
        let mut cache = self.cache();
        cache.flights.remove(&key);
        if !cache.retired {
            self.exchanges.metrics.ended(&self.name, now - sent, error.as_ref().map(Error::class));
        }
        match error {
            None => {
                debug!(token = self.name, "a caller's token was exchanged");
                cache.logged = None;
                cache.proven = true;
            }
            // Where none was ever taken it may be the configuration that is wrong.
            Some(error) if error.refuses_subject() && !cache.proven => {
                if cache.logged.as_ref() != Some(&error) {
                    warn!(token = self.name, cause = error.cause(), %error,
                        "the authorization server has taken no caller's token yet; compare the configuration with what it expects");
                    cache.logged = Some(error);
                }
            }
            Some(error) if error.refuses_subject() => {
                debug!(token = self.name, cause = error.cause(), "a caller's token was refused");
            }
            Some(error) => {
                if error.pause(self.settings.policy.retry.max).is_some() {
                    cache.hold = Some(TokenState { credentials: None, ..state.clone() });
                }
                if cache.logged.as_ref() != Some(&error) {
                    let (cause, class) = (error.cause(), error.class().as_str());
                    warn!(token = self.name, cause, class, %error, "no token could be had for a caller");
                    cache.logged = Some(error);
                }
            }
        }
        cache.sweep(now);
        if state.credentials.is_some() {
            cache.failed.pop(&key);
            cache.held.put(key, state.clone());
        } else {
            cache.failed.put(key, state.clone());
        }
        state
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // A thread that panicked while it held the lock left whole entries behind: each is put in by one call.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    /// The exchange under way for a caller. One whose task died without a word is none.
    fn under_way(&self, key: &Key) -> Option<watch::Receiver<Option<TokenState>>> {
        let flight = self.flights.get(key).filter(|flight| flight.told.has_changed().is_ok())?;
        Some(flight.told.clone())
    }

    /// Whether another exchange may start.
    fn may_start(&mut self, now: BootInstant) -> Result<(), CallerError> {
        if let Some(hold) = &self.hold {
            if hold.hold(now).is_some() {
                return Err(unavailable(hold));
            }
            self.hold = None;
        }
        if self.retired || self.flights.len() >= MOST_FLIGHTS {
            return Err(unavailable(&TokenState::default()));
        }
        Ok(())
    }

    /// Drops expired tokens: of those used longest ago, a few with each exchange.
    fn sweep(&mut self, now: BootInstant) {
        let oldest = self.held.iter().rev().take(SWEPT);
        let expired: Vec<Key> =
            oldest.filter(|(_, state)| state.usable(now).is_none()).map(|(key, _)| *key).collect();
        for key in &expired {
            self.held.pop(key);
        }
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.retire();
    }
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callers").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Asks once, within the source's own bound; a panic is its own token's.
async fn exchange(source: &dyn Source, subject: &Secret<String>) -> Result<Fetched, Error> {
    let fetch = AssertUnwindSafe(async { source.on_behalf(subject).await }).catch_unwind();
    match timeout(source.patience(), fetch).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_panic)) => Err(Error::from(AttemptFault::Panicked)),
        Err(_elapsed) => Err(Error::from(AttemptFault::Stalled)),
    }
}

fn judge(state: &TokenState, now: BootInstant) -> Result<Arc<Credentials>, CallerError> {
    match (state.usable(now), &state.last_error) {
        (Some(credentials), _) => Ok(Arc::clone(credentials)),
        (None, Some(failure)) if failure.error.refuses_subject() => {
            Err(CallerError::Refused(failure.error.clone()))
        }
        (None, _) => Err(unavailable(state)),
    }
}

fn unavailable(state: &TokenState) -> CallerError {
    CallerError::Unavailable(Unavailable::new(state, BootInstant::now()))
}

fn key_of(subject: &Secret<String>) -> Key {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, subject.expose().as_bytes()).as_ref());
    key
}

/// Callers that a token is held for, per token of the configuration: about 10 MiB with tokens of a kilobyte.
const MOST_CALLERS: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// Callers whose failure is remembered, so that they do not hammer the authorization server.
const MOST_FAILED: NonZeroUsize = NonZeroUsize::new(1_000).expect("not zero");

/// Exchanges under way or waiting for their turn; more are refused at once.
const MOST_FLIGHTS: usize = 1_000;

/// Of those not used for longest, so many are looked at with each exchange, and dropped where they have expired.
const SWEPT: usize = 2;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures_util::future::{BoxFuture, join_all};
    use tokio::time::sleep;

    use super::*;
    use crate::lifecycle::DrainTrigger;
    use crate::metrics::Metrics;
    use crate::oauth::{Class, ErrorKind, TransportFault};
    use crate::token::MIN_REJECT_GAP;
    use crate::token::renewer::tests::settings;
    use crate::token::source::tests::{origin, response};
    use crate::token::{
        ExchangeSettings, GrantSettings, Limits, Origin, Renewer, RenewerHandle, Status, Subject,
        TokenHandle, TradeGrant,
    };

    /// Trades `x` for `x-for-n`, or does what the test says.
    #[derive(Default)]
    struct Trader {
        calls: Mutex<Vec<String>>,
        under_way: AtomicUsize,
        most: AtomicUsize,
        failing: Mutex<Option<Error>>,
        until: Mutex<Option<BootInstant>>,
    }

    impl Trader {
        fn count(&self) -> usize {
            self.calls.lock().unwrap().len()
        }

        fn fail(&self, error: Option<Error>) {
            *self.failing.lock().unwrap() = error;
        }
    }

    impl Source for Trader {
        fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
            panic!("there is none without a caller")
        }

        fn on_behalf<'a>(&'a self, subject: &'a Secret<String>) -> BoxFuture<'a, Result<Fetched, Error>> {
            Box::pin(async {
                self.calls.lock().unwrap().push(subject.expose().clone());
                let call = self.count();
                self.most.fetch_max(self.under_way.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                sleep(Duration::from_secs(1)).await;
                self.under_way.fetch_sub(1, Ordering::SeqCst);
                assert!(!subject.expose().starts_with("panic"), "a defect on purpose");
                if let Some(error) = self.failing.lock().unwrap().clone() {
                    return Err(error);
                }
                let response = response(&format!("{}-for-{call}", subject.expose()), HOUR);
                Ok(Fetched { until: *self.until.lock().unwrap(), ..response.into() })
            })
        }
    }

    const HOUR: Duration = Duration::from_hours(1);

    fn per_caller() -> TokenSettings {
        let grant = GrantSettings::TokenExchange(ExchangeSettings {
            grant: TradeGrant::TokenExchange,
            subject: Subject::Incoming,
            subject_token_type: "urn:ietf:params:oauth:token-type:access_token".into(),
            actor: None,
            requested_token_type: None,
        });
        let origin = Origin::Server(Box::new(origin(grant)));
        TokenSettings { origin, ..settings() }
    }

    struct Bench {
        renewer: RenewerHandle,
        token: TokenHandle,
        trader: Arc<Trader>,
        metrics: Metrics,
        _trigger: DrainTrigger,
    }

    fn bench(concurrent: usize) -> Bench {
        let (trigger, drain) = DrainTrigger::new();
        let (metrics, trader) = (Metrics::new(), Arc::new(Trader::default()));
        let renewer = Renewer::spawn(Limits { concurrent }, drain, &metrics);
        let token = renewer.add("api", per_caller(), Arc::clone(&trader));
        Bench { renewer, token, trader, metrics, _trigger: trigger }
    }

    impl Bench {
        async fn ask(&self, subject: &str) -> Result<String, CallerError> {
            let credentials = self.token.on_behalf(Secret::new(subject.to_owned())).await?;
            Ok(credentials.value.to_str().unwrap().trim_start_matches("Bearer ").to_owned())
        }
    }

    fn denied(code: &str) -> Error {
        let code = crate::oauth::ErrorCode::parse(code);
        Error::from(ErrorKind::Denied(http::StatusCode::BAD_REQUEST, code))
    }

    #[tokio::test(start_paused = true)]
    async fn no_caller_gets_the_token_of_another_however_alike_theirs_are() {
        let bench = bench(32);
        let long = "a".repeat(4000);
        let subjects: Vec<String> = (0..50).map(|n| format!("{long}{n}")).collect();
        for _ in 0..3 {
            let asked = subjects.iter().flat_map(|subject| [subject, subject]);
            let got = join_all(asked.clone().map(|subject| bench.ask(subject))).await;
            for (subject, got) in asked.zip(got) {
                assert_eq!(got.unwrap().rsplit_once("-for-").unwrap().0, subject);
            }
        }
        assert_eq!(bench.trader.count(), 50, "one exchange for each, and all of them kept");
        assert_eq!(bench.token.callers(), Some(50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_requests_of_one_caller_make_one_exchange() {
        let bench = bench(32);
        let got = join_all((0..1000).map(|_| bench.ask("alice"))).await;
        assert!(got.iter().all(|got| got.as_deref() == Ok("alice-for-1")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_for_each_caller_is_ready_before_the_first_caller_comes() {
        let bench = bench(32);
        sleep(HOUR).await;
        assert_eq!(bench.token.load().status(BootInstant::now()), Status::Valid);
        assert!(bench.metrics.render().contains(r#"cupbearer_token_state{state="valid",token="api"} 1"#));
        assert_eq!(bench.trader.count(), 0);
        assert!(bench.token.wait().await.is_err());
        assert!(bench.token.renew().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_ends_with_what_it_was_traded_for_and_is_never_handed_out_expired() {
        let bench = bench(32);
        *bench.trader.until.lock().unwrap() = Some(BootInstant::now() + Duration::from_mins(10));
        bench.ask("alice").await.unwrap();
        let credentials = bench.token.on_behalf(Secret::new("alice".to_owned())).await.unwrap();
        assert!(credentials.expires_at - BootInstant::now() <= Duration::from_mins(10));
        *bench.trader.until.lock().unwrap() = None;
        sleep(Duration::from_mins(20)).await;
        assert_eq!(bench.ask("alice").await.unwrap(), "alice-for-2");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_used_is_renewed_while_the_old_one_serves() {
        let bench = bench(32);
        bench.ask("alice").await.unwrap();
        sleep(Duration::from_mins(46)).await;
        let start = BootInstant::now();
        assert_eq!(bench.ask("alice").await.unwrap(), "alice-for-1");
        assert_eq!(BootInstant::now(), start);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(bench.ask("alice").await.unwrap(), "alice-for-2");
        bench.trader.fail(Some(Error::from(TransportFault::Dns)));
        sleep(Duration::from_mins(50)).await;
        for _ in 0..5 {
            assert_eq!(bench.ask("alice").await.unwrap(), "alice-for-2", "a failure does not take it away");
            sleep(Duration::from_secs(2)).await;
        }
        sleep(Duration::from_mins(20)).await;
        assert!(matches!(bench.ask("alice").await, Err(CallerError::Unavailable(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_is_refused_does_not_hammer_the_server_and_harms_no_other() {
        let bench = bench(32);
        bench.ask("alice").await.unwrap();
        for code in ["invalid_grant", "invalid_request"] {
            bench.trader.fail(Some(denied(code)));
            let before = bench.trader.count();
            for _ in 0..50 {
                let Err(CallerError::Refused(error)) = bench.ask(code).await else { panic!("not refused") };
                assert_eq!(error.cause(), code);
            }
            assert_eq!(bench.trader.count(), before + 1);
            assert!(bench.ask("alice").await.is_ok());
            bench.token.wake();
            assert!(bench.ask(code).await.is_err());
            assert_eq!(bench.trader.count(), before + 2, "what has changed may have mended it");
        }
        bench.trader.fail(Some(denied("invalid_target")));
        let Err(CallerError::Unavailable(error)) = bench.ask("bob").await else {
            panic!("it is not Bob's fault")
        };
        assert_eq!(error.cause.unwrap().class(), Class::Misconfigured);
        for n in 0..2 * MOST_FAILED.get() {
            assert!(bench.ask(&n.to_string()).await.is_err());
        }
        bench.trader.fail(None);
        sleep(Duration::from_mins(2)).await;
        assert_eq!((bench.token.callers(), bench.ask("alice").await.is_ok()), (Some(1), true));
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_counts_for_all_callers() {
        let bench = bench(32);
        bench.ask("alice").await.unwrap();
        let busy = Error::from(ErrorKind::Status(http::StatusCode::TOO_MANY_REQUESTS));
        bench.trader.fail(Some(busy.after(Some(Duration::from_mins(1)))));
        assert!(bench.ask("bob").await.is_err());
        bench.trader.fail(None);
        bench.token.wake();
        let Err(CallerError::Unavailable(error)) = bench.ask("carol").await else { panic!("called") };
        assert!(error.retry_after > Duration::from_secs(50));
        assert_eq!(bench.trader.count(), 2);
        assert!(bench.ask("alice").await.is_ok());
        sleep(Duration::from_secs(61)).await;
        assert!(bench.ask("carol").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_exchanges_run_at_once_than_allowed_and_no_more_callers_are_kept() {
        let bench = bench(4);
        let subjects: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        assert!(join_all(subjects.iter().map(|subject| bench.ask(subject))).await.iter().all(Result::is_ok));
        assert_eq!(bench.trader.most.load(Ordering::SeqCst), 4);
        let many: Vec<String> = (0..MOST_FLIGHTS + 10).map(|n| format!("x{n}")).collect();
        let got = join_all(many.iter().map(|subject| bench.ask(subject))).await;
        let refused = got.iter().filter(|got| got.is_err()).count();
        assert!(refused >= 10, "{refused}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_who_goes_away_ends_only_the_own_wait_and_a_defect_only_the_own_request() {
        let bench = bench(32);
        assert!(timeout(Duration::from_millis(100), bench.ask("alice")).await.is_err());
        assert_eq!(bench.ask("alice").await.unwrap(), "alice-for-1");
        let Err(CallerError::Unavailable(error)) = bench.ask("panic").await else { panic!("no defect") };
        assert_eq!(error.cause.unwrap().cause(), "internal");
        assert!(bench.ask("bob").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_callers_token_that_is_refused_is_traded_anew_once_for_all_and_not_too_often() {
        let bench = bench(32);
        let subject = || Secret::new("alice".to_owned());
        for name in ["alice", "bob"] {
            bench.ask(name).await.unwrap();
        }
        let reject = |refused| {
            let token = bench.token.clone();
            async move {
                match token.reject(refused, Some(subject())) {
                    Rejection::Newer(newer) => Some(newer.generation),
                    Rejection::Asked(renewal) => renewal.outcome().await.map(|newer| newer.generation),
                    Rejection::NotNow => None,
                }
            }
        };
        let got = join_all((0..1000).map(|_| reject(1))).await;
        assert!(got.iter().all(|generation| *generation == Some(2)));
        assert_eq!(bench.trader.count(), 3);
        assert_eq!(reject(1).await, Some(2), "at once");
        assert_eq!(reject(2).await, None, "too soon");
        sleep(MIN_REJECT_GAP).await;
        bench.trader.fail(Some(Error::from(TransportFault::Dns)));
        assert_eq!(reject(2).await, None);
        assert_eq!(bench.ask("alice").await.unwrap(), "alice-for-3", "it stays in use");
        assert_eq!(bench.ask("bob").await.unwrap(), "bob-for-2");
        assert!(matches!(bench.token.reject(1, None), Rejection::NotNow));
        assert!(matches!(
            bench.token.reject(1, Some(Secret::new("another-token".into()))),
            Rejection::NotNow
        ));
        assert_eq!(bench.trader.count(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_let_go_tells_those_who_wait_and_starts_nothing_more() {
        let bench = bench(32);
        bench.ask("alice").await.unwrap();
        let token = bench.token.clone();
        let waiting = tokio::spawn(async move { token.on_behalf(Secret::new("bob".to_owned())).await });
        sleep(Duration::from_millis(100)).await;
        bench.renewer.remove(&bench.token);
        assert!(waiting.await.unwrap().is_err());
        assert!(bench.ask("carol").await.is_err());
        assert!(bench.ask("alice").await.is_ok(), "what is held stays good");
        assert_eq!(bench.trader.count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_prints_a_callers_token() {
        let bench = bench(32);
        let held = bench.token.on_behalf(Secret::new("sentinel".to_owned())).await.unwrap();
        bench.trader.fail(Some(denied("invalid_grant")));
        let refused = bench.token.on_behalf(Secret::new("sentinel-2".to_owned())).await.unwrap_err();
        let said = format!("{held:?} {:?} {refused} {refused:?} {:?}", bench.token, *bench.token.load());
        assert!(!said.contains("sentinel"), "{said}");
    }
}
