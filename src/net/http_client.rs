//! What the program requests by itself, over HTTP: from authorization servers, and from a collector of traces. Not the request
//! path, which has connections of its own.
//!
//! It is set up for secrets: it follows no redirect, names no referrer, and takes a proxy only as it is told. Connections are
//! made by the same pieces as those to upstreams (`reach`, `http_connect`, `handshake`), so that a failure has one wording.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderValue, USER_AGENT};
use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::ReadBufCursor;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::outbound_proxy::{Environment, HttpProxy, OutboundProxy};
use super::proxy_fault::{ProxyFault, ProxyStage};
use super::reach::{ReachError, reach};
use super::resolver::{LookupError, Resolver};
use super::tls_fault::{Progress, TlsFault};
use super::{handshake, http_connect};
use crate::clock;

/// How servers are reached.
#[derive(Clone)]
pub struct Ways {
    /// Trust, and the client's certificate. Its ALPN is set here.
    pub tls: ClientConfig,
    /// Who looks names up.
    pub resolver: &'static Resolver,
    /// The HTTP proxy on the way.
    pub proxy: OutboundProxy,
    /// For a connection with all that belongs to it.
    pub connect_timeout: Duration,
    /// Connections per host that are kept while nothing is under way.
    pub idle_connections: usize,
    /// How long they are kept.
    pub idle_timeout: Duration,
}

/// A client with its connections. A clone shares them.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client<Connector, Full<Bytes>>,
}

/// Why there is no response, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpFault {
    /// The server's name has no address.
    #[error("its name cannot be resolved: {0}")]
    Lookup(LookupError),
    /// No TCP connection.
    #[error("no connection ({0})")]
    Connect(io::ErrorKind),
    /// The HTTP proxy on the way gives no tunnel.
    #[error("{0}")]
    Proxy(ProxyFault),
    /// TLS failed.
    #[error("TLS failed: {0}")]
    Tls(TlsFault),
    /// `connect_timeout` has passed.
    #[error("{0}")]
    Timeout(ConnectStage),
    /// What came is not HTTP.
    #[error("its response is not HTTP")]
    NotHttp,
    /// The connection ended before the response did.
    #[error("the connection ended before the response was complete")]
    Broken,
}

/// What was under way when `connect_timeout` had passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectStage {
    /// The server's name was looked up.
    #[error("its name was not resolved in time")]
    Lookup,
    /// A TCP connection was opened.
    #[error("no connection in time")]
    Tcp,
    /// The HTTP proxy on the way was to give a tunnel.
    #[error("{0}")]
    Proxy(ProxyStage),
    /// The TLS handshake.
    #[error("no TLS handshake in time")]
    Tls,
}

impl HttpClient {
    /// Opens no connection yet.
    #[must_use]
    pub fn new(ways: Ways) -> Self {
        let Ways { mut tls, resolver, proxy, connect_timeout, idle_connections, idle_timeout } = ways;
        // HTTP/1.1 first: a server that leaves the choice to the client gets what it got before.
        tls.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        let environment = Arc::new(Environment::read());
        let connector = Connector { tls: Arc::new(tls), resolver, proxy, environment, connect_timeout };
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(idle_connections)
            .pool_idle_timeout(idle_timeout)
            .build(connector);
        Self { client }
    }

    /// Sends `request`, whose URI is absolute. The response's head is what is waited for; the caller bounds the time.
    ///
    /// # Errors
    /// [`HttpFault`]; a status of any kind is a response.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, HttpFault> {
        let (mut head, body) = request.into_parts();
        head.headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let sent = self.client.request(Request::from_parts(head, body)).await;
        sent.map_err(|error| HttpFault::of(&error))
    }
}

