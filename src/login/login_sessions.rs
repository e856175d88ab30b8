//! The logins under way: one for each token. A second one of the same token takes the place of the first, so that a
//! browser window that was closed holds nothing up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};
use url::Url;

use super::browser::{BrowserLogin, ByHand, Ended, OpenError};
use super::device::DeviceLogin;
use super::paste::{PasteError, Pasted};
use super::progress::{Ending, Progress, Stage};
use super::redirect::RedirectError;
use super::silent::{Refusal, SilentError, SilentRenewal, SilentStart};
use crate::clock::BootInstant;
use crate::oauth::{Callback, Class, Identity};
use crate::token::Error;
use crate::token::{Account, Flow, StoreError, TokenHandle, TokenRegistry};

/// Where people log in. Shared by clone.
#[derive(Clone, Default)]
pub(crate) struct LoginSessions {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    sessions: Mutex<BTreeMap<String, LoginSession>>,
    silent: Mutex<Vec<SilentRenewal>>,
    /// The tokens whose client may not begin a login on another device: its server refused it.
    no_device: Mutex<BTreeSet<String>>,
    ids: AtomicU64,
}

/// One token's login, under way or just over.
struct LoginSession {
    progress: watch::Sender<Progress>,
    pasted: mpsc::Sender<ByHand>,
    task: JoinHandle<()>,
}

