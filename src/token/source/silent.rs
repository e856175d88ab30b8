//! A token that a browser renews: where the authorization server gives no refresh token, the session that the browser
//! holds there is what lasts, and a hidden frame asks with it (OpenID Connect Core 1.0 section 3.1.2.1, `prompt=none`).
//!
//! The renewer asks as always. What it asks here calls for a browser, and waits for one: for the dashboard, which sees
//! the call, and brings what comes of it through the [`Account`] into the store.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::secret::Secret;
use crate::token::account::Account;
use crate::token::error::Error;
use crate::token::state::Past;

use super::renewal_request::{BROWSER_WAIT, FRAME_WAIT, RenewalRequest};
use super::token_source::{Fetched, ServerId, Source};

/// A source that turns to a browser where `inner` has nothing left to spend.
pub(super) struct Silent<S> {
    inner: S,
    renewal_request: Arc<RenewalRequest>,
}

impl<S> Silent<S> {
    pub(super) const fn new(inner: S, renewal_request: Arc<RenewalRequest>) -> Self {
        Self { inner, renewal_request }
    }
}

impl<S: Source> Source for Silent<S> {
    fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
        Box::pin(async {
            match self.inner.fetch().await {
                Err(error) if error.wants_login() => {}
                outcome => return outcome,
            }
            self.renewal_request.call().await?;
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
        self.renewal_request.withdraw();
        self.inner.forget(access_token)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::clock::BootInstant;
    use crate::oauth::{ErrorKind, ResponseFault, TransportFault};
    use crate::token::Whose;
    use crate::token::error::LoginFault;

    #[tokio::test(start_paused = true)]
    async fn a_call_is_up_until_it_is_answered() {
        let renewal_request = Arc::new(RenewalRequest::default());
        let caller = Arc::clone(&renewal_request);
        let call = tokio::spawn(async move { caller.call().await });
        tokio::task::yield_now().await;
        assert!(renewal_request.is_wanted());
        renewal_request.answered();
        assert_eq!(call.await.unwrap(), Ok(()));
        assert!(!renewal_request.is_wanted());
    }

    #[tokio::test(start_paused = true)]
    async fn no_browser_comes_and_the_call_stays_up_for_the_next_browser() {
        let renewal_request = RenewalRequest::default();
        assert_eq!(renewal_request.call().await, Err(Error::from(LoginFault::BrowserAbsent)));
        assert!(renewal_request.is_wanted());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_the_outcome_and_ends_the_call() {
        let renewal_request = Arc::new(RenewalRequest::default());
        let caller = Arc::clone(&renewal_request);
        let call = tokio::spawn(async move { caller.call().await });
        tokio::task::yield_now().await;
        let refused = renewal_request.refused("a", Error::from(LoginFault::Required), &open(&["a"]));
        assert_eq!(refused, Whose::Token);
        assert_eq!(call.await.unwrap(), Err(Error::from(LoginFault::Required)));
        assert!(!renewal_request.is_wanted());
    }

    fn open(browsers: &[&str]) -> BTreeSet<String> {
        browsers.iter().map(|browser| (*browser).to_owned()).collect()
    }

    fn login_required() -> Error {
        Error::from(LoginFault::Required)
    }

    #[tokio::test(start_paused = true)]
    async fn a_browser_without_a_session_does_not_end_the_login_of_another() {
        let renewal_request = Arc::new(RenewalRequest::default());
        renewal_request.logged_in(Some("home"));
        let caller = Arc::clone(&renewal_request);
        let call = tokio::spawn(async move { caller.call().await });
        tokio::task::yield_now().await;
        // The other one comes first, and the browser that logged in is not open.
        assert!(renewal_request.wants("other", &open(&["other"])));
        renewal_request.sent("https://as.example".to_owned());
        assert_eq!(renewal_request.refused("other", login_required(), &open(&["other"])), Whose::Browser);
        assert!(renewal_request.is_wanted() && !renewal_request.wants("other", &open(&["other"])));
        assert!(renewal_request.wants("home", &open(&["home", "other"])));
        renewal_request.renewed("home");
        renewal_request.answered();
        assert_eq!(call.await.unwrap(), Ok(()));
        assert!(
            !renewal_request.wants("other", &open(&["home", "other"])),
            "the one that has the session renews"
        );
        assert_eq!(
            renewal_request.refused("home", login_required(), &open(&["home", "other"])),
            Whose::Token
        );
    }

    #[test]
    fn where_the_login_was_made_elsewhere_every_open_browser_is_asked() {
        let renewal_request = RenewalRequest::default();
        renewal_request.logged_in(None);
        let both = open(&["a", "b"]);
        assert!(renewal_request.wants("a", &both) && renewal_request.wants("b", &both));
        assert_eq!(renewal_request.refused("a", login_required(), &both), Whose::Browser);
        assert_eq!(renewal_request.refused("b", login_required(), &both), Whose::Token);
        let wrong = Error::from(ResponseFault::TokenType);
        assert_eq!(
            renewal_request.refused("a", wrong, &open(&["a", "b", "c"])),
            Whose::Token,
            "no page's fault"
        );
    }

    #[test]
    fn only_the_first_frame_after_a_login_in_that_browser_tells_withheld_cookies() {
        let renewal_request = RenewalRequest::default();
        renewal_request.logged_in(Some("a"));
        assert!(renewal_request.is_first_after_login("a") && !renewal_request.is_first_after_login("b"));
        renewal_request.renewed("a");
        assert!(!renewal_request.is_first_after_login("a"));
        renewal_request.logged_in(None);
        assert!(!renewal_request.is_first_after_login("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_does_not_come_back_is_the_failure_and_no_missing_dashboard() {
        let renewal_request = Arc::new(RenewalRequest::default());
        let caller = Arc::clone(&renewal_request);
        let call = tokio::spawn(async move { (caller.call().await, BootInstant::now()) });
        // It was sent in the last moment, and has its whole time.
        tokio::time::sleep(Duration::from_secs(29)).await;
        let sent = BootInstant::now();
        renewal_request.sent("https://as.example".to_owned());
        let (outcome, ended) = call.await.unwrap();
        let error = outcome.unwrap_err();
        assert_eq!(error.cause(), "frame_lost");
        assert!(error.to_string().contains("https://as.example"), "{error}");
        assert!(ended - sent >= FRAME_WAIT && !renewal_request.is_wanted(), "the schedule calls again");
    }

    /// A source that has nothing, as often as it is asked.
    struct Empty(AtomicU32, ErrorKind);

    impl Source for Empty {
        fn fetch(&self) -> BoxFuture<'_, Result<Fetched, Error>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Err(Error::from(self.1.clone())) })
        }
    }

    #[tokio::test]
    async fn what_is_no_lack_of_a_login_calls_nobody() {
        let error =
            Empty(AtomicU32::new(0), ErrorKind::Transport(TransportFault::Dns)).fetch().await.unwrap_err();
        assert!(!error.wants_login());
        assert!(Error::from(LoginFault::Required).wants_login());
        assert!(!Error::from(LoginFault::LoggedOut).wants_login());
    }
}
