//! The proxy as a whole: its listeners and its workers.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::Semaphore;

use super::metrics::ProxyMetrics;
use super::route::Routes;
use super::settings::{ListenAddress, ServerSettings};
use super::worker::{Shared, Via, Worker};
use crate::lifecycle::Drain;

/// The listeners of a proxy, bound and not served yet: requests wait in the kernel.
#[derive(Debug)]
pub struct Listeners(Vec<TcpListener>);

/// The threads that serve.
#[derive(Debug)]
pub struct Workers(Vec<thread::JoinHandle<()>>);

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Whether each request gets a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// It does.
    On,
    /// It does not.
    Off,
}

impl Listeners {
    /// Binds all of `addresses`.
    ///
    /// # Errors
    /// [`ListenError`] for the first that cannot be bound, for example because it is in use.
    pub fn bind(addresses: &[ListenAddress]) -> Result<Self, ListenError> {
        let bound = addresses
            .iter()
            .filter_map(ListenAddress::tcp)
            .map(|address| bind(address).map_err(|source| ListenError { address, source }));
        Ok(Self(bound.collect::<Result<_, _>>()?))
    }

    /// The addresses that were bound: where port 0 was asked for, the port that was given.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Starts the workers. They end by themselves once `drain` has started and is over, and drop their `drain` then.
    ///
    /// # Errors
    /// Where the system has no threads or descriptors left.
    pub fn serve(
        self,
        settings: ServerSettings,
        routes: Arc<Routes>,
        metrics: ProxyMetrics,
        access_log: AccessLog,
        drain: &Drain,
    ) -> io::Result<Workers> {
        let workers =
            settings.workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
        let shared = Arc::new(Shared {
            slots: Arc::new(Semaphore::new(settings.max_connections)),
            settings,
            routes,
            metrics,
            via: Via::new(),
            access_log: access_log == AccessLog::On,
        });
        let mut threads = Vec::with_capacity(workers);
        for number in 0..workers {
            // Every worker accepts from the same sockets: whoever is idle comes first, and no connection waits behind
            // a busy worker.
            let listeners = self.0.iter().map(TcpListener::try_clone).collect::<io::Result<Vec<_>>>()?;
            let (shared, drain) = (Arc::clone(&shared), drain.clone());
            let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                // Made where it runs: nothing of it ever leaves the thread.
                let ran =
                    Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).and_then(
                        |runtime| runtime.block_on(async { Worker::new(shared).run(listeners, drain).await }),
                    );
                if let Err(error) = ran {
                    tracing::error!(%error, "a worker could not be started");
                }
            })?;
            threads.push(thread);
        }
        Ok(Workers(threads))
    }
}

impl Workers {
    /// Whether a worker is gone. Before the drain that is an accident: what it accepted is lost.
    #[must_use]
    pub fn any_ended(&self) -> bool {
        self.0.iter().any(thread::JoinHandle::is_finished)
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the last run's connections to time out.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connections that the kernel holds while the workers are busy; the system's own limit may be lower.
const BACKLOG: i32 = 4096;
