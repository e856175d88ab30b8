//! New connections to an upstream: name look-up, TCP or a Unix socket, a proxy's tunnel, TLS, and the HTTP handshake, all
//! within `connect_timeout`. Where that is too short, the stage that was under way is what is reported.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::time::Duration;

use hyper::client::conn::http2;
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::client::TlsStream;

use super::api::{ALPN_HTTP2, Upstream, UpstreamTls};
use super::connection_info::ConnectionInfo;
use super::connector::{Connector, address};
use super::h1::{Http1Connection, UpstreamLink, UpstreamStream};
use super::metered::{Intake, Metered};
use super::peer_settings::{PeerSettings, greet};
use super::pool::PoolCounts;
use super::request_body::RequestBody;
use crate::clock;
use crate::machine::Lack;
use crate::net::handshake::connect as connect_tls;
use crate::net::proxy_fault::{ProxyFault, ProxyStage};
use crate::net::reach::{ReachError, reach as reach_host};
use crate::net::{http_connect, resolver};
use crate::proxy::error::{ConnectFault, ConnectStage, DialFault};
use crate::proxy::http2::window::{connection_window, stream_window};
use crate::proxy::observe::upstream_metrics::CloseCause;
use crate::proxy::settings::Http2;

/// A new connection, ready for requests; HTTP/2's is driven by a task of this worker until it closes.
pub(crate) enum NewConnection {
    Http1(Http1Connection),
    Http2(NewHttp2),
}

/// A new connection of HTTP/2.
pub(crate) struct NewHttp2 {
    pub(crate) sender: http2::SendRequest<RequestBody>,
    pub(crate) settings: Weak<dyn PeerLimits>,
    pub(crate) peer: PeerSettings,
    pub(super) info: ConnectionInfo,
    pub(super) intake: Rc<Intake>,
    /// Where it is said why it is closed.
    pub(crate) end: CloseCause,
}

/// The making of a connection: until when, and how far it has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DialAttempt<'a> {
    pub(crate) deadline: Instant,
    pub(crate) stage: &'a Cell<ConnectStage>,
}

impl DialAttempt<'_> {
    /// Bounds one of its stages.
    async fn within<T>(
        self,
        stage: ConnectStage,
        work: impl Future<Output = Result<T, DialFault>>,
    ) -> Result<T, DialFault> {
        self.stage.set(stage);
        timeout_at(self.deadline, work).await.unwrap_or(Err(DialFault::Timeout(stage)))
    }
}

/// What an HTTP/2 upstream says of itself now.
pub(crate) trait PeerLimits {
    /// Whether it takes extended CONNECT (RFC 8441 section 3).
    fn has_extended_connect(&self) -> bool;
    /// How many streams it allows at a time.
    fn max_streams(&self) -> usize;
}

impl<T> PeerLimits for RefCell<http2::Connection<T, RequestBody, WorkerExecutor>>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    fn has_extended_connect(&self) -> bool {
        self.borrow().is_extended_connect_protocol_enabled()
    }

    fn max_streams(&self) -> usize {
        self.borrow().current_max_send_streams()
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

/// Opens a connection to `upstream` and counts it in `counts` for as long as it lives.
pub(super) async fn connect(
    upstream: &Upstream,
    speak: Speak,
    counts: &PoolCounts,
    attempt: DialAttempt<'_>,
) -> Result<NewConnection, DialFault> {
    let started = clock::now();
    let reached = reach(upstream, attempt).await;
    let window = stream_window(clock::now().saturating_duration_since(started));
    match reached {
        Ok((RawSocket::Tcp(tcp), info)) => begin(upstream, speak, tcp, info, attempt, counts, window).await,
        Ok((RawSocket::Unix(unix), info)) => {
            begin(upstream, speak, unix, info, attempt, counts, window).await
        }
        Err(fault) => Err(fault),
    }
}

/// A trial connection that failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ProbeError(DialFault);

impl ProbeError {
    /// What to do about it.
    #[must_use]
    pub(crate) const fn help(&self) -> &'static str {
        self.0.help()
    }
}

/// Opens a connection to `upstream`, TLS included, and closes it again; says what would be spoken on it.
///
/// # Errors
/// [`ProbeError`], in words for a person.
pub(crate) async fn probe(upstream: &Upstream) -> Result<&'static str, ProbeError> {
    let stage = Cell::new(ConnectStage::Lookup);
    let deadline = clock::now() + upstream.settings.connect_timeout;
    let attempt = DialAttempt { deadline, stage: &stage };
    let spoken = async {
        match (&upstream.tls, reach(upstream, attempt).await?.0) {
            (None, RawSocket::Tcp(tcp)) => {
                spoken_on(tcp, upstream.settings.http2 == Http2::PriorKnowledge, attempt).await
            }
            (None, RawSocket::Unix(unix)) => {
                spoken_on(unix, upstream.settings.http2 == Http2::PriorKnowledge, attempt).await
            }
            (Some(tls), RawSocket::Tcp(tcp)) => {
                let stream = handshake(tls, tcp, attempt).await?;
                let http2 = agreed_http2(upstream, &stream);
                spoken_on(stream, http2, attempt).await
            }
            (Some(tls), RawSocket::Unix(unix)) => {
                let stream = handshake(tls, unix, attempt).await?;
                let http2 = agreed_http2(upstream, &stream);
                spoken_on(stream, http2, attempt).await
            }
        }
    };
    spoken.await.map_err(ProbeError)
}

