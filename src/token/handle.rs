//! The read side: all that a request, readiness or a person sees of a token.
//!
//! [`TokenHandle::load`] is the request path: it takes no lock and allocates nothing. Everything else asks the renewer,
//! which alone writes. Handles may be used from any thread and any runtime.

use std::fmt;
use std::ops::Deref;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::clock::{BootInstant, timeout_at};
use crate::oauth::{Class, MAX_LIFETIME};
use crate::secret::Secret;
use crate::token::error::{Error, SubjectTokenFault};

use super::account::Account;
use super::activity::Activity;
use super::rejection::Refusals;
use super::request_error::{ForgetError, RENEW_WAIT, RenewError};
use super::settings::TokenSettings;
use super::source::Source;
use super::state::{Credentials, Status, TokenState};
use super::subject_tokens::{CallerError, Callers};
use super::unavailable::{NO_ATTEMPT_PLANNED, Unavailable};

/// A message to the renewer. The queue is bounded by what waits: each waiter puts one message in and then waits.
pub(super) enum Command {
    Add(Arc<Token>, Arc<dyn Source>, Option<Arc<str>>),
    Remove(u64),
    /// The clock has jumped.
    Look,
    Ask {
        id: u64,
        ask: Ask,
        /// How many attempts had ended when it was asked: what ended since is the answer.
        seen: u64,
    },
    /// An API has refused this generation.
    Rejected {
        id: u64,
        generation: u64,
    },
    /// An API has accepted a token after it had refused another.
    Accepted {
        id: u64,
    },
    Forget {
        id: u64,
        done: oneshot::Sender<Result<(), Error>>,
    },
}

/// A token, seen from the reading side.
#[derive(Clone)]
pub(crate) struct TokenHandle {
    token: Arc<Token>,
}

/// What the renewer and all handles of a token share.
pub(super) struct Token {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) settings: Arc<TokenSettings>,
    state: ArcSwap<TokenState>,
    /// Told of each new state.
    changed: Notify,
    /// Set when the renewer no longer drives this token.
    retired: AtomicBool,
    /// Where each caller has a token of its own.
    callers: Option<Arc<Callers>>,
    /// How a person logs in for it, where one does.
    account: Option<Arc<Account>>,
    pub(super) activity: Activity,
    /// When it was asked for because an upstream refused it. Held for a comparison, and never on the way of a request
    /// that was not refused.
    refusals: Mutex<Refusals>,
    /// After how many attempts the renewer was told that a request waits: once for each, however many do.
    waited: AtomicU64,
    /// The newest generation of which the renewer was told that an API refuses it; 0: none, or one was accepted since.
    rejected: AtomicU64,
    renewer: mpsc::WeakUnboundedSender<Command>,
}

/// A state, borrowed. Not to be kept: it holds up the memory of the state it shows.
pub(crate) struct StateRef(Guard<Arc<TokenState>>);

impl Deref for StateRef {
    type Target = TokenState;

    fn deref(&self) -> &TokenState {
        &self.0
    }
}

/// What someone wants of the renewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ask {
    /// An upstream refused the token held, or the store has changed: another process may have had a newer one.
    Look,
    /// A request waits for a usable token.
    Token,
    /// A person wants a new one now.
    Renew,
    /// Something that may have been at fault has changed.
    Wake,
    /// What the token is read from has changed: the one held is an old one.
    Changed,
}

impl TokenHandle {
    pub(super) const fn new(token: Arc<Token>) -> Self {
        Self { token }
    }

    pub(super) fn id(&self) -> u64 {
        self.token.id
    }

    pub(super) fn per_caller(&self) -> Option<&Arc<Callers>> {
        self.token.callers.as_ref()
    }

    pub(super) fn refusals(&self) -> MutexGuard<'_, Refusals> {
        // A thread that panicked while it held the lock left a whole note behind: it is put in by one assignment.
        self.token.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn activity(&self) -> &Activity {
        &self.token.activity
    }

    pub(super) fn ask(&self, ask: Ask, seen: &TokenState) -> bool {
        self.token.ask(ask, seen)
    }

    pub(super) fn note_rejected(&self, refused: u64, seen: &TokenState) {
        self.token.note_rejected(refused, seen);
    }

    pub(super) fn note_accepted(&self) {
        self.token.note_accepted();
    }

