//! How a login stands: what a person is to do next, or how it ended.

use std::time::Duration;

use url::Url;

use crate::clock::BootInstant;
use crate::oauth::{Class, Identity};
use crate::token::{Flow, LoginError};

/// A login, seen from outside. It holds no secret: codes that count are in none of its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Tells this login from the next one of the same token.
    pub id: u64,
    /// In which way.
    pub flow: Flow,
    /// Until when a person can finish it.
    pub until: BootInstant,
    /// How it stands.
    pub stage: Stage,
    /// When it ended; `None`: it has not.
    pub ended: Option<BootInstant>,
}

/// How a login stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A person is to do something.
    Waiting(Step),
    /// It is in the store.
    Done {
        /// Who logged in, where the server says so.
        user: Option<Identity>,
        /// What to know of it: that it does not last, and what helps.
        advice: Option<String>,
    },
    /// It ended without a token.
    Failed {
        /// Whether the login is in the store all the same: a refresh may bring one.
        kept: bool,
        /// One word of a closed set.
        cause: &'static str,
        /// A sentence for people, with what to do.
        message: String,
    },
    /// It was cancelled, or another one was begun.
    Cancelled,
}

/// What a person is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Open this address in a browser on this machine.
    Browser {
        /// Where to.
        url: Url,
        /// Where it comes back to.
        redirect_uri: String,
    },
    /// Open this address anywhere, and type or compare the code.
    Device {
        /// What to type.
        user_code: String,
        /// Where.
        verification_uri: Url,
        /// The same with the code in it, where the server gives one.
        verification_uri_complete: Option<Url>,
    },
}

impl Progress {
    /// How long a person still has at `now`.
    #[must_use]
    pub(crate) fn left(&self, now: BootInstant) -> Duration {
        self.until.saturating_duration_since(now)
    }

    pub(super) fn end(&mut self, stage: Stage) {
        self.stage = stage;
        self.ended = Some(BootInstant::now());
    }

    /// Whether it has come to an end.
    #[must_use]
    pub(crate) const fn is_over(&self) -> bool {
        !matches!(self.stage, Stage::Waiting(_))
    }
}

impl Stage {
    /// `advice` is for one that ended well.
    pub(super) fn of(outcome: Result<Option<Identity>, Ending>, advice: Option<String>) -> Self {
        match outcome {
            Ok(user) => Self::Done { user, advice },
            Err(Ending { kept, cause, message }) => Self::Failed { kept, cause, message },
        }
    }
}

/// How a login failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// See [`Stage::Failed`].
    pub(super) kept: bool,
    pub(super) cause: &'static str,
    pub(super) message: String,
}

impl From<LoginError> for Ending {
    fn from(error: LoginError) -> Self {
        let kept = matches!(error, LoginError::Kept { .. });
        let message = match &error {
            // The code counts once, so that nothing tries it again.
            LoginError::Protocol(why) if why.class() == Class::Transient => format!("{error}; begin again"),
            _ => error.to_string(),
        };
        Self { kept, cause: error.cause(), message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::{AuthorizationFault, ErrorKind};
    use crate::token::Error;

    #[test]
    fn a_login_that_failed_for_now_is_to_be_begun_again() {
        let message = |kind| Ending::from(LoginError::from(Error::from(kind))).message;
        let busy = message(ErrorKind::Status(http::StatusCode::SERVICE_UNAVAILABLE));
        assert!(busy.ends_with("; begin again"), "{busy}");
        let refused = message(ErrorKind::Authorization(AuthorizationFault::CodeRefused));
        assert_eq!(refused.matches("begin again").count(), 1, "{refused}");
    }
}