/// Why a login could not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BeginError {
    /// There is nowhere to come back to.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    /// The authorization server has no such way to log in, could not be reached, or refused.
    #[error("{}", .0.in_full())]
    Server(#[from] Error),
    /// There is nowhere to keep it.
    #[error("a login could not be kept: {0}")]
    Store(#[from] StoreError),
}

impl LoginSessions {
    /// Begins a login and says what the person is to do. It goes on by itself; what comes back sees it.
    /// The token of that name in `registry` is told of what comes of it; without one, it is in the store alone. `browser`
    /// is the one whose dashboard it was begun in.
    ///
    /// # Errors
    /// [`BeginError`]; then no login is under way that was not before.
    pub(crate) async fn begin(
        &self,
        account: &Arc<Account>,
        registry: Option<TokenRegistry>,
        flow: Flow,
        browser: Option<String>,
    ) -> Result<watch::Receiver<Progress>, BeginError> {
        // Before anybody is sent to log in for nothing.
        account.probe().await?;
        if account.settings().redirect_uri.port().is_some() {
            // Where it comes back to is taken by the login that this one takes the place of.
            let old = self.sessions().remove(account.name());
            if let Some(old) = old {
                old.cancel();
                let _ = old.task.await;
            }
        }
        let id = self.shared.ids.fetch_add(1, Ordering::Relaxed) + 1;
        let name = account.name().to_owned();
        let (pasted, by_hand) = mpsc::channel(1);
        let (until, step, work): (_, _, Work) = match flow {
            Flow::AuthorizationCode => {
                let login = BrowserLogin::open(Arc::clone(account)).await.map_err(|error| match error {
                    OpenError::Redirect(error) => BeginError::Redirect(error),
                    OpenError::Server(error) => BeginError::Server(error),
                })?;
                let until = BootInstant::now() + LOGIN_TIME;
                (until, login.step(), Box::pin(login.finish(until, by_hand)))
            }
            Flow::DeviceCode => {
                let opened = DeviceLogin::open(Arc::clone(account)).await;
                self.note_device(&name, opened.as_ref().err());
                let login = opened?;
                let (until, step) = (login.until(), login.step());
                let work = async { Ended { outcome: login.finish().await, last_page: Box::pin(async {}) } };
                (until, step, Box::pin(work))
            }
        };
        let progress = Progress { id, flow, until, stage: Stage::Waiting(step), ended: None };
        let (progress, watch) = watch::channel(progress);
        info!(token = name, flow = flow.as_str(), "a login has begun");
        let teller = progress.clone();
        let (token, account) = (name.clone(), Arc::clone(account));
        let task = tokio::spawn(async move {
            let Ended { outcome, last_page } = work.await;
            if let (Ok(_), Some(renewal_request)) = (&outcome, account.renewal_request()) {
                // On another device no cookie is set in this browser.
                renewal_request.logged_in(browser.as_deref().filter(|_| flow == Flow::AuthorizationCode));
            }
            let advice = account.advice().filter(|_| outcome.is_ok());
            tell(&token, &outcome, registry.as_ref()).await;
            if let Some(advice) = &advice {
                warn!(token, "{advice}");
            }
            teller.send_modify(|progress| progress.end(Stage::of(outcome, advice)));
            last_page.await;
        });
        let session = LoginSession { progress, pasted, task };
        if let Some(old) = self.sessions().insert(name, session) {
            old.cancel();
        }
        Ok(watch)
    }

    /// How the last login of this token stands; `None`: there was none since the program started.
    #[must_use]
    pub(crate) fn progress(&self, token: &str) -> Option<Progress> {
        self.sessions().get(token).map(|session| session.progress.borrow().clone())
    }

    /// Whether a login of this account on another device may begin, as far as that is known.
    #[must_use]
    pub(crate) fn may_offer_devices(&self, account: &Account) -> bool {
        account.may_offer_devices() && !self.no_device().contains(account.name())
    }

    fn note_device(&self, token: &str, error: Option<&Error>) {
        let mut refused = self.no_device();
        match error {
            None => drop(refused.remove(token)),
            Some(error) if error.class() == Class::Misconfigured => drop(refused.insert(token.to_owned())),
            Some(_) => {}
        }
    }

    /// Calls a login off. Whether there was one.
    pub(crate) fn cancel(&self, token: &str) -> bool {
        self.sessions().get(token).is_some_and(LoginSession::cancel)
    }

    /// Takes the address that a browser ended at by hand: of a browser on another machine, which cannot come back here.
    ///
    /// # Errors
    /// [`PasteError`]; the login goes on waiting.
    pub(crate) async fn paste(&self, token: &str, text: &str) -> Result<(), PasteError> {
        let hand = {
            let sessions = self.sessions();
            let waiting = sessions.get(token).filter(|session| !session.progress.borrow().is_over());
            waiting.ok_or(PasteError::NoLogin)?.pasted.clone()
        };
        let pasted = Pasted::read(text)?;
        let (reply, answer) = oneshot::channel();
        hand.try_send(ByHand { pasted, reply }).map_err(|_| PasteError::NoLogin)?;
        answer.await.unwrap_or(Err(PasteError::NoLogin))
    }

    /// Begins a renewal in a hidden frame of a dashboard in `browser`, which comes back to `redirect_uri`; `open`: the
    /// browsers in which one is open.
    ///
    /// # Errors
    /// [`SilentError`]
    pub(crate) async fn begin_silent(
        &self,
        handle: &TokenHandle,
        redirect_uri: &Url,
        browser: &str,
        open: &BTreeSet<String>,
    ) -> Result<SilentStart, SilentError> {
        let (renewal, start) = SilentRenewal::open(handle, redirect_uri, browser, open).await?;
        let now = BootInstant::now();
        let mut silent = self.silent();
        // A second one of the same browser is a page that was loaded anew.
        silent.retain(|other| !other.is_over(now) && !other.is_like(&renewal));
        if silent.len() >= MOST_SILENT {
            silent.remove(0);
        }
        silent.push(renewal);
        Ok(start)
    }

    /// Takes what such a frame brought back; `None`: a token.
    ///
    /// # Errors
    /// [`SilentError`]; a refusal of the authorization server is the token's state by then, or that page's alone.
    pub(crate) async fn finish_silent(
        &self,
        callback: Callback,
        open: BTreeSet<String>,
    ) -> Result<Option<Refusal>, SilentError> {
        let renewal = {
            let mut silent = self.silent();
            let now = BootInstant::now();
            let found = silent.iter().position(|one| !one.is_over(now) && one.is_answered_by(&callback));
            found.map(|index| silent.remove(index)).ok_or(SilentError::StateMismatch)?
        };
        // What was sent once is never sent again: it goes on where the frame is gone.
        match tokio::spawn(renewal.finish(callback, open)).await {
            Ok(outcome) => outcome,
            Err(_ended) => Err(SilentError::StateMismatch),
        }
    }

    fn sessions(&self) -> MutexGuard<'_, BTreeMap<String, LoginSession>> {
        self.shared.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn no_device(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.shared.no_device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn silent(&self) -> MutexGuard<'_, Vec<SilentRenewal>> {
        self.shared.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for LoginSessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginSessions").field("logins", &self.sessions().len()).finish_non_exhaustive()
    }
}

impl LoginSession {
    /// Ends what is under way, its listener included; watchers are told. Whether there was anything.
    fn cancel(&self) -> bool {
        self.task.abort();
        self.progress.send_if_modified(|progress| {
            let waiting = !progress.is_over();
            if waiting {
                progress.end(Stage::Cancelled);
            }
            waiting
        })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for session in self.sessions.get_mut().unwrap_or_else(PoisonError::into_inner).values() {
            session.cancel();
        }
    }
}

type Work = BoxFuture<'static, Ended>;

/// Says how it ended: in the log, and to the token, which finds it in the store.
async fn tell(token: &str, outcome: &Result<Option<Identity>, Ending>, registry: Option<&TokenRegistry>) {
    match outcome {
        Ok(_user) => info!(token, "login completed"),
        Err(ending) if ending.kept => {
            warn!(token, cause = ending.cause, "a login has a flaw: {}", ending.message);
        }
        Err(ending) => return warn!(token, cause = ending.cause, "a login failed: {}", ending.message),
    }
    // A request that follows the login finds its token.
    if let Some(registry) = registry {
        let _ = timeout(TAKEN_UP, registry.take_up(token)).await;
    }
}

/// How long a login waits until the token is taken out of the store before it is reported as done.
const TAKEN_UP: Duration = Duration::from_secs(5);
/// How long a person has for a login with a browser.
const LOGIN_TIME: Duration = Duration::from_mins(10);
/// More frames at a time than browsers with a dashboard.
const MOST_SILENT: usize = 64;
/// How long a frame has.
pub(super) const SILENT_TIME: Duration = Duration::from_mins(1);
