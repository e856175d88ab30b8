//! How reqwest connects: its own connector, watched. Its errors say neither how far a connection came nor what an HTTP proxy
//! refused, and it does not race the addresses of one family.
//!
//! So names are looked up here, and `handshake` knows how far TLS came. Where that leaves a doubt, and only then, one connection
//! by the pieces of the request path (`reach`, `http_connect`) finds out, within `connect_timeout`. So a failure has the wording
//! that it has for upstreams. Where that connection opens, reqwest tries once more ([`Again`]). Credentials that a proxy
//! refuses leave no doubt. Caller: `http_client`.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::uri::Scheme;
use http::{Extensions, Uri};
use hyper_util::client::legacy::connect::{Connection, HttpInfo};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::select;
use tokio::time::{Instant, timeout_at};
use tower::util::MapFutureLayer;

use super::dial::ATTEMPT_DELAY;
use super::http_client::{ConnectStage, HttpFault, find};
use super::outbound_proxy::HttpProxy;
use super::proxy_fault::{ProxyFault, ProxyStage};
use super::reach::{ReachError, dial, look_up};
use super::resolver::Resolver;
use super::tls_fault::TlsFault;
use super::{handshake, http_connect};
use crate::clock;
use crate::machine::Lack;

/// The way that all connections of a client go.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) target: Uri,
    pub(super) proxy: Option<HttpProxy>,
    pub(super) resolver: &'static Resolver,
    /// For a connection with all that belongs to it.
    pub(super) connect_timeout: Duration,
}

/// A connection did not come about, and another one opens: of several addresses one accepts none, and it is not the first of
/// the next try. Nothing was sent.
#[derive(Debug, thiserror::Error)]
#[error("another connection is possible")]
pub(super) struct Again;

type BoxError = Box<dyn StdError + Send + Sync>;

/// What wraps reqwest's own connector: it has all the time that is left, and its errors become [`HttpFault`] or [`Again`].
pub(super) fn watch<C: Connection + Send + 'static>(
    way: Arc<Way>,
) -> MapFutureLayer<impl Fn(Connecting<C>) -> Connecting<C> + Clone> {
    MapFutureLayer::new(move |connecting| -> Connecting<C> {
        let way = Arc::clone(&way);
        Box::pin(async move { way.connect(connecting).await })
    })
}

type Connecting<C> = BoxFuture<'static, Result<C, BoxError>>;

impl Way {
    /// Whom TCP connects to.
    fn hop(&self) -> &Uri {
        self.proxy.as_ref().map_or(&self.target, |proxy| &proxy.address)
    }

    async fn connect<C: Connection>(&self, connecting: Connecting<C>) -> Result<C, BoxError> {
        let deadline = clock::now() + self.connect_timeout;
        let addresses = look_up(self.resolver, self.hop(), deadline).await;
        let addresses = addresses.map_err(|error| self.fault(error))?;
        let opened = self.open(connecting, addresses.clone(), deadline);
        handshake::watch(ADDRESSES.scope(addresses, opened)).await
    }

