//! A login with a browser on this machine (RFC 6749 section 4.1, RFC 8252).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::StatusCode;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use url::Url;

use super::page::page;
use super::paste::{PasteError, Pasted};
use super::progress::{Ending, Step};
use super::redirect::{Redirect, RedirectError};
use crate::clock::{BootInstant, sleep_until};
use crate::oauth::{Callback, Identity, Manner, Pending, Pkce, RedirectUri};
use crate::token::Error;
use crate::token::{Account, LoginError};

/// A login that a browser is to bring to its end.
pub(super) struct BrowserLogin {
    account: Arc<Account>,
    end: End,
    url: Url,
    pending: Pending,
}

/// Where the browser ends.
enum End {
    /// At a listener of this program.
    Here(Redirect),
    /// At this address of another site, which a person brings by hand.
    Elsewhere(RedirectUri),
}

impl End {
    /// The redirect URI, as the authorization server has it.
    fn uri(&self) -> &str {
        match self {
            Self::Here(redirect) => redirect.uri(),
            Self::Elsewhere(uri) => uri.as_str(),
        }
    }

    /// Whether the code alone may be pasted: some servers show that, where no browser opens the redirect URI. Without a
    /// `state` only PKCE shows that it is this login's.
    fn takes_codes(&self, pkce: Pkce) -> bool {
        matches!(self, Self::Elsewhere(uri) if !uri.is_web()) && pkce == Pkce::S256
    }

    /// Why nothing came.
    fn timed_out(&self) -> String {
        let uri = self.uri();
        match self {
            Self::Here(_) => format!(
                "no browser came back to {uri} in time; where the server's page said that this redirect URI is \
                 not registered, register it for this client (for any port, as RFC 8252 section 7.3 has it), or set \
                 `redirect_uri` to the one that is"
            ),
            Self::Elsewhere(uri) if !uri.is_web() => {
                "nothing was pasted in time; begin again, and paste the whole address that the browser ends at after the login, \
                 or the code that the page there shows"
                    .to_owned()
            }
            Self::Elsewhere(_) => format!(
                "the address that begins with {uri} was not pasted in time; begin again, and paste the whole address that \
                 the browser ends at after the login"
            ),
        }
    }
}

/// A response that a person brings by hand, and where to report what came of it.
pub(super) struct ByHand {
    pub(super) pasted: Pasted,
    pub(super) reply: oneshot::Sender<Result<(), PasteError>>,
}

/// How a login with a browser ended, and its last page.
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    /// Serves that page for a little longer: a browser may load it twice.
    pub(super) last_page: BoxFuture<'static, ()>,
}

type Outcome = Result<Option<Identity>, Ending>;

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
        let configured = &account.settings().redirect_uri;
        let end = if configured.is_here() {
            End::Here(Redirect::open(configured).await?)
        } else {
            End::Elsewhere(configured.clone())
        };
        let authorization = account.authorize(end.uri(), Manner::Interactive).await?;
        Ok(Self { account, end, url: authorization.url, pending: authorization.pending })
    }

    /// What the person is to do.
    pub(super) fn step(&self) -> Step {
        Step::Browser { url: self.url.clone(), redirect_uri: self.end.uri().to_owned() }
    }

    /// Waits for the browser until `until`, or for its last address by hand through `pasted`.
    pub(super) async fn finish(self, until: BootInstant, mut pasted: mpsc::Receiver<ByHand>) -> Ended {
        let (done, mut ended) = watch::channel(None);
        let Self { account, end, url, pending } = self;
        let timed_out = end.timed_out();
        let takes_codes = end.takes_codes(account.settings().pkce);
        let visit = Arc::new(Visit { account, url, pending, done, taken: AtomicBool::new(false) });
        let visitor = Arc::clone(&visit);
        let mut server: Option<BoxFuture<'static, ()>> = match end {
            End::Here(redirect) => Some(Box::pin(redirect.serve(move |callback| {
                let visit = Arc::clone(&visitor);
                async move { visit.receive(callback).await }
            }))),
            End::Elsewhere(_) => None,
        };
        let serving = async {
            match &mut server {
                Some(server) => server.await,
                None => std::future::pending().await,
            }
        };
        let by_hand = async {
            while let Some(ByHand { pasted, reply }) = pasted.recv().await {
                let code = pasted.code.as_ref().filter(|_| takes_codes);
                let callback = code.map(|code| Callback::of_code(code.clone(), &visit.pending));
                let taken = visit.take(callback.unwrap_or_else(|| pasted.callback.clone()));
                let _ = reply.send(if taken { Ok(()) } else { Err(pasted.fault(Some(&visit.url))) });
            }
            std::future::pending::<()>().await;
        };
        let outcome = tokio::select! {
            () = serving => None,
            () = by_hand => None,
            outcome = outcome_of(&mut ended) => outcome,
            () = sleep_until(until) => None,
        };
        let Some(outcome) = outcome else {
            let outcome = Err(Ending { kept: false, cause: "timed_out", message: timed_out });
            return Ended { outcome, last_page: Box::pin(async {}) };
        };
        let Some(mut server) = server else { return Ended { outcome, last_page: Box::pin(async {}) } };
        // The page is on its way to the browser.
        let _ = timeout(LAST_PAGE, &mut server).await;
        let last_page = Box::pin(async move {
            let _ = timeout(LAST_PAGE_AGAIN, server).await;
        });
        Ended { outcome, last_page }
    }
}

