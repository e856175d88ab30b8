//! A worker: one thread, one runtime, its own connections both ways. Workers share nothing that is written per request.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::connection::serve;
use super::hyper_server;
use super::listener::{Accepted, BoundListener, Listener};
use crate::clock;
use crate::lifecycle::Drain;
use crate::net::acceptor::Acceptor;
use crate::proxy::downstream::activity::{FIRST_MOMENT, Watch};
use crate::proxy::downstream::context::{DrainStage, ProxyContext, WorkerContext};
use crate::proxy::memory::{self, Charge, Limited, Relief, RequestMemory, Room};
use crate::proxy::observe::metrics::{Counted, OpenConnections};
use crate::proxy::request::route_table::Routes;
use crate::proxy::request::worker_routes::LocalTable;
use crate::proxy::settings::ServerSettings;
use crate::proxy::upstream::sockets::Sockets;
use crate::proxy::websocket::tunnel::FAREWELL;

/// What all workers of a proxy share beside the context.
#[derive(Debug)]
pub(crate) struct SharedByWorkers {
    pub(crate) proxy: Arc<ProxyContext>,
    pub(crate) memory: Arc<RequestMemory>,
    pub(crate) acceptor: Option<Arc<Acceptor>>,
    pub(crate) routes: Arc<Routes>,
    /// Connections of applications at a time, over all workers.
    pub(crate) max_connections: usize,
    pub(crate) slots: Arc<Semaphore>,
    /// Told where a worker finds no connection of its own to close for a new one.
    pub(super) room_wanted: Notify,
    pub(crate) sockets: Arc<Sockets>,
}

/// One worker's own.
#[derive(Debug)]
pub(super) struct Worker {
    /// From 0.
    number: usize,
    shared: Arc<SharedByWorkers>,
    context: Rc<WorkerContext>,
    table: RefCell<Rc<LocalTable>>,
    /// Whether its last look around came late.
    was_late: Cell<bool>,
    /// How long who has just connected keeps its place where all are taken. It halves with each that has sent nothing in it:
    /// so a crowd of those gives way at once, and clients with requests get theirs.
    moment: Cell<Duration>,
    connections: RefCell<BTreeMap<u64, Rc<Watch>>>,
    next_connection: Cell<u64>,
    all_closed: Notify,
    open: OpenConnections,
    http1: http1::Builder,
}

/// A connection's place in the worker's list.
pub(super) struct Registered {
    worker: Rc<Worker>,
    key: u64,
    _counted: Counted,
}

impl Worker {
    /// For the thread that this runs on.
    pub(crate) fn new(number: usize, shared: Arc<SharedByWorkers>) -> Rc<Self> {
        memory::enter(Arc::clone(&shared.memory));
        let http1 = hyper_server::http1(&shared.proxy.settings);
        let routes = shared.routes.load();
        let table = LocalTable::new(routes, &[], &shared.proxy.metrics, &shared.sockets);
        memory::started();
        Rc::new(Self {
            number,
            context: WorkerContext::new(Arc::clone(&shared.proxy), Arc::clone(table.routes.unrouted())),
            table: RefCell::new(Rc::new(table)),
            was_late: Cell::new(false),
            moment: Cell::new(FIRST_MOMENT),
            connections: RefCell::default(),
            next_connection: Cell::new(0),
            all_closed: Notify::new(),
            open: shared.proxy.metrics.connections(),
            http1,
            shared,
        })
    }

