//! The lease of an entry: which process may spend and write it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The right to spend and to write an entry, until it is dropped.
#[derive(Clone)]
pub(crate) struct Lease(Arc<dyn Any + Send + Sync>);

impl Lease {
    /// A lease that lasts as long as `guard`. A write that is under way keeps a clone: the lease outlasts it.
    pub(crate) fn new(guard: impl Send + Sync + 'static) -> Self {
        Self(Arc::new(guard))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("holders", &Arc::strong_count(&self.0)).finish()
    }
}

/// How long a lease is waited for: longer than a token request of another process usually takes.
pub(crate) const LEASE_WAIT: Duration = Duration::from_secs(10);

/// How long between two looks at a lease that another holds.
pub(super) const LEASE_POLL: Duration = Duration::from_millis(20);
