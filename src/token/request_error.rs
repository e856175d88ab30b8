//! Why what a person requested of a token did not happen: a renewal, or giving it back.

use std::time::Duration;

use crate::token::error::Error;

/// Why a renewal that was requested did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RenewError {
    /// The authorization server asked to be left alone (`Retry-After`).
    #[error("the authorization server asks for no request within {} s", .left.as_secs().max(1))]
    Held {
        /// For how much longer.
        left: Duration,
    },
    /// It was tried and failed.
    #[error("{}", .0.in_full())]
    Failed(Error),
    /// No attempt came to an end within [`RENEW_WAIT`].
    #[error("no answer came within {} s; the renewal goes on", RENEW_WAIT.as_secs())]
    TimedOut,
    /// The token is no longer configured, or the program is ending.
    #[error("this token is no longer renewed")]
    Retired,
}

/// Why a token was not given back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ForgetError {
    /// It is forgotten here, and the authorization server does not know.
    #[error("it is forgotten here, but the authorization server could not be told: {0}")]
    NotTold(Error),
    /// It is no longer used, but the store has it still.
    #[error(
        "it is no longer used, but {0}. The deletion is tried again until it succeeds or the program ends"
    )]
    StillStored(Error),
    /// Nothing came to an end within [`RENEW_WAIT`].
    #[error("no answer came within {} s; it goes on", RENEW_WAIT.as_secs())]
    TimedOut,
    /// The token is no longer configured, or the program is ending.
    #[error("this token is no longer held")]
    Retired,
}

/// How long someone who asks for a renewal waits for its outcome.
pub(crate) const RENEW_WAIT: Duration = Duration::from_mins(1);
