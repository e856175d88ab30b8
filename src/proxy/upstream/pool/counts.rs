//! What a pool counts of its connections, with the places that each holds for as long as it is open.

use std::cell::RefCell;
use std::sync::Arc;

use super::places::HeldSlots;
use crate::proxy::observe::upstream_metrics::{CloseCause, Closed, ConnectionCounters, CountedConnection};

/// The counters of one upstream.
#[derive(Debug)]
pub(crate) struct PoolCounts {
    counters: Arc<ConnectionCounters>,
    /// What the connection that is opened next holds for as long as it lives.
    held: RefCell<HeldSlots>,
}

/// An open connection: it is counted, and holds its places, from its beginning to its end.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    counted: CountedConnection,
    _held: HeldSlots,
}

impl PoolCounts {
    pub(crate) fn new(counters: Arc<ConnectionCounters>) -> Self {
        Self { counters, held: RefCell::default() }
    }

    /// So many requests used a connection that was open.
    pub(super) fn reused(&self, requests: u64) {
        self.counters.reused(requests);
    }

    /// A connection of HTTP/1.1 is open.
    pub(crate) fn opened_http1(&self) -> OpenConnection {
        self.opened(Closed::Request, self.held.take().of_http1())
    }

    /// A connection of HTTP/2 is open.
    pub(crate) fn opened_http2(&self) -> OpenConnection {
        self.opened(Closed::Upstream, self.held.take())
    }

    fn opened(&self, otherwise: Closed, held: HeldSlots) -> OpenConnection {
        OpenConnection { counted: self.counters.opened(otherwise), _held: held }
    }

    /// The same counters, for one connection that holds these places.
    pub(super) fn holding(&self, held: HeldSlots) -> Self {
        Self { counters: Arc::clone(&self.counters), held: RefCell::new(held) }
    }
}

impl OpenConnection {
    /// What says why it is closed.
    pub(crate) const fn end(&self) -> &CloseCause {
        self.counted.end()
    }
}
