//! The figures of what requests cost: those of the process, and each worker's share of them.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};

use tokio::sync::Notify;

use super::charge::Cost;
use super::metrics::{Limited, MemoryMetrics};
use super::process::{GIVING_BACK, Process};
use crate::proxy::settings::Budget;

/// What all workers have together.
#[derive(Debug)]
pub(crate) struct RequestMemory {
    /// Bytes that requests may cost; `None`: no limit.
    pub(super) budget: Option<usize>,
    pub(super) process: Process,
    /// Named costs of what is open, and the kernel's part of them, which no figure of the process shows.
    pub(super) held: AtomicIsize,
    pub(super) kernel: AtomicIsize,
    /// Bodies among them that are kept.
    pub(super) kept: AtomicIsize,
    /// Bytes that a worker may count by itself before it looks at the whole.
    pub(super) step: usize,
    /// Whether memory is short: what stands still is given up sooner.
    pub(super) short: AtomicBool,
    pub(super) metrics: MemoryMetrics,
}

/// One worker's part.
#[derive(Debug)]
pub(super) struct WorkerShare {
    pub(super) memory: Arc<RequestMemory>,
    /// Changes that the others do not know of yet.
    pub(super) held: Cell<isize>,
    pub(super) kernel: Cell<isize>,
    pub(super) kept: Cell<isize>,
    /// What is used in all, as of the last look, and what was counted here since.
    pub(super) used: Cell<MemoryUse>,
    pub(super) since: Cell<usize>,
    /// How many of each cost are open here.
    pub(super) open: [Cell<usize>; 3],
    /// Of those, the requests and served connections that the others know of.
    pub(super) under_way: Cell<usize>,
    /// Looks until what was freed has been given back to the system.
    pub(super) freeing: Cell<u32>,
    /// What waits for memory, and what tells of it.
    pub(super) waits: Cell<Option<WaitingFor>>,
    pub(super) wanted: Notify,
}

thread_local! {
    /// A worker is a thread. Where there is none, nothing is limited.
    static SHARE: OnceCell<Rc<WorkerShare>> = const { OnceCell::new() };
}

impl RequestMemory {
    /// For a process that serves no request yet, and `workers` threads that will.
    pub(crate) fn new(budget: &Budget, workers: usize, metrics: MemoryMetrics) -> Arc<Self> {
        let process = Process::new(budget.beside(), workers);
        let budget = budget.bytes;
        let step =
            budget.map_or(MAX_STEP, |budget| budget / STEPS / workers.max(1)).clamp(MIN_STEP, MAX_STEP);
        Arc::new(Self {
            budget,
            process,
            held: AtomicIsize::new(0),
            kernel: AtomicIsize::new(0),
            kept: AtomicIsize::new(0),
            step,
            short: AtomicBool::new(false),
            metrics,
        })
    }

    /// What is used now.
    fn used(&self) -> MemoryUse {
        let named = |figure: &AtomicIsize| usize::try_from(figure.load(Ordering::Relaxed)).unwrap_or(0);
        let held = named(&self.held);
        let real = self.process.beyond_its_own() + named(&self.kernel);
        MemoryUse { all: real.max(held), unnamed: real.saturating_sub(held), kept: named(&self.kept) }
    }

    /// What the named costs come to in the process itself.
    pub(super) fn named(&self) -> usize {
        let named = self.held.load(Ordering::Relaxed) - self.kernel.load(Ordering::Relaxed);
        usize::try_from(named).unwrap_or(0)
    }

    /// Takes note of how much is used, and logs where that changes what is done.
    fn note(&self, MemoryUse { all: used, unnamed, .. }: MemoryUse, budget: usize) {
        let short = self.short.load(Ordering::Relaxed);
        let is_much = used >= Level::Connection.of(budget) || unnamed >= UNNAMED_SHORT.of(budget);
        let is_little = used < Level::Enough.of(budget) && unnamed < UNNAMED_ENOUGH.of(budget);
        if is_much && !short && !self.short.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                used_mib = used >> 20,
                budget_mib = budget >> 20,
                unnamed_mib = unnamed >> 20,
                "memory_limit is near; what stands still is given up sooner"
            );
        } else if is_little && short && self.short.swap(false, Ordering::Relaxed) {
            tracing::info!(used_mib = used >> 20, budget_mib = budget >> 20, "memory is available again");
        }
    }
}

/// What is used, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MemoryUse {
    pub(super) all: usize,
    /// What of it is no named cost.
    pub(super) unnamed: usize,
    /// What of it is kept bodies.
    pub(super) kept: usize,
}

