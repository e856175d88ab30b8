//! What is kept of a request's body for another sending: a named cost for as long as it is.

use std::rc::Rc;

use super::metrics::Limited;
use super::process::GIVING_BACK;
use super::share::{Level, WorkerShare, limited, with};

/// Bytes of one body that are kept.
#[derive(Debug, Default)]
pub(crate) struct KeptBody {
    bytes: usize,
    /// `None`: nothing is kept, or nothing is limited.
    share: Option<Rc<WorkerShare>>,
}

impl KeptBody {
    /// Whether so many more bytes may be kept, which are charged then. Where they may not, that is counted.
    pub(crate) fn may_keep(&mut self, more: usize) -> bool {
        let may = with(true, |share| {
            let may = share.has_room(more, Level::Keep);
            if may {
                share.keep(more.cast_signed());
                share.count(more);
                self.share.get_or_insert_with(|| Rc::clone(share));
                self.bytes += more;
            }
            may
        });
        if !may {
            limited(Limited::ReplayBody);
        }
        may
    }
}

impl Drop for KeptBody {
    fn drop(&mut self) {
        if let Some(share) = &self.share {
            share.keep(-self.bytes.cast_signed());
            share.since.set(share.since.get().saturating_sub(self.bytes));
            share.freeing.set(GIVING_BACK);
        }
    }
}

impl WorkerShare {
    /// So many more bytes of bodies are kept, or fewer.
    fn keep(&self, more: isize) {
        self.held.set(self.held.get() + more);
        self.kept.set(self.kept.get() + more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::memory::share::tests::on_worker;

    #[test]
    fn kept_bodies_are_a_named_cost_until_they_are_let_go() {
        const BUDGET: usize = 64 << 20;
        on_worker(BUDGET, |share| {
            let used = || {
                share.look(BUDGET);
                let used = share.used.get();
                (used.all >> 20, used.unnamed >> 20, used.kept >> 20)
            };
            let mut bodies: Vec<KeptBody> = Vec::new();
            loop {
                let mut kept = KeptBody::default();
                if !(kept.may_keep(128 << 10) && kept.may_keep(128 << 10)) {
                    break;
                }
                bodies.push(kept);
            }
            assert_eq!(bodies.len(), 64, "a quarter of the budget");
            assert_eq!(used(), (16, 0, 16));
            assert!(share.has_room(0, Level::Read) && share.has_room(0, Level::Request));
            drop(bodies);
            assert_eq!(used(), (0, 0, 0));
            assert!(KeptBody::default().may_keep(1));
        });
    }
}
