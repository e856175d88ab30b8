//! A token that a browser renews: where the authorization server gives no refresh token, the session that the browser
//! holds there is what lasts, and a hidden frame asks with it (OpenID Connect Core 1.0 section 3.1.2.1, `prompt=none`).
//!
//! The renewer asks as always. What it asks here calls for a browser, and waits for one: for the dashboard, which sees
//! the call, and brings what comes of it through the [`Account`] into the store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::oauth::{Error, ErrorKind};
use crate::secret::Secret;
use crate::token::account::Account;

use super::{Fetched, ServerId, Source};

/// A call for a browser.
#[derive(Debug, Default)]
pub struct Summons {
    wanted: AtomicBool,
    refusal: Mutex<Option<Error>>,
    heard: Notify,
}

impl Summons {
    /// Whether a browser is called for.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// A token is in the store.
    pub(in crate::token) fn answered(&self) {
        self.settle(None);
    }

    /// The authorization server refused: only a login helps.
    pub fn refused(&self, error: Error) {
        self.settle(Some(error));
    }

    fn settle(&self, refusal: Option<Error>) {
        *self.refusal() = refusal;
        self.wanted.store(false, Ordering::Release);
        self.heard.notify_waiters();
    }

    /// Calls, and waits for the outcome.
    async fn call(&self) -> Result<(), Error> {
        let mut heard = std::pin::pin!(self.heard.notified());
        // Before it is seen that someone is wanted, so that no answer falls between the two.
        heard.as_mut().enable();
        *self.refusal() = None;
        self.wanted.store(true, Ordering::Release);
        // Where nobody comes, the call stays up: the next browser to come finds it.
        timeout(BROWSER_WAIT, heard).await.map_err(|_elapsed| Error::here(ErrorKind::BrowserAbsent))?;
        self.refusal().take().map_or(Ok(()), Err)
    }

    fn refusal(&self) -> std::sync::MutexGuard<'_, Option<Error>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source that turns to a browser where `inner` has nothing left to spend.
pub(super) struct Silent<S> {
    inner: S,
    account: Arc<Account>,
    summons: Arc<Summons>,
}

impl<S> Silent<S> {
    pub(super) const fn new(inner: S, account: Arc<Account>, summons: Arc<Summons>) -> Self {
        Self { inner, account, summons }
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
            self.inner.fetch().await
        })
    }

    fn account(&self) -> Option<Arc<Account>> {
        Some(Arc::clone(&self.account))
    }

    fn server(&self) -> Option<ServerId> {
        self.inner.server()
    }

    fn patience(&self) -> Duration {
        self.inner.patience().saturating_mul(2).saturating_add(BROWSER_WAIT)
    }

    fn forget(&self, access_token: Option<Secret<String>>) -> BoxFuture<'_, Result<(), Error>> {
        self.summons.wanted.store(false, Ordering::Release);
        self.inner.forget(access_token)
    }
}

/// How long one attempt waits for a browser. Then it failed, and the next one is planned as after any failure.
const BROWSER_WAIT: Duration = Duration::from_secs(30);

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
        summons.refused(Error::here(ErrorKind::LoginRequired));
        assert_eq!(call.await.unwrap(), Err(Error::here(ErrorKind::LoginRequired)));
        assert!(!summons.is_wanted());
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
