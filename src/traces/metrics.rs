//! What is counted of spans.

use prometheus::IntCounterVec;

use crate::metrics::{Metrics, counter_vec};

/// How spans ended; there is none where traces are not recorded.
#[derive(Clone, Debug)]
pub(super) struct SpanMetrics(IntCounterVec);

#[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "only what sends spans counts them"))]
impl SpanMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let spans = counter_vec(SPANS, "Spans of traces, by what became of them", &["result"]);
        for result in [SENT, FAILED, DROPPED] {
            spans.with_label_values(&[result]);
        }
        metrics.register(spans.clone());
        Self(spans)
    }

    /// The collector took so many.
    pub(super) fn sent(&self, spans: usize) {
        self.0.with_label_values(&[SENT]).inc_by(spans as u64);
    }

    /// It did not, and they are lost.
    pub(super) fn failed(&self, spans: usize) {
        self.0.with_label_values(&[FAILED]).inc_by(spans as u64);
    }
}

impl SpanMetrics {
    /// One was dropped, because too many waited.
    pub(super) fn dropped(&self) {
        self.0.with_label_values(&[DROPPED]).inc();
    }
}

const SPANS: &str = "cupbearer_spans_total";
const SENT: &str = "sent";
const FAILED: &str = "failed";
const DROPPED: &str = "dropped";
