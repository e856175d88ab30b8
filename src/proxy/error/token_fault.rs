//! Why a request cannot have its credentials.

use http::StatusCode;

use crate::token::Unavailable;

/// Why a request cannot have its credentials.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenFault {
    #[error("{0}")]
    Unavailable(Unavailable),
    #[error("this route acts for its caller: send your own token, once, as `Authorization: Bearer`")]
    SubjectRequired,
    #[error("the authorization server does not accept the caller's own token")]
    SubjectRefused,
    #[error("the proof that goes with this token could not be made")]
    Proof,
}

impl TokenFault {
    /// See [`super::ProxyError::kind`].
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "token_unavailable",
            Self::SubjectRequired => "subject_required",
            Self::SubjectRefused => "subject_refused",
            Self::Proof => "proof",
        }
    }

    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::SubjectRequired | Self::SubjectRefused => StatusCode::UNAUTHORIZED,
            Self::Proof => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
