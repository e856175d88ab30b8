//! New connections to an upstream: name look-up, TCP or a Unix socket, a proxy's tunnel, TLS, and the HTTP handshake, all
//! within `connect_timeout`.
//!
//! The name is looked up for each connection, so a changed DNS answer counts for the next one.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower::Service;

use super::body::RequestBody;
use super::error::{ConnectFault, ProxyError};
use super::metrics::OpenConnections;
use super::pool::MAX_STREAMS;
use super::through;
use super::upstream::{ALPN_HTTP2, Http2, Upstream, UpstreamTls};
use super::way::{Way, address};
use super::wire::{Stream, Wire};

/// A new connection, ready for requests; HTTP/2's is driven by a task of this worker until it closes.
pub(super) enum Sender {
    Http1(Wire),
    Http2(http2::SendRequest<RequestBody>, Weak<dyn Settings>),
}

/// What an HTTP/2 upstream has said of itself.
pub(super) trait Settings {
    /// Whether it takes extended CONNECT (RFC 8441 section 3); before its SETTINGS are there, it does not.
    fn has_extended_connect(&self) -> bool;
}

impl<T> Settings for RefCell<http2::Connection<T, RequestBody, WorkerExecutor>>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    fn has_extended_connect(&self) -> bool {
        self.borrow().is_extended_connect_protocol_enabled()
    }
}

/// Which protocol a new connection is to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speak {
    /// The one that the upstream's settings say.
    Configured,
    /// HTTP/1.1, whatever else the upstream knows.
    Http1,
}

/// Why there is no new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DialFault {
    #[error("the upstream cannot be reached: {0}")]
    Unreachable(ConnectFault),
    #[error("the upstream did not accept a connection within connect_timeout")]
    Timeout,
}

impl From<DialFault> for ProxyError {
    fn from(fault: DialFault) -> Self {
        match fault {
            DialFault::Unreachable(why) => Self::UpstreamUnreachable(why),
            DialFault::Timeout => Self::ConnectTimeout,
        }
    }
}

/// Opens a connection to `upstream` and counts it in `open` for as long as it lives.
pub(super) async fn connect(
    upstream: &Upstream,
    speak: Speak,
    open: &OpenConnections,
) -> Result<Sender, DialFault> {
    let limit = upstream.settings.connect_timeout;
    let connected = match tokio::time::timeout(limit, dial(upstream, speak, open)).await {
        Ok(connected) => connected,
        Err(_elapsed) => Err(DialFault::Timeout),
    };
    upstream.found(connected.as_ref().map(|_| ()).map_err(|fault| *fault));
    connected
}

/// A trial connection that failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ProbeError(String);

/// Opens a connection to `upstream`, TLS included, and closes it again; says what would be spoken on it.
///
/// # Errors
/// [`ProbeError`], in words for a person.
pub async fn probe(upstream: &Upstream) -> Result<&'static str, ProbeError> {
    let spoken = async {
        let http2 = match (&upstream.tls, reach(upstream).await?) {
            (None, _) => upstream.settings.http2 == Http2::PriorKnowledge,
            (Some(tls), Socket::Tcp(tcp)) => agreed_http2(upstream, &handshake(tls, tcp).await?),
            (Some(tls), Socket::Unix(unix)) => agreed_http2(upstream, &handshake(tls, unix).await?),
        };
        Ok::<_, DialFault>(if http2 { "HTTP/2" } else { "HTTP/1.1" })
    };
    match tokio::time::timeout(upstream.settings.connect_timeout, spoken).await {
        Ok(spoken) => spoken.map_err(|error| ProbeError(error.to_string())),
        Err(_elapsed) => Err(ProbeError(DialFault::Timeout.to_string())),
    }
}

async fn dial(upstream: &Upstream, speak: Speak, open: &OpenConnections) -> Result<Sender, DialFault> {
    match reach(upstream).await? {
        Socket::Tcp(tcp) => begin(upstream, speak, tcp, open).await,
        Socket::Unix(unix) => begin(upstream, speak, unix, open).await,
    }
}

async fn begin<S>(
    upstream: &Upstream,
    speak: Speak,
    socket: S,
    open: &OpenConnections,
) -> Result<Sender, DialFault>
where
    S: AsyncRead + AsyncWrite + Unpin + Into<Stream> + 'static,
    TlsStream<S>: Into<Stream>,
{
    let Some(tls) = &upstream.tls else {
        return match upstream.settings.http2 {
            Http2::PriorKnowledge => http2(TokioIo::new(socket), open).await,
            Http2::Auto | Http2::Never => Ok(http1(socket.into(), open)),
        };
    };
    let stream = match speak {
        Speak::Configured => handshake(tls, socket).await?,
        Speak::Http1 => handshake(&tls.with_http1_alone(), socket).await?,
    };
    if agreed_http2(upstream, &stream) {
        http2(TokioIo::new(stream), open).await
    } else {
        Ok(http1(stream.into(), open))
    }
}

