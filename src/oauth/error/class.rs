//! Who is at fault for a failed token request, and so when the next one is due.

/// Whose fault it is, and so when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// The network's or the server's; it passes. Backoff.
    Transient,
    /// The configuration's, here or at the server; it stays until someone acts.
    Misconfigured,
    /// Either of the two, or the login has ended: a few times as if it passed, then as good as never.
    Doubtful,
    /// The grant is spent: nothing but a login helps. Never.
    Refused,
}

impl Class {
    /// The word for it in logs and metrics.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Misconfigured => "misconfigured",
            Self::Doubtful => "doubtful",
            Self::Refused => "refused",
        }
    }
}
