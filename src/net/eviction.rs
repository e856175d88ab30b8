//! Idle connections that are closed to make room for new ones: each is counted, and the first of a spell is logged.
//!
//! Every server of this program has a limit of connections. Who holds one and requests nothing must not keep others
//! out, so the one that has been idle for longest gives way. `serve` and `proxy` choose it; this only keeps the record.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::metrics::{EvictionCounter, Metrics, Server};

/// The evictions of one server.
#[derive(Debug)]
pub(crate) struct Evictions {
    server: &'static str,
    counter: Option<EvictionCounter>,
    spell: Spell,
}

/// Tells the first of many events that come soon after one another: the one that is logged.
#[derive(Debug, Default)]
pub(crate) struct Spell(Mutex<Option<Instant>>);

impl Spell {
    /// Takes note of an event. Whether a spell begins with it: there was none for a minute.
    pub(crate) fn begins(&self) -> bool {
        self.begins_at(clock::now())
    }

    fn begins_at(&self, now: Instant) -> bool {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        last.is_none_or(|last| now.saturating_duration_since(last) >= SPELL)
    }
}

impl Evictions {
    /// Of a server that `metrics` count.
    #[must_use]
    pub(crate) fn counted(server: Server, metrics: &Metrics) -> Self {
        Self { counter: Some(metrics.evictions(server)), ..Self::logged(server.as_str()) }
    }

    /// Of a server that has no metrics, by the name that the log has for it.
    #[must_use]
    pub(crate) const fn logged(server: &'static str) -> Self {
        Self { server, counter: None, spell: Spell(Mutex::new(None)) }
    }

    /// An idle connection is closed: `limit` may be open at a time.
    pub(crate) fn record(&self, limit: usize) {
        if let Some(counter) = &self.counter {
            counter.count();
        }
        if self.spell.begins() {
            tracing::warn!(
                server = self.server,
                limit,
                "all connections are taken; those that have been idle for longest are closed for new ones"
            );
        }
    }
}

/// After so long without an event, the next one begins another spell.
const SPELL: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spell_is_logged_once() {
        let (spell, start) = (Spell::default(), clock::now());
        let first = |after: Duration| spell.begins_at(start + after);
        assert!(first(Duration::ZERO));
        assert!(!first(SPELL / 2) && !first(SPELL) && !first(SPELL * 3 / 2), "the same spell goes on");
        assert!(first(SPELL * 5 / 2), "a minute without one ends it");
    }

    #[test]
    fn each_server_has_its_own_count() {
        let metrics = Metrics::new();
        Evictions::counted(Server::Health, &metrics).record(4);
        let text = metrics.render();
        assert!(text.contains("cupbearer_idle_connections_closed_total{server=\"health\"} 1"), "{text}");
        assert!(text.contains("cupbearer_idle_connections_closed_total{server=\"proxy\"} 0"), "{text}");
    }
}
