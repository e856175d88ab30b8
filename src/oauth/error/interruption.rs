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
