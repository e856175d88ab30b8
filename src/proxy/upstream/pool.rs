//! One worker's connections to one upstream: kept alive, shared where the protocol can, replaced where they died.
//!
//! Nothing here is locked: a pool belongs to one worker. An idle HTTP/1.1 connection that was used last is used
//! first, so that what is not needed goes idle and is closed. HTTP/2 connections are shared by many requests at a time,
//! and a further one is opened beyond that.

mod connection;
mod counts;
mod places;
mod queue;
mod shared;
mod spread;
mod sweep;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use cupbearer_h1::ConnectionPool;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::api::Upstream;
use super::connect::{self, DialAttempt, NewHttp2, Speak, connect};
use super::connection_info::ConnectionInfo;
use super::h1::{Http1Connection, UpstreamLink};
use super::metered::StreamPlace;
use super::shared_dial::Dials;
use super::sockets::Sockets;
use crate::clock;
use crate::net::network_monitor;
use crate::proxy::error::{ConnectFault, ConnectStage, DialFault, ProxyError, UpstreamFault, WebSocketFault};
use crate::proxy::observe::upstream_metrics::Closed;
use crate::proxy::settings::Http2;

pub(crate) use connection::{Company, Connection, ConnectionAge, Want};
pub(crate) use counts::{OpenConnection, PoolCounts};
use places::{HeldSlots, Places};
use queue::{PoolTurn, attend};
use shared::SharedConnection;
use spread::Spread;

/// The connections of one worker to one upstream.
#[derive(Debug)]
pub(crate) struct Pool {
    upstream: Arc<Upstream>,
    /// The one that has been idle for longest comes first.
    idle: RefCell<VecDeque<Idle>>,
    shared: RefCell<Vec<SharedConnection>>,
    dials: Dials,
    may_share: Cell<bool>,
    /// Connections opened so far.
    opened: Cell<u64>,
    counts: PoolCounts,
    /// Requests that used a kept connection since the worker's last look.
    reused: Cell<u64>,
    sockets: Arc<Sockets>,
    places: Places,
    /// Requests that wait for a place, and take a connection of HTTP/1.1 that comes back before.
    line: RefCell<VecDeque<oneshot::Sender<Http1Connection>>>,
    /// Told when a request on a shared connection ends, where requests may wait for that.
    freed: Rc<Notify>,
    /// How many wait for that.
    waiting: Cell<usize>,
    /// The one more that is opened to spread requests over.
    spread: Spread,
    /// Closes idle connections for requests of other pools.
    attendant: OnceCell<AbortHandle>,
    /// The worker's clock, as of its last look.
    now: Cell<Instant>,
    /// Whether no new request will come: the upstream was taken out of the configuration.
    retired: Cell<bool>,
    /// The generation of the network that its connections are of.
    generation: Cell<u64>,
    /// Whether it was used since the worker's last look.
    active: Cell<bool>,
    /// The addresses that the upstream's name has, as of the worker's last look; `None`: unknown.
    addresses: RefCell<Option<Arc<[IpAddr]>>>,
}

#[derive(Debug)]
struct Idle {
    wire: Http1Connection,
    /// As of the worker's last look at the latest: exact enough for a minute, and free.
    since: Instant,
}

impl Pool {
    pub(crate) fn new(upstream: Arc<Upstream>, counts: PoolCounts, sockets: Arc<Sockets>) -> Rc<Self> {
        let (may_share, max_streams) = (upstream.may_speak_http2(), upstream.settings.max_streams);
        let places = Places::new(&upstream, &sockets);
        let pool = Rc::new_cyclic(|this| Self {
            upstream,
            idle: RefCell::default(),
            shared: RefCell::default(),
            dials: Dials::new(max_streams),
            may_share: Cell::new(may_share),
            opened: Cell::new(0),
            counts,
            reused: Cell::new(0),
            sockets,
            places,
            line: RefCell::default(),
            freed: Rc::default(),
            waiting: Cell::default(),
            spread: Spread::of(this),
            attendant: OnceCell::new(),
            now: Cell::new(clock::now()),
            retired: Cell::new(false),
            generation: Cell::new(network_monitor::generation()),
            active: Cell::new(false),
            addresses: RefCell::default(),
        });
        let _ = pool.attendant.set(attend(&pool).abort_handle());
        pool
    }