/// The outcome, as soon as there is one.
async fn outcome_of(ended: &mut watch::Receiver<Option<Outcome>>) -> Option<Outcome> {
    ended.wait_for(Option::is_some).await.ok()?.clone()
}

/// What the responses of a browser are held against.
struct Visit {
    account: Arc<Account>,
    /// Where the login began.
    url: Url,
    pending: Pending,
    /// `None`: nothing has come of it yet.
    done: watch::Sender<Option<Outcome>>,
    /// Its response has come: a code counts once.
    taken: AtomicBool,
}

impl Visit {
    /// Takes a response to this login. The first one is redeemed, and any later one has the outcome of that: a browser
    /// loads a page again, or has loaded it ahead of time. Whether it is a response to this login.
    fn take(&self, callback: Callback) -> bool {
        if !callback.answers(&self.pending) || !callback.is_response() {
            return false;
        }
        if self.taken.swap(true, Ordering::AcqRel) {
            return true;
        }
        // What was sent once is never sent again: it goes on, and is reported, where the browser has gone away.
        let (account, pending, done) = (Arc::clone(&self.account), self.pending.clone(), self.done.clone());
        tokio::spawn(async move {
            let outcome = account.redeem(callback, &pending).await;
            let outcome = outcome.map_err(Ending::from);
            done.send_replace(Some(outcome));
        });
        true
    }

    async fn receive(&self, callback: Callback) -> http::Response<http_body_util::Full<bytes::Bytes>> {
        let answers = callback.answers(&self.pending);
        if !self.take(callback) {
            return self.refused(answers);
        }
        match outcome_of(&mut self.done.subscribe()).await {
            Some(Ok(Some(user))) => {
                page(StatusCode::OK, "Logged in", &format!("You are logged in as {user}. {CLOSE}"))
            }
            Some(Ok(None)) => page(StatusCode::OK, "Logged in", &format!("You are logged in. {CLOSE}")),
            Some(Err(ending)) => {
                let heading =
                    if ending.kept { "The login is kept, without a token" } else { "Not logged in" };
                page(StatusCode::OK, heading, &ending.message)
            }
            None => page(StatusCode::OK, "Not logged in", "The login was broken off."),
        }
    }

    /// For what ends no login: another login's response, one that is not whole, or one that came unasked.
    fn refused(&self, answers: bool) -> http::Response<http_body_util::Full<bytes::Bytes>> {
        let (heading, sentence) = if self.done.borrow().is_some() {
            (
                "The login is over",
                "It ended before this page was loaded. Cupbearer shows how, where the login began.",
            )
        } else if answers {
            (
                "Not the end of the login",
                "This address has neither a code nor an error in it, so nothing was done with it. Go on in the page that \
                 cupbearer opened, or begin again.",
            )
        } else {
            (
                "Not this login",
                "This does not answer the login that is under way (its state is another one), so nothing was done with it. \
                 Go on in the page that cupbearer opened, or begin again.",
            )
        };
        page(StatusCode::BAD_REQUEST, heading, sentence)
    }
}

impl LoginError {
    /// One word of a closed set.
    pub(super) const fn cause(&self) -> &'static str {
        match self {
            Self::Protocol(error) | Self::Kept { why: error, .. } => error.cause(),
            Self::Store(_) => "store",
        }
    }
}

/// How long the last page has to reach the browser before the login is reported as over, and a command ends.
const LAST_PAGE: Duration = Duration::from_millis(500);
/// How long it can be loaded again after that.
const LAST_PAGE_AGAIN: Duration = Duration::from_secs(10);
const CLOSE: &str = "You can close this page.";