    /// Ready with the next change of state.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.token.changed.notified()
    }

    pub(super) fn is_retired(&self) -> bool {
        self.token.is_retired()
    }

    /// The token's name in the configuration.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        &self.token.name
    }

    /// Whether readiness waits for it.
    #[must_use]
    pub(crate) fn required(&self) -> bool {
        self.token.settings.required
    }

    /// What it was made from; a reload compares it.
    #[must_use]
    pub(crate) fn settings(&self) -> &TokenSettings {
        &self.token.settings
    }

    /// The state now. This is the request path.
    #[must_use]
    pub(crate) fn load(&self) -> StateRef {
        StateRef(self.token.state.load())
    }

    /// Usable credentials, for a request that found none.
    ///
    /// Waits up to `policy.wait` for the first token, through failures that pass by themselves, and for a new one
    /// after a machine slept past the expiry of the old. It answers at once where only a person can help, where a
    /// token expired while renewals failed, and where the next attempt is planned for later than the wait lasts.
    /// Dropping it ends nothing but the wait.
    ///
    /// # Errors
    /// [`Unavailable`], with what to tell the application.
    pub(crate) async fn wait(&self) -> Result<Arc<Credentials>, Unavailable> {
        if self.is_per_caller() {
            return Err(Unavailable {
                status: Status::Misconfigured,
                cause: Some(Box::new(Error::from(SubjectTokenFault::NoCaller))),
                expired: None,
                user: None,
                retry_after: NO_ATTEMPT_PLANNED,
                can_log_in: false,
            });
        }
        let patience = self.token.settings.policy.wait.min(MAX_LIFETIME);
        let deadline = BootInstant::now() + patience;
        loop {
            let mut changed = pin!(self.token.changed.notified());
            // Before the state is read, so that no change falls between the two.
            changed.as_mut().enable();
            {
                let state = self.load();
                let now = BootInstant::now();
                if let Some(credentials) = state.usable(now) {
                    return Ok(Arc::clone(credentials));
                }
                let hope = if state.last_error.is_none() {
                    self.token.ask(Ask::Token, &state)
                } else {
                    // The next attempt is the schedule's to plan; it is sooner where requests wait.
                    self.token.wait_after(&state);
                    state.may_come_by(deadline, patience) && !self.token.is_retired()
                };
                if !hope || now >= deadline {
                    let can_log_in = self.account().is_some();
                    let backoff = &self.token.settings.policy.retry;
                    return Err(Unavailable { can_log_in, ..Unavailable::waited_for(&state, now, backoff) });
                }
            }
            // Where the time runs out, the loop looks a last time.
            let _ = timeout_at(deadline, changed).await;
        }
    }

    /// Renews now, and waits for the outcome. Concurrent callers share one token request.
    ///
    /// # Errors
    /// [`RenewError`]; the token held stays in use.
    pub(crate) async fn renew(&self) -> Result<(), RenewError> {
        if self.is_per_caller() {
            return Err(RenewError::Failed(Error::from(SubjectTokenFault::NoCaller)));
        }
        let deadline = BootInstant::now() + RENEW_WAIT;
        let seen = self.load().attempts();
        loop {
            let mut changed = pin!(self.token.changed.notified());
            changed.as_mut().enable();
            {
                let state = self.load();
                let now = BootInstant::now();
                if state.attempts() != seen {
                    return state
                        .last_error
                        .as_ref()
                        .map_or(Ok(()), |f| Err(RenewError::Failed(f.error.clone())));
                }
                if let Some(until) = state.hold(now) {
                    return Err(RenewError::Held { left: until - now });
                }
                if now >= deadline {
                    return Err(RenewError::TimedOut);
                }
                if !self.token.ask(Ask::Renew, &state) {
                    return Err(RenewError::Retired);
                }
            }
            let _ = timeout_at(deadline, changed).await;
        }
    }

    /// Gives the token back and forgets it, here and at the authorization server; nothing is asked for until someone
    /// logs in, renews it, or changes what it is asked for with.
    ///
    /// # Errors
    /// [`ForgetError`]. Where the server was not told, the token is forgotten here all the same.
    pub(crate) async fn forget(&self) -> Result<(), ForgetError> {
        if let Some(callers) = &self.token.callers {
            callers.forget();
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        if self.token.is_retired() {
            return Err(ForgetError::Retired);
        }
        let renewer = self.token.renewer.upgrade().ok_or(ForgetError::Retired)?;
        renewer.send(Command::Forget { id: self.token.id, done }).map_err(|_| ForgetError::Retired)?;
        drop(renewer);
        match tokio::time::timeout(RENEW_WAIT, answer).await {
            Ok(Ok(Err(error))) if error.is_still_stored() => Err(ForgetError::StillStored(error)),
            Ok(Ok(outcome)) => outcome.map_err(ForgetError::NotTold),
            Ok(Err(_gone)) => Err(ForgetError::Retired),
            Err(_elapsed) => Err(ForgetError::TimedOut),
        }
    }

    /// Says that a file of this token's has changed. Where it holds the token itself, that is read again at once; else
    /// a token whose last attempt failed is tried again, but not before a `Retry-After` is over, and not after a logout
    /// that only a new login can undo.
    pub(crate) fn wake(&self) {
        if let Some(callers) = &self.token.callers {
            callers.forgive();
        } else if self.settings().is_read() {
            self.replace();
        } else if self.settings().spends_a_login() || !self.is_logged_out() {
            self.token.ask(Ask::Wake, &self.load());
        }
    }

    fn is_logged_out(&self) -> bool {
        self.load().last_error.as_ref().is_some_and(|failure| failure.error.is_logged_out())
    }

    /// Says that what the store holds of this token has changed. A token that waits for a login, or for the store itself,
    /// is tried again. One that could not be had otherwise is looked for there, and nothing is asked for: another process
    /// may have had it, and most changes are this process' own. One that was logged out stays so where no login is stored:
    /// to forget it has changed the store, too.
    pub(crate) fn wake_by_store(&self) {
        let state = self.load();
        let Some(failure) = &state.last_error else { return };
        match failure.error.class() {
            Class::Refused | Class::Doubtful if self.settings().spends_a_login() => self.wake(),
            Class::Refused | Class::Doubtful => {}
            Class::Transient | Class::Misconfigured if failure.error.is_of_the_store() => self.wake(),
            Class::Transient | Class::Misconfigured => {
                self.token.activity.want_look();
                self.token.ask(Ask::Look, &state);
            }
        }
    }

    /// Says that the network has changed: a token whose last attempt failed for lack of one is tried again, sooner than
    /// planned, but not before a `Retry-After` is over.
    pub(crate) fn wake_by_network(&self) {
        let state = self.load();
        if state.last_error.as_ref().is_some_and(|failure| failure.error.lacks_network()) {
            self.token.ask(Ask::Wake, &state);
        }
    }

    /// How a person logs in for it; `None`: it needs no login.
    #[must_use]
    pub(crate) fn account(&self) -> Option<&Arc<Account>> {
        self.token.account.as_ref()
    }

    /// Says that what the token is made of is another now: it is had anew, although the one held may be good.
    pub(crate) fn replace(&self) {
        self.token.ask(Ask::Changed, &self.load());
    }

    /// Whether each caller has a token of its own: see [`TokenHandle::on_behalf`].
    #[must_use]
    pub(crate) fn is_per_caller(&self) -> bool {
        self.token.callers.is_some()
    }

    /// How many callers a token is held for; `None`: it is not one per caller.
    #[must_use]
    pub(crate) fn callers(&self) -> Option<usize> {
        self.token.callers.as_ref().map(|callers| callers.count())
    }

    /// Credentials for the caller who brings `subject`, kept from an earlier request or traded in now. It waits up to
    /// `policy.wait`. What is kept is found by a hash of all of `subject`: no caller gets another's.
    ///
    /// # Errors
    /// [`CallerError`]: the caller's token is refused, or no token can be had now.
    pub(crate) async fn on_behalf(&self, subject: Secret<String>) -> Result<Arc<Credentials>, CallerError> {
        match &self.token.callers {
            Some(callers) => callers.credentials(subject).await,
            None => self.wait().await.map_err(CallerError::Unavailable),
        }
    }
}

