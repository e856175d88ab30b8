//! What the token store keeps a source or a logout from doing. Why it does, a [`StoreError`] says.

use crate::token::store::StoreError;

/// Why nothing is requested, revoked or deleted while the token store is in this state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StorageFault {
    /// Another process spends the refresh token.
    #[error("another process holds the lease of this token; see whether it hangs")]
    Busy,
    /// What is spent could be lost.
    #[error("the token store cannot be used, and no refresh token is spent without it; the log says why")]
    Unusable,
    /// A logout did not delete the token.
    #[error("the token store still holds it, and a restart brings it back: {0}")]
    StillStored(StoreError),
    /// A logout revoked nothing.
    #[error("the token store cannot be read, so that nothing could be revoked: {0}")]
    Unread(StoreError),
}

impl StorageFault {
    pub(super) const fn cause(&self) -> &'static str {
        match self {
            Self::Busy => "store_busy",
            Self::Unusable | Self::StillStored(_) | Self::Unread(_) => "store",
        }
    }

    pub(super) const fn public_reason(&self) -> &'static str {
        match self {
            Self::Busy => "another process holds the lease of this token in the token store",
            Self::Unusable | Self::StillStored(_) | Self::Unread(_) => "the token store cannot be used",
        }
    }
}
