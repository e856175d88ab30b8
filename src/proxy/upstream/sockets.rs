//! The sockets that connections to upstreams may take: the share that the limit of open files leaves to them. What keeps tokens
//! alive, and what applications connect by, have shares of their own (`net::descriptors`).

use std::sync::Arc;

use super::slots::Slots;
use crate::machine::Lack;
use crate::net::eviction::Spell;

/// The sockets of one program's connections to upstreams.
#[derive(Debug)]
pub(crate) struct Sockets {
    slots: Arc<Slots>,
    lacking: Spell,
}

impl Sockets {
    /// So many at a time.
    pub(crate) fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { slots: Slots::new(count), lacking: Spell::default() })
    }

    pub(super) const fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    /// A request could not have one, or the system refused to give it.
    pub(super) fn were_lacking(&self, lack: Lack) {
        if self.lacking.begins() {
            let help = lack.help();
            tracing::warn!(%lack, help, "requests get 503: there is no connection to their upstream");
        }
    }
}
