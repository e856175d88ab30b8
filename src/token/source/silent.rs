//! A token that a browser renews: where the authorization server gives no refresh token, the session that the browser
//! holds there is what lasts, and a hidden frame asks with it (OpenID Connect Core 1.0 section 3.1.2.1, `prompt=none`).
//!
//! The renewer asks as always. What it asks here calls for a browser, and waits for one: for the dashboard, which sees
//! the call, and brings what comes of it through the [`Account`] into the store.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::clock::{Moment, timeout_at};
use crate::oauth::{Class, Error, ErrorKind, FrameFault};
use crate::secret::Secret;
use crate::token::account::Account;
use crate::token::state::Past;

use super::{Fetched, ServerId, Source};

/// A call for a browser, and what is known of the browsers that heard it. Each browser has a name of its own choosing,
/// which says nothing but that it is the same one.
#[derive(Debug, Default)]
pub(crate) struct Summons {
    wanted: AtomicBool,
    facts: Mutex<Facts>,
    heard: Notify,
}

#[derive(Debug, Default)]
struct Facts {
    /// Why the call ended without a token.
    refusal: Option<Error>,
    /// The browser that logged in, or renewed last.
    home: Option<String>,
    /// The browsers that the authorization server refused since a login or a renewal.
    refused: BTreeSet<String>,
    /// No renewal in a browser has succeeded since that login.
    fresh: bool,
    /// The frame that is under way: since when, and where it was sent.
    frame: Option<(Moment, String)>,
}

/// Whose failure a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// That browser's alone: the call stays up for the others.
    Browser,
    /// The token's: no browser that could hear the call is left.
    Token,
}

impl Summons {
    /// Whether a browser is called for.
    #[must_use]
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// A token is in the store.
    pub(in crate::token) fn answered(&self) {
        self.settle(None);
    }

    /// A person has logged in: by the dashboard of `browser`, or elsewhere.
    pub(crate) fn logged_in(&self, browser: Option<&str>) {
        let mut facts = self.facts();
        facts.home = browser.map(str::to_owned);
        facts.fresh = browser.is_some();
        facts.refused.clear();
    }

    /// A frame of `browser` has renewed the token.
    pub(crate) fn renewed(&self, browser: &str) {
        let mut facts = self.facts();
        facts.home = Some(browser.to_owned());
        facts.fresh = false;
        facts.refused.clear();
    }

    /// Whether a frame of `browser` is of use; `open`: the browsers in which a dashboard is open.
    #[must_use]
    pub(crate) fn wants(&self, browser: &str, open: &BTreeSet<String>) -> bool {
        let facts = self.facts();
        match &facts.home {
            Some(home) if home == browser => true,
            // That one has the session of the person who logged in.
            Some(home) if open.contains(home) => false,
            _ => !facts.refused.contains(browser),
        }
    }

    /// Whether a frame of `browser` is of use, and none has been refused since the last login or renewal.
    #[must_use]
    pub(crate) fn is_unasked(&self, browser: &str, open: &BTreeSet<String>) -> bool {
        self.wants(browser, open) && !self.facts().refused.contains(browser)
    }

    /// A frame is on its way to `server`, an origin.
    pub(crate) fn sent(&self, server: String) {
        self.facts().frame = Some((Moment::now(), server));
    }

    /// Whether `browser` is the one that logged in, and no frame has renewed the token since.
    #[must_use]
    pub(crate) fn is_first_after_login(&self, browser: &str) -> bool {
        let facts = self.facts();
        facts.fresh && facts.home.as_deref() == Some(browser)
    }

    /// The frame of `browser` brought `error`; `open`: the browsers in which a dashboard is open.
    pub(crate) fn refused(&self, browser: &str, error: Error, open: &BTreeSet<String>) -> Whose {
        {
            let mut facts = self.facts();
            facts.frame = None;
            facts.refused.insert(browser.to_owned());
            // Another browser may have a session there; what the configuration is at fault for is the same in each.
            let others = error.class() == Class::Refused
                && match &facts.home {
                    Some(home) => home != browser,
                    None => !open.is_subset(&facts.refused),
                };
            if others {
                return Whose::Browser;
            }
        }
        self.settle(Some(error));
        Whose::Token
    }