impl fmt::Debug for TokenHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenHandle").field("name", &self.token.name).finish_non_exhaustive()
    }
}

impl Token {
    pub(super) fn new(
        id: u64,
        name: String,
        settings: Arc<TokenSettings>,
        callers: Option<Arc<Callers>>,
        source: &dyn Source,
        renewer: mpsc::WeakUnboundedSender<Command>,
    ) -> Self {
        let state = TokenState { per_caller: callers.is_some(), ..TokenState::default() };
        Self {
            id,
            name,
            settings,
            state: ArcSwap::from_pointee(state),
            changed: Notify::new(),
            retired: AtomicBool::new(false),
            callers,
            account: source.account(),
            activity: Activity::new(source.is_shared()),
            refusals: Mutex::default(),
            waited: AtomicU64::new(u64::MAX),
            rejected: AtomicU64::new(0),
            renewer,
        }
    }

    pub(super) fn state(&self) -> Arc<TokenState> {
        self.state.load_full()
    }

    /// Puts a new state in force and tells what waits: the attempt that led to it has ended. The renewer alone calls
    /// this.
    pub(super) fn publish(&self, state: TokenState) {
        self.state.store(Arc::new(state));
        self.activity.set_renewing(false);
        self.changed.notify_waiters();
    }

    /// Tells what waits for a look into the store that it has ended.
    pub(super) fn has_looked(&self, number: u64) {
        self.activity.look_ended(number);
        self.changed.notify_waiters();
    }