async fn handshake<S>(tls: &UpstreamTls, socket: S) -> Result<TlsStream<S>, DialFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    connector.connect(tls.server_name.clone(), socket).await.map_err(|error| tls_fault(&error))
}

fn agreed_http2<S>(upstream: &Upstream, stream: &TlsStream<S>) -> bool {
    let agreed = stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
    agreed || upstream.settings.http2 == Http2::PriorKnowledge
}

/// A connection before anything is said on it.
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Goes the way to the upstream.
async fn reach(upstream: &Upstream) -> Result<Socket, DialFault> {
    match &upstream.way {
        Way::Straight => Ok(Socket::Tcp(tcp(address(&upstream.scheme, &upstream.authority)).await?)),
        Way::Socket(path) => {
            let connected = UnixStream::connect(path).await.map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => ConnectFault::NoSocket,
                io::ErrorKind::PermissionDenied => ConnectFault::SocketForbidden,
                _ => ConnectFault::Refused,
            });
            Ok(Socket::Unix(connected.map_err(DialFault::Unreachable)?))
        }
        Way::Through(proxy) => {
            let unreachable = |_| DialFault::Unreachable(ConnectFault::ProxyUnreachable);
            let mut stream = tcp(proxy.address.clone()).await.map_err(unreachable)?;
            let shown = proxy.authorization.as_ref();
            through::open(&mut stream, &upstream.scheme, &upstream.authority, shown)
                .await
                .map_err(DialFault::Unreachable)?;
            Ok(Socket::Tcp(stream))
        }
    }
}

async fn tcp(target: Uri) -> Result<TcpStream, DialFault> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(TCP_KEEPALIVE));
    let connected = connector.call(target).await.map_err(|error| {
        let fault = match io_error(&error) {
            Some(io) if io.kind() == io::ErrorKind::ConnectionRefused => ConnectFault::Refused,
            // The connector says so in words alone.
            _ if error.to_string().contains("dns") => ConnectFault::Dns,
            _ => ConnectFault::Network,
        };
        DialFault::Unreachable(fault)
    })?;
    Ok(connected.into_inner())
}

fn http1(stream: Stream, open: &OpenConnections) -> Sender {
    Sender::Http1(Wire::new(stream, open.count()))
}

async fn http2<T>(io: T, open: &OpenConnections) -> Result<Sender, DialFault>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let (sender, connection) = http2::Builder::new(WorkerExecutor)
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PONG)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .initial_connection_window_size(HTTP2_STREAM_WINDOW * MAX_STREAMS as u32)
        .handshake(io)
        .await
        .map_err(|_| DialFault::Unreachable(ConnectFault::Protocol))?;
    let connection = Rc::new(RefCell::new(connection));
    let settings: Weak<dyn Settings> = Rc::downgrade(&(Rc::clone(&connection) as Rc<dyn Settings>));
    drive(poll_fn(move |cx| Pin::new(&mut *connection.borrow_mut()).poll(cx)), open);
    Ok(Sender::Http2(sender, settings))
}

/// Drives a connection on this worker. It ends when the upstream closes, or when nobody holds a sender any more.
fn drive(connection: impl Future<Output = hyper::Result<()>> + 'static, open: &OpenConnections) {
    let counted = open.count();
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to an upstream ended with an error");
        }
        drop(counted);
    });
}

fn tls_fault(error: &io::Error) -> DialFault {
    let fault = match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => ConnectFault::Certificate,
        _ => ConnectFault::Tls,
    };
    tracing::debug!(%error, "a TLS handshake with an upstream failed");
    DialFault::Unreachable(fault)
}

fn io_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    std::iter::successors(Some(error), |e| e.source()).find_map(|e| e.downcast_ref())
}

/// Spawns what hyper needs on the worker that asks: nothing of a connection ever leaves its worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct WorkerExecutor;

impl<F> Executor<F> for WorkerExecutor
where
    F: Future<Output: 'static> + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// TCP keep-alive probes find a peer that vanished while a long answer is awaited.
const TCP_KEEPALIVE: Duration = Duration::from_mins(1);
/// The same for HTTP/2, where one connection carries everything (RFC 9113 section 6.7).
const HTTP2_PING: Duration = Duration::from_secs(20);
const HTTP2_PONG: Duration = Duration::from_secs(10);
/// Bytes that an upstream may send ahead of one application. The connection's window has room for that of all of its streams:
/// were it smaller, a few applications that do not read would hold up everybody else's answers.
const HTTP2_STREAM_WINDOW: u32 = 512 * 1024;