impl HttpFault {
    /// What an error of a connection, a request or a body means.
    #[must_use]
    pub fn of(error: &(dyn StdError + 'static)) -> Self {
        if let Some(fault) = find::<Self>(error) {
            return *fault;
        }
        // What a server says of a client certificate comes after TLS 1.3's handshake.
        if let Some(error) = find::<rustls::Error>(error) {
            return Self::Tls(TlsFault::of(error, Progress::Certificate));
        }
        match find::<hyper::Error>(error) {
            Some(error) if error.is_parse() => Self::NotHttp,
            _ => Self::Broken,
        }
    }
}

/// The first error of type `T` in the chain of causes; an `io::Error` hides what it wraps from `source`.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// Makes connections.
#[derive(Clone)]
struct Connector {
    tls: Arc<ClientConfig>,
    resolver: &'static Resolver,
    proxy: OutboundProxy,
    environment: Arc<Environment>,
    connect_timeout: Duration,
}

/// Without what the environment says: a password may be in it.
impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("proxy", &self.proxy).finish_non_exhaustive()
    }
}

impl Connector {
    async fn open(self, target: Uri) -> Result<Link, HttpFault> {
        let deadline = clock::now() + self.connect_timeout;
        let proxy = self.proxy.to(&target, &self.environment);
        let stream = match proxy.map_err(|_unusable| HttpFault::Proxy(ProxyFault::Unusable))? {
            None => reach(self.resolver, &target, deadline).await.map_err(straight)?.stream,
            Some(proxy) => self.tunnel(&proxy, &target, deadline).await?,
        };
        if target.scheme() != Some(&Scheme::HTTPS) {
            return Ok(Link { io: TokioIo::new(Box::new(stream)), is_http2: false });
        }
        let name = target.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(name.to_owned()).map_err(|_| HttpFault::Tls(TlsFault::WrongName))?;
        let shaken = timeout_at(deadline, handshake::connect(&self.tls, name, stream)).await;
        let tls =
            shaken.map_err(|_elapsed| HttpFault::Timeout(ConnectStage::Tls))?.map_err(HttpFault::Tls)?;
        let is_http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Link { io: TokioIo::new(Box::new(tls)), is_http2 })
    }

    async fn tunnel(
        &self,
        proxy: &HttpProxy,
        target: &Uri,
        deadline: Instant,
    ) -> Result<TcpStream, HttpFault> {
        let reached = reach(self.resolver, &proxy.address, deadline).await;
        let mut stream = reached.map_err(|error| to_proxy(&error))?.stream;
        let (Some(scheme), Some(authority)) = (target.scheme(), target.authority()) else {
            return Err(HttpFault::Proxy(ProxyFault::Broken));
        };
        let opened = http_connect::open(&mut stream, scheme, authority, proxy.authorization.as_ref());
        let opened = timeout_at(deadline, opened).await;
        let late = |_elapsed| HttpFault::Timeout(ConnectStage::Proxy(ProxyStage::Tunnel));
        opened.map_err(late)?.map_err(HttpFault::Proxy)?;
        Ok(stream)
    }
}

fn straight(error: ReachError) -> HttpFault {
    match error {
        ReachError::Lookup(error) => HttpFault::Lookup(error),
        ReachError::LookupTimeout => HttpFault::Timeout(ConnectStage::Lookup),
        ReachError::Connect(error) => HttpFault::Connect(error.kind()),
        ReachError::ConnectTimeout => HttpFault::Timeout(ConnectStage::Tcp),
    }
}

fn to_proxy(error: &ReachError) -> HttpFault {
    let late = |stage| HttpFault::Timeout(ConnectStage::Proxy(stage));
    match error {
        ReachError::Lookup(error) => HttpFault::Proxy(ProxyFault::Name(*error)),
        ReachError::LookupTimeout => late(ProxyStage::Lookup),
        ReachError::Connect(_) => HttpFault::Proxy(ProxyFault::Unreachable),
        ReachError::ConnectTimeout => late(ProxyStage::Tcp),
    }
}

impl tower::Service<Uri> for Connector {
    type Response = Link;
    type Error = HttpFault;
    type Future = Pin<Box<dyn Future<Output = Result<Link, HttpFault>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HttpFault>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        Box::pin(self.clone().open(target))
    }
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection.
struct Link {
    io: TokioIo<Box<dyn Io>>,
    is_http2: bool,
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        let connected = Connected::new();
        if self.is_http2 { connected.negotiated_h2() } else { connected }
    }
}

impl hyper::rt::Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

const AGENT: &str = concat!("cupbearer/", env!("CARGO_PKG_VERSION"));