    /// Puts a state in force that no attempt led to: what is under way goes on.
    pub(super) fn revise(&self, state: TokenState) {
        self.state.store(Arc::new(state));
        self.changed.notify_waiters();
    }

    /// Says that this token is not renewed any more. What is held stays usable until it expires.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.activity.set_renewing(false);
        if let Some(callers) = &self.callers {
            callers.retire();
        }
        self.changed.notify_waiters();
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Says once for each failed attempt that a request waits for a token, however many do.
    fn wait_after(&self, failed: &TokenState) {
        let attempts = failed.attempts();
        if self.waited.load(Ordering::Relaxed) != attempts
            && self.waited.swap(attempts, Ordering::Relaxed) != attempts
        {
            self.ask(Ask::Token, failed);
        }
    }

    /// Says once that an API has refused the token that is held.
    pub(super) fn note_rejected(&self, refused: u64, seen: &TokenState) {
        let held = seen.credentials.as_ref().is_some_and(|held| held.generation == refused);
        if held && self.rejected.swap(refused, Ordering::Relaxed) != refused {
            self.command(Command::Rejected { id: self.id, generation: refused });
        }
    }

    /// Says once that an API accepted a token after it had refused others.
    pub(super) fn note_accepted(&self) {
        if self.rejected.swap(0, Ordering::Relaxed) != 0 {
            self.command(Command::Accepted { id: self.id });
        }
    }

    /// Whether there is a renewer to hear it.
    fn ask(&self, ask: Ask, seen: &TokenState) -> bool {
        !self.is_retired() && self.command(Command::Ask { id: self.id, ask, seen: seen.attempts() })
    }

    fn command(&self, command: Command) -> bool {
        self.renewer.upgrade().is_some_and(|renewer| renewer.send(command).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use futures_util::future::BoxFuture;
    use tokio::time::sleep;

    use super::*;
    use crate::lifecycle::DrainTrigger;
    use crate::metrics::Metrics;
    use crate::token::renewer::tests::settings;
    use crate::token::source::tests::{origin, response};
    use crate::token::{Fetched, GrantSettings, Limits, Origin, Renewer, RenewerHandle, Source};

    /// Counts how often it is asked. Its tokens live for so long.
    struct Giver(AtomicUsize, Duration);

    impl Source for Giver {
        fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Box::pin(async { Ok(response("token", self.1).into()) })
        }
    }

    /// A token of `grant` whose tokens live for so long.
    fn given(
        grant: GrantSettings,
        lives: Duration,
    ) -> (Arc<Giver>, TokenHandle, (RenewerHandle, DrainTrigger)) {
        let (trigger, drain) = DrainTrigger::new();
        let renewer = Renewer::spawn(Limits::default(), drain, &Metrics::new());
        let giver = Arc::new(Giver(AtomicUsize::new(0), lives));
        let settings = TokenSettings { origin: Origin::Server(Box::new(origin(grant))), ..settings() };
        let token = renewer.add("api", settings, Arc::clone(&giver));
        (giver, token, (renewer, trigger))
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_was_logged_out_is_not_brought_back_by_its_own_deletion_from_the_store() {
        let login = GrantSettings::RefreshToken { seed: None };
        for (grant, asked) in [(GrantSettings::ClientCredentials, 1), (login, 2)] {
            let (giver, token, _renewer) = given(grant, Duration::from_hours(1));
            token.wait().await.unwrap();
            token.forget().await.unwrap();
            token.wake_by_store();
            sleep(Duration::from_mins(1)).await;
            assert_eq!(giver.0.load(Ordering::SeqCst), asked);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_whose_tokens_are_over_when_they_come_is_not_asked_as_fast_as_they_are_stored() {
        for grant in [GrantSettings::ClientCredentials, GrantSettings::RefreshToken { seed: None }] {
            let (giver, token, _renewer) = given(grant, Duration::ZERO);
            for _ in 0..600 {
                sleep(Duration::from_secs(1)).await;
                token.wake_by_store();
            }
            let asked = giver.0.load(Ordering::SeqCst);
            // Every few seconds, as an application waits to start; not with each change of the store.
            assert!((5..200).contains(&asked), "{asked}");
        }
    }
}
