//! What is wrong with the token that is exchanged for another one (RFC 8693 section 2.1).

use crate::oauth::Class;

/// Why there is nothing to exchange.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SubjectTokenFault {
    /// The token of this name has none at the moment.
    #[error("the token {0}, which is traded in for this one, is not to be had; its own state says why")]
    Unavailable(String),
    /// By its own `exp`.
    #[error("the token to trade in has expired, so it was not sent")]
    Expired,
    /// The grant takes a caller's token, and there is no caller.
    #[error("this token is traded for the one that a caller brings; without a caller there is none")]
    NoCaller,
}

impl SubjectTokenFault {
    pub(super) const fn class(&self) -> Class {
        match self {
            Self::NoCaller => Class::Misconfigured,
            Self::Unavailable(_) | Self::Expired => Class::Transient,
        }
    }

    pub(super) const fn cause(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "subject",
            Self::Expired => "subject_expired",
            Self::NoCaller => "no_caller",
        }
    }

    pub(super) const fn public_reason(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "the token that is exchanged for it is not available",
            Self::Expired => "the token to exchange for it has expired, so no token request was sent",
            Self::NoCaller => "it exists for a caller's own token alone, and this request brings none",
        }
    }
}