/// A part of the budget, in sixteenths.
#[derive(Clone, Copy, Debug)]
struct Sixteenths(usize);

impl Sixteenths {
    const fn of(self, budget: usize) -> usize {
        budget / 16 * self.0
    }
}

/// How much of the budget may be used when something asks for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Bodies are kept for another sending.
    Keep,
    /// New requests are let in.
    Request,
    /// New connections are accepted; above it, memory is short.
    Connection,
    /// Connections that were accepted are served.
    Served,
    /// Reading goes on.
    Read,
    /// Below it, it is not short any more.
    Enough,
}

impl Level {
    const fn of(self, budget: usize) -> usize {
        let part = match self {
            Self::Keep | Self::Enough => Sixteenths(8),
            Self::Request => Sixteenths(13),
            Self::Connection => Sixteenths(14),
            Self::Served => Sixteenths(15),
            Self::Read => Sixteenths(16),
        };
        part.of(budget)
    }

    /// What of it may have no name, for what has none, and for kept bodies together with those.
    const fn unnamed(self) -> Option<Sixteenths> {
        match self {
            Self::Keep => Some(UNNAMED_KEPT),
            Self::Read => Some(UNNAMED),
            Self::Request | Self::Connection | Self::Served | Self::Enough => None,
        }
    }
}

impl WorkerShare {
    /// Whether `more` may be used for something of `level`.
    pub(super) fn has_room(&self, more: usize, level: Level) -> bool {
        let Some(budget) = self.memory.budget else { return true };
        let fits = |more: usize| {
            let MemoryUse { all, unnamed, kept } = self.used.get();
            let part = if level == Level::Keep { unnamed + kept } else { unnamed };
            let unnamed_fits = level.unnamed().is_none_or(|most| part + more <= most.of(budget));
            all + more <= level.of(budget) && unnamed_fits
        };
        if self.since.get() < self.memory.step && fits(more + self.since.get()) {
            return true;
        }
        self.look(budget);
        fits(more)
    }

    /// Looks at the whole.
    pub(super) fn look(&self, budget: usize) {
        let memory = &self.memory;
        memory.held.fetch_add(self.held.take(), Ordering::Relaxed);
        memory.kernel.fetch_add(self.kernel.take(), Ordering::Relaxed);
        memory.kept.fetch_add(self.kept.take(), Ordering::Relaxed);
        let under_way = self.open[Cost::Served as usize].get() + self.open[Cost::Request as usize].get();
        let change = under_way.cast_signed() - self.under_way.replace(under_way).cast_signed();
        memory.process.is_used_by(change);
        self.since.set(0);
        self.used.set(memory.used());
        memory.note(self.used.get(), budget);
    }

    pub(super) fn count(&self, bytes: usize) {
        self.since.set(self.since.get() + bytes);
        self.freeing.set(GIVING_BACK);
    }

    pub(super) fn limited(&self, what: Limited) {
        self.memory.metrics.limited(what);
    }
}

/// Has this thread, a worker, count for `memory`.
pub(crate) fn enter(memory: Arc<RequestMemory>) {
    SHARE.with(|share| {
        let _ = share.set(Rc::new(WorkerShare {
            memory,
            held: Cell::new(0),
            kernel: Cell::new(0),
            kept: Cell::new(0),
            used: Cell::default(),
            since: Cell::new(usize::MAX / 2),
            open: Default::default(),
            under_way: Cell::new(0),
            freeing: Cell::new(0),
            waits: Cell::new(None),
            wanted: Notify::new(),
        }));
    });
}

/// What this worker has now is the program's own.
pub(crate) fn started() {
    with((), |share| share.memory.process.started());
}

/// With this thread's share; `otherwise` where it is no worker.
pub(super) fn with<T>(otherwise: T, then: impl FnOnce(&Rc<WorkerShare>) -> T) -> T {
    SHARE.with(|share| match share.get() {
        Some(share) => then(share),
        None => otherwise,
    })
}

/// Counts that memory was short for something.
pub(crate) fn limited(what: Limited) {
    with((), |share| share.limited(what));
}

/// Whether anything may be read that has to be held here until someone takes it.
pub(crate) fn may_read() -> bool {
    with(true, |share| share.has_room(0, Level::Read))
}

/// Counts bytes that were read.
pub(crate) fn read(bytes: usize) {
    with((), |share| share.count(bytes));
}

/// How many bytes to read at a time, where `wanted` are wanted: fewer where memory has run out, but never none. For what is
/// read one part after the other, each after the one before it was taken.
pub(crate) fn room_to_read(wanted: usize) -> usize {
    if wanted <= SMALL_READ || may_read() { wanted } else { SMALL_READ }
}

