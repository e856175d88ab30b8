//! The places that a pool's connections take: of the share of open files that all upstreams have, and of what the upstream's
//! `max_connections` and `http2_connections` allow. A number there is the program's, so the pools of all workers share it.

use std::sync::Arc;

use tokio::sync::futures::Notified;

use crate::machine::Lack;
use crate::proxy::error::{DialFault, Full};
use crate::proxy::upstream::api::Upstream;
use crate::proxy::upstream::slots::{ConnectionSlot, Holder, Slots};
use crate::proxy::upstream::sockets::Sockets;

/// Where one pool takes its places from.
#[derive(Debug)]
pub(super) struct Places {
    http2: Option<SlotShare>,
    connections: Option<SlotShare>,
    sockets: SlotShare,
}

/// One pool's part of some places.
#[derive(Debug)]
pub(super) struct SlotShare {
    slots: Arc<Slots>,
    holder: Arc<Holder>,
    /// What is reported where none is free in time.
    pub(super) full: DialFault,
}

/// What a connection holds for as long as it lives.
#[derive(Debug, Default)]
pub(crate) struct HeldSlots {
    http2: Option<ConnectionSlot>,
    others: Vec<ConnectionSlot>,
}

impl SlotShare {
    fn new(slots: &Arc<Slots>, full: DialFault) -> Self {
        Self { slots: Arc::clone(slots), holder: slots.join(), full }
    }

    pub(super) fn take(&self) -> Option<ConnectionSlot> {
        self.slots.take(&self.holder)
    }

    pub(super) async fn wait(&self) -> ConnectionSlot {
        self.slots.wait(&self.holder).await
    }
}

impl Places {
    pub(super) fn new(upstream: &Upstream, sockets: &Sockets) -> Self {
        let share = |slots: &Option<Arc<Slots>>, full: fn(usize) -> Full| {
            slots.as_ref().map(|slots| SlotShare::new(slots, DialFault::Full(full(slots.count()))))
        };
        Self {
            http2: share(&upstream.http2_connections, Full::Http2),
            connections: share(&upstream.connections, Full::Connections),
            sockets: SlotShare::new(sockets.slots(), DialFault::Lacking(Lack::Descriptors)),
        }
    }

    fn all(&self) -> impl Iterator<Item = &SlotShare> {
        [self.http2.as_ref(), self.connections.as_ref(), Some(&self.sockets)].into_iter().flatten()
    }

    /// Whether the connections to the upstream are bounded by a number.
    pub(super) const fn are_numbered(&self) -> bool {
        self.http2.is_some() || self.connections.is_some()
    }

    /// Those that a new connection takes one of each of; `shared` where it may be one of HTTP/2.
    pub(super) fn needed(&self, shared: bool) -> impl Iterator<Item = &SlotShare> {
        self.all().skip(usize::from(!shared && self.http2.is_some()))
    }

    /// Whether requests are spread over a number of HTTP/2 connections.
    pub(super) const fn are_spread(&self) -> bool {
        self.http2.is_some()
    }

    /// Whether one more HTTP/2 connection is to be opened to spread requests over, where this pool has so many and `in_use` says
    /// whether each of them carries a request. As many as fall to this worker are opened in any case.
    pub(super) fn lack_one(&self, own: usize, in_use: impl FnOnce() -> bool) -> bool {
        let Some(SlotShare { slots, holder, .. }) = &self.http2 else { return false };
        (own < slots.fair_share() || in_use()) && slots.has_free(holder)
    }

    /// Whether a request waits for one of them: then no connection is worth keeping idle.
    pub(super) fn are_wanted(&self) -> bool {
        self.all().any(|share| share.slots.are_wanted())
    }

    /// Whether a connection that comes back is closed for another pool's request.
    pub(super) fn go_elsewhere(&self) -> bool {
        self.all().any(|share| share.slots.go_elsewhere(&share.holder))
    }

    /// The sets of places, for who waits until one is wanted.
    pub(super) fn sets(&self) -> Vec<Arc<Slots>> {
        self.all().map(|share| Arc::clone(&share.slots)).collect()
    }
}

/// Ends when a request begins to wait for a place of one of `sets`.
pub(super) fn wanted(sets: &[Arc<Slots>]) -> Vec<std::pin::Pin<Box<Notified<'_>>>> {
    sets.iter().map(|slots| Box::pin(slots.wanted())).collect()
}

impl HeldSlots {
    /// One place more.
    pub(super) fn add(&mut self, share: &SlotShare, slot: ConnectionSlot) {
        if matches!(share.full, DialFault::Full(Full::Http2(_))) {
            self.http2 = Some(slot);
        } else {
            self.others.push(slot);
        }
    }

    /// The same, of a connection that turned out to be of HTTP/1.1.
    pub(super) fn of_http1(mut self) -> Self {
        self.http2 = None;
        self
    }
}
