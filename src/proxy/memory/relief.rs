//! What waits for memory, and what the worker does about it now and then.

use std::rc::Rc;
use std::time::Duration;

use super::share::{Level, WaitingFor, WorkerShare, with};

/// What came of the wait for memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relief {
    /// There is some: whatever waits may go on.
    Room,
    /// There is none yet, and connections wait for it that were accepted.
    Needed,
}

/// Asks to be told of room by [`relief`].
pub(crate) fn want(wanted: WaitingFor) {
    with((), |share| {
        share.waits.set(share.waits.get().max(Some(wanted)));
        share.wanted.notify_one();
    });
}

/// Ends when something wants memory and there is some, or when that has been looked for.
pub(crate) async fn relief() -> Relief {
    let Some(share) = with(None, |share| Some(Rc::clone(share))) else { return std::future::pending().await };
    // It may be dropped at any time, and begun again.
    while share.waits.get().is_none() {
        share.wanted.notified().await;
    }
    loop {
        tokio::time::sleep(RELIEF_PAUSE).await;
        give_back(&share);
        let wanted = share.waits.get();
        let is_there = match wanted {
            Some(WaitingFor::Serve) => share.may_serve(),
            Some(WaitingFor::Read) | None => share.has_room(0, Level::Read),
        };
        if is_there {
            share.waits.set(None);
            return Relief::Room;
        }
        if wanted == Some(WaitingFor::Serve) {
            return Relief::Needed;
        }
    }
}

/// Looks at the whole, and gives back to the system what was freed. The worker calls this now and then.
pub(crate) fn look_around() {
    with((), |share| {
        if let Some(budget) = share.memory.budget {
            share.memory.process.look_at_sockets();
            share.look(budget);
            share.memory.process.look(share.memory.named());
        }
        give_back(share);
    });
}

/// The allocator returns pages to the system a second after they were freed, but only where a whole page is freed again at
/// that time, which never comes where all has gone quiet. So one is.
fn give_back(share: &WorkerShare) {
    if let Some(left) = share.freeing.get().checked_sub(1) {
        share.freeing.set(left);
        drop(std::hint::black_box(Vec::<u8>::with_capacity(WHOLE_PAGE)));
    }
}

/// How often it is looked whether there is room for what waits.
const RELIEF_PAUSE: Duration = Duration::from_millis(20);

/// More than any page of the allocator's that is shared by several blocks.
const WHOLE_PAGE: usize = 1024 * 1024;