/// Whether memory is short, so that what stands still is given up sooner.
pub(crate) fn is_short() -> bool {
    with(false, |share| share.memory.short.load(Ordering::Relaxed))
}

/// What memory is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WaitingFor {
    /// To read on.
    Read,
    /// To serve a connection that was accepted.
    Serve,
}

/// What may have no name, and with how much of that and of kept bodies no more are kept.
const UNNAMED: Sixteenths = Sixteenths(6);
const UNNAMED_KEPT: Sixteenths = Sixteenths(4);
/// From where on memory is short for it, and below which there is enough.
const UNNAMED_SHORT: Sixteenths = Sixteenths(5);
const UNNAMED_ENOUGH: Sixteenths = Sixteenths(4);
/// Bytes that may be read whatever is used: they fit into buffers that are there already.
pub(crate) const SMALL_READ: usize = 4 * 1024;
/// How far each worker may count by itself: together, a sixteenth of the budget.
const STEPS: usize = 16;
const MIN_STEP: usize = 64 * 1024;
const MAX_STEP: usize = 8 * 1024 * 1024;
#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::proxy::memory::charge::{Room, request};
    use crate::proxy::memory::kept::KeptBody;
    use crate::proxy::memory::relief::{Relief, relief, want};
    use crate::proxy::observe::metrics::ProxyMetrics;

    /// Runs `test` on a thread that is a worker with this budget.
    pub(in crate::proxy::memory) fn on_worker(budget: usize, test: fn(&Rc<WorkerShare>)) {
        let worker = std::thread::spawn(move || {
            let metrics = ProxyMetrics::new(&Metrics::new());
            let budget = Budget { bytes: Some(budget), of: None };
            let mut memory = Arc::into_inner(RequestMemory::new(&budget, 1, metrics.memory())).unwrap();
            // The other tests of this process have memory, too.
            memory.process = Process::unknown();
            enter(Arc::new(memory));
            test(&with(None, |share| Some(Rc::clone(share))).unwrap());
        });
        worker.join().unwrap();
    }

    /// A runtime whose clock goes on as its tasks sleep.
    pub(in crate::proxy::memory) fn paused() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
    }

    #[test]
    fn requests_are_refused_before_connections_and_reading_stops_last() {
        on_worker(64 << 20, |share| {
            let fill = |cost: Cost| std::iter::from_fn(|| share.charge(cost, 0)).collect::<Vec<_>>();
            let requests = fill(Cost::Request);
            assert_eq!(requests.len(), (52 << 20) / Cost::Request.bytes());
            assert!(!share.has_room(1, Level::Keep), "bodies were given up long before");
            let connections = fill(Cost::Connection);
            assert_eq!(
                connections.len(),
                ((56 << 20) - requests.len() * Cost::Request.bytes()) / Cost::Connection.bytes()
            );
            let served = share.charge(Cost::Served, 0);
            assert!(served.is_some(), "what was accepted goes on");
            assert!(share.has_room(0, Level::Read));
            share.look(64 << 20);
            assert!(is_short());
            drop((requests, served));
            share.look(64 << 20);
            assert!(!is_short());
            assert!(share.charge(Cost::Request, 0).is_some());
        });
    }

    #[test]
    fn a_connection_that_waits_goes_on_where_fewer_are_served_than_always_are() {
        on_worker(0, |share| {
            let runtime = paused();
            let served: Vec<_> = std::iter::from_fn(|| share.charge(Cost::Served, 0)).collect();
            want(WaitingFor::Serve);
            assert_eq!(runtime.block_on(relief()), Relief::Needed);
            drop(served);
            assert_eq!(runtime.block_on(relief()), Relief::Room);
        });
    }

    #[test]
    fn a_few_are_always_let_in_and_a_little_is_always_read() {
        on_worker(0, |share| {
            let all: Vec<_> = std::iter::from_fn(|| share.charge(Cost::Request, 0)).collect();
            assert_eq!(all.len(), Cost::Request.floor());
            assert!(!may_read());
            assert_eq!(room_to_read(65_536), SMALL_READ);
            assert!(!KeptBody::default().may_keep(1));
        });
    }

    #[test]
    fn nothing_is_limited_where_there_is_no_worker() {
        let other = std::thread::spawn(|| {
            assert!(matches!(request(0), Room::Taken(None)));
            assert!(may_read() && KeptBody::default().may_keep(usize::MAX / 4) && !is_short());
        });
        other.join().unwrap();
    }
}
