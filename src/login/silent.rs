//! A renewal that a browser makes without showing anything: begun by the dashboard, ended by what its hidden frame
//! brings back.

use std::collections::BTreeSet;
use std::sync::Arc;

use url::Url;

use crate::clock::BootInstant;
use crate::oauth::{Callback, ErrorCode, Manner, Pending};
use crate::token::{Error, FrameFault, LoginFault};
use crate::token::{LoginError, TokenHandle, Whose};

/// What the dashboard's frame is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SilentStart {
    /// Where the frame is sent.
    pub url: Url,
    /// Whether the answer comes as a message to the page, and not as a redirect to our own address.
    pub web_message: bool,
}

/// Why a renewal in the browser did not come about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SilentError {
    /// The token is not renewed in a browser.
    #[error("this token is not renewed in a browser; set `renew_via = \"browser\"`")]
    NotInBrowser,
    /// Another browser has the session, or this one was refused already.
    #[error(
        "this browser does not renew the token: the browser in which the login was made does, while a dashboard is open there; to renew it here, log in here"
    )]
    OtherBrowser,
    /// No renewal of ours is answered by this.
    #[error("this answers no renewal that is under way")]
    StateMismatch,
    /// On the way to the authorization server, or there.
    #[error(transparent)]
    Login(#[from] LoginError),
}

/// How a frame's renewal ended without a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// A sentence for the person at the page.
    pub message: String,
    /// Whether it is that page's browser alone: others are still called for.
    pub page_only: bool,
}

/// A renewal that is under way in a frame.
pub(super) struct SilentRenewal {
    handle: TokenHandle,
    pending: Pending,
    /// The browser whose frame it is.
    browser: String,
    /// The origin of the dashboard, and that of the authorization server.
    page: String,
    server: String,
    until: BootInstant,
}

impl SilentRenewal {
    /// Asks where to send the frame of `browser`, which comes back to `redirect_uri`; `open`: the browsers in which a
    /// dashboard is open.
    pub(super) async fn open(
        handle: &TokenHandle,
        redirect_uri: &Url,
        browser: &str,
        open: &BTreeSet<String>,
    ) -> Result<(Self, SilentStart), SilentError> {
        let account = handle.account().ok_or(SilentError::NotInBrowser)?;
        let renewal_request = account.renewal_request().ok_or(SilentError::NotInBrowser)?;
        if !renewal_request.wants(browser, open) {
            return Err(SilentError::OtherBrowser);
        }
        let authorization =
            account.authorize(redirect_uri.as_str(), Manner::Silent).await.map_err(LoginError::from)?;
        let server = authorization.url.origin().ascii_serialization();
        renewal_request.sent(server.clone());
        let start = SilentStart { url: authorization.url, web_message: authorization.web_message };
        let renewal = Self {
            handle: handle.clone(),
            pending: authorization.pending,
            browser: browser.to_owned(),
            page: redirect_uri.origin().ascii_serialization(),
            server,
            until: BootInstant::now() + super::login_sessions::SILENT_TIME,
        };
        Ok((renewal, start))
    }

    /// Whether it is of the same token and browser.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.handle.name() == other.handle.name() && self.browser == other.browser
    }

    pub(super) fn is_over(&self, now: BootInstant) -> bool {
        now >= self.until
    }

    pub(super) fn is_answered_by(&self, callback: &Callback) -> bool {
        callback.answers(&self.pending)
    }

    /// Takes the answer: the token it brings, or the refusal.
    pub(super) async fn finish(
        self,
        callback: Callback,
        open: BTreeSet<String>,
    ) -> Result<Option<Refusal>, SilentError> {
        let Self { handle, pending, browser, page, server, .. } = self;
        let Some(account) = handle.account().map(Arc::clone) else {
            return Err(SilentError::NotInBrowser);
        };
        let renewal_request = account.renewal_request().map(Arc::clone).ok_or(SilentError::NotInBrowser)?;
        match account.redeem_renewal(callback, &pending).await {
            Ok(()) => {
                renewal_request.renewed(&browser);
                // Where no attempt waits for it, the next one finds it now.
                handle.wake();
                Ok(None)
            }
            Err(LoginError::Protocol(error) | LoginError::Kept { why: error, .. }) => {
                let withheld = error.code() == Some(ErrorCode::LoginRequired)
                    && renewal_request.is_first_after_login(&browser)
                    && page != server;
                let error = if withheld {
                    Error::from(LoginFault::Frame(FrameFault::CookiesWithheld { page, server }))
                } else {
                    error
                };
                let sentence = error.to_string();
                // The renewer's attempt has its outcome; where none is waiting, the next one calls again.
                let page_only = renewal_request.refused(&browser, error, &open) == Whose::Browser;
                let message =
                    if page_only { format!("{sentence}; {}", SilentError::OtherBrowser) } else { sentence };
                Ok(Some(Refusal { message, page_only }))
            }
            Err(error) => Err(error.into()),
        }
    }
}
