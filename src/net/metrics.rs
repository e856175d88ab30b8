//! The counters of this room.

use prometheus::IntCounterVec;

use super::handshake_fault::HandshakeFault;
use crate::metrics::{Metrics, counter_vec};

/// Counts the TLS handshakes with clients that failed.
#[derive(Clone, Debug)]
pub(super) struct HandshakeFailures(IntCounterVec);

impl HandshakeFailures {
    pub(super) fn count(&self, fault: HandshakeFault) {
        self.0.with_label_values(&[fault.as_str()]).inc();
    }

    pub(super) fn register(&self, metrics: &Metrics) {
        metrics.register(self.0.clone());
    }
}

impl Default for HandshakeFailures {
    fn default() -> Self {
        let help = "TLS handshakes with clients of the proxy that failed, by reason";
        let failures = counter_vec(HANDSHAKE_FAILURES, help, &["reason"]);
        for fault in HandshakeFault::ALL {
            failures.with_label_values(&[fault.as_str()]);
        }
        Self(failures)
    }
}

const HANDSHAKE_FAILURES: &str = "cupbearer_tls_handshake_failures_total";
