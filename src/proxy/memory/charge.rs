//! What connections and requests cost by name, for as long as they are open.

use std::rc::Rc;

use super::metrics::Limited;
use super::process::GIVING_BACK;
use super::share::{Level, WorkerShare, limited, with};

/// What a connection or a request costs for as long as it is open.
#[derive(Debug)]
pub(crate) struct Charge {
    cost: Cost,
    bytes: usize,
    share: Rc<WorkerShare>,
}

/// What is charged by name. The figures are measured (`docs/limits.md`), and rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    /// A connection that rests.
    Connection,
    /// A connection that is served, beyond one that rests.
    Served,
    /// A request under way, with its connection to the upstream.
    Request,
}

impl Cost {
    /// Bytes in all.
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::Connection => CONNECTION_BYTES + SOCKET_BYTES,
            Self::Served => SERVED_BYTES,
            Self::Request => REQUEST_BYTES + SOCKET_BYTES,
        }
    }

    /// The kernel's part.
    const fn kernel(self) -> usize {
        match self {
            Self::Connection | Self::Request => SOCKET_BYTES,
            Self::Served => 0,
        }
    }

    const fn level(self) -> Level {
        match self {
            Self::Connection => Level::Connection,
            Self::Served => Level::Served,
            Self::Request => Level::Request,
        }
    }

    /// So many on each worker are let in whatever is used: what comes and goes is what gives memory back.
    pub(super) const fn floor(self) -> usize {
        match self {
            Self::Connection => 16,
            Self::Served => 8,
            Self::Request => 4,
        }
    }
}

impl WorkerShare {
    /// Whether one more is let in, which costs so many `bytes`.
    fn may_charge(&self, cost: Cost, bytes: usize) -> bool {
        self.open[cost as usize].get() < cost.floor() || self.has_room(bytes, cost.level())
    }

    /// Whether one more connection is served.
    pub(super) fn may_serve(&self) -> bool {
        self.may_charge(Cost::Served, SERVED_BYTES)
    }

    /// `more` is what it costs beside what each of its kind does.
    pub(super) fn charge(self: &Rc<Self>, cost: Cost, more: usize) -> Option<Charge> {
        let bytes = cost.bytes() + more;
        if !self.may_charge(cost, bytes) {
            return None;
        }
        let open = &self.open[cost as usize];
        open.set(open.get() + 1);
        self.held.set(self.held.get() + bytes.cast_signed());
        self.kernel.set(self.kernel.get() + cost.kernel().cast_signed());
        self.count(bytes);
        Some(Charge { cost, bytes, share: Rc::clone(self) })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let (share, cost, bytes) = (&self.share, self.cost, self.bytes);
        let open = &share.open[cost as usize];
        open.set(open.get() - 1);
        share.held.set(share.held.get() - bytes.cast_signed());
        share.kernel.set(share.kernel.get() - cost.kernel().cast_signed());
        share.since.set(share.since.get().saturating_sub(bytes));
        share.freeing.set(GIVING_BACK);
    }
}

/// What may be gone on with.
#[derive(Debug)]
pub(crate) enum Room {
    /// There is room; it is taken for as long as the charge lives.
    Taken(Option<Charge>),
    /// There is none now.
    None,
}

fn charge(cost: Cost, more: usize) -> Room {
    with(Room::Taken(None), |share| {
        share.charge(cost, more).map_or(Room::None, |charge| Room::Taken(Some(charge)))
    })
}

/// Room for a connection that rests. Nothing is counted where there is none: it is asked for again and again.
pub(crate) fn connection() -> Room {
    charge(Cost::Connection, 0)
}

/// Room to serve a connection.
pub(crate) fn served() -> Room {
    charge(Cost::Served, 0)
}

/// Room for a request with a head of so many bytes, decoded; where there is none, that is counted.
pub(crate) fn request(head: usize) -> Room {
    let room = charge(Cost::Request, cost(head));
    if matches!(room, Room::None) {
        limited(Limited::Request);
    }
    room
}

/// What things cost (`docs/limits.md`).
const CONNECTION_BYTES: usize = 3 * 1024;
const SERVED_BYTES: usize = 14 * 1024;
const REQUEST_BYTES: usize = 16 * 1024;
/// A socket in the kernel, without what is in its buffers.
const SOCKET_BYTES: usize = 3 * 1024;

/// What a head of so many bytes costs beyond what every request does.
pub(super) const fn cost(head: usize) -> usize {
    if head > SMALL_HEAD { head.saturating_mul(COPIES) } else { 0 }
}

/// Bytes of a head that are a part of every request's cost.
const SMALL_HEAD: usize = 2 * 1024;
/// How often a large head is held: as it was read, and as it is written.
pub(crate) const COPIES: usize = 2;
