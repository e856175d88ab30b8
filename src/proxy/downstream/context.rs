//! What a request knows of the connection that it came by, of the worker that serves it, and of the proxy.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, StatusCode, Version};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};

use super::activity::Watch;
use super::hyper_replies;
use super::socket::Socket;
use super::stream::Stream;
use crate::clock;
use crate::proxy::error::ProxyError;
use crate::proxy::message::peer::Peer;
use crate::proxy::message::via::Via;
use crate::proxy::observe::access_log::{Records, log_refused};
use crate::proxy::observe::local_reply_log::bound_of;
use crate::proxy::observe::metrics::{ProxyMetrics, RouteMetrics};
use crate::proxy::settings::ServerSettings;

/// What all workers share: read by every request, written by none.
#[derive(Debug)]
pub(crate) struct ProxyContext {
    pub(crate) settings: ServerSettings,
    pub(crate) metrics: ProxyMetrics,
    pub(crate) via: Via,
    pub(crate) records: Records,
}

/// What connections and requests know of their worker.
#[derive(Debug)]
pub(crate) struct WorkerContext {
    proxy: Arc<ProxyContext>,
    /// What requests that match no route are counted under, of the routes in force.
    unrouted: RefCell<Arc<RouteMetrics>>,
    now: Rc<Cell<Instant>>,
    stage: Cell<DrainStage>,
    /// Told when the last stage is entered.
    ending: Notify,
}

/// How near the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DrainStage {
    Serving,
    /// Nothing new is accepted; answers close their connections.
    Draining,
    /// Idle connections are closed.
    Closing,
    /// What is still open is about to be cut: tunnels take their leave.
    Ending,
}

impl WorkerContext {
    pub(crate) fn new(proxy: Arc<ProxyContext>, unrouted: Arc<RouteMetrics>) -> Rc<Self> {
        Rc::new(Self {
            proxy,
            unrouted: RefCell::new(unrouted),
            now: Rc::new(Cell::new(clock::now())),
            stage: Cell::new(DrainStage::Serving),
            ending: Notify::new(),
        })
    }

    pub(crate) fn proxy(&self) -> &ProxyContext {
        &self.proxy
    }

    pub(crate) fn settings(&self) -> &ServerSettings {
        &self.proxy.settings
    }

    pub(crate) fn stage(&self) -> DrainStage {
        self.stage.get()
    }

    /// Enters `stage`; `false`: it was there already.
    pub(crate) fn enter(&self, stage: DrainStage) -> bool {
        let is_new = self.stage.replace(stage) != stage;
        if is_new && stage == DrainStage::Ending {
            self.ending.notify_waiters();
        }
        is_new
    }

    /// Other routes are in force; `unrouted` is theirs.
    pub(crate) fn routes_changed(&self, unrouted: Arc<RouteMetrics>) {
        self.unrouted.replace(unrouted);
    }

    /// Ends when what is still open is about to be cut.
    pub(crate) async fn last_moment(&self) {
        let ending = self.ending.notified();
        if self.stage() != DrainStage::Ending {
            ending.await;
        }
    }

    /// The time at the worker's last look around.
    pub(crate) fn clock(&self) -> &Rc<Cell<Instant>> {
        &self.now
    }

    /// Counts a request of `peer` that no handler will see, and gives the response to it.
    pub(crate) fn refuse(&self, peer: Option<SocketAddr>, error: ProxyError) -> Vec<u8> {
        let ProxyContext { settings, records, .. } = &*self.proxy;
        let (metrics, kind) = (self.unrouted.borrow(), error.kind());
        metrics.failed(kind);
        metrics.local_reply_log().responded(&error, || bound_of(&error, settings, None));
        let (status, body, wire) = hyper_replies::wire(error);
        metrics.refused(status, body);
        if let Some(log) = &records.access_log {
            log_refused(peer, metrics.label(), kind, status, body, log.share(true));
        }
        wire
    }
}

