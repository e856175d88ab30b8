//! Names and their addresses, for every connection that this program opens.
//!
//! Lookups go through the system's `getaddrinfo`, so that `/etc/hosts`, `nsswitch.conf`, search domains, mDNS and the split
//! DNS of a VPN keep their meaning; a resolver of our own would know none of the latter. `getaddrinfo` blocks, and cannot be
//! cancelled. Hence: a few threads that are made at the start, at most one lookup of a name under way for all that wait for it,
//! results that are kept for a moment, and the last good addresses while the name servers are away (RFC 8767).
//!
//! There are two resolvers with threads of their own. What requests look up can take no thread from [`TOKENS`].
//! Callers: `proxy::connect` and `proxy::pool`, `reach` of this room.

mod lookup;
mod name;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::panic::catch_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::timeout_at;

use super::network_monitor;
use super::threads::{NotDone, Threads};
use crate::clock;

pub(crate) use lookup::LookupError;
use name::{Change, Name, Step};

/// For upstreams, the HTTP proxies on the way to them, and a collector of traces.
pub(crate) static REQUESTS: Resolver = Resolver::new(Threads::new("names", REQUEST_THREADS), lookup::system);

/// For authorization servers and the HTTP proxies on the way to them.
pub(crate) static TOKENS: Resolver =
    Resolver::new(Threads::new("token-names", TOKEN_THREADS), lookup::system);

/// Looks names up and remembers their addresses.
#[derive(Debug)]
pub(crate) struct Resolver {
    threads: Threads,
    look_up: LookUp,
    names: Mutex<BTreeMap<String, Name>>,
}

type LookUp = fn(&str) -> Result<Vec<SocketAddr>, LookupError>;

impl Resolver {
    const fn new(threads: Threads, look_up: LookUp) -> Self {
        Self { threads, look_up, names: Mutex::new(BTreeMap::new()) }
    }

    /// Makes the threads.
    ///
    /// # Errors
    /// [`NotDone::NoThread`]
    pub(crate) fn start(&self) -> Result<(), NotDone> {
        self.threads.start()
    }

    /// The addresses of `host` with the port 0, in the order in which they are to be tried: families take turns (RFC 8305
    /// section 4), within a family each call begins with another address, and those that were slow lately come last. An
    /// address stands for itself.
    ///
    /// The caller bounds the time. A future that is dropped leaves no more than the one lookup that others share.
    ///
    /// # Errors
    /// [`LookupError`] where there is no address, and none from before that may still be used.
    pub(crate) async fn addresses(&'static self, host: &str) -> Result<Vec<SocketAddr>, LookupError> {
        if let Some(address) = literal(host) {
            return Ok(vec![address]);
        }
        let (mut done, patience) = match self.step(host) {
            Step::Use(addresses) => return Ok(addresses),
            Step::Fail(error) => return Err(error),
            Step::Wait { done, patience } => (done, patience),
        };
        match patience {
            // An error says that the lookup is over, too.
            None => drop(done.changed().await),
            Some(until) => drop(timeout_at(until, done.changed()).await),
        }
        self.with(host, |name| name.best(clock::now()))
    }

    /// Has `host` looked up again where that is due, without waiting, and says which addresses connections may be kept to.
    /// `None`: it was never looked up, or is an address itself.
    pub(crate) fn refresh(&'static self, host: &str) -> Option<Arc<[IpAddr]>> {
        let now = clock::now();
        let mut names = self.lock();
        let name = names.get_mut(host)?;
        let begins = name.is_due(now).then(|| name.begin(now, network_monitor::generation()).2).flatten();
        let kept = name.kept();
        drop(names);
        self.begin(host, begins);
        kept
    }

    /// Takes note that another address of `host` had to be tried, since this one took too long or failed.
    pub(crate) fn was_slow(&self, host: &str, address: IpAddr) {
        if let Some(name) = self.lock().get_mut(host) {
            name.was_slow(address, clock::now());
        }
    }

    fn step(&'static self, host: &str) -> Step {
        let (step, begins) = self.with(host, |name| name.step(clock::now(), network_monitor::generation()));
        self.begin(host, begins);
        step
    }

    /// Has a thread look `host` up, where its entry says that the lookup of this number begins.
    fn begin(&'static self, host: &str, number: Option<u64>) {
        let Some(number) = number else { return };
        let owned = host.to_owned();
        let submitted = self.threads.submit(move || {
            let found = catch_unwind(|| (self.look_up)(&owned)).unwrap_or(Err(LookupError::Unanswered));
            self.found(&owned, number, found);
        });
        if let Err(not_done) = submitted {
            self.found(host, number, Err(LookupError::from(not_done)));
        }
    }

