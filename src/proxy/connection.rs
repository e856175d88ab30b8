//! One downstream connection, from accept to close.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use cupbearer_h1::framing::Protocol;
use futures_util::future::LocalBoxFuture;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{HeaderMap, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, Sleep};

use super::body::ResponseBody;
use super::handler::handle;
use super::hyper_server;
use super::lateness;
use super::linger::{Discard, LINGER_SILENCE, LINGER_TIME, linger};
use super::listener::Accepted;
use super::memory::{self, Charge, Room, Wanted};
use super::metrics::Limited;
use super::opening::{Opened, Order, open, order};
use super::peer::Peer;
use super::socket::Socket;
use super::stream::Stream;
use super::stream_task::StreamExecutor;
use super::watch::Watch;
use super::worker::Worker;

/// What a request knows of the connection that it came by.
pub(super) struct Downstream {
    pub(super) worker: Rc<Worker>,
    pub(super) watch: Rc<Watch>,
    pub(super) peer: Peer,
    pub(super) stream: Rc<Stream>,
    /// A timer that no request has now: to set one anew costs a tenth of what making one does.
    timer: Cell<Option<Pin<Box<Sleep>>>>,
    /// What the connection becomes after the answer 101 that the handler is about to give; HTTP/1.1 alone.
    pub(super) tunnel: Cell<Option<Tunnel>>,
    /// Whether the request under way may get interim answers.
    informs: Cell<bool>,
}

impl Downstream {
    /// A timer that ends at `deadline`.
    pub(super) fn timer(&self, deadline: Instant) -> Pin<Box<Sleep>> {
        let Some(mut timer) = self.timer.take() else { return Box::pin(tokio::time::sleep_until(deadline)) };
        timer.as_mut().reset(deadline);
        timer
    }

    /// Keeps a timer for the next request.
    pub(super) fn keep_timer(&self, timer: Pin<Box<Sleep>>) {
        self.timer.set(Some(timer));
    }
}

impl std::fmt::Debug for Downstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Downstream").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// What an HTTP/1.1 connection becomes once the answer 101 is sent (RFC 9110 section 7.8).
pub(super) struct Tunnel(Box<dyn FnOnce(Socket, Bytes) -> LocalBoxFuture<'static, ()>>);

impl Tunnel {
    /// `run` gets the connection, untouched from here on, and what was read of it behind the request already. The
    /// tunnel's limits are its own: only a drain that is over, and its own end, end it. Its task is woken when the
    /// worker's stage changes.
    pub(super) fn new<F: Future<Output = ()> + 'static>(
        run: impl FnOnce(Socket, Bytes) -> F + 'static,
    ) -> Self {
        Self(Box::new(|socket, read| Box::pin(run(socket, read))))
    }
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tunnel")
    }
}

impl Downstream {
    fn order(&self, cx: &Context<'_>) -> Order {
        order(&self.worker, &self.watch, cx)
    }

