//! A login with a browser on this machine (RFC 6749 section 4.1, RFC 8252).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use url::Url;

use super::page::page;
use super::progress::{Ending, Step};
use super::redirect::{Redirect, RedirectError};
use crate::clock::{Moment, sleep_until};
use crate::oauth::{Callback, Error, Identity, Manner, Pending};
use crate::token::{Account, LoginError};

/// A login that a browser is to bring to its end.
pub(super) struct BrowserLogin {
    account: Arc<Account>,
    redirect: Redirect,
    url: Url,
    pending: Pending,
}

/// An answer that somebody brings by hand, and whether it is one to this login.
pub(super) struct Pasted {
    pub(super) callback: Callback,
    pub(super) reply: oneshot::Sender<bool>,
}

/// Why it could not begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    #[error(transparent)]
    Server(#[from] Error),
}

impl BrowserLogin {
    /// Opens the place to come back to, and asks where to send the browser.
    pub(super) async fn open(account: Arc<Account>) -> Result<Self, OpenError> {
        let redirect = Redirect::open(&account.settings().redirect_uri).await?;
        let authorization = account.authorize(redirect.uri(), Manner::Interactive).await?;
        Ok(Self { account, redirect, url: authorization.url, pending: authorization.pending })
    }

    /// What the person is to do.
    pub(super) fn step(&self) -> Step {
        Step::Browser { url: self.url.clone(), redirect_uri: self.redirect.uri().to_owned() }
    }

    /// Waits for the browser until `until`, or for its last address by hand through `pasted`.
    pub(super) async fn finish(
        self,
        until: Moment,
        mut pasted: mpsc::Receiver<Pasted>,
    ) -> Result<Option<Identity>, Ending> {
        let redirect_uri = self.redirect.uri().to_owned();
        let (done, mut outcome) = mpsc::channel(1);
        let visit = Arc::new(Visit { account: self.account, pending: Mutex::new(Some(self.pending)), done });
        let visitor = Arc::clone(&visit);
        let server = self.redirect.serve(move |callback| {
            let visit = Arc::clone(&visitor);
            async move { visit.receive(callback).await }
        });
        tokio::pin!(server);
        let by_hand = async {
            while let Some(Pasted { callback, reply }) = pasted.recv().await {
                let _ = reply.send(visit.is_answered_by(&callback));
                visit.receive(callback).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::pin!(by_hand);
        let ended = tokio::select! {
            () = &mut server => None,
            () = &mut by_hand => None,
            ended = outcome.recv() => ended,
            () = sleep_until(until) => None,
        };
        let Some(ended) = ended else {
            return Err(Ending {
                cause: "timed_out",
                message: format!(
                    "no browser came back to {redirect_uri} in time; where the server's page said that this redirect URI is \
                     not registered, register it for this client (for any port, as RFC 8252 section 7.3 has it), or set \
                     `redirect_uri` to the one that is"
                ),
            });
        };
        // The browser has the page to come.
        tokio::select! {
            () = &mut server => {}
            () = sleep(LAST_PAGE) => {}
        }
        ended
    }
}

/// What the answers of a browser are held against.
struct Visit {
    account: Arc<Account>,
    /// Gone once it was answered: it counts once.
    pending: Mutex<Option<Pending>>,
    done: mpsc::Sender<Result<Option<Identity>, Ending>>,
}

impl Visit {
    fn is_answered_by(&self, callback: &Callback) -> bool {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.as_ref().is_some_and(|pending| callback.answers(pending))
    }

    async fn receive(&self, callback: Callback) -> http::Response<http_body_util::Full<bytes::Bytes>> {
        let pending = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            match pending.take_if(|pending| callback.answers(pending)) {
                Some(pending) => pending,
                None => return strangers(pending.is_some()),
            }
        };
        let description = callback.description();
        // What was sent once is never sent again: it goes on, and is told of, where the browser has gone away.
        let (account, done) = (Arc::clone(&self.account), self.done.clone());
        let redeemed = tokio::spawn(async move {
            let outcome = account.redeem(callback, &pending).await;
            let outcome = outcome.map_err(|error| Ending::said(&error, description.as_deref()));
            let _ = done.send(outcome.clone()).await;
            outcome
        });
        match redeemed.await {
            Ok(Ok(Some(user))) => {
                page(StatusCode::OK, "Logged in", &format!("You are logged in as {user}. {CLOSE}"))
            }
            Ok(Ok(None)) => page(StatusCode::OK, "Logged in", &format!("You are logged in. {CLOSE}")),
            Ok(Err(ending)) => page(StatusCode::OK, "Not logged in", &ending.message),
            Err(_ended) => page(StatusCode::OK, "Not logged in", "The login was broken off."),
        }
    }
}

/// Another login's answer, one that nobody asked for, or one that was given already.
fn strangers(waiting: bool) -> http::Response<http_body_util::Full<bytes::Bytes>> {
    let sentence = if waiting {
        "This does not answer the login that is under way (its state is another one), so nothing was done with it. Go on in \
         the page that cupbearer opened, or begin again."
    } else {
        "This login has been answered already. Begin a new one where that is not what you wanted."
    };
    page(StatusCode::BAD_REQUEST, "Not this login", sentence)
}

impl LoginError {
    /// One word of a closed set.
    pub(super) const fn cause(&self) -> &'static str {
        match self {
            Self::Protocol(error) => error.cause(),
            Self::Store(_) => "store",
        }
    }
}

/// How long the last page has to reach the browser before its listener is closed.
const LAST_PAGE: Duration = Duration::from_millis(500);
const CLOSE: &str = "You can close this page.";
