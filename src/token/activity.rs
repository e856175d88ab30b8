//! What the renewer does for a token just now, as its handles see it: without a lock, and on the way of a request.
//!
//! The renewer's task alone writes here, but for what was learned of the server. `handle` holds it beside the state.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One token's.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Another process may put a token where this one finds it.
    shared: bool,
    renewing: AtomicBool,
    /// Looks into the store, by number: the last that is wanted, that has begun, and that has ended.
    wanted: AtomicU64,
    begun: AtomicU64,
    ended: AtomicU64,
    revokes: AtomicBool,
}

impl Activity {
    pub(super) fn new(shared: bool) -> Self {
        Self { shared, ..Self::default() }
    }

    /// Whether it is worth while to look into the store for what another process has put there.
    pub(super) const fn is_shared(&self) -> bool {
        self.shared
    }

    /// Whether an attempt is under way. To be read before the state is: one that ends between the two is seen there.
    pub(super) fn is_renewing(&self) -> bool {
        self.renewing.load(Ordering::SeqCst)
    }

    pub(super) fn set_renewing(&self, renewing: bool) {
        self.renewing.store(renewing, Ordering::SeqCst);
    }

    /// Wants a look that begins after now, and gives its number.
    pub(super) fn want_look(&self) -> u64 {
        let number = self.begun.load(Ordering::SeqCst) + 1;
        self.wanted.fetch_max(number, Ordering::SeqCst);
        number
    }

    /// Whether a look is wanted that has not begun.
    pub(super) fn wants_look(&self) -> bool {
        self.wanted.load(Ordering::SeqCst) > self.begun.load(Ordering::SeqCst)
    }

    pub(super) fn look_begins(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(super) fn look_ended(&self, number: u64) {
        self.ended.store(number, Ordering::SeqCst);
    }

    /// Whether that look, or a later one, has ended.
    pub(super) fn has_looked(&self, number: u64) -> bool {
        self.ended.load(Ordering::SeqCst) >= number
    }

    /// Whether the server was seen to end the token of before at a refresh.
    pub(super) fn revokes(&self) -> bool {
        self.revokes.load(Ordering::Relaxed)
    }

    /// It was. Whether that is news.
    pub(super) fn has_revoked(&self) -> bool {
        !self.revokes.swap(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_had_begun_before_does_not_count_as_one_that_begins_now() {
        let activity = Activity::default();
        let running = activity.look_begins();
        let wanted = activity.want_look();
        activity.look_ended(running);
        assert!(activity.has_looked(running) && !activity.has_looked(wanted));
        assert!(activity.wants_look());
        let next = activity.look_begins();
        assert!(!activity.wants_look(), "one is enough for all who wanted it before");
        activity.look_ended(next);
        assert!(activity.has_looked(wanted));
    }
}
