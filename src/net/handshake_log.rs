//! The handshakes with clients that failed: each is counted by its reason; of a burst with one reason the first is logged at
//! once, and their number at its end. Callers: `acceptor`.

use std::net::SocketAddr;

use super::handshake_fault::HandshakeFault;
use super::metrics::HandshakeFailures;
use crate::metrics::Metrics;
use crate::telemetry::burst::Bursts;

/// The failures at one server.
#[derive(Debug, Default)]
pub(super) struct HandshakeLog {
    counter: HandshakeFailures,
    bursts: Bursts<{ HandshakeFault::ALL.len() }>,
}

impl HandshakeLog {
    /// Adds its metric to the registry.
    pub(super) fn register(&self, metrics: &Metrics) {
        self.counter.register(metrics);
    }

    /// A handshake with a client at `peer` has failed.
    pub(super) fn record(&self, fault: HandshakeFault, peer: Option<SocketAddr>) {
        self.counter.count(fault);
        if self.bursts.begins(fault as usize) {
            let (reason, help) = (fault.as_str(), fault.help());
            let peer = peer.map(tracing::field::display);
            match fault {
                // A scanner of ports does this, too.
                HandshakeFault::Closed | HandshakeFault::Timeout | HandshakeFault::NotTls => {
                    tracing::info!(peer, reason, error = %fault, help, "a TLS handshake with a client failed");
                }
                _ => {
                    tracing::warn!(peer, reason, error = %fault, help, "a TLS handshake with a client failed");
                }
            }
        }
    }

    /// Reports the bursts that have ended. The owner of the server calls it now and then.
    pub(super) fn report(&self) {
        self.bursts.ended(report);
    }

    /// Reports those that have not: the server ends.
    pub(super) fn finish(&self) {
        self.bursts.finish(report);
    }
}

fn report(fault: usize, failures: u64) {
    let reason = HandshakeFault::ALL.get(fault).map(|fault| fault.as_str());
    tracing::info!(reason, failures, "TLS handshakes with clients failed for this reason");
}
