//! The handshakes with clients that failed: each is counted by its reason; of a burst with one reason the first is logged at
//! once, and the number of the others at its end. Callers: `acceptor`.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::handshake_fault::HandshakeFault;
use super::metrics::HandshakeFailures;
use crate::clock;
use crate::metrics::Metrics;

/// The failures at one server.
#[derive(Debug, Default)]
pub(super) struct HandshakeLog {
    counter: HandshakeFailures,
    bursts: Mutex<Vec<Burst>>,
}

/// Failures for one reason, with less than [`APART`] between them.
#[derive(Clone, Copy, Debug)]
struct Burst {
    fault: HandshakeFault,
    last: Instant,
    /// Beside the first, which was logged.
    more: u64,
}

impl HandshakeLog {
    /// Adds its metric to the registry.
    pub(super) fn register(&self, metrics: &Metrics) {
        self.counter.register(metrics);
    }

    /// A handshake with a client at `peer` has failed.
    pub(super) fn record(&self, fault: HandshakeFault, peer: Option<SocketAddr>) {
        self.counter.count(fault);
        if self.begins(fault, clock::now()) {
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
        for Burst { fault, more, .. } in self.ended(clock::now()) {
            tracing::info!(
                reason = fault.as_str(),
                failures = more,
                "more TLS handshakes with clients failed for this reason"
            );
        }
    }

    fn begins(&self, fault: HandshakeFault, now: Instant) -> bool {
        let mut bursts = self.bursts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(burst) = bursts.iter_mut().find(|burst| burst.fault == fault) {
            burst.last = now;
            burst.more += 1;
            return false;
        }
        bursts.push(Burst { fault, last: now, more: 0 });
        true
    }

    /// Forgets the bursts that have ended; those with more failures than the one that was logged.
    fn ended(&self, now: Instant) -> Vec<Burst> {
        let mut bursts = self.bursts.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |burst: &mut Burst| now.saturating_duration_since(burst.last) >= APART;
        bursts.extract_if(.., is_over).filter(|burst| burst.more > 0).collect()
    }
}

/// After so long without a failure for the same reason, a burst has ended.
const APART: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_of_a_burst_is_logged_and_the_others_are_counted_at_its_end() {
        let (log, start) = (HandshakeLog::default(), clock::now());
        let fails = |fault, after: Duration| log.begins(fault, start + after);
        assert!(fails(HandshakeFault::Version, Duration::ZERO));
        assert!(!fails(HandshakeFault::Version, APART / 2));
        assert!(fails(HandshakeFault::PlainHttp, APART / 2), "each reason has its own");
        assert!(!fails(HandshakeFault::Version, APART));
        let ended = |after: Duration| -> Vec<_> {
            log.ended(start + after).iter().map(|burst| (burst.fault, burst.more)).collect()
        };
        assert_eq!(ended(APART * 3 / 2), [], "one of plain HTTP was all, and it was logged");
        assert!(fails(HandshakeFault::PlainHttp, APART * 3 / 2));
        assert_eq!(ended(APART * 2), [(HandshakeFault::Version, 2)]);
        assert!(fails(HandshakeFault::Version, APART * 2));
    }
}
