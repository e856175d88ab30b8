//! One downstream connection, from accept to close.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::handler::handle;
use super::peer::Peer;
use super::socket::{Socket, Stream};
use super::tunnel::Opening;
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
    pub(super) tunnel: Cell<Option<Opening>>,
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

/// Serves `stream` until either side closes it, it is late, or the drain has ended it in order.
pub(super) async fn serve(worker: Rc<Worker>, stream: TcpStream) {
    let (Ok(local), Ok(remote)) = (stream.local_addr(), stream.peer_addr()) else { return };
    let peer = Peer { local: Some(local), remote: Some(remote), ..Peer::default() };
    // Small answers must not wait for more to come.
    let _ = stream.set_nodelay(true);
    let stream = Stream::new(stream);
    let (socket, watch) = Socket::new(Rc::clone(&stream), Rc::clone(&worker));
    let _registered = worker.register(Rc::clone(&watch));
    let downstream = Rc::new(Downstream {
        worker: Rc::clone(&worker),
        watch: Rc::clone(&watch),
        peer,
        stream,
        timer: Cell::default(),
        tunnel: Cell::default(),
    });
    let service = service_fn(move |request: Request<Incoming>| {
        let downstream = Rc::clone(&downstream);
        async move { Ok::<_, Infallible>(handle(downstream, request).await) }
    });
    let mut connection = pin!(worker.http().serve_connection(TokioIo::new(socket), service));
    let mut told = false;
    let served = poll_fn(|cx| {
        watch.remember(cx.waker());
        let end = watch.is_retired()
            || match worker.stage() {
                Stage::Serving => false,
                // GOAWAY costs no request (RFC 9113 section 6.8); HTTP/1.1 has no such word, so its connections get a
                // while in which each answer says `Connection: close`.
                Stage::Draining => watch.is_http2(),
                Stage::Closing | Stage::Ending => true,
            };
        if end && !told {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    });
    if let Err(error) = served.await {
        tracing::debug!(error = %error, "a downstream connection ended with an error");
    }
}
