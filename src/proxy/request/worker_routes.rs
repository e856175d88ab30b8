//! The routes in force as one worker has them: with connections of its own to each upstream.

use std::rc::Rc;
use std::sync::Arc;

use super::route_table::RouteTable;
use crate::proxy::observe::metrics::ProxyMetrics;
use crate::proxy::upstream::pool::{Pool, PoolCounts};
use crate::proxy::upstream::sockets::Sockets;

/// The routes in force with this worker's connections to each upstream.
#[derive(Debug)]
pub(crate) struct LocalTable {
    pub(crate) routes: Arc<RouteTable>,
    pub(crate) pools: Vec<Rc<Pool>>,
}

impl LocalTable {
    /// How many workers serve: as many as can have a connection to each upstream, so that no request waits for one that
    /// another worker keeps.
    pub(crate) fn serving(&self) -> usize {
        let bounded = self.pools.iter().filter_map(|pool| pool.upstream().settings.most_workers());
        bounded.min().unwrap_or(usize::MAX)
    }

    /// Pools in `kept` are taken over where their upstream has not changed, and retired where it has.
    pub(crate) fn new(
        routes: Arc<RouteTable>,
        kept: &[Rc<Pool>],
        metrics: &ProxyMetrics,
        sockets: &Arc<Sockets>,
    ) -> Self {
        let is_wanted =
            |pool: &Rc<Pool>| routes.upstreams().iter().any(|it| Arc::ptr_eq(it, pool.upstream()));
        for pool in kept.iter().filter(|pool| !is_wanted(pool)) {
            pool.retire();
        }
        let pools = routes.upstreams().iter().map(|upstream| {
            let old = kept.iter().find(|pool| Arc::ptr_eq(pool.upstream(), upstream));
            old.cloned().unwrap_or_else(|| {
                let counts = PoolCounts::new(metrics.upstream(&upstream.name));
                Pool::new(Arc::clone(upstream), counts, Arc::clone(sockets))
            })
        });
        Self { pools: pools.collect(), routes }
    }
}
