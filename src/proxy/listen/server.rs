//! The proxy as a whole: its listeners and its workers.

use std::cell::Cell;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::{io, thread};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, Semaphore};

use super::listener::BoundListener;
use super::worker::{SharedByWorkers, Worker};
use crate::lifecycle::Drain;
use crate::machine::Lack;
use crate::net::acceptor::Acceptor;
use crate::net::activation::{Passed, PassedError};
use crate::net::local_address::LocalAddress;
use crate::net::unix::SocketFile;
use crate::net::{bind, descriptors};
use crate::proxy::downstream::context::ProxyContext;
use crate::proxy::memory::RequestMemory;
use crate::proxy::message::via::Via;
use crate::proxy::observe::access_log::Records;
use crate::proxy::observe::metrics::ProxyMetrics;
use crate::proxy::request::route_table::Routes;
use crate::proxy::settings::{ListenAddress, ServerSettings};
use crate::proxy::upstream::sockets::Sockets;

/// The listeners of a proxy, bound and not served yet: requests wait in the kernel.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Vec<BoundListener>);

/// The threads that serve.
#[derive(Debug)]
pub(crate) struct Workers {
    threads: Vec<thread::JoinHandle<()>>,
    /// Removed with it.
    _files: Vec<SocketFile>,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub(crate) struct ListenError {
    /// The address.
    pub address: LocalAddress,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl Listeners {
    /// Takes the sockets that the service manager passes for `addresses`.
    ///
    /// # Errors
    /// [`PassedError`] for the first that cannot be used.
    pub(crate) fn passed(addresses: &[ListenAddress], passed: &mut Passed) -> Result<Self, PassedError> {
        let mut all = Vec::with_capacity(addresses.len());
        for address in addresses {
            let mode = address.unix_mode().unwrap_or_default();
            let socket = passed.take(&address.into(), mode)?;
            all.extend(socket.map(|socket| BoundListener::passed(address, socket)));
        }
        Ok(Self(all))
    }

    /// Binds those of `addresses` that are not there yet, of several all but `[::]` where the kernel has no IPv6,
    /// and but `[::1]` beside 127.0.0.1 where there is none.
    ///
    /// # Errors
    /// [`ListenError`] for the first that cannot be bound, for example because it is in use.
    pub(crate) fn bind(self, addresses: &[ListenAddress]) -> Result<Self, ListenError> {
        let Self(mut all) = self;
        let passed: Vec<_> = all.iter().map(|bound| bound.address.clone()).collect();
        for address in addresses.iter().filter(|address| !passed.contains(address)) {
            let address = &beside(address, addresses, &all);
            match (BoundListener::bind(address), address) {
                (Ok(bound), _) => all.push(bound),
                (Err(error), ListenAddress::Tcp(tcp))
                    if addresses.len() > 1 && bind::is_of_none(*tcp, &error) =>
                {
                    tracing::warn!(%address, "there is no IPv6 here; this address is left out");
                }
                (Err(error), ListenAddress::Tcp(tcp))
                    if bind::is_absent_loopback(*tcp, &error)
                        && [tcp.port(), 0].iter().any(|port| addresses.contains(&loopback(*port))) =>
                {
                    tracing::info!(%address, "there is no loopback of IPv6 here; 127.0.0.1 alone is listened on");
                }
                (Err(source), _) => return Err(ListenError { address: address.into(), source }),
            }
        }
        Ok(Self(all))
    }

    /// The addresses that were bound: where port 0 was asked for, the port that was given.
    #[must_use]
    pub(crate) fn addresses(&self) -> Vec<ListenAddress> {
        self.0.iter().map(|bound| bound.address.clone()).collect()
    }

    /// Starts the workers, with TLS by `acceptor` on all but the Unix sockets. They end by themselves once `drain` has started and is over, and drop their `drain` then.
    ///
    /// # Errors
    /// Where the system has no threads or descriptors left.
    pub(crate) fn serve(
        self,
        settings: ServerSettings,
        acceptor: Option<Arc<Acceptor>>,
        routes: Arc<Routes>,
        metrics: ProxyMetrics,
        records: Records,
        drain: &Drain,
    ) -> io::Result<Workers> {
        let workers = settings.worker_count();
        let budget = settings.memory_limit.budget();
        tracing::info!(memory_limit = %budget, workers, "connections and requests are bounded by memory");
        let memory = RequestMemory::new(&budget, workers, metrics.memory());
        let room = settings.shares(descriptors::raise_limit());
        let max_connections = settings.max_connections.min(room.downstream);
        let shared = Arc::new(SharedByWorkers {
            max_connections,
            slots: Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS))),
            room_wanted: Notify::new(),
            sockets: Sockets::new(room.upstream),
            proxy: Arc::new(ProxyContext { settings, metrics, via: Via::new(), records }),
            memory,
            acceptor,
            routes,
        });
        let mut threads = Vec::with_capacity(workers);
        let (report, reports) = mpsc::channel();
        for number in 0..workers {
            // Every worker accepts from the same sockets: an idle worker comes first, and no connection waits behind
            // a busy worker.
            let listeners = self.0.iter().map(BoundListener::share).collect::<io::Result<Vec<_>>>()?;
            let (shared, drain) = (Arc::clone(&shared), drain.clone());
            // Given up with the report: the end of one that panics before is seen.
            let report = Cell::new(Some(report.clone()));
            let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                // Until the last connection is gone and its request is on record: what waits for the end reads that.
                let until_all_is_gone = drain.clone();
                // Made where it runs: nothing of it ever leaves the thread.
                let built = Builder::new_current_thread()
                    .enable_all()
                    // None is ever used: see net::threads.
                    .max_blocking_threads(1)
                    .build_local(LocalOptions::default());
                let ran = built.and_then(|runtime| {
                    let started = || report.take().map(|report| report.send(Ok(())));
                    let ran = runtime
                        .block_on(async { Worker::new(number, shared).run(listeners, drain, started).await });
                    runtime.shutdown_background();
                    ran
                });
                drop(until_all_is_gone);
                if let (Err(error), Some(report)) = (ran, report.take()) {
                    let _ = report.send(Err(error));
                }
            });
            let thread = thread.map_err(|_| io::Error::other(Lack::Threads))?;
            threads.push(thread);
        }
        drop(report);
        reports.iter().take(workers).collect::<io::Result<()>>()?;
        Ok(Workers { threads, _files: self.0.iter().filter_map(BoundListener::file).collect() })
    }
}

/// The address, of which port 0 is that of the loopback of IPv4 where that stands before it and got one: both are localhost.
fn beside(address: &ListenAddress, addresses: &[ListenAddress], bound: &[BoundListener]) -> ListenAddress {
    let any = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    let mut got = bound.iter().filter_map(|bound| bound.address.tcp());
    match got.rfind(|got| got.ip() == Ipv4Addr::LOCALHOST) {
        Some(got) if *address == ListenAddress::Tcp(any) && addresses.contains(&loopback(0)) => {
            ListenAddress::Tcp((Ipv6Addr::LOCALHOST, got.port()).into())
        }
        _ => address.clone(),
    }
}

/// The loopback of IPv4 at this port.
fn loopback(port: u16) -> ListenAddress {
    ListenAddress::Tcp((Ipv4Addr::LOCALHOST, port).into())
}

impl Workers {
    /// Whether a worker is gone. Before the drain that is an accident: what it accepted is lost.
    #[must_use]
    pub(crate) fn any_ended(&self) -> bool {
        self.threads.iter().any(thread::JoinHandle::is_finished)
    }
}