/// What a request knows of the connection that it came by.
pub(crate) struct Downstream {
    pub(crate) worker: Rc<WorkerContext>,
    pub(crate) watch: Rc<Watch>,
    pub(crate) peer: Peer,
    pub(crate) stream: Rc<Stream>,
    /// A timer that no request has now: to set one anew costs a tenth of what making one does.
    timer: Cell<Option<Pin<Box<Sleep>>>>,
    /// What the connection becomes after the answer 101 that the handler is about to give; HTTP/1.1 alone.
    pub(crate) takeover: Cell<Option<Takeover>>,
    /// Whether the request under way may get interim answers.
    informs: Cell<bool>,
}

impl Downstream {
    pub(crate) fn new(worker: Rc<WorkerContext>, watch: Rc<Watch>, peer: Peer, stream: Rc<Stream>) -> Self {
        Self {
            worker,
            watch,
            peer,
            stream,
            timer: Cell::default(),
            takeover: Cell::default(),
            informs: Cell::new(false),
        }
    }

    /// A request begins; interim responses are of HTTP/1.1 alone.
    pub(crate) fn begins(&self, version: Version) {
        self.informs.set(version == Version::HTTP_11);
        self.watch.called();
    }

    /// Gives up the timer: the connection rests.
    pub(crate) fn rest(&self) {
        self.timer.take();
    }

    /// A timer that ends at `deadline`.
    pub(crate) fn timer(&self, deadline: Instant) -> Pin<Box<Sleep>> {
        let Some(mut timer) = self.timer.take() else { return Box::pin(tokio::time::sleep_until(deadline)) };
        timer.as_mut().reset(deadline);
        timer
    }

    /// Keeps a timer for the next request.
    pub(crate) fn keep_timer(&self, timer: Pin<Box<Sleep>>) {
        self.timer.set(Some(timer));
    }

    /// Passes an interim answer of the upstream's on to the application, before the final one. Where that cannot be, it is
    /// lost: in HTTP/1.0 (RFC 9110 section 15.2), in HTTP/2, and where the application leaves too many unread.
    pub(crate) fn inform(&self, status: StatusCode, headers: HeaderMap) {
        if !self.informs.get() {
            return;
        }
        if !self.stream.interim.queue(status, headers) {
            tracing::debug!(%status, "an interim answer was dropped: too many are unread");
        }
        // The caller may be another task than the connection's.
        self.watch.wake();
    }

    /// Whether the application of a request of HTTP/1.1 has gone, as far as can be seen.
    pub(crate) fn has_gone(&self) -> bool {
        let has_ended = self.stream.has_ended() && !self.worker.settings().half_close;
        !self.watch.is_http2() && (self.stream.is_gone() || has_ended)
    }

    /// Waits until all interim answers are written: the final one must not overtake them. Asked before it is given.
    pub(crate) async fn informed(&self) {
        if !self.stream.interim.is_empty() {
            poll_fn(|_| self.stream.interim.poll_written()).await;
        }
    }
}

impl std::fmt::Debug for Downstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Downstream").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// What an HTTP/1.1 connection becomes once the answer 101 is sent (RFC 9110 section 7.8).
pub(crate) struct Takeover(pub(crate) Box<dyn FnOnce(Socket, Bytes) -> LocalBoxFuture<'static, ()>>);

impl Takeover {
    /// `run` gets the connection, untouched from here on, and what was read of it behind the request already. The
    /// tunnel's limits are its own: only a drain that is over, and its own end, end it. Its task is woken when the
    /// worker's stage changes.
    pub(crate) fn new<F: Future<Output = ()> + 'static>(
        run: impl FnOnce(Socket, Bytes) -> F + 'static,
    ) -> Self {
        Self(Box::new(|socket, read| Box::pin(run(socket, read))))
    }
}

impl std::fmt::Debug for Takeover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Takeover")
    }
}