    /// Serves `listeners` until the drain has started and is over: all connections closed, or `drain_timeout` passed. Calls
    /// `started` once it listens; it fails before that alone.
    pub(crate) async fn run<T>(
        self: Rc<Self>,
        listeners: Vec<BoundListener>,
        mut drain: Drain,
        started: impl FnOnce() -> T,
    ) -> std::io::Result<()> {
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn_local(Rc::clone(&self).accept(listener.listen()?, drain.clone()));
        }
        started();
        let mut ticks = tokio::time::interval(self.tick());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.look_around(),
                () = self.shared.room_wanted.notified() => {
                    self.close_idle();
                }
                relief = memory::relief() => self.relieve(relief),
                () = drain.started() => break,
            }
        }
        let drain_timeout = self.settings().drain_timeout;
        let deadline = clock::now() + drain_timeout;
        self.enter(DrainStage::Draining);
        let closing = clock::now() + LAME_DUCK.min(drain_timeout / 4);
        let ending = deadline - (FAREWELL * 2).min(drain_timeout / 2);
        // What the kernel has accepted is accepted: it is taken up before the end is looked for.
        while clock::now() < deadline && !(accepting.is_empty() && self.connections.borrow().is_empty()) {
            if clock::now() >= ending {
                self.enter(DrainStage::Ending);
            } else if clock::now() >= closing {
                self.enter(DrainStage::Closing);
            }
            tokio::select! {
                _ = ticks.tick() => self.look_around(),
                relief = memory::relief() => self.relieve(relief),
                () = self.all_closed.notified() => {}
                Some(_) = accepting.join_next() => {}
                () = tokio::time::sleep_until(closing), if self.context.stage() == DrainStage::Draining => {}
                () = tokio::time::sleep_until(ending), if self.context.stage() != DrainStage::Ending => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
        }
        let cut = self.connections.borrow().len();
        if cut > 0 {
            tracing::warn!(connections = cut, "drain_timeout passed; the connections still open were cut");
        }
        Ok(())
    }

    /// Accepts until the drain starts, and then what the kernel has accepted already.
    async fn accept(self: Rc<Self>, listener: Listener, mut drain: Drain) {
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.started() => break,
                accepted = self.accept_by(&listener) => accepted,
            };
            match accepted {
                Ok(accepted) => {
                    failing = false;
                    self.take_up(accepted).await;
                }
                Err(error) => {
                    // Out of descriptors, most likely: they come back as connections close.
                    self.make_room();
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "connections cannot be accepted for now");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        // Asked without waiting, so that what comes in now finds no listener rather than one that leaves.
        let Ok(rest) = listener.rest() else { return };
        for accepted in rest {
            self.take_up(accepted).await;
        }
    }

    /// The next connection. A worker that has no part in the connections to some upstream leaves it to the others.
    async fn accept_by(&self, listener: &Listener) -> std::io::Result<Accepted> {
        while !self.serves() {
            tokio::time::sleep(ROOM_PAUSE).await;
        }
        listener.accept().await
    }

    fn serves(&self) -> bool {
        self.number < self.table().serving()
    }

    /// Serves a connection, once there is room for it.
    async fn take_up(self: &Rc<Self>, accepted: Accepted) {
        let slots = &self.shared.slots;
        let slot = loop {
            if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
                break slot;
            }
            // What is busy now may be idle at the next look.
            self.make_room();
            let freed = tokio::time::timeout(ROOM_PAUSE, Arc::clone(slots).acquire_owned());
            match freed.await {
                Ok(Ok(slot)) => break slot,
                Ok(Err(_closed)) => return,
                Err(_still_full) => {}
            }
        };
        let charge = self.memory_for_connection().await;
        let worker = Rc::clone(self);
        tokio::task::spawn_local(async move {
            serve(worker, accepted).await;
            drop((slot, charge));
        });
    }

    /// Waits until memory has room for one more connection.
    async fn memory_for_connection(&self) -> Option<Charge> {
        let mut waits = false;
        loop {
            if let Room::Taken(charge) = memory::connection() {
                return charge;
            }
            if !std::mem::replace(&mut waits, true) {
                memory::limited(Limited::Connection);
            }
            self.make_memory();
            tokio::time::sleep(MEMORY_PAUSE).await;
        }
    }

    /// Ends those of the connections that have been idle for longest, or whose head stands still: some at a time, as many may be
    /// waiting.
    fn make_memory(&self) {
        let connections = self.connections.borrow();
        let mut idle: Vec<_> =
            connections.values().filter_map(|watch| Some((watch.idle_since()?, watch))).collect();
        if idle.is_empty() {
            let slow = connections.values().filter_map(|watch| Some((watch.head_since()?, watch)));
            idle.extend(slow.filter(|(since, _)| since.elapsed() >= SLOW_HEAD));
        }
        idle.sort_unstable_by_key(|(since, _)| *since);
        let most = idle.len().div_ceil(IDLE_SHARE);
        for (_, longest) in idle.iter().filter(|(_, watch)| !watch.expects_input(FIRST_MOMENT)).take(most) {
            longest.end();
        }
    }

    /// Has connections that wait for memory go on, or ends idle ones.
    fn relieve(&self, relief: Relief) {
        if relief == Relief::Needed {
            self.make_memory();
            return;
        }
        for watch in self.connections.borrow().values() {
            watch.resume();
        }
    }

    /// Has a connection closed for a new one: one of this worker's, else one of another's.
    fn make_room(&self) {
        if !self.close_idle() {
            self.shared.room_wanted.notify_one();
        }
    }

    /// Ends the connection that has been idle for longest; where none is, the one whose head has been coming for longest, and
    /// for a while. Whether there was one.
    fn close_idle(&self) -> bool {
        let connections = self.connections.borrow();
        let idle = connections.values().filter_map(|watch| Some((watch.idle_since()?, watch)));
        let longest = longest_without_request(idle.collect(), self.moment.get()).or_else(|| {
            let slow = connections.values().filter_map(|watch| Some((watch.head_since()?, watch)));
            longest_without_request(
                slow.filter(|(since, _)| since.elapsed() >= FULL_SLOW_HEAD).collect(),
                FIRST_MOMENT,
            )
        });
        let Some(longest) = longest else { return false };
        if longest.is_new() {
            self.moment.set(self.moment.get() / 2);
        }
        longest.end();
        self.shared.proxy.metrics.evictions().record(self.shared.max_connections);
        true
    }

    fn look_around(&self) {
        let now = clock::now();
        let since = now.saturating_duration_since(self.context.clock().replace(now));
        memory::look_around();
        // Where the worker itself was late, no connection is before all had their turn.
        let is_late = since >= LATE_LOOK && !self.was_late.get();
        self.was_late.set(is_late);
        self.moment.set((self.moment.get() * 2).clamp(LEAST_MOMENT, FIRST_MOMENT));
        let (table, watches) = (self.table(), self.connections.borrow());
        for watch in watches.values().filter(|_| !is_late) {
            watch.enforce(self.settings());
        }
        table.routes.look_around();
        if self.number >= table.serving() {
            watches.values().for_each(|watch| watch.retire());
        }
        for pool in &table.pools {
            pool.sweep(now);
        }
    }

    fn enter(&self, stage: DrainStage) {
        if self.context.enter(stage) {
            for watch in self.connections.borrow().values() {
                watch.wake();
            }
        }
    }

    /// Often enough that the shortest limit is met to a quarter, and that an application that has gone is soon seen.
    fn tick(&self) -> Duration {
        let settings = self.settings();
        let shortest = settings.header_timeout.min(settings.keep_alive_timeout).min(settings.send_timeout);
        let most = if settings.half_close { MAX_TICK } else { GONE_TICK };
        (shortest / 4).clamp(MIN_TICK, most)
    }

    pub(crate) fn register(self: &Rc<Self>, watch: Rc<Watch>) -> Registered {
        let key = self.next_connection.get();
        self.next_connection.set(key + 1);
        self.connections.borrow_mut().insert(key, watch);
        let counted = self.open.count();
        Registered { worker: Rc::clone(self), key, _counted: counted }
    }

    /// The routes in force, with this worker's pools; after a reload, pools of unchanged upstreams are kept.
    pub(crate) fn table(&self) -> Rc<LocalTable> {
        let mut table = self.table.borrow_mut();
        if !self.shared.routes.is_in_force(&table.routes) {
            let SharedByWorkers { routes, proxy, sockets, .. } = &*self.shared;
            *table = Rc::new(LocalTable::new(routes.load(), &table.pools, &proxy.metrics, sockets));
            self.context.routes_changed(Arc::clone(table.routes.unrouted()));
        }
        Rc::clone(&table)
    }

    pub(crate) fn settings(&self) -> &ServerSettings {
        self.context.settings()
    }

    /// What its connections and requests know of it.
    pub(crate) const fn context(&self) -> &Rc<WorkerContext> {
        &self.context
    }

    /// What TCP connections shake hands by; `None`: they are plain.
    pub(crate) fn acceptor(&self) -> Option<&Acceptor> {
        self.shared.acceptor.as_deref()
    }

    pub(crate) const fn http1(&self) -> &http1::Builder {
        &self.http1
    }
}

