//! What the program requests by itself, over HTTP: from authorization servers, and from a collector of traces. Not the request
//! path, which has connections of its own.
//!
//! reqwest does it, set up for secrets: it follows no redirect, sends no request twice, names no referrer, and uses no other
//! proxy than the one that it is given. `connector` reports why a connection did not come about.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response, Uri};
use reqwest::redirect::Policy;
use reqwest::{Body, Client, Proxy, retry};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::connector::{Again, Found, Way, watch};
use super::outbound_proxy::{Environment, HttpProxy, OutboundProxy, ProxyFlaw, Unusable};
use super::own_response::{Unattributed, is_of_server, is_own};
use super::proxy_fault::{ProxyFault, ProxyStage};
use super::resolver::{LookupError, Resolver};
use super::tls_fault::{Progress, TlsFault};
use crate::machine::Lack;

/// How servers are reached.
#[derive(Clone)]
pub(crate) struct Ways {
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
#[derive(Clone)]
pub(crate) struct HttpClient(Arc<Shared>);

struct Shared {
    ways: Ways,
    environment: Environment,
    /// One for each origin: the proxy on the way is the client's.
    clients: Mutex<BTreeMap<String, Client>>,
}

/// Without what the environment says: a password may be in it.
impl std::fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient").field("proxy", &self.0.ways.proxy).finish_non_exhaustive()
    }
}

/// Why there is no response, or not all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpFault {
    /// The server's name has no address.
    #[error("its name cannot be resolved: {0}")]
    Lookup(LookupError),
    /// This machine lacks what a connection takes.
    #[error("{0}")]
    Lacking(Lack),
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
pub(crate) enum ConnectStage {
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
    pub(crate) fn new(mut ways: Ways) -> Self {
        // HTTP/1.1 first: a server that leaves the choice to the client gets what it got before.
        ways.tls.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
        Self(Arc::new(Shared { ways, environment: Environment::read(), clients: Mutex::default() }))
    }

    /// Sends `request`, whose URI is absolute. The response's head is what is waited for; the caller bounds the time.
    ///
    /// # Errors
    /// [`HttpFault`]; a status of any kind is a response. One that the HTTP proxy on the way may have made in the server's
    /// place is marked as [`Unattributed`]: a failed one, or a portal's page with a status of success.
    pub(crate) async fn send(&self, request: Request<Bytes>) -> Result<Response<Body>, HttpFault> {
        let target = request.uri().clone();
        let client = self.client(&target)?;
        let mut sent = execute(&client, request.clone()).await;
        if sent.as_ref().is_err_and(|error| find::<Again>(error).is_some()) {
            sent = execute(&client, request).await;
        }
        let mut response = sent.map_err(|error| HttpFault::of(&error))?;
        // In the clear the proxy responds itself where it has no response of the server.
        let (status, is_clear) = (response.status(), target.scheme() != Some(&Scheme::HTTPS));
        if is_clear && self.proxy(&target)?.is_some() {
            if !status.is_success() && is_own(status, response.headers()) {
                return Err(HttpFault::Proxy(ProxyFault::Responded(status.as_u16())));
            }
            if !is_of_server(status, response.headers()) {
                response.extensions_mut().insert(Unattributed);
            }
        }
        Ok(response.into())
    }

    fn client(&self, target: &Uri) -> Result<Client, HttpFault> {
        let authority = target.authority().map_or("", |authority| authority.as_str());
        let origin = format!("{}://{authority}", target.scheme_str().unwrap_or_default());
        let mut clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&origin) {
            return Ok(client.clone());
        }
        let client = self.build(target)?;
        clients.insert(origin, client.clone());
        Ok(client)
    }

    fn build(&self, target: &Uri) -> Result<Client, HttpFault> {
        let host = target.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        if target.scheme() == Some(&Scheme::HTTPS) && ServerName::try_from(host).is_err() {
            return Err(HttpFault::Tls(TlsFault::WrongName));
        }
        let Ways { tls, resolver, connect_timeout, idle_connections, idle_timeout, .. } = self.0.ways.clone();
        let proxy = self.proxy(target)?;
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(AGENT)
            .redirect(Policy::none())
            .referer(false)
            .retry(retry::never())
            .no_proxy()
            .dns_resolver(Found)
            .pool_max_idle_per_host(idle_connections)
            .pool_idle_timeout(idle_timeout);
        if let Some(HttpProxy { address, authorization }) = &proxy {
            let through = Proxy::all(address.to_string());
            let flawed = Unusable { by: "`proxy`", flaw: ProxyFlaw::Malformed };
            let mut through = through.map_err(|_no_url| HttpFault::Proxy(ProxyFault::Unusable(flawed)))?;
            if let Some(value) = authorization {
                through = through.custom_http_auth(value.clone());
            }
            builder = builder.proxy(through);
        }
        let way = Way { target: target.clone(), proxy, resolver, connect_timeout };
        let client = builder.connector_layer(watch(Arc::new(way))).build();
        Ok(client.expect("a client with TLS and names of its own reads nothing"))
    }

    fn proxy(&self, target: &Uri) -> Result<Option<HttpProxy>, HttpFault> {
        let proxy = self.0.ways.proxy.to(target, &self.0.environment);
        proxy.map_err(|unusable| HttpFault::Proxy(ProxyFault::Unusable(unusable)))
    }
}

async fn execute(client: &Client, request: Request<Bytes>) -> reqwest::Result<reqwest::Response> {
    client.execute(request.try_into()?).await
}

impl HttpFault {
    /// What an error of a connection, a request or a body means.
    #[must_use]
    pub(crate) fn of(error: &(dyn StdError + 'static)) -> Self {
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
pub(super) fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
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

const AGENT: &str = concat!("cupbearer/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt as _, Full};
    use hyper::body::Incoming;
    use hyper::server::conn::http2;
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::super::resolver;
    use super::super::tls::{NoRoots, client_config};
    use super::*;

    #[tokio::test]
    async fn a_server_that_speaks_http2_alone_is_understood() {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let ca_file = dir.path().join("ca.pem");
        std::fs::write(&ca_file, made.cert.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let stream = TokioIo::new(acceptor.accept(stream).await.unwrap());
            let service = service_fn(|request: Request<Incoming>| async move {
                let bytes = request.into_body().collect().await.unwrap().to_bytes();
                Ok::<_, Infallible>(Response::new(Full::new(bytes)))
            });
            http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await.unwrap();
        });
        let client = HttpClient::new(Ways {
            tls: client_config(Some(&ca_file), NoRoots::Refused, None).unwrap(),
            resolver: &resolver::TOKENS,
            proxy: OutboundProxy::Direct,
            connect_timeout: Duration::from_mins(1),
            idle_connections: 1,
            idle_timeout: Duration::from_mins(1),
        });
        for body in ["one", "two"] {
            let request = Request::post(&url).body(Bytes::from(body)).unwrap();
            let response = client.send(request).await.unwrap();
            assert_eq!(response.version(), http::Version::HTTP_2);
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
        }
    }
}