    /// Passes an interim answer of the upstream's on to the application, before the final one. Where that cannot be, it is
    /// lost: in HTTP/1.0 (RFC 9110 section 15.2), in HTTP/2, and where the application leaves too many unread.
    pub(super) fn inform(&self, status: StatusCode, headers: HeaderMap) {
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
    pub(super) fn has_gone(&self) -> bool {
        let has_ended = self.stream.has_ended() && !self.worker.settings().half_close;
        !self.watch.is_http2() && (self.stream.is_gone() || has_ended)
    }

    /// Waits until all interim answers are written: the final one must not overtake them. Asked before it is given.
    pub(super) async fn informed(&self) {
        if !self.stream.interim.is_empty() {
            poll_fn(|_| self.stream.interim.poll_written()).await;
        }
    }
}

/// Serves what was accepted until either side closes it, it is late, or the drain has ended it in order.
pub(super) async fn serve(worker: Rc<Worker>, accepted: Accepted) {
    let watch = Watch::new(worker.clock(), worker.settings().max_resets);
    let _registered = worker.register(Rc::clone(&watch));
    let Some(Opened { transport, peer, spoken }) = open(&worker, &watch, accepted).await else { return };
    let stream = Stream::new(transport);
    watch.look_at(&stream);
    let mut socket = Socket::new(Rc::clone(&stream), Rc::clone(&worker), Rc::clone(&watch), spoken);
    let downstream = Rc::new(Downstream {
        worker,
        watch,
        peer,
        stream,
        timer: Cell::default(),
        tunnel: Cell::default(),
        informs: Cell::new(false),
    });
    let spoken = poll_fn(|cx| match downstream.order(cx) {
        Order::Serve => socket.poll_spoken(cx),
        Order::Finish | Order::Cut => Poll::Ready(Err(std::io::ErrorKind::TimedOut.into())),
    });
    let spoken = spoken.await;
    // A head that is late gets its response below, whatever memory there is.
    let room = if spoken.is_ok() { memory_to_serve(&downstream).await } else { None };
    // Boxed: a connection that says nothing yet, or no more, is a socket and a few words about it.
    match (spoken, room) {
        (Ok(Protocol::Http2), Some(_charge)) => Box::pin(http2(socket, &downstream)).await,
        (Ok(Protocol::Http1 | Protocol::Either), Some(mut charge)) => {
            while let Some(rested) = Box::pin(http1(socket, &downstream)).await {
                drop(charge);
                socket = rested;
                let woken = poll_fn(|cx| match downstream.order(cx) {
                    Order::Serve => socket.poll_more(cx),
                    Order::Finish | Order::Cut => Poll::Ready(false),
                });
                if !woken.await {
                    return;
                }
                let Some(room) = memory_to_serve(&downstream).await else { return };
                charge = room;
            }
        }
        (Err(_), _) | (_, None) => {}
    }
    if downstream.watch.has_half_a_head() {
        lateness::tell(&downstream).await;
        linger(&downstream, Discard::new(), false, LINGER_SILENCE).await;
    }
}

/// Waits until memory has room to serve a connection on which something has begun; `None`: it ended before.
async fn memory_to_serve(downstream: &Downstream) -> Option<Option<Charge>> {
    let mut waits = false;
    poll_fn(|cx| {
        if downstream.order(cx) == Order::Cut {
            return Poll::Ready(None);
        }
        match memory::served() {
            Room::Taken(charge) => Poll::Ready(Some(charge)),
            Room::None => {
                if !std::mem::replace(&mut waits, true) {
                    memory::limited(Limited::Connection);
                }
                downstream.watch.pause(Wanted::Serve);
                Poll::Pending
            }
        }
    })
    .await
}

/// Serves HTTP/1.1 until it ends or becomes a tunnel, and then that; or until nothing has been asked for a while. Then the
/// socket comes back, and hyper's buffers are gone, which are ten times the rest.
async fn http1(socket: Socket, downstream: &Rc<Downstream>) -> Option<Socket> {
    let service = service(downstream);
    let mut connection = downstream.worker.http1().serve_connection(TokioIo::new(socket), service);
    let mut told = false;
    let mut discard = None;
    let served = poll_fn(|cx| {
        match downstream.order(cx) {
            Order::Serve => {}
            Order::Finish if told => {}
            Order::Finish => {
                told = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            Order::Cut => return Poll::Ready(Served::Cut),
        }
        match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Served::Ended(ended)),
            Poll::Pending if downstream.watch.rests() => Poll::Ready(Served::Rests),
            Poll::Pending => {
                // An application that reads nothing before it has sent all would never read the response.
                if downstream.watch.has_abandoned_body() {
                    let _ = discard.get_or_insert_with(Discard::new).poll(&downstream.stream, cx);
                }
                Poll::Pending
            }
        }
    });
    let has_failed = match served.await {
        Served::Cut => {
            downstream.stream.cut();
            return None;
        }
        Served::Ended(ended) => ended.inspect_err(log).is_err(),
        Served::Rests => {
            downstream.timer.take();
            let parts = connection.into_parts();
            let mut socket = parts.io.into_inner();
            socket.unread(&parts.read_buf);
            return Some(socket);
        }
    };
    // hyper leaves a connection open where the request asked for an upgrade, whatever was answered.
    let parts = connection.into_parts();
    let mut socket = parts.io.into_inner();
    if has_failed && !socket.is_shut() {
        // In the middle of a response: nothing may pass for its end.
        downstream.stream.cut();
        return None;
    }
    let mut rest = if let Some(Tunnel(run)) = downstream.tunnel.take() {
        if let Err(error) = socket.open() {
            tracing::debug!(%error, "a downstream connection did not wait to become a tunnel");
            return None;
        }
        run(socket, parts.read_buf)
    } else {
        let discard = discard.unwrap_or_else(Discard::new);
        let downstream = Rc::clone(downstream);
        Box::pin(async move {
            let is_over = downstream.watch.is_between_requests() && parts.read_buf.is_empty();
            if socket.is_shut() || socket.shutdown().await.is_ok() {
                linger(&downstream, discard, is_over, LINGER_TIME).await;
            }
        })
    };
    poll_fn(|cx| match downstream.order(cx) {
        Order::Cut => Poll::Ready(()),
        Order::Serve | Order::Finish => rest.as_mut().poll(cx),
    })
    .await;
    None
}

/// How it went with HTTP/1.1.
enum Served {
    /// The connection was late.
    Cut,
    /// hyper is through with it.
    Ended(hyper::Result<()>),
    /// Nothing has been asked for a while.
    Rests,
}

async fn http2(socket: Socket, downstream: &Rc<Downstream>) {
    let service = service(downstream);
    let streams = StreamExecutor(Rc::clone(&downstream.watch));
    let http2 = hyper_server::http2(downstream.worker.settings(), streams);
    let mut connection = pin!(http2.serve_connection(TokioIo::new(socket), service));
    let mut told = false;
    let served = poll_fn(|cx| {
        match downstream.order(cx) {
            Order::Serve => {}
            Order::Finish if told => {}
            Order::Finish => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            Order::Cut => return Poll::Ready(Ok(())),
        }
        connection.as_mut().poll(cx)
    });
    if let Err(error) = served.await {
        log(&error);
    }
}

fn service(
    downstream: &Rc<Downstream>,
) -> impl Service<Request<Incoming>, Response = Response<ResponseBody>, Error = Infallible, Future: 'static> + use<>
{
    let downstream = Rc::clone(downstream);
    service_fn(move |request: Request<Incoming>| {
        let downstream = Rc::clone(&downstream);
        downstream.informs.set(request.version() == Version::HTTP_11);
        downstream.watch.called();
        handle(downstream, request)
    })
}

fn log(error: &hyper::Error) {
    tracing::debug!(%error, "a downstream connection ended with an error");
}