/// What a connection speaks; HTTP/2 is begun, to see that the other side does.
async fn spoken_on<S>(stream: S, http2: bool, attempt: DialAttempt<'_>) -> Result<&'static str, DialFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if !http2 {
        return Ok("HTTP/1.1");
    }
    let greeted = async { greet(stream).await.map_err(DialFault::Unreachable) };
    attempt.within(ConnectStage::Http2, greeted).await.map(|()| "HTTP/2")
}

async fn begin<S>(
    upstream: &Upstream,
    speak: Speak,
    socket: S,
    info: ConnectionInfo,
    attempt: DialAttempt<'_>,
    counts: &PoolCounts,
    window: u32,
) -> Result<NewConnection, DialFault>
where
    S: AsyncRead + AsyncWrite + Unpin + Into<UpstreamStream> + 'static,
    TlsStream<S>: Into<UpstreamStream>,
{
    let Some(tls) = &upstream.tls else {
        return match upstream.settings.http2 {
            Http2::PriorKnowledge => {
                let handshake = Box::pin(http2(upstream, socket, info, counts, window));
                attempt.within(ConnectStage::Http2, handshake).await
            }
            Http2::Auto | Http2::Never => Ok(http1(socket.into(), info, counts)),
        };
    };
    let stream = match speak {
        Speak::Configured => handshake(tls, socket, attempt).await?,
        Speak::Http1 => handshake(&tls.with_http1_alone(), socket, attempt).await?,
    };
    if agreed_http2(upstream, &stream) {
        let handshake = Box::pin(http2(upstream, stream, info, counts, window));
        attempt.within(ConnectStage::Http2, handshake).await
    } else {
        Ok(http1(stream.into(), info, counts))
    }
}

async fn handshake<S>(
    tls: &UpstreamTls,
    socket: S,
    attempt: DialAttempt<'_>,
) -> Result<TlsStream<S>, DialFault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let shaken = async {
        connect_tls(&tls.config, tls.server_name.clone(), socket)
            .await
            .map_err(|fault| DialFault::Unreachable(ConnectFault::Tls(fault)))
    };
    attempt.within(ConnectStage::Tls, shaken).await
}

fn agreed_http2<S>(upstream: &Upstream, stream: &TlsStream<S>) -> bool {
    let agreed = stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
    agreed || upstream.settings.http2 == Http2::PriorKnowledge
}

/// A connection before anything is said on it.
enum RawSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Goes the way to the upstream.
async fn reach(
    upstream: &Upstream,
    attempt: DialAttempt<'_>,
) -> Result<(RawSocket, ConnectionInfo), DialFault> {
    let (socket, address) = match &upstream.connector {
        Connector::Direct => {
            let target = address(&upstream.scheme, &upstream.authority);
            attempt.stage.set(ConnectStage::Lookup);
            let dialed =
                reach_host(&resolver::REQUESTS, &target, attempt.deadline).await.map_err(straight)?;
            (RawSocket::Tcp(dialed.stream), Some(dialed.address))
        }
        Connector::Socket(path) => {
            let connected = async {
                connect_unix(path, attempt.deadline).await.map_err(|error| match error.kind() {
                    _ if let Some(lack) = Lack::of(&error) => DialFault::Lacking(lack),
                    io::ErrorKind::WouldBlock => DialFault::Backlog,
                    io::ErrorKind::NotFound => DialFault::Unreachable(ConnectFault::NoSocket),
                    io::ErrorKind::PermissionDenied => DialFault::Unreachable(ConnectFault::SocketForbidden),
                    _ => DialFault::Unreachable(ConnectFault::Refused),
                })
            };
            (RawSocket::Unix(attempt.within(ConnectStage::Tcp, connected).await?), None)
        }
        Connector::HttpProxy(proxy) => {
            attempt.stage.set(ConnectStage::Proxy(ProxyStage::Lookup));
            let reached = reach_host(&resolver::REQUESTS, &proxy.address, attempt.deadline).await;
            let mut dialed = reached.map_err(|error| to_proxy(&error))?;
            let shown = proxy.authorization.as_ref();
            let tunnel = async {
                http_connect::open(&mut dialed.stream, &upstream.scheme, &upstream.authority, shown)
                    .await
                    .map_err(|fault| DialFault::Unreachable(ConnectFault::Proxy(fault)))
            };
            attempt.within(ConnectStage::Proxy(ProxyStage::Tunnel), tunnel).await?;
            (RawSocket::Tcp(dialed.stream), Some(dialed.address))
        }
    };
    Ok((socket, ConnectionInfo::new(address, upstream.settings.max_connection_age)))
}