/// Of connections that wait since then, the first whose next request is not there already.
fn longest_without_request(mut waiting: Vec<(Instant, &Rc<Watch>)>, moment: Duration) -> Option<&Rc<Watch>> {
    loop {
        let since = |at: &usize| waiting[*at].0;
        let at = (0..waiting.len()).min_by_key(since)?;
        let (_, watch) = waiting.swap_remove(at);
        if !watch.expects_input(moment) {
            return Some(watch);
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut connections = self.worker.connections.borrow_mut();
        connections.remove(&self.key);
        if connections.is_empty() {
            self.worker.all_closed.notify_one();
        }
    }
}

/// How long HTTP/1.1 connections may go on after SIGTERM to learn of it by an answer's `Connection: close`; at most
/// a quarter of `drain_timeout`.
const LAME_DUCK: Duration = Duration::from_secs(1);
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often a connection that finds the house full looks for one that is idle.
const ROOM_PAUSE: Duration = Duration::from_millis(50);
/// How long a head may be on its way before its connection gives way to a new one: where memory is short, and where all
/// connections are taken.
const SLOW_HEAD: Duration = Duration::from_secs(1);
const FULL_SLOW_HEAD: Duration = Duration::from_millis(250);
/// What is left of the moment that a new connection gets, where a crowd of them sends nothing.
const LEAST_MOMENT: Duration = Duration::from_millis(1);
/// The same where memory is short: an idle connection that was ended gives its memory back at once.
const MEMORY_PAUSE: Duration = Duration::from_millis(5);
/// Of so many idle connections one is ended at a time where memory is short.
const IDLE_SHARE: usize = 64;
/// From one look around to the next: with so much, the worker had more to do than it could.
const LATE_LOOK: Duration = Duration::from_secs(2);
const MIN_TICK: Duration = Duration::from_millis(20);
const MAX_TICK: Duration = Duration::from_secs(1);
/// The same where an application that closes its side has gone.
const GONE_TICK: Duration = Duration::from_millis(250);
