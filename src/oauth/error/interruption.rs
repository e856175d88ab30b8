//! A refresh whose outcome is unknown.

/// How the successor of a refresh token was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Interruption {
    /// No response came, or none that was whole, or this program ended before it was stored.
    #[error("the last refresh was interrupted before its response was stored")]
    Lost,
    /// A response came.
    #[error("the response to the last refresh came and could not be read")]
    Unread,
    /// The server or a gateway before it reported a failure of its own, which may have come after the refresh.
    #[error(
        "the last refresh ended in a failure of the authorization server or of a gateway (500, 502 or 504)"
    )]
    Failed,
}

impl Interruption {
    /// What an application may know of it.
    pub(crate) const fn public_reason(self) -> &'static str {
        match self {
            Self::Lost => {
                "the login has ended: the last refresh was interrupted, and the authorization server does not accept its refresh token any more"
            }
            Self::Failed => {
                "the login has ended: the last refresh ended in a failure of the authorization server or of a gateway, and the authorization server does not accept its refresh token any more"
            }
            Self::Unread => {
                "the login has ended: the response to the last refresh could not be read, and the authorization server does not accept its refresh token any more"
            }
        }
    }
}
