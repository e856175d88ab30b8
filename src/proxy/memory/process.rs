//! What the process has, and what of it is the program's own: tokens, routes, certificates, the workers' buffers. What is beyond
//! that is what requests cost.

use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use crate::net::cgroup::Usage;

/// The process as all workers see it.
#[derive(Debug)]
pub(super) struct Process {
    /// `None`: the system does not tell.
    usage: Option<Usage>,
    /// What the sockets' buffers have, as of the last look around: to ask takes the kernel a while.
    sockets: AtomicUsize,
    /// What is the program's own: taken anew whenever no request has been under way for a while.
    own: AtomicUsize,
    /// The most that it may be: with more, and the budget used up, the container would be over its limit.
    most_own: usize,
    /// Requests and connections that are served, over all workers.
    under_way: AtomicIsize,
    /// The least that was the program's own since none is, and how often it was looked at.
    least: AtomicUsize,
    looks: AtomicUsize,
    workers: usize,
}

impl Process {
    /// As it is before the first request. `most_own`: what the budget leaves to the program; `None`: whatever that needs.
    pub(super) fn new(most_own: Option<usize>, workers: usize) -> Self {
        let process = Self { usage: Usage::open(), workers, ..Self::unknown() };
        let now = process.now();
        process.own.store(now, Ordering::Relaxed);
        Self { most_own: most_own.unwrap_or(usize::MAX).max(now), ..process }
    }

    /// One that the system does not tell of.
    pub(super) const fn unknown() -> Self {
        Self {
            usage: None,
            sockets: AtomicUsize::new(0),
            own: AtomicUsize::new(0),
            most_own: usize::MAX,
            under_way: AtomicIsize::new(0),
            least: AtomicUsize::new(usize::MAX),
            looks: AtomicUsize::new(0),
            workers: 1,
        }
    }

    /// Bytes beyond what is the program's own, those in the sockets' buffers included.
    pub(super) fn beyond_its_own(&self) -> usize {
        self.now().saturating_sub(self.own.load(Ordering::Relaxed)) + self.sockets.load(Ordering::Relaxed)
    }

    pub(super) fn look_at_sockets(&self) {
        if let Some(usage) = &self.usage {
            self.sockets.store(saturated(usage.sockets()), Ordering::Relaxed);
        }
    }

    /// So many more requests and served connections are under way.
    pub(super) fn is_used_by(&self, more: isize) {
        self.under_way.fetch_add(more, Ordering::Relaxed);
    }

    /// A worker has all that it needs.
    pub(super) fn started(&self) {
        if self.under_way.load(Ordering::Relaxed) == 0 {
            self.own.fetch_max(self.now().min(self.most_own), Ordering::Relaxed);
        }
    }

    /// Takes anew what is the program's own, where nothing is under way: connections that rest have `named` bytes.
    pub(super) fn look(&self, named: usize) {
        self.settle(self.now().saturating_sub(named));
    }

    /// What a load has left behind is given back to the system before more than was is taken for the program's own.
    fn settle(&self, now: usize) {
        if self.under_way.load(Ordering::Relaxed) > 0 {
            self.least.store(usize::MAX, Ordering::Relaxed);
            self.looks.store(0, Ordering::Relaxed);
            return;
        }
        let now = now.min(self.most_own);
        let least = self.least.fetch_min(now, Ordering::Relaxed).min(now);
        self.own.fetch_min(now, Ordering::Relaxed);
        if self.looks.fetch_add(1, Ordering::Relaxed) >= QUIET_LOOKS * self.workers {
            self.own.store(least, Ordering::Relaxed);
            self.least.store(usize::MAX, Ordering::Relaxed);
            self.looks.store(0, Ordering::Relaxed);
        }
    }

    fn now(&self) -> usize {
        self.usage.as_ref().and_then(Usage::anonymous).map_or(0, saturated)
    }
}

fn saturated(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Looks after the last change in which freed memory is given back: they span more than the allocator's own delay.
pub(super) const GIVING_BACK: u32 = 8;
/// Looks of each worker without anything under way before more than was is taken for the program's own.
const QUIET_LOOKS: usize = 2 * GIVING_BACK as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_gains_while_nothing_is_under_way_is_its_own() {
        let process = Process { most_own: 10, ..Process::unknown() };
        let own = || process.own.load(Ordering::Relaxed);
        process.own.store(5, Ordering::Relaxed);
        process.is_used_by(1);
        (0..2 * QUIET_LOOKS).for_each(|_| process.settle(9));
        assert_eq!(own(), 5, "what a request has is not");
        process.is_used_by(-1);
        (0..QUIET_LOOKS).for_each(|_| process.settle(9));
        assert_eq!(own(), 5, "it may be what the load has left behind");
        process.settle(8);
        assert_eq!(own(), 8, "the least of a while");
        process.settle(6);
        assert_eq!(own(), 6, "what is given back is free for requests at once");
        (0..3 * QUIET_LOOKS).for_each(|_| process.settle(30));
        assert_eq!(own(), 10, "the budget is left to requests");
    }
}