/// The kernel lets a TCP connection wait where the other side has no room for it, and refuses one to a Unix socket at once
/// (EAGAIN of connect(2)): so that waits here.
async fn connect_unix(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let mut pause = SHORTEST_PAUSE;
    loop {
        let connected = UnixStream::connect(path).await;
        let is_full = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        if !connected.as_ref().is_err_and(is_full) || clock::now() + pause >= deadline {
            return connected;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Why no TCP connection to the upstream itself was made.
fn straight(error: ReachError) -> DialFault {
    let io = match error {
        ReachError::Lookup(error) => return DialFault::Unreachable(ConnectFault::Name(error)),
        ReachError::LookupTimeout => return DialFault::Timeout(ConnectStage::Lookup),
        ReachError::ConnectTimeout => return DialFault::Timeout(ConnectStage::Tcp),
        ReachError::Lacking(lack) => return DialFault::Lacking(lack),
        ReachError::Connect(io) => io,
    };
    match io.kind() {
        io::ErrorKind::ConnectionRefused => DialFault::Unreachable(ConnectFault::Refused),
        _ => DialFault::Unreachable(ConnectFault::Network),
    }
}

/// Why no TCP connection to the HTTP proxy was made.
fn to_proxy(error: &ReachError) -> DialFault {
    let unreachable = |fault| DialFault::Unreachable(ConnectFault::Proxy(fault));
    match error {
        ReachError::Lookup(error) => unreachable(ProxyFault::Name(*error)),
        ReachError::LookupTimeout => DialFault::Timeout(ConnectStage::Proxy(ProxyStage::Lookup)),
        ReachError::Lacking(lack) => DialFault::Lacking(*lack),
        ReachError::Connect(_) => unreachable(ProxyFault::Unreachable),
        ReachError::ConnectTimeout => DialFault::Timeout(ConnectStage::Proxy(ProxyStage::Tcp)),
    }
}

fn http1(stream: UpstreamStream, info: ConnectionInfo, counts: &PoolCounts) -> NewConnection {
    NewConnection::Http1(Http1Connection::new(stream, UpstreamLink::new(info, counts.opened_http1())))
}

/// Begins HTTP/2, and waits for the other side to do so.
async fn http2<S>(
    upstream: &Upstream,
    stream: S,
    info: ConnectionInfo,
    counts: &PoolCounts,
    window: u32,
) -> Result<NewConnection, DialFault>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let streams = upstream.settings.max_streams;
    let intake = Rc::new(Intake::default());
    let open = counts.opened_http2();
    let end = open.end().clone();
    let (stream, beginning) = Metered::new(stream, Rc::clone(&intake), open);
    let (sender, connection) = http2::Builder::new(WorkerExecutor)
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING)
        .keep_alive_timeout(HTTP2_PONG)
        .max_concurrent_reset_streams(streams)
        .max_local_error_reset_streams(MAX_LATE_FRAMES)
        .max_header_list_size(header_list_size(upstream.settings.max_response_header_size))
        .initial_stream_window_size(window)
        .initial_connection_window_size(connection_window(window, u32::try_from(streams).unwrap_or(u32::MAX)))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| DialFault::Unreachable(ConnectFault::ClosedEarly))?;
    let connection = Rc::new(RefCell::new(connection));
    let settings: Weak<dyn PeerLimits> = Rc::downgrade(&(Rc::clone(&connection) as Rc<dyn PeerLimits>));
    drive(poll_fn(move |cx| Pin::new(&mut *connection.borrow_mut()).poll(cx)));
    let peer = beginning.known().await.map_err(DialFault::Unreachable)?;
    Ok(NewConnection::Http2(NewHttp2 { sender, settings, peer, info, intake, end }))
}

/// What hyper takes of a head. It is above the limit that is kept to: over the limit of its own hyper reports no size, and
/// ends the whole connection for a head that is far larger; and of trailers it drops what is over it in silence.
fn header_list_size(limit: usize) -> u32 {
    u32::try_from(limit.saturating_mul(4)).unwrap_or(u32::MAX)
}

/// Drives a connection on this worker. It ends when the upstream closes, or when no sender is left.
fn drive(connection: impl Future<Output = hyper::Result<()>> + 'static) {
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to an upstream ended with an error");
        }
    });
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

/// What finds a peer that vanished in HTTP/2, where one connection carries everything (RFC 9113 section 6.7).
const HTTP2_PING: Duration = Duration::from_secs(20);
const HTTP2_PONG: Duration = Duration::from_secs(10);
/// Between two tries for a connection to a Unix socket that has no room for it.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// Frames for streams that were reset a while ago, as downloads are that an application breaks off: what is on its way then is
/// no fault of the upstream's, and no reason to end its other streams.
const MAX_LATE_FRAMES: usize = 1 << 20;
