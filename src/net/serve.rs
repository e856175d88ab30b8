//! A small HTTP server on one listener: what health, control and the demo stand on.
//!
//! It is not for the request path, which has its own listeners, workers and limits in `proxy`. Whoever awaits one
//! of these futures owns all its connections: dropping it ends them.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower::{BoxError, ServiceBuilder, ServiceExt as _};

use super::unix_peer::Peer;

/// What such a server may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; the next one waits in the kernel's queue.
    pub connections: usize,
    /// Requests at a time, over all connections; the next one is answered 503 at once.
    pub requests: usize,
    /// From a connection's start, or the end of the last request, to the end of the next head.
    pub header_timeout: Duration,
    /// For one request; then 504.
    pub request_timeout: Duration,
}

/// What connections are accepted from.
pub trait Listen {
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
pub async fn short_requests<L, H, F, B>(listener: L, limits: Limits, handler: H)
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
    connections(listener, limits.connections, pending(), move |stream: L::Stream| {
        let peer = L::peer(&stream);
        let service = service.clone().map_request(move |mut request: Request<Incoming>| {
            if let Some(peer) = peer {
                request.extensions_mut().insert(peer);
            }
            request
        });
        http1_connection(stream, limits.header_timeout, TowerToHyperService::new(service))
    })
    .await;
}

/// Accepts up to `limit` connections at a time and runs `serve` for each. Once `last` ends no more are accepted, and it ends
/// with those that are open; they end with it where it is dropped.
pub async fn connections<L, S, F>(listener: L, limit: usize, last: impl Future<Output = ()>, serve: S)
where
    L: Listen,
    S: Fn(L::Stream) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut last = pin!(last);
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < limit => match accepted {
                Ok(stream) => {
                    open.spawn(serve(stream));
                }
                Err(error) => {
                    tracing::debug!(kind = ?error.kind(), "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = open.join_next() => {}
            () = &mut last => break,
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

/// Serves one HTTP/1.1 connection; it ends with its peer, by its own timeouts, or when it is dropped.
pub async fn http1_connection<I, S, B>(stream: I, header_timeout: Duration, service: S)
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
        task.spawn(short_requests(listener, limits, |request: Request<Incoming>| async move {
            if request.uri().path() == "/never" {
                pending::<()>().await;
            }
            Response::new(Full::new(Bytes::from_static(b"here")))
        }));
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
}
