//! A small HTTP server on one listener: what health, control and the demo stand on.
//!
//! It is not for the request path, which has its own listeners, workers and limits in `proxy`. A caller that awaits one
//! of these futures owns all its connections: dropping it ends them.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryFutureExt as _;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tower::{BoxError, ServiceBuilder, ServiceExt as _};

use super::eviction::Evictions;
use super::unix_peer::Peer;
use crate::clock;

/// What such a server may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Connections at a time; for the next one, the one that has been idle for longest is closed.
    pub connections: usize,
    /// Requests at a time, over all connections; the next one is answered 503 at once.
    pub requests: usize,
    /// From a connection's start, or the end of the last request, to the end of the next head.
    pub header_timeout: Duration,
    /// For one request; then 504.
    pub request_timeout: Duration,
}

/// What connections are accepted from.
pub(crate) trait Listen {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// The process at its other end; `None`: the kernel does not report it.
    fn peer(_stream: &Self::Stream) -> Option<Peer> {
        None
    }
}

impl Listen for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = Self::accept(self).await?;
        // Without it small answers wait for the peer's delayed acknowledgement.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// Answers short requests over HTTP/1.1, within `limits`, until it is dropped. An answer's body may take as long as its
/// connection lives. A request has the [`Peer`] of its connection among its extensions, where it is known.
pub(crate) async fn short_requests<L, H, F, B>(listener: L, limits: Limits, evictions: Evictions, handler: H)
where
    L: Listen,
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    // Built once and cloned per connection: the clones share the count of requests.
    let service = ServiceBuilder::new()
        .map_result(|outcome: Result<Response<B>, BoxError>| {
            Ok::<_, BoxError>(match outcome {
                Ok(response) => response.map(BodyExt::boxed_unsync),
                Err(error) => turned_away(&*error).map(BodyExt::boxed_unsync),
            })
        })
        .load_shed()
        .concurrency_limit(limits.requests)
        .timeout(limits.request_timeout)
        .service(tower::service_fn(move |request| {
            let answer = handler(request);
            async move { Ok::<_, Infallible>(answer.await) }
        }));
    connections(listener, limits.connections, evictions, pending(), move |stream: L::Stream, place| {
        let peer = L::peer(&stream);
        let service = service.clone().map_request(move |mut request: Request<Incoming>| {
            if let Some(peer) = peer {
                request.extensions_mut().insert(peer);
            }
            request
        });
        let service = TowerToHyperService::new(service);
        let service = service_fn(move |request| {
            let work = place.work();
            let held = move |response: Response<_>| response.map(|body| Held { body, _work: work });
            service.call(request).map_ok(held)
        });
        http1_connection(stream, limits.header_timeout, service)
    })
    .await;
}

/// A response's body: until it has ended, its connection is at work.
struct Held {
    body: UnsyncBoxBody<Bytes, Infallible>,
    _work: Work,
}

impl Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Accepts up to `limit` connections at a time and runs `serve` for each. For one more, the one that has been idle for
/// longest is closed, and where none is idle, it waits. Once `last` ends no more are accepted, and it ends with those that
/// are open; they end with it where it is dropped.
pub(crate) async fn connections<L, S, F>(
    listener: L,
    limit: usize,
    evictions: Evictions,
    last: impl Future<Output = ()>,
    serve: S,
) where
    L: Listen,
    S: Fn(L::Stream, Place) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut last = pin!(last);
    let mut open = Open { tasks: JoinSet::new(), places: Vec::new(), limit, evictions };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = open.tasks.join_next() => continue,
            () = &mut last => break,
        };
        match accepted {
            Ok(stream) => {
                open.make_room().await;
                let place = Place::new();
                open.spawn(place.clone(), serve(stream, place));
            }
            Err(error) => {
                tracing::debug!(kind = ?error.kind(), "a connection could not be accepted");
                // Out of descriptors, most likely: an idle connection has one.
                open.evict();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while open.tasks.join_next().await.is_some() {}
}

/// The connections that are open.
struct Open {
    tasks: JoinSet<()>,
    places: Vec<(Place, AbortHandle)>,
    limit: usize,
    evictions: Evictions,
}

impl Open {
    fn spawn(&mut self, place: Place, task: impl Future<Output = ()> + Send + 'static) {
        self.places.retain(|(_, task)| !task.is_finished());
        self.places.push((place, self.tasks.spawn(task)));
    }

    /// Ends once one more may be open.
    async fn make_room(&mut self) {
        while self.tasks.len() >= self.limit {
            self.evict();
            // Who is at work now may be idle at the next look.
            let _ = tokio::time::timeout(ROOM_PAUSE, self.tasks.join_next()).await;
        }
    }

    /// Closes the connection that has been idle for longest, if any is.
    fn evict(&mut self) {
        self.places.retain(|(_, task)| !task.is_finished());
        let idle = self.places.iter().enumerate();
        let idle = idle.filter_map(|(at, (place, _))| Some((place.idle_since()?, at)));
        if let Some((_, longest)) = idle.min() {
            self.places.swap_remove(longest).1.abort();
            self.evictions.record(self.limit);
        }
    }
}

/// A connection's place at a server. It is idle while it waits for its peer: for a head, say, or for its next request.
#[derive(Clone, Debug)]
pub(crate) struct Place(Arc<Mutex<Activity>>);

#[derive(Debug)]
struct Activity {
    /// Requests that are worked at.
    works: usize,
    /// When the last one ended, or the connection began.
    since: Instant,
}

/// A request that is worked at: while one lives, its connection is not idle.
#[derive(Debug)]
pub(crate) struct Work(Place);

impl Place {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Activity { works: 0, since: clock::now() })))
    }

    /// A request begins.
    #[must_use]
    pub(crate) fn work(&self) -> Work {
        self.change(|activity| activity.works += 1);
        Work(self.clone())
    }

    fn idle_since(&self) -> Option<Instant> {
        self.change(|activity| (activity.works == 0).then_some(activity.since))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Activity) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.change(|activity| {
            activity.works -= 1;
            activity.since = clock::now();
        });
    }
}

