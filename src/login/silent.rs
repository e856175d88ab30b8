//! A renewal that a browser makes without showing anything: begun by the dashboard, ended by what its hidden frame
//! brings back.

use std::sync::Arc;

use url::Url;

use crate::clock::Moment;
use crate::oauth::{Callback, Manner, Pending};
use crate::token::{LoginError, TokenHandle};

/// What the dashboard's frame is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SilentStart {
    /// Where the frame is sent.
    pub url: Url,
    /// Whether the answer comes as a message to the page, and not as a redirect to our own address.
    pub web_message: bool,
}

/// Why a renewal in the browser did not come about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SilentError {
    /// The token is not renewed in a browser.
    #[error("this token is not renewed in a browser; set `renew_via = \"browser\"`")]
    NotInBrowser,
    /// No renewal of ours is answered by this.
    #[error("this answers no renewal that is under way")]
    Stranger,
    /// On the way to the authorization server, or there.
    #[error(transparent)]
    Login(#[from] LoginError),
}

/// A renewal that is under way in a frame.
pub(super) struct SilentRenewal {
    handle: TokenHandle,
    pending: Pending,
    until: Moment,
}

impl SilentRenewal {
    /// Asks where to send the frame, which comes back to `redirect_uri`.
    pub(super) async fn open(
        handle: &TokenHandle,
        redirect_uri: &str,
    ) -> Result<(Self, SilentStart), SilentError> {
        let account = handle.account().filter(|account| account.summons().is_some());
        let account = account.ok_or(SilentError::NotInBrowser)?;
        let authorization =
            account.authorize(redirect_uri, Manner::Silent).await.map_err(LoginError::from)?;
        let start = SilentStart { url: authorization.url, web_message: authorization.web_message };
        let until = Moment::now() + super::desk::SILENT_TIME;
        Ok((Self { handle: handle.clone(), pending: authorization.pending, until }, start))
    }

    pub(super) fn name(&self) -> &str {
        self.handle.name()
    }

    pub(super) fn is_over(&self, now: Moment) -> bool {
        now >= self.until
    }

    pub(super) fn is_answered_by(&self, callback: &Callback) -> bool {
        callback.answers(&self.pending)
    }

    /// Takes the answer: the token it brings, or the refusal, which only a login mends.
    pub(super) async fn finish(self, callback: Callback) -> Result<(), SilentError> {
        let Some(account) = self.handle.account().map(Arc::clone) else {
            return Err(SilentError::NotInBrowser);
        };
        match account.redeem_renewal(callback, &self.pending).await {
            Ok(()) => {
                // Where no attempt waits for it, the next one finds it now.
                self.handle.wake();
                Ok(())
            }
            Err(LoginError::Protocol(error)) => {
                // The renewer's attempt has its outcome; where none is waiting, the next one calls again.
                if let Some(summons) = account.summons() {
                    summons.refused(error.clone());
                }
                Err(LoginError::Protocol(error).into())
            }
            Err(error) => Err(error.into()),
        }
    }
}
