//! What the system leaves of what the configuration allows: said at the start and by `cupbearer check`.

use std::fmt;

use crate::config::Settings;
use crate::net::descriptors;

/// `max_connections` is more than the limit of open files has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DescriptorBound {
    /// Files and sockets that this process may have open.
    pub limit: u64,
    /// What the configuration allows.
    pub max_connections: usize,
    /// Connections of applications that there is room for.
    pub connections: usize,
    /// Connections to upstreams that there is room for.
    pub upstream_connections: usize,
}

impl DescriptorBound {
    /// The bound that the limit of this process sets; `None`: there is room for all that `settings` allow.
    #[must_use]
    pub(crate) fn of(settings: &Settings) -> Option<Self> {
        let limit = descriptors::raise_limit()?;
        let shares = settings.server.shares(Some(limit));
        let max_connections = settings.server.max_connections;
        (shares.downstream < max_connections).then_some(Self {
            limit,
            max_connections,
            connections: shares.downstream,
            upstream_connections: shares.upstream,
        })
    }
}

impl fmt::Display for DescriptorBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, max_connections, connections, upstream_connections } = self;
        write!(
            f,
            "server.max_connections: the limit of {limit} open files has room for {connections} of {max_connections} connections, and for {upstream_connections} to upstreams\n    help: raise the limit (ulimit -n, LimitNOFILE of systemd)"
        )
    }
}
