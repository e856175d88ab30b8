//! A request for a renewal in a browser, and what is known of the browsers that have a dashboard open.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::{BootInstant, timeout_at};
use crate::oauth::Class;
use crate::token::error::{Error, FrameFault, LoginFault};

/// A call for a browser, and what is known of the browsers that heard it. Each browser has a name of its own choosing,
/// which says nothing but that it is the same one.
#[derive(Debug, Default)]
pub(crate) struct RenewalRequest {
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
    frame: Option<(BootInstant, String)>,
}

/// Whose failure a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// That browser's alone: the call stays up for the others.
    Browser,
    /// The token's: no browser that could hear the call is left.
    Token,
}

impl RenewalRequest {
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
        self.facts().frame = Some((BootInstant::now(), server));
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

    /// No browser is called for any more.
    pub(super) fn withdraw(&self) {
        self.wanted.store(false, Ordering::Release);
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
    pub(super) async fn call(&self) -> Result<(), Error> {
        let mut heard = std::pin::pin!(self.heard.notified());
        // Before it is seen that someone is wanted, so that no answer falls between the two.
        heard.as_mut().enable();
        {
            let mut facts = self.facts();
            (facts.refusal, facts.frame) = (None, None);
        }
        self.wanted.store(true, Ordering::Release);
        let mut until = BootInstant::now() + BROWSER_WAIT;
        while timeout_at(until, heard.as_mut()).await.is_err() {
            let frame = self.facts().frame.clone();
            match frame {
                // Where no browser comes, the call stays up: the next one to come finds it.
                None => return Err(Error::from(LoginFault::BrowserAbsent)),
                Some((since, _)) if BootInstant::now() < since + FRAME_WAIT => until = since + FRAME_WAIT,
                Some((_, server)) => {
                    let error = Error::from(LoginFault::Frame(FrameFault::Lost { server }));
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

/// How long one attempt waits for a browser. Then it failed, and the next one is planned as after any failure.
pub(super) const BROWSER_WAIT: Duration = Duration::from_secs(30);

/// How long a frame has to come back.
pub(super) const FRAME_WAIT: Duration = Duration::from_secs(25);
