//! What memory was short for, counted.

use prometheus::IntCounter;

/// What memory was short for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limited {
    /// A connection waited, to be accepted or to be served.
    Connection,
    /// A request was refused.
    Request,
    /// A body was not kept for another sending.
    ReplayBody,
    /// Reading paused.
    Read,
    /// A connection that stood still was ended before its time.
    Stalled,
}

impl Limited {
    /// All of them: the closed set of the metric's label.
    const ALL: [Self; 5] = [Self::Connection, Self::Request, Self::ReplayBody, Self::Read, Self::Stalled];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Request => "request",
            Self::ReplayBody => "replay_body",
            Self::Read => "read",
            Self::Stalled => "stalled",
        }
    }
}

/// Counts what memory was short for.
#[derive(Clone, Debug)]
pub(crate) struct MemoryMetrics([IntCounter; Limited::ALL.len()]);

impl MemoryMetrics {
    /// `counter` gives that of a label.
    pub(crate) fn new(counter: impl Fn(&str) -> IntCounter) -> Self {
        Self(Limited::ALL.map(|what| counter(what.as_str())))
    }

    pub(super) fn limited(&self, what: Limited) {
        self.0[what as usize].inc();
    }
}
