//! One more HTTP/2 connection to spread requests over (`http2_connections`), opened while requests go on by those that there are:
//! a server behind a balancer may be slow or away, and no request waits for it.

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::Pool;
use super::connection::Company;
use super::places::HeldSlots;
use crate::clock;
use crate::proxy::error::ConnectStage;
use crate::proxy::upstream::connect::{DialAttempt, Speak, connect};

/// What is opened for one pool.
#[derive(Debug)]
pub(super) struct Spread {
    pool: Weak<Pool>,
    is_opening: Cell<bool>,
    /// The next attempt after one that failed.
    not_before: Cell<Option<Instant>>,
}

impl Spread {
    pub(super) fn of(pool: &Weak<Pool>) -> Self {
        Self { pool: Weak::clone(pool), is_opening: Cell::default(), not_before: Cell::default() }
    }

    /// Begins to open one, unless one is being opened or has just failed.
    pub(super) fn open_one_more(&self) {
        let pauses = self.not_before.get().is_some_and(|instant| clock::now() < instant);
        let Some(pool) = self.pool.upgrade().filter(|_| !pauses && !self.is_opening.get()) else { return };
        self.is_opening.set(true);
        tokio::task::spawn_local(async move {
            let failed = Box::pin(open(&pool)).await.is_none();
            let Self { is_opening, not_before, .. } = &pool.spread;
            not_before.set(failed.then(|| clock::now() + PAUSE));
            is_opening.set(false);
        });
    }
}

impl Pool {
    /// Whether one more connection is to be opened to spread requests over, whatever the others could take.
    pub(super) fn lacks_one(&self) -> bool {
        if !self.places.are_spread() || !self.may_share.get() {
            return false;
        }
        let shared = self.shared.borrow();
        let in_use = || shared.iter().all(|kept| Rc::strong_count(&kept.streams) > 1);
        self.places.lack_one(shared.len() + self.dials.under_way(), in_use)
    }
}

/// Opens a connection for no request; `None`: it failed.
async fn open(pool: &Rc<Pool>) -> Option<()> {
    let mut held = HeldSlots::default();
    for share in pool.places.needed(true) {
        let Some(slot) = share.take() else { return Some(()) };
        held.add(share, slot);
    }
    let stage = Cell::new(ConnectStage::Lookup);
    let deadline = clock::now() + pool.upstream.settings.connect_timeout;
    let counts = pool.counts.holding(held);
    let attempt = DialAttempt { deadline, stage: &stage };
    let sender = connect(&pool.upstream, Speak::Configured, &counts, attempt).await.ok()?;
    if !pool.retired.get() {
        drop(pool.adopt(sender, Company::Shared));
    }
    Some(())
}

/// After an attempt that failed.
const PAUSE: Duration = Duration::from_secs(5);
