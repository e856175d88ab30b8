//! What is counted of spans.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus::IntCounterVec;

use crate::metrics::{Metrics, counter_vec};

/// How spans ended; there is none where traces are not recorded.
#[derive(Clone, Debug)]
pub(super) struct SpanMetrics {
    spans: IntCounterVec,
    dropping: Arc<AtomicBool>,
}

impl SpanMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let spans = counter_vec(SPANS, "Spans of traces, by what became of them", &["result"]);
        for result in [SENT, FAILED, DROPPED] {
            spans.with_label_values(&[result]);
        }
        metrics.register(spans.clone());
        Self { spans, dropping: Arc::default() }
    }

    /// The collector took so many.
    pub(super) fn sent(&self, spans: usize) {
        self.spans.with_label_values(&[SENT]).inc_by(spans as u64);
    }

    /// It did not, and they are lost.
    pub(super) fn failed(&self, spans: usize) {
        self.spans.with_label_values(&[FAILED]).inc_by(spans as u64);
    }

    /// There is room again.
    pub(super) fn caught_up(&self) {
        self.dropping.store(false, Ordering::Relaxed);
    }

    /// One was dropped.
    pub(super) fn dropped(&self) {
        self.spans.with_label_values(&[DROPPED]).inc();
    }

    /// One was dropped, because too many wait. The first one after there was room is logged.
    pub(super) fn crowded_out(&self) {
        self.dropped();
        if !self.dropping.swap(true, Ordering::Relaxed) {
            tracing::warn!("spans are dropped: the collector does not keep up");
        }
    }
}

const SPANS: &str = "cupbearer_spans_total";
const SENT: &str = "sent";
const FAILED: &str = "failed";
const DROPPED: &str = "dropped";