/// Serves one HTTP/1.1 connection; it ends with its peer, by its own timeouts, or when it is dropped.
pub(crate) async fn http1_connection<I, S, B>(stream: I, header_timeout: Duration, service: S)
where
    I: AsyncRead + AsyncWrite + Unpin,
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
    // How a connection ended is the peer's own business; what it asked has been answered or cannot be.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = tokio::time::sleep(CONNECTION_LIFETIME) => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
}

fn turned_away(error: &(dyn std::error::Error + 'static)) -> Response<Full<Bytes>> {
    let (status, sentence) = if error.is::<tower::load_shed::error::Overloaded>() {
        (StatusCode::SERVICE_UNAVAILABLE, "too many requests at a time; ask again in a second\n")
    } else {
        (StatusCode::GATEWAY_TIMEOUT, "the answer took too long\n")
    };
    let mut response = Response::new(Full::new(Bytes::from_static(sentence.as_bytes())));
    *response.status_mut() = status;
    response
}

/// After a failed accept: out of file descriptors, say. Without it the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often a connection that finds no room looks for one that is idle.
const ROOM_PAUSE: Duration = Duration::from_millis(50);
/// A head larger than this is refused by hyper with 431.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// A connection is closed after this, so that a peer that never reads cannot hold one for ever.
const CONNECTION_LIFETIME: Duration = Duration::from_mins(10);
/// How long an answer under way may then take to finish.
const LAST_ANSWER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMITS: Limits = Limits {
        connections: 4,
        requests: 1,
        header_timeout: Duration::from_millis(100),
        request_timeout: Duration::from_millis(200),
    };

    async fn server(limits: Limits) -> (std::net::SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(short_requests(
            listener,
            limits,
            Evictions::logged("test"),
            |request: Request<Incoming>| async move {
                if request.uri().path() == "/never" {
                    pending::<()>().await;
                }
                Response::new(Full::new(Bytes::from_static(b"here")))
            },
        ));
        (address, task)
    }

    async fn exchange(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    #[tokio::test]
    async fn a_peer_that_sends_no_head_is_cut_off() {
        let (address, _task) = server(LIMITS).await;
        let all = tokio::time::timeout(Duration::from_secs(5), exchange(address, "GET / HTT")).await;
        assert!(!all.expect("the header timeout ends it").contains("200"));
    }

    #[tokio::test]
    async fn a_request_that_hangs_is_answered_504_and_one_too_many_503() {
        let (address, _task) = server(LIMITS).await;
        let hung =
            tokio::spawn(exchange(address, "GET /never HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
        tokio::time::sleep(Duration::from_millis(50)).await;
        let other = exchange(address, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(other.starts_with("HTTP/1.1 503"), "{other}");
        assert!(hung.await.unwrap().starts_with("HTTP/1.1 504"));
        let after = exchange(address, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(after.ends_with("here"), "{after}");
    }

    #[tokio::test]
    async fn dropping_the_server_ends_its_connections() {
        let (address, task) = server(LIMITS).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut some = [0; 16];
        stream.read_exact(&mut some).await.unwrap();
        drop(task);
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the connection is closed");
    }

    async fn get(stream: &mut TcpStream, path: &str) -> io::Result<()> {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await?;
        let mut seen = Vec::new();
        while !seen.ends_with(b"here") {
            if stream.read_buf(&mut seen).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn the_connection_that_was_idle_for_longest_gives_way_and_one_at_work_does_not() {
        let limits = Limits {
            connections: 3,
            requests: 3,
            header_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
        };
        let (address, _task) = server(limits).await;
        let mut working = TcpStream::connect(address).await.unwrap();
        working.write_all(b"GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        // The server has it before the others come.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut oldest = TcpStream::connect(address).await.unwrap();
        let mut newer = TcpStream::connect(address).await.unwrap();
        get(&mut newer, "/").await.unwrap();
        get(&mut oldest, "/").await.unwrap();
        get(&mut newer, "/").await.unwrap();
        let mut late = TcpStream::connect(address).await.unwrap();
        get(&mut late, "/").await.unwrap();
        assert!(get(&mut oldest, "/").await.is_err(), "it was idle for longest");
        get(&mut newer, "/").await.unwrap();
        let still = tokio::time::timeout(Duration::from_millis(50), working.read_u8()).await;
        assert!(still.is_err(), "the one at work is open");
    }

    #[tokio::test]
    async fn who_begins_a_head_and_leaves_it_at_that_gives_way_too() {
        let limits = Limits { connections: 2, header_timeout: Duration::from_mins(1), ..LIMITS };
        let (address, _task) = server(limits).await;
        let mut silent = Vec::new();
        for _ in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HT").await.unwrap();
            silent.push(stream);
        }
        let answer = exchange(address, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(answer.ends_with("here"), "{answer}");
    }
}
