//! The connections to each upstream, counted: how many were opened, used again and closed, and why they were closed.
//!
//! A pool resolves its counters once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use prometheus::{IntCounter, IntCounterVec, IntGauge};

use crate::metrics::{Metrics, counter_vec};

/// The families.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamMetrics {
    events: IntCounterVec,
    closed: IntCounterVec,
    /// Open connections of all upstreams.
    open: IntGauge,
}

/// Why a connection to an upstream was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// No request had used it for `idle_connection_timeout`.
    Idle,
    /// It had reached `max_connection_age`.
    Age,
    /// The upstream's name does not have its address any more.
    Address,
    /// The upstream closed it, said that it would, or broke the protocol.
    Upstream,
    /// The request on it was given up or cut, or had become a tunnel.
    Request,
    /// Its descriptor or its memory was needed.
    Room,
    /// The network changed.
    Network,
    /// A reload changed the upstream or took it out.
    Reload,
}

impl Closed {
    /// All of them: the closed set of the metric's label.
    const ALL: [Self; 8] = [
        Self::Idle,
        Self::Age,
        Self::Address,
        Self::Upstream,
        Self::Request,
        Self::Room,
        Self::Network,
        Self::Reload,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Age => "age",
            Self::Address => "address",
            Self::Upstream => "upstream",
            Self::Request => "request",
            Self::Room => "room",
            Self::Network => "network",
            Self::Reload => "reload",
        }
    }
}

/// The counters of one upstream.
#[derive(Debug)]
pub(crate) struct ConnectionCounters {
    opened: IntCounter,
    reused: IntCounter,
    closed: IntCounter,
    by_reason: [IntCounter; Closed::ALL.len()],
    open: IntGauge,
}

/// An open connection: counted from its beginning to its end.
#[derive(Debug)]
pub(crate) struct CountedConnection {
    counters: Arc<ConnectionCounters>,
    end: CloseCause,
}

/// Why a connection will have been closed, as far as is known.
#[derive(Clone, Debug)]
pub(crate) struct CloseCause(Arc<AtomicU8>);

impl UpstreamMetrics {
    /// Registers the families; `open` counts the connections of all upstreams.
    pub(crate) fn new(metrics: &Metrics, open: IntGauge) -> Self {
        let this = Self {
            events: counter_vec(
                CONNECTIONS,
                "Connections to upstreams that were opened and closed, and requests that used one which was open (reused)",
                &["upstream", "event"],
            ),
            closed: counter_vec(
                CLOSED,
                "Connections to upstreams that were closed, by the reason",
                &["upstream", "reason"],
            ),
            open,
        };
        metrics.register(this.events.clone());
        metrics.register(this.closed.clone());
        this
    }

    /// The counters of the upstream called `name`.
    pub(crate) fn of(&self, name: &str) -> Arc<ConnectionCounters> {
        let event = |event| self.events.with_label_values(&[name, event]);
        Arc::new(ConnectionCounters {
            opened: event("opened"),
            reused: event("reused"),
            closed: event("closed"),
            by_reason: Closed::ALL.map(|why| self.closed.with_label_values(&[name, why.as_str()])),
            open: self.open.clone(),
        })
    }
}

impl ConnectionCounters {
    /// So many requests used a connection that was open.
    pub(crate) fn reused(&self, requests: u64) {
        self.reused.inc_by(requests);
    }

    /// A connection is open; `otherwise` is why it will have been closed where nothing else is found.
    pub(crate) fn opened(self: &Arc<Self>, otherwise: Closed) -> CountedConnection {
        self.opened.inc();
        self.open.inc();
        CountedConnection {
            counters: Arc::clone(self),
            end: CloseCause(Arc::new(AtomicU8::new(otherwise as u8))),
        }
    }
}

impl CountedConnection {
    /// What says why it is closed.
    pub(crate) const fn end(&self) -> &CloseCause {
        &self.end
    }
}

impl CloseCause {
    /// It is closed for this reason, unless it goes on after all.
    pub(crate) fn is(&self, why: Closed) {
        self.0.store(why as u8, Ordering::Relaxed);
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        let ConnectionCounters { closed, by_reason, open, .. } = &*self.counters;
        open.dec();
        closed.inc();
        by_reason[usize::from(self.end.0.load(Ordering::Relaxed))].inc();
    }
}

const CONNECTIONS: &str = "cupbearer_upstream_connections_total";
const CLOSED: &str = "cupbearer_upstream_connections_closed_total";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_counted_as_opened_and_as_closed_with_its_reason() {
        let metrics = Metrics::new();
        let open = IntGauge::new("open", "open").unwrap();
        let counts = UpstreamMetrics::new(&metrics, open.clone()).of("api");
        let (first, second) = (counts.opened(Closed::Request), counts.opened(Closed::Upstream));
        counts.reused(3);
        assert_eq!(open.get(), 2);
        first.end().is(Closed::Idle);
        drop((first, second));
        let text = metrics.render();
        for (labels, count) in [
            ("_total{event=\"opened\",upstream=\"api\"}", 2),
            ("_total{event=\"reused\",upstream=\"api\"}", 3),
            ("_total{event=\"closed\",upstream=\"api\"}", 2),
            ("_closed_total{reason=\"idle\",upstream=\"api\"}", 1),
            ("_closed_total{reason=\"upstream\",upstream=\"api\"}", 1),
            ("_closed_total{reason=\"request\",upstream=\"api\"}", 0),
        ] {
            let line = format!("cupbearer_upstream_connections{labels} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
        assert_eq!(open.get(), 0);
    }
}
