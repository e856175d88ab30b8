//! What the renewer finds wrong with an attempt, whatever its source reports.

use std::time::Duration;

use crate::oauth::Class;

/// Why an attempt brought no token that can be attached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AttemptFault {
    /// It was cancelled: its source outlived its patience.
    #[error("the token request was given up: it outlived every timeout")]
    Stalled,
    /// It ended in a defect of this program.
    #[error("the token request ended in a defect of this program; please report it")]
    Panicked,
    /// The token had expired when it arrived.
    #[error(
        "the token had expired when it arrived; compare the clocks of this machine and the authorization server"
    )]
    Stale,
    /// The token lives for less time than the response took.
    #[error("the response took {} s, and the token lives for {} s", .took.as_secs(), .lives.as_secs())]
    Slow {
        /// How long the response took.
        took: Duration,
        /// The lifetime by the response.
        lives: Duration,
    },
    /// The token makes no header value.
    #[error("the token and the configured scheme do not make a header value")]
    Unusable,
}

impl AttemptFault {
    pub(super) const fn class(&self) -> Class {
        match self {
            Self::Unusable => Class::Misconfigured,
            Self::Stalled | Self::Panicked | Self::Stale | Self::Slow { .. } => Class::Transient,
        }
    }

    pub(super) const fn cause(&self) -> &'static str {
        match self {
            Self::Stalled => "stalled",
            Self::Panicked => "internal",
            Self::Stale | Self::Slow { .. } => "stale",
            Self::Unusable => "unusable",
        }
    }

    pub(super) const fn public_reason(&self) -> &'static str {
        match self {
            Self::Stalled => "the token request did not end within any timeout and was cancelled",
            Self::Panicked => "an internal error of this proxy",
            Self::Stale => "the authorization server's token had expired when it arrived",
            Self::Slow { .. } => "the authorization server took longer to respond than its token lives",
            Self::Unusable => "the token does not fit the header field and scheme that are configured",
        }
    }
}