    fn settle(&self, refusal: Option<Error>) {
        {
            let mut facts = self.facts();
            facts.refusal = refusal;
            facts.frame = None;
        }
        self.wanted.store(false, Ordering::Release);
        self.heard.notify_waiters();
    }

    /// Calls, and waits for the outcome.
    async fn call(&self) -> Result<(), Error> {
        let mut heard = std::pin::pin!(self.heard.notified());
        // Before it is seen that someone is wanted, so that no answer falls between the two.
        heard.as_mut().enable();
        {
            let mut facts = self.facts();
            (facts.refusal, facts.frame) = (None, None);
        }
        self.wanted.store(true, Ordering::Release);
        let mut until = Moment::now() + BROWSER_WAIT;
        while timeout_at(until, heard.as_mut()).await.is_err() {
            let frame = self.facts().frame.clone();
            match frame {
                // Where no browser comes, the call stays up: the next one to come finds it.
                None => return Err(Error::here(ErrorKind::BrowserAbsent)),
                Some((since, _)) if Moment::now() < since + FRAME_WAIT => until = since + FRAME_WAIT,
                Some((_, server)) => {
                    let error = Error::here(ErrorKind::Frame(FrameFault::Lost { server }));
                    self.settle(None);
                    return Err(error);
                }
            }
        }
        self.facts().refusal.take().map_or(Ok(()), Err)
    }

    fn facts(&self) -> std::sync::MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source that turns to a browser where `inner` has nothing left to spend.
pub(super) struct Silent<S> {
    inner: S,
    summons: Arc<Summons>,
}

impl<S> Silent<S> {
    pub(super) const fn new(inner: S, summons: Arc<Summons>) -> Self {
        Self { inner, summons }
    }
}

impl<S: Source> Source for Silent<S> {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(async {
            match self.inner.fetch().await {
                Err(error) if error.wants_login() => {}
                outcome => return outcome,
            }
            self.summons.call().await?;
            // It is found in the store, where the browser's renewal has just put it: that was the request.
            self.inner.fetch().await.map(|fetched| Fetched { adopted: false, ..fetched })
        })
    }

    fn find_newer(&self) -> BoxFuture<'_, Option<Fetched>> {
        self.inner.find_newer()
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    fn past(&self) -> Past {
        self.inner.past()
    }

    fn account(&self) -> Option<Arc<Account>> {
        self.inner.account()
    }

    fn server(&self) -> Option<ServerId> {
        self.inner.server()
    }

    fn patience(&self) -> Duration {
        self.inner.patience().saturating_mul(2).saturating_add(BROWSER_WAIT + FRAME_WAIT)
    }

    fn forget(&self, access_token: Option<Secret<String>>) -> BoxFuture<'_, Result<(), Error>> {
        self.summons.wanted.store(false, Ordering::Release);
        self.inner.forget(access_token)
    }
}