    fn found(&self, host: &str, number: u64, found: Result<Vec<SocketAddr>, LookupError>) {
        match &found {
            Ok(addresses) => tracing::debug!(host, ?addresses, "name looked up"),
            Err(error) => tracing::debug!(host, %error, "name lookup failed"),
        }
        match self.with(host, |name| name.found(number, found, clock::now())) {
            None => {}
            Some(Change::Lost(error)) => {
                let help = error.help();
                tracing::warn!(host, %error, help, "name not resolved; the last good addresses are used for now");
            }
            Some(Change::Back) => tracing::info!(host, "name resolved again"),
        }
    }

    fn with<T>(&self, host: &str, work: impl FnOnce(&mut Name) -> T) -> T {
        let mut names = self.lock();
        if let Some(name) = names.get_mut(host) {
            return work(name);
        }
        if names.len() >= MAX_NAMES {
            let idle = names.iter().filter(|(_, name)| !name.is_under_way());
            let oldest = idle.min_by_key(|(_, name)| name.used()).map(|(host, _)| host.clone());
            if let Some(oldest) = oldest {
                names.remove(&oldest);
            }
        }
        work(names.entry(host.to_owned()).or_insert_with(|| Name::new(clock::now())))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Name>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address that `host` is, with or without the brackets of a URL.
fn literal(host: &str) -> Option<SocketAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok().map(|address| SocketAddr::new(address, 0))
}

/// Told once, when a lookup is over.
type Done = watch::Receiver<()>;

/// Names come from the configuration and from metadata, so there are a few. Lookups of as many that hang at the same time
/// make others wait for a thread.
const REQUEST_THREADS: usize = 6;
const TOKEN_THREADS: usize = 4;
/// Names that are remembered; beyond it the one that was not used for longest is forgotten.
const MAX_NAMES: usize = 1024;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    fn resolver(look_up: LookUp) -> &'static Resolver {
        Box::leak(Box::new(Resolver::new(Threads::new("test", 2), look_up)))
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 0))
    }

    #[tokio::test]
    async fn an_address_is_not_looked_up() {
        let resolver = resolver(|_| panic!("it was"));
        for host in ["10.0.0.1", "[::1]", "::1"] {
            assert_eq!(resolver.addresses(host).await.unwrap().len(), 1, "{host}");
        }
        assert_eq!(resolver.refresh("10.0.0.1"), None);
    }

    #[tokio::test]
    async fn whoever_waits_for_a_name_shares_one_lookup() {
        static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
        static GATE: Mutex<Option<mpsc::Receiver<()>>> = Mutex::new(None);
        let (go, gate) = mpsc::channel();
        *GATE.lock().unwrap() = Some(gate);
        let resolver = resolver(|_| {
            LOOKUPS.fetch_add(1, Ordering::SeqCst);
            let _ = GATE.lock().unwrap().take().map(|gate| gate.recv());
            Ok(vec![address(1)])
        });
        let waiting = (0..100).map(|_| resolver.addresses("api.test"));
        let mut waiting = Box::pin(futures_util::future::join_all(waiting));
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut waiting).await.is_err());
        go.send(()).unwrap();
        assert!(waiting.await.into_iter().all(|found| found == Ok(vec![address(1)])));
        assert_eq!(LOOKUPS.load(Ordering::SeqCst), 1);
        resolver.addresses("api.test").await.unwrap();
        assert_eq!(LOOKUPS.load(Ordering::SeqCst), 1, "the result is kept for a moment");
    }

    #[tokio::test]
    async fn a_lookup_that_hangs_occupies_one_thread_and_no_other_name_waits_for_it() {
        let resolver = resolver(|host| {
            if host == "mute.test" {
                std::thread::park();
            }
            Ok(vec![address(2)])
        });
        for _ in 0..20 {
            let left = tokio::time::timeout(Duration::from_millis(1), resolver.addresses("mute.test")).await;
            assert!(left.is_err());
        }
        assert_eq!(resolver.addresses("well.test").await, Ok(vec![address(2)]));
    }

    #[tokio::test]
    async fn a_lookup_that_panics_is_a_failure() {
        let resolver = resolver(|_| panic!("of a test"));
        assert_eq!(resolver.addresses("api.test").await, Err(LookupError::Unanswered));
    }

    #[tokio::test]
    async fn names_are_remembered_up_to_a_bound() {
        let resolver = resolver(|_| Ok(vec![address(3)]));
        for number in 0..MAX_NAMES + 10 {
            resolver.addresses(&format!("host{number}.test")).await.unwrap();
        }
        assert!(resolver.lock().len() <= MAX_NAMES);
    }
}
