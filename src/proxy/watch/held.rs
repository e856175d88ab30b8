//! What a downstream connection holds in memory, and whether it waits for memory: what `socket` goes by before it reads.

use super::super::memory::{self, Wanted};
use super::Watch;

impl Watch {
    /// Waits for memory: [`Self::resume`] has it look again.
    pub(in crate::proxy) fn pause(&self, wanted: Wanted) {
        self.paused.set(true);
        memory::want(wanted);
    }

    /// There may be memory again.
    pub(in crate::proxy) fn resume(&self) {
        if self.paused.replace(false) {
            self.wake();
        }
    }

    /// Bytes of a request's body were read, which the upstream has not taken yet.
    pub(in crate::proxy) fn holds(&self, bytes: usize) {
        if self.untaken.get() == 0 {
            self.taken.set(self.now.get());
        }
        self.untaken.set(self.untaken.get() + bytes);
    }

    /// What was left of bodies that broke off, or that nothing wanted, is gone with them.
    pub(super) fn forget_untaken(&self) {
        if !self.receives() {
            self.untaken.set(0);
        }
    }

    /// Whether a request's body is being received.
    pub(in crate::proxy) const fn receives(&self) -> bool {
        self.receiving.get() > 0
    }

    /// Bytes that were read of requests' bodies and not taken.
    pub(in crate::proxy) const fn untaken(&self) -> usize {
        self.untaken.get()
    }
}