/// How long one attempt waits for a browser. Then it failed, and the next one is planned as after any failure.
const BROWSER_WAIT: Duration = Duration::from_secs(30);
/// How long a frame has to come back.
const FRAME_WAIT: Duration = Duration::from_secs(25);

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_is_up_until_it_is_answered() {
        let summons = Arc::new(Summons::default());
        let caller = Arc::clone(&summons);
        let call = tokio::spawn(async move { caller.call().await });
        tokio::task::yield_now().await;
        assert!(summons.is_wanted());
        summons.answered();
        assert_eq!(call.await.unwrap(), Ok(()));
        assert!(!summons.is_wanted());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_comes_and_the_call_stays_up_for_the_next_browser() {
        let summons = Summons::default();
        assert_eq!(summons.call().await, Err(Error::here(ErrorKind::BrowserAbsent)));
        assert!(summons.is_wanted());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_the_outcome_and_ends_the_call() {
        let summons = Arc::new(Summons::default());
        let caller = Arc::clone(&summons);
        let call = tokio::spawn(async move { caller.call().await });
        tokio::task::yield_now().await;
        let refused = summons.refused("a", Error::here(ErrorKind::LoginRequired), &open(&["a"]));
        assert_eq!(refused, Whose::Token);
        assert_eq!(call.await.unwrap(), Err(Error::here(ErrorKind::LoginRequired)));
        assert!(!summons.is_wanted());
    }

    fn open(browsers: &[&str]) -> BTreeSet<String> {
        browsers.iter().map(|browser| (*browser).to_owned()).collect()
    }

    fn login_required() -> Error {
        Error::here(ErrorKind::LoginRequired)
    }

    #[tokio::test(start_paused = true)]
    async fn a_browser_without_a_session_does_not_end_the_login_of_another() {
        let summons = Arc::new(Summons::default());
        summons.logged_in(Some("home"));
        let caller = Arc::clone(&summons);
        let call = tokio::spawn(async move { caller.call().await });
        tokio::task::yield_now().await;
        // The other one comes first, and the browser that logged in is not open.
        assert!(summons.wants("other", &open(&["other"])));
        summons.sent("https://as.example".to_owned());
        assert_eq!(summons.refused("other", login_required(), &open(&["other"])), Whose::Browser);
        assert!(summons.is_wanted() && !summons.wants("other", &open(&["other"])));
        assert!(summons.wants("home", &open(&["home", "other"])));
        summons.renewed("home");
        summons.answered();
        assert_eq!(call.await.unwrap(), Ok(()));
        assert!(!summons.wants("other", &open(&["home", "other"])), "the one that has the session renews");
        assert_eq!(summons.refused("home", login_required(), &open(&["home", "other"])), Whose::Token);
    }

    #[test]
    fn where_the_login_was_made_elsewhere_every_open_browser_is_asked() {
        let summons = Summons::default();
        summons.logged_in(None);
        let both = open(&["a", "b"]);
        assert!(summons.wants("a", &both) && summons.wants("b", &both));
        assert_eq!(summons.refused("a", login_required(), &both), Whose::Browser);
        assert_eq!(summons.refused("b", login_required(), &both), Whose::Token);
        let wrong = Error::here(ErrorKind::TokenType);
        assert_eq!(summons.refused("a", wrong, &open(&["a", "b", "c"])), Whose::Token, "no page's fault");
    }

    #[test]
    fn only_the_first_frame_after_a_login_in_that_browser_tells_withheld_cookies() {
        let summons = Summons::default();
        summons.logged_in(Some("a"));
        assert!(summons.is_first_after_login("a") && !summons.is_first_after_login("b"));
        summons.renewed("a");
        assert!(!summons.is_first_after_login("a"));
        summons.logged_in(None);
        assert!(!summons.is_first_after_login("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_does_not_come_back_is_the_failure_and_no_missing_dashboard() {
        let summons = Arc::new(Summons::default());
        let caller = Arc::clone(&summons);
        let call = tokio::spawn(async move { (caller.call().await, Moment::now()) });
        // It was sent in the last moment, and has its whole time.
        tokio::time::sleep(Duration::from_secs(29)).await;
        let sent = Moment::now();
        summons.sent("https://as.example".to_owned());
        let (outcome, ended) = call.await.unwrap();
        let error = outcome.unwrap_err();
        assert_eq!(error.cause(), "frame_lost");
        assert!(error.to_string().contains("https://as.example"), "{error}");
        assert!(ended - sent >= FRAME_WAIT && !summons.is_wanted(), "the schedule calls again");
    }

    /// A source that has nothing, as often as it is asked.
    struct Empty(AtomicU32, ErrorKind);

    impl Source for Empty {
        fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Err(Error::here(self.1.clone())) })
        }
    }

    #[tokio::test]
    async fn what_is_no_lack_of_a_login_calls_nobody() {
        let error = Empty(AtomicU32::new(0), ErrorKind::Dns).fetch().await.unwrap_err();
        assert!(!error.wants_login());
        assert!(Error::here(ErrorKind::LoginRequired).wants_login());
        assert!(!Error::here(ErrorKind::LoggedOut).wants_login());
    }
}
