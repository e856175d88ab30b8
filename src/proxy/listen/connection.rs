//! One downstream connection, from accept to close.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use cupbearer_h1::framing::Protocol;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;

use super::accept::{Opened, TaskOrder, open, order};
use super::hyper_server;
use super::listener::Accepted;
use super::stream_executor::StreamExecutor;
use super::worker::Worker;
use crate::proxy::downstream::activity::Watch;
use crate::proxy::downstream::context::{Downstream, Takeover};
use crate::proxy::downstream::head_timeout;
use crate::proxy::downstream::linger::{Discard, LINGER_SILENCE, LINGER_TIME, linger};
use crate::proxy::downstream::socket::Socket;
use crate::proxy::downstream::stream::Stream;
use crate::proxy::memory::{self, Charge, Limited, Room, WaitingFor};
use crate::proxy::request::handler::handle;
use crate::proxy::request::response_body::ResponseBody;

/// Serves what was accepted until either side closes it, it is late, or the drain has ended it in order.
pub(super) async fn serve(worker: Rc<Worker>, accepted: Accepted) {
    let watch = Watch::new(Rc::clone(worker.context().clock()), worker.settings().max_resets);
    let _registered = worker.register(Rc::clone(&watch));
    let Some(Opened { transport, peer, spoken }) = open(&worker, &watch, accepted).await else { return };
    let stream = Stream::new(transport);
    watch.look_at(&stream);
    let context = Rc::clone(worker.context());
    let mut socket = Socket::new(Rc::clone(&stream), Rc::clone(&context), Rc::clone(&watch), spoken);
    let downstream = Rc::new(Downstream::new(context, watch, peer, stream));
    let spoken = poll_fn(|cx| match order(&downstream.worker, &downstream.watch, cx) {
        TaskOrder::Serve => socket.poll_spoken(cx),
        TaskOrder::Finish | TaskOrder::Cut => Poll::Ready(Err(std::io::ErrorKind::TimedOut.into())),
    });
    let spoken = spoken.await;
    // A head that is late gets its response below, whatever memory there is.
    let room = if spoken.is_ok() { memory_to_serve(&downstream).await } else { None };
    // Boxed: a connection that says nothing yet, or no more, is a socket and a few words about it.
    match (spoken, room) {
        (Ok(Protocol::Http2), Some(_charge)) => Box::pin(http2(socket, &worker, &downstream)).await,
        (Ok(Protocol::Http1 | Protocol::Either), Some(mut charge)) => {
            while let Some(rested) = Box::pin(http1(socket, &worker, &downstream)).await {
                drop(charge);
                socket = rested;
                let woken = poll_fn(|cx| match order(&downstream.worker, &downstream.watch, cx) {
                    TaskOrder::Serve => socket.poll_more(cx),
                    TaskOrder::Finish | TaskOrder::Cut => Poll::Ready(false),
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
        head_timeout::tell(&downstream).await;
        linger(&downstream, Discard::new(), false, LINGER_SILENCE).await;
    }
}

/// Waits until memory has room to serve a connection on which something has begun; `None`: it ended before.
async fn memory_to_serve(downstream: &Downstream) -> Option<Option<Charge>> {
    let mut waits = false;
    poll_fn(|cx| {
        if order(&downstream.worker, &downstream.watch, cx) == TaskOrder::Cut {
            return Poll::Ready(None);
        }
        match memory::served() {
            Room::Taken(charge) => Poll::Ready(Some(charge)),
            Room::None => {
                if !std::mem::replace(&mut waits, true) {
                    memory::limited(Limited::Connection);
                }
                downstream.watch.pause(WaitingFor::Serve);
                Poll::Pending
            }
        }
    })
    .await
}

/// Serves HTTP/1.1 until it ends or becomes a tunnel, and then that; or until nothing has been asked for a while. Then the
/// socket comes back, and hyper's buffers are gone, which are ten times the rest.
async fn http1(socket: Socket, worker: &Rc<Worker>, downstream: &Rc<Downstream>) -> Option<Socket> {
    let service = service(worker, downstream);
    let mut connection = worker.http1().serve_connection(TokioIo::new(socket), service);
    let mut told = false;
    let mut discard = None;
    let served = poll_fn(|cx| {
        match order(&downstream.worker, &downstream.watch, cx) {
            TaskOrder::Serve => {}
            TaskOrder::Finish if told => {}
            TaskOrder::Finish => {
                told = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            TaskOrder::Cut => return Poll::Ready(Served::Cut),
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
            downstream.rest();
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
    let mut rest = if let Some(Takeover(run)) = downstream.takeover.take() {
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
    poll_fn(|cx| match order(&downstream.worker, &downstream.watch, cx) {
        TaskOrder::Cut => Poll::Ready(()),
        TaskOrder::Serve | TaskOrder::Finish => rest.as_mut().poll(cx),
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

async fn http2(socket: Socket, worker: &Rc<Worker>, downstream: &Rc<Downstream>) {
    let service = service(worker, downstream);
    let streams = StreamExecutor(Rc::clone(&downstream.watch));
    let http2 = hyper_server::http2(downstream.worker.settings(), streams);
    let mut connection = pin!(http2.serve_connection(TokioIo::new(socket), service));
    let mut told = false;
    let served = poll_fn(|cx| {
        match order(&downstream.worker, &downstream.watch, cx) {
            TaskOrder::Serve => {}
            TaskOrder::Finish if told => {}
            TaskOrder::Finish => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            TaskOrder::Cut => return Poll::Ready(Ok(())),
        }
        connection.as_mut().poll(cx)
    });
    if let Err(error) = served.await {
        log(&error);
    }
}

fn service(
    worker: &Rc<Worker>,
    downstream: &Rc<Downstream>,
) -> impl Service<Request<Incoming>, Response = Response<ResponseBody>, Error = Infallible, Future: 'static> + use<>
{
    let (worker, downstream) = (Rc::clone(worker), Rc::clone(downstream));
    service_fn(move |request: Request<Incoming>| {
        downstream.begins(request.version());
        handle(worker.table(), Rc::clone(&downstream), request)
    })
}

fn log(error: &hyper::Error) {
    tracing::debug!(%error, "a downstream connection ended with an error");
}
