//! The log's own counter.

use prometheus::IntCounter;

use crate::metrics::Metrics;

/// Counts the lines that were dropped.
#[derive(Clone, Debug)]
pub(super) struct DroppedLines(IntCounter);

impl DroppedLines {
    pub(super) fn new() -> Self {
        let help = "Log lines that were dropped, as what reads the log did not keep up";
        Self(IntCounter::new(DROPPED, help).expect("the name is a constant"))
    }

    pub(super) fn count(&self) {
        self.0.inc();
    }

    #[cfg(test)]
    pub(super) fn get(&self) -> u64 {
        self.0.get()
    }

    /// Adds it to the registry.
    pub(super) fn register(&self, metrics: &Metrics) {
        metrics.register(self.0.clone());
    }
}

const DROPPED: &str = "cupbearer_log_lines_dropped_total";
