//! A connection of HTTP/2, which carries many requests at a time.

use std::rc::{Rc, Weak};

use hyper::client::conn::http2;
use tokio::time::Instant;

use super::connection::{Company, Connection, ConnectionAge};
use crate::clock;
use crate::proxy::observe::upstream_metrics::CloseCause;
use crate::proxy::upstream::connect::PeerLimits;
use crate::proxy::upstream::connection_info::ConnectionInfo;
use crate::proxy::upstream::metered::StreamPlace;
use crate::proxy::upstream::peer_settings::PeerSettings;
use crate::proxy::upstream::request_body::RequestBody;

/// A connection that requests share.
pub(super) struct SharedConnection {
    pub(super) sender: http2::SendRequest<RequestBody>,
    /// Its count, less this one, is the number of requests under way.
    pub(super) streams: Rc<StreamPlace>,
    pub(super) number: u64,
    pub(super) used: Instant,
    pub(super) settings: Weak<dyn PeerLimits>,
    pub(super) peer: PeerSettings,
    /// Lives while a request has it to itself.
    pub(super) alone: Weak<()>,
    pub(super) info: ConnectionInfo,
    pub(super) max_streams: usize,
    pub(super) end: CloseCause,
}

impl std::fmt::Debug for SharedConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("number", &self.number).finish_non_exhaustive()
    }
}

impl SharedConnection {
    /// Streams that it may carry at a time.
    pub(super) fn limit(&self) -> usize {
        self.settings
            .upgrade()
            .map_or(self.max_streams, |settings| settings.max_streams().min(self.max_streams))
    }

    /// Whether it may carry one request more.
    pub(super) fn has_room(&self) -> bool {
        !self.sender.is_closed() && Rc::strong_count(&self.streams) - 1 < self.limit()
    }

    /// Takes it for a request, if it has room for that.
    pub(super) fn take(&mut self, company: Company, age: ConnectionAge) -> Option<Connection> {
        let under_way = Rc::strong_count(&self.streams) - 1;
        let has_room = match company {
            Company::Shared => under_way < self.limit(),
            Company::Alone => under_way == 0 && self.limit() > 0,
        };
        if !has_room || self.alone.strong_count() > 0 {
            return None;
        }
        self.used = clock::now();
        let alone = self.keep_alone(company);
        let (sender, streams) = (self.sender.clone(), Rc::clone(&self.streams));
        Some(Connection::Http2 { sender, streams, number: self.number, age, peer: self.peer, alone })
    }

    /// Keeps other requests off it, where that is wanted, for as long as what this gives lives.
    fn keep_alone(&mut self, company: Company) -> Option<Rc<()>> {
        let alone = (company == Company::Alone).then(Rc::default)?;
        self.alone = Rc::downgrade(&alone);
        Some(alone)
    }
}