    /// Lets go of what is idle, now and from now on; requests under way go on.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
        self.let_go(Closed::Reload);
        self.count_reused();
    }

    /// Closes what is idle, and has the others close once they are.
    fn let_go(&self, why: Closed) {
        self.idle.take().iter().for_each(|kept| kept.wire.link().ends(why));
        self.shared.take().iter().for_each(|kept| kept.end.is(why));
    }

    /// Adds up what was counted since the worker's last look.
    fn count_reused(&self) {
        self.counts.reused(self.reused.take());
    }

    pub(crate) fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Whether its connections may be HTTP/2's.
    pub(crate) fn shares(&self) -> bool {
        self.may_share.get()
    }

    /// A connection for one request: a kept one, else a new one.
    pub(crate) async fn connection(&self, want: Want, company: Company) -> Result<Connection, ProxyError> {
        let lacks_one = self.lacks_one();
        // Those that wait for a stream come first.
        if self.waiting.get() == 0
            && let Some(kept) = self.kept(want, company)
        {
            if lacks_one {
                self.spread.open_one_more();
            }
            return Ok(kept);
        }
        // A new connection is rare and its future is large: boxed, it is no part of every request's.
        Ok(Box::pin(self.dial(want, company)).await?)
    }

    /// A connection that a WebSocket can be asked for on: HTTP/1.1, or HTTP/2 where the upstream is known to speak that and says
    /// that it has extended CONNECT.
    pub(crate) async fn for_websocket(&self, want: Want) -> Result<Connection, ProxyError> {
        if self.upstream.settings.http2 != Http2::PriorKnowledge {
            if let Some(kept) = self.idle_http1(want) {
                return Ok(kept);
            }
            return Ok(Box::pin(self.open_http1(want)).await?);
        }
        let connection = self.connection(want, Company::Shared).await?;
        let shared = self.shared.borrow();
        let its = shared.iter().find(|kept| Some(kept.number) == connection.number());
        let settings = its.and_then(|kept| kept.settings.upgrade());
        if settings.is_some_and(|settings| settings.has_extended_connect()) {
            return Ok(connection);
        }
        Err(ProxyError::Upstream(UpstreamFault::WebSocket(WebSocketFault::Unsupported)))
    }

    /// Opens a connection, or waits for one that others open or give back, all within `connect_timeout`.
    async fn dial(&self, want: Want, company: Company) -> Result<Connection, DialFault> {
        let deadline = clock::now() + self.upstream.settings.connect_timeout;
        let failures = self.dials.failures();
        let mut is_behind = self.waiting.get() > 0;
        loop {
            let lacks_one = self.lacks_one();
            if !std::mem::take(&mut is_behind)
                && let Some(kept) = self.kept(want, company)
            {
                return Ok(kept);
            }
            if let Some(fault) = self.dials.fate(failures) {
                return Err(fault);
            }
            if self.is_shut() {
                if clock::now() >= deadline {
                    return Err(DialFault::Timeout(ConnectStage::Streams));
                }
                tokio::time::sleep(SETTINGS_PAUSE).await;
            } else if company == Company::Shared
                && self.may_share.get()
                && !lacks_one
                && self.dials.have_room()
            {
                let ended = tokio::time::timeout_at(deadline, self.dials.ended()).await;
                ended.map_err(|_| DialFault::Timeout(self.dials.stage().get()))?;
            } else {
                let held = match self.take_places(self.may_share.get(), want, deadline).await? {
                    PoolTurn::Places(held) => held,
                    PoolTurn::Wire(wire) => {
                        return Ok(Connection::Http1 { wire, age: ConnectionAge::Reused });
                    }
                    PoolTurn::Look => continue,
                };
                match Box::pin(self.open(company, held, deadline)).await {
                    Ok(Some(opened)) => return Ok(opened),
                    Ok(None) => {}
                    // One more was to be opened, and those that there are will do.
                    Err(fault) if lacks_one => return self.kept(want, company).ok_or(fault),
                    Err(fault) => return Err(fault),
                }
            }
        }
    }

    /// Whether the upstream allows no request at all for now, on a connection that it keeps.
    fn is_shut(&self) -> bool {
        self.shared.borrow().iter().any(|kept| !kept.sender.is_closed() && kept.limit() == 0)
    }

    /// Opens a connection for a request, and for others where it can be shared; `None`: the upstream allows none on it for now.
    async fn open(
        &self,
        company: Company,
        held: HeldSlots,
        deadline: Instant,
    ) -> Result<Option<Connection>, DialFault> {
        let _dialing = (self.may_share.get() && company == Company::Shared).then(|| self.dials.begin());
        let sender = self.connect(Speak::Configured, held, deadline).await?;
        Ok(self.adopt(sender, company))
    }

    /// Takes in a new connection, for a request of such `company`; `None`: the upstream allows none on it for now.
    fn adopt(&self, sender: connect::NewConnection, company: Company) -> Option<Connection> {
        let number = self.opened.get() + 1;
        self.opened.set(number);
        match sender {
            connect::NewConnection::Http1(wire) => {
                self.may_share.set(false);
                Some(Connection::Http1 { wire, age: ConnectionAge::New })
            }
            connect::NewConnection::Http2(NewHttp2 { sender, settings, peer, info, intake, end }) => {
                self.may_share.set(true);
                if self.places.are_numbered() {
                    intake.tell_of_ends(&self.freed);
                }
                let mut shared = SharedConnection {
                    sender,
                    streams: Rc::new(StreamPlace(intake)),
                    number,
                    used: clock::now(),
                    settings,
                    peer,
                    alone: Weak::new(),
                    info,
                    max_streams: self.upstream.settings.max_streams,
                    end,
                };
                self.dials.learn(shared.limit());
                let taken = shared.take(company, ConnectionAge::New);
                let more = shared.limit().saturating_sub(usize::from(taken.is_some()));
                self.shared.borrow_mut().push(shared);
                for _ in 0..more.min(self.waiting.get()) {
                    self.freed.notify_one();
                }
                taken
            }
        }
    }

    /// Opens a connection that speaks HTTP/1.1, whatever else the upstream knows.
    async fn open_http1(&self, want: Want) -> Result<Connection, DialFault> {
        let deadline = clock::now() + self.upstream.settings.connect_timeout;
        let held = loop {
            match self.take_places(false, want, deadline).await? {
                PoolTurn::Places(held) => break held,
                PoolTurn::Wire(wire) => return Ok(Connection::Http1 { wire, age: ConnectionAge::Reused }),
                PoolTurn::Look => {}
            }
        };
        match self.connect(Speak::Http1, held, deadline).await? {
            connect::NewConnection::Http1(wire) => Ok(Connection::Http1 { wire, age: ConnectionAge::New }),
            connect::NewConnection::Http2(..) => Err(DialFault::Unreachable(ConnectFault::Protocol)),
        }
    }

    async fn connect(
        &self,
        speak: Speak,
        held: HeldSlots,
        deadline: Instant,
    ) -> Result<connect::NewConnection, DialFault> {
        let attempt = DialAttempt { deadline, stage: self.dials.stage() };
        let connected = connect(&self.upstream, speak, &self.counts.holding(held), attempt).await;
        if !matches!(connected, Err(DialFault::Lacking(_))) {
            self.upstream.found(connected.as_ref().map(|_| ()).map_err(|fault| *fault));
        }
        connected.inspect_err(|fault| {
            if let DialFault::Lacking(lack) = fault {
                self.sockets.were_lacking(*lack);
            }
            if speak == Speak::Configured {
                self.dials.fail(*fault);
            }
        })
    }

    /// Lets go of what was connected before the network changed: no response would ever come on them, nor any error.
    fn keep_up(&self) {
        let generation = network_monitor::generation();
        if self.generation.replace(generation) != generation {
            self.let_go(Closed::Network);
        }
    }

    fn idle_http1(&self, want: Want) -> Option<Connection> {
        self.keep_up();
        if want == Want::Any {
            let mut idle = self.idle.borrow_mut();
            while let Some(Idle { wire, .. }) = idle.pop_back() {
                if wire.is_free() {
                    self.reused.set(self.reused.get() + 1);
                    return Some(Connection::Http1 { wire, age: ConnectionAge::Reused });
                }
                wire.link().ends(Closed::Upstream);
            }
        }
        None
    }

    fn kept(&self, want: Want, company: Company) -> Option<Connection> {
        if let Some(idle) = self.idle_http1(want) {
            return Some(idle);
        }
        let mut shared = self.shared.borrow_mut();
        if shared.is_empty() {
            return None;
        }
        shared.retain(|kept| !kept.sender.is_closed());
        let fits = |kept: &SharedConnection| match want {
            Want::Newer(than) => kept.number > than,
            Want::Any => true,
        };
        let is_clogged = |kept: &SharedConnection| kept.streams.0.is_clogged();
        if self.places.are_spread() {
            // The one with the fewest requests, and of those the one that has been without for longest, comes first.
            shared.sort_by_key(|kept| (Rc::strong_count(&kept.streams), kept.used));
        }
        let mut free = shared.iter_mut().filter(|kept| fits(kept) && !is_clogged(kept));
        let taken = free.find_map(|kept| kept.take(company, ConnectionAge::Reused));
        // What comes by a new connection is not behind what others have left unread.
        let taken = if taken.is_some() || shared.iter().filter(|kept| is_clogged(kept)).count() < MAX_CLOGGED
        {
            taken
        } else {
            shared
                .iter_mut()
                .filter(|kept| fits(kept))
                .find_map(|kept| kept.take(company, ConnectionAge::Reused))
        };
        self.reused.set(self.reused.get() + u64::from(taken.is_some()));
        taken
    }

    /// Why no further request may use a connection; `None`: one may.
    fn end_of(&self, info: &ConnectionInfo) -> Option<Closed> {
        info.end(self.now.get(), self.addresses.borrow().as_deref())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(attendant) = self.attendant.get() {
            attendant.abort();
        }
        self.count_reused();
    }
}

impl ConnectionPool<UpstreamLink> for Pool {
    fn put(&self, wire: Http1Connection) {
        self.active.set(true);
        let end = if self.retired.get() { Some(Closed::Reload) } else { self.end_of(wire.link().info()) };
        // It was opened for a WebSocket, and takes the place of one that requests share.
        let is_odd = self.places.are_numbered() && self.may_share.get();
        match end.or_else(|| is_odd.then_some(Closed::Room)) {
            Some(why) => wire.link().ends(why),
            None if self.places.are_wanted() => self.pass_on(wire),
            None => self.rest(wire, self.now.get()),
        }
    }

    fn malformed_body(&self, why: cupbearer_h1::Malformed) {
        self.upstream().went(Some(&ProxyError::Upstream(UpstreamFault::Malformed(why.into()))));
    }
}

/// HTTP/2 connections that no new request is sent on because they read only now and then, for lack of memory.
const MAX_CLOGGED: usize = 8;
/// How often an upstream that allows no request for now is looked at again.
const SETTINGS_PAUSE: Duration = Duration::from_millis(20);
