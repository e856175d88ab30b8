//! One downstream connection, from accept to close.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::body::ResponseBody;
use super::framing::Spoken;
use super::handler::handle;
use super::peer::Peer;
use super::socket::{Socket, Stream};
use super::watch::Watch;
use super::worker::{Stage, Worker};

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
pub(super) struct Tunnel(Box<dyn FnOnce(Socket, Bytes) -> Pin<Box<dyn Future<Output = ()>>>>);

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

/// What a connection's task is to do before it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Serve,
    /// Nothing new is taken up.
    Finish,
    /// It is late.
    Cut,
}

impl Downstream {
    /// Asked each time that the connection's task runs.
    fn order(&self, cx: &Context<'_>) -> Order {
        self.watch.remember(cx.waker());
        let finish = self.watch.is_retired()
            || match self.worker.stage() {
                Stage::Serving => false,
                // GOAWAY costs no request (RFC 9113 section 6.8); HTTP/1.1 has no such word, so its connections get a
                // while in which each answer says `Connection: close`.
                Stage::Draining => self.watch.is_http2(),
                Stage::Closing | Stage::Ending => true,
            };
        match finish {
            _ if self.watch.is_late() => Order::Cut,
            true => Order::Finish,
            false => Order::Serve,
        }
    }
}

/// Serves `stream` until either side closes it, it is late, or the drain has ended it in order.
pub(super) async fn serve(worker: Rc<Worker>, stream: TcpStream) {
    let (Ok(local), Ok(remote)) = (stream.local_addr(), stream.peer_addr()) else { return };
    let peer = Peer { local: Some(local), remote: Some(remote), ..Peer::default() };
    // Small answers must not wait for more to come.
    let _ = stream.set_nodelay(true);
    let stream = Stream::new(stream);
    let (mut socket, watch) = Socket::new(Rc::clone(&stream), Rc::clone(&worker), Spoken::Either);
    let _registered = worker.register(Rc::clone(&watch));
    let downstream =
        Rc::new(Downstream { worker, watch, peer, stream, timer: Cell::default(), tunnel: Cell::default() });
    let spoken = poll_fn(|cx| match downstream.order(cx) {
        Order::Serve => socket.poll_spoken(cx),
        Order::Finish | Order::Cut => Poll::Ready(Err(std::io::ErrorKind::TimedOut.into())),
    });
    match spoken.await {
        Ok(Spoken::Http2) => http2(socket, &downstream).await,
        Ok(Spoken::Http1 | Spoken::Either) => http1(socket, &downstream).await,
        Err(_gone) => {}
    }
}

/// Serves HTTP/1.1 until it ends or becomes a tunnel, and then that.
async fn http1(socket: Socket, downstream: &Rc<Downstream>) {
    let service = service(downstream);
    let mut connection = downstream.worker.http1().serve_connection(TokioIo::new(socket), service);
    let mut told = false;
    let served = poll_fn(|cx| {
        match downstream.order(cx) {
            Order::Serve => {}
            Order::Finish if told => {}
            Order::Finish => {
                told = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            Order::Cut => return Poll::Ready(None),
        }
        Pin::new(&mut connection).poll(cx).map(Some)
    });
    match served.await {
        None => return,
        Some(Err(error)) => return log(&error),
        Some(Ok(())) => {}
    }
    // hyper leaves a connection open where the request asked for an upgrade, whatever was answered.
    let parts = connection.into_parts();
    let mut socket = parts.io.into_inner();
    let mut rest = if let Some(Tunnel(run)) = downstream.tunnel.take() {
        if let Err(error) = socket.open() {
            tracing::debug!(%error, "a downstream connection did not wait to become a tunnel");
            return;
        }
        run(socket, parts.read_buf)
    } else if !socket.is_shut() {
        Box::pin(async move {
            let _ = socket.shutdown().await;
        })
    } else {
        return;
    };
    poll_fn(|cx| match downstream.order(cx) {
        Order::Cut => Poll::Ready(()),
        Order::Serve | Order::Finish => rest.as_mut().poll(cx),
    })
    .await;
}

async fn http2(socket: Socket, downstream: &Rc<Downstream>) {
    let service = service(downstream);
    let mut connection = pin!(downstream.worker.http2().serve_connection(TokioIo::new(socket), service));
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
        async move { Ok::<_, Infallible>(handle(downstream, request).await) }
    })
}

fn log(error: &hyper::Error) {
    tracing::debug!(%error, "a downstream connection ended with an error");
}