    async fn open<C: Connection>(
        &self,
        connecting: Connecting<C>,
        addresses: Vec<SocketAddr>,
        deadline: Instant,
    ) -> Result<C, BoxError> {
        let mut connecting = pin!(connecting);
        // Before TLS begins, a single address says by itself what is under way. Of several, reqwest tries those of one family
        // one by one without a bound; and of a proxy it tells neither whether that was reached nor what it refused.
        let doubt = match self.proxy {
            Some(_) => Some(self.connect_timeout / 2),
            None => (addresses.len() > 1).then_some(ATTEMPT_DELAY),
        };
        let patience = doubt.map_or(deadline, |doubt| deadline.min(clock::now() + doubt));
        let mut ended = timeout_at(patience, &mut connecting).await.ok();
        if ended.is_none() && doubt.is_some() && handshake::progress().is_none() {
            ended = select! {
                ended = &mut connecting => Some(ended),
                // It ends at the deadline.
                error = self.scout(&addresses, deadline) => match handshake::progress() {
                    None => return Err(error),
                    Some(_) => None,
                },
            };
        }
        if ended.is_none() {
            ended = timeout_at(deadline, &mut connecting).await.ok();
        }
        match (ended, handshake::progress()) {
            (Some(Ok(connection)), _) => {
                self.note(&connection, &addresses);
                Ok(connection)
            }
            (Some(Err(error)), Some(progress)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                let fault = find::<rustls::Error>(&*error);
                let fault = fault.map_or(TlsFault::Closed, |error| TlsFault::of(error, progress));
                Err(HttpFault::Tls(fault).into())
            }
            (Some(Err(error)), None) if wants_credentials(&*error) => {
                Err(HttpFault::Proxy(ProxyFault::Refused(407)).into())
            }
            (Some(Err(_)), None) if doubt.is_some() => Err(self.scout(&addresses, deadline).await),
            (Some(Err(error)), None) => {
                let error = find::<io::Error>(&*error);
                let lack =
                    error.zip(addresses.first()).and_then(|(error, to)| Lack::of_connection(error, *to));
                let kind = error.map_or(io::ErrorKind::Other, io::Error::kind);
                Err(lack.map_or(HttpFault::Connect(kind), HttpFault::Lacking).into())
            }
            (None, Some(_)) => Err(HttpFault::Timeout(ConnectStage::Tls).into()),
            (None, None) => Err(self.fault(ReachError::ConnectTimeout).into()),
        }
    }

    /// Why no connection can be opened, or [`Again`], by one that is given up as soon as it is open.
    async fn scout(&self, addresses: &[SocketAddr], deadline: Instant) -> BoxError {
        match self.try_out(addresses, deadline).await {
            Ok(()) => Again.into(),
            Err(fault) => fault.into(),
        }
    }

    async fn try_out(&self, addresses: &[SocketAddr], deadline: Instant) -> Result<(), HttpFault> {
        let dialed = dial(self.resolver, self.hop(), addresses.iter().copied(), deadline).await;
        let mut stream = dialed.map_err(|error| self.fault(error))?.stream;
        let (Some(proxy), Some(authority)) = (&self.proxy, self.target.authority()) else { return Ok(()) };
        if self.target.scheme() != Some(&Scheme::HTTPS) {
            return Ok(());
        }
        let shown = proxy.authorization.as_ref();
        let opened = http_connect::open(&mut stream, &Scheme::HTTPS, authority, shown);
        let opened = timeout_at(deadline, opened).await;
        let late = |_elapsed| HttpFault::Timeout(ConnectStage::Proxy(ProxyStage::Tunnel));
        opened.map_err(late)?.map_err(HttpFault::Proxy)
    }

    /// An address that another one was taken in place of is not tried first the next time.
    fn note(&self, connection: &impl Connection, addresses: &[SocketAddr]) {
        let mut known = Extensions::new();
        connection.connected().get_extras(&mut known);
        let taken = known.get::<HttpInfo>().map(|info| info.remote_addr().ip());
        if let (Some(taken), Some(first)) = (taken, addresses.first())
            && taken != first.ip()
        {
            self.resolver.was_slow(self.hop().host().unwrap_or_default(), first.ip());
        }
    }

    fn fault(&self, error: ReachError) -> HttpFault {
        if self.proxy.is_some() { to_proxy(&error) } else { straight(error) }
    }
}

tokio::task_local! {
    /// Where the connection that this task makes is to lead, in the order of trial.
    static ADDRESSES: Vec<SocketAddr>;
}

/// Names that [`Way::connect`] has looked up.
pub(super) struct Found;

impl Resolve for Found {
    fn resolve(&self, _: Name) -> Resolving {
        let addresses = ADDRESSES.try_with(Clone::clone).map_err(BoxError::from);
        Box::pin(std::future::ready(addresses.map(|found| Box::new(found.into_iter()) as Addrs)))
    }
}

/// Whether the proxy demands other credentials. The words are all that hyper-util shows of it. Where they change, another
/// CONNECT finds the status out, and counts as another failed login at the proxy.
fn wants_credentials(error: &(dyn StdError + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (*error).source())
        .any(|error| error.to_string() == "tunnel error: proxy authorization required")
}

fn straight(error: ReachError) -> HttpFault {
    match error {
        ReachError::Lookup(error) => HttpFault::Lookup(error),
        ReachError::LookupTimeout => HttpFault::Timeout(ConnectStage::Lookup),
        ReachError::Lacking(lack) => HttpFault::Lacking(lack),
        ReachError::Connect(error) => HttpFault::Connect(error.kind()),
        ReachError::ConnectTimeout => HttpFault::Timeout(ConnectStage::Tcp),
    }
}

fn to_proxy(error: &ReachError) -> HttpFault {
    let late = |stage| HttpFault::Timeout(ConnectStage::Proxy(stage));
    match error {
        ReachError::Lookup(error) => HttpFault::Proxy(ProxyFault::Name(*error)),
        ReachError::LookupTimeout => late(ProxyStage::Lookup),
        ReachError::Lacking(lack) => HttpFault::Lacking(*lack),
        ReachError::Connect(_) => HttpFault::Proxy(ProxyFault::Unreachable),
        ReachError::ConnectTimeout => late(ProxyStage::Tcp),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http::Request;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::http_client::{HttpClient, Ways};
    use super::super::outbound_proxy::OutboundProxy;
    use super::super::resolver;
    use super::super::tls::{NoRoots, client_config};
    use super::*;

    /// What a peer does with a connection once it has read something.
    #[derive(Clone, Copy)]
    enum Does {
        /// Says this and closes it.
        Says(&'static str),
        /// Says this and waits.
        Holds(&'static str),
    }

    /// A peer that does one thing after the other to its connections, and the last one from then on; and what it was sent first.
    async fn peer(does: &'static [Does]) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::<Mutex<Vec<String>>>::default();
        let record = Arc::clone(&sent);
        tokio::spawn(async move {
            for number in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let does = does[number.min(does.len() - 1)];
                let record = Arc::clone(&record);
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    let read = stream.read(&mut bytes).await.unwrap_or_default();
                    let sent = String::from_utf8_lossy(&bytes[..read]);
                    record.lock().unwrap().push(sent.lines().next().unwrap_or_default().to_owned());
                    let (Does::Says(what) | Does::Holds(what)) = does;
                    let _ = stream.write_all(what.as_bytes()).await;
                    match does {
                        Does::Says(_) => {
                            // The rest, or closing would be a reset.
                            let _ = stream.shutdown().await;
                            while stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
                        }
                        Does::Holds(_) => std::future::pending().await,
                    }
                });
            }
        });
        (address, sent)
    }

    async fn fault(url: &str, proxy: Option<SocketAddr>, connect_timeout: Duration) -> HttpFault {
        let proxy = proxy.map(|at| OutboundProxy::Through(format!("http://{at}").parse().unwrap()));
        let client = HttpClient::new(Ways {
            tls: client_config(None, NoRoots::Allowed, None).unwrap(),
            resolver: &resolver::TOKENS,
            proxy: proxy.unwrap_or(OutboundProxy::Direct),
            connect_timeout,
            idle_connections: 1,
            idle_timeout: LONG,
        });
        client.send(Request::get(url).body(bytes::Bytes::new()).unwrap()).await.unwrap_err()
    }

    async fn closed() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn what_ends_a_connection_without_a_proxy_is_reported() {
        for (does, want) in [
            (&[Does::Says("")], HttpFault::Tls(TlsFault::Closed)),
            (&[Does::Says("HTTP/1.1 400 Bad Request\r\n\r\n")], HttpFault::Tls(TlsFault::NotTls)),
        ] {
            let (address, sent) = peer(does).await;
            assert_eq!(fault(&format!("https://{address}/"), None, LONG).await, want);
            assert_eq!(sent.lock().unwrap().len(), 1);
        }
        let nowhere = format!("https://{}/", closed().await);
        let refused = HttpFault::Connect(io::ErrorKind::ConnectionRefused);
        assert_eq!(fault(&nowhere, None, LONG).await, refused);
        let (address, sent) = peer(&[Does::Holds("")]).await;
        let late = fault(&format!("https://{address}/"), None, SHORT).await;
        assert_eq!(late, HttpFault::Timeout(ConnectStage::Tls));
        assert!(sent.lock().unwrap().len() <= 1);
    }

    #[tokio::test]
    async fn what_a_proxy_refuses_is_found_out_by_one_connection_more_and_credentials_are_sent_once() {
        for (does, want, connections) in [
            (&[Does::Says("HTTP/1.1 407 No\r\n\r\n")], ProxyFault::Refused(407), 1),
            (&[Does::Says("HTTP/1.1 403 No\r\n\r\n")], ProxyFault::Refused(403), 2),
            (&[Does::Says("HTTP/1.0 502 No\r\n\r\n")], ProxyFault::Refused(502), 2),
            (&[Does::Says("SSH-2.0-x\r\n\r\n")], ProxyFault::Broken, 2),
            (&[Does::Says("")], ProxyFault::Broken, 2),
        ] {
            let (proxy, sent) = peer(does).await;
            assert_eq!(fault("https://as.invalid/", Some(proxy), LONG).await, HttpFault::Proxy(want));
            assert_eq!(*sent.lock().unwrap(), vec!["CONNECT as.invalid:443 HTTP/1.1"; connections]);
        }
        let unreachable = fault("https://as.invalid/", Some(closed().await), LONG).await;
        assert_eq!(unreachable, HttpFault::Proxy(ProxyFault::Unreachable));
        let (proxy, _) = peer(&[Does::Holds("")]).await;
        let late = fault("https://as.invalid/", Some(proxy), SHORT).await;
        assert_eq!(late, HttpFault::Timeout(ConnectStage::Proxy(ProxyStage::Tunnel)));
    }

    #[tokio::test]
    async fn a_tunnel_that_is_open_is_not_the_proxys_fault() {
        let (proxy, sent) = peer(&[Does::Says(OPEN)]).await;
        let closed = fault("https://as.invalid/", Some(proxy), LONG).await;
        assert_eq!(closed, HttpFault::Tls(TlsFault::Closed));
        assert_eq!(sent.lock().unwrap().len(), 1);
        let (proxy, _) = peer(&[Does::Holds(OPEN)]).await;
        let late = fault("https://as.invalid/", Some(proxy), SHORT).await;
        assert_eq!(late, HttpFault::Timeout(ConnectStage::Tls));
    }

    #[tokio::test]
    async fn a_tunnel_that_opens_at_the_second_try_is_used_and_there_is_no_third() {
        const NO: Does = Does::Says("HTTP/1.1 503 No\r\n\r\n");
        let (proxy, sent) = peer(&[NO, Does::Says(OPEN)]).await;
        let closed = fault("https://as.invalid/", Some(proxy), LONG).await;
        assert_eq!(closed, HttpFault::Tls(TlsFault::Closed), "the second tunnel led somewhere");
        assert_eq!(sent.lock().unwrap().len(), 3);
        let (proxy, sent) = peer(&[NO, Does::Says(OPEN), NO, Does::Says(OPEN)]).await;
        assert_eq!(fault("https://as.invalid/", Some(proxy), LONG).await, HttpFault::Broken);
        assert_eq!(sent.lock().unwrap().len(), 4);
    }

    #[tokio::test]
    async fn in_the_clear_a_proxy_takes_the_request_itself() {
        let (proxy, sent) = peer(&[Does::Says("HTTP/1.1 407 No\r\ncontent-length: 0\r\n\r\n")]).await;
        let refused = fault("http://as.invalid/token", Some(proxy), LONG).await;
        assert_eq!(refused, HttpFault::Proxy(ProxyFault::Responded(407)));
        assert_eq!(*sent.lock().unwrap(), ["GET http://as.invalid/token HTTP/1.1"]);
        let unreachable = fault("http://as.invalid/token", Some(closed().await), LONG).await;
        assert_eq!(unreachable, HttpFault::Proxy(ProxyFault::Unreachable));
    }

    const OPEN: &str = "HTTP/1.1 200 Connection established\r\n\r\n";
    const LONG: Duration = Duration::from_mins(1);
    const SHORT: Duration = Duration::from_secs(2);
}
