//! Where a person's browser comes back to: a listener on this machine, for one login (RFC 8252 section 7.3).
//!
//! It answers `GET` of exactly the one path, under exactly its own Host, and only the answer to the login that it was
//! opened for ends it; whatever else comes is refused and waited past. It is closed by whoever drops it.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use url::{Host, Url};

use super::page::page;
use crate::net::eviction::Evictions;
use crate::net::serve::{Limits, short_requests};
use crate::oauth::Callback;

/// Why there is nowhere to come back to.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// Something else is there.
    #[error(
        "another program listens on {0}, where `redirect_uri` leads the browser; end it, or set `redirect_uri` to another port that is registered for this client"
    )]
    Taken(SocketAddr),
    /// The system refused it.
    #[error("the address {address} of `redirect_uri` cannot be listened on: {kind}")]
    Refused {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        kind: io::ErrorKind,
    },
}

/// A place to come back to.
#[derive(Debug)]
pub(super) struct Redirect {
    listeners: Vec<TcpListener>,
    /// With the port that it has.
    uri: Url,
}

impl Redirect {
    /// Listens where `configured` says; without a port there, at a free one. `localhost` is both loopback addresses
    /// where the machine has both: browsers differ in which one they take first.
    pub(super) async fn open(configured: &Url) -> Result<Self, RedirectError> {
        let port = configured.port().unwrap_or(0);
        let (first, second) = match configured.host() {
            Some(Host::Ipv6(address)) => (SocketAddr::from((address, port)), None),
            Some(Host::Ipv4(address)) => (SocketAddr::from((address, port)), None),
            _ => (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), Some(Ipv6Addr::LOCALHOST)),
        };
        let refused = |error: &io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => RedirectError::Taken(first),
            kind => RedirectError::Refused { address: first, kind },
        };
        let listener = TcpListener::bind(first).await.map_err(|error| refused(&error))?;
        let port = listener.local_addr().map_err(|error| refused(&error))?.port();
        let mut listeners = vec![listener];
        if let Some(second) = second {
            listeners.extend(TcpListener::bind((second, port)).await.ok());
        }
        let mut uri = configured.clone();
        // A host is there, so that a port can be.
        let _ = uri.set_port(Some(port));
        Ok(Self { listeners, uri })
    }

    /// What the authorization server is told, to the letter.
    pub(super) fn uri(&self) -> &str {
        self.uri.as_str()
    }

    /// Serves until it is dropped: hands each well-formed answer to `judge`, which says what to show.
    pub(super) async fn serve<J, F>(self, judge: J)
    where
        J: Fn(Callback) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let uri = self.uri;
        let servers = self.listeners.into_iter().map(|listener| {
            let (uri, judge) = (uri.clone(), judge.clone());
            short_requests(listener, LIMITS, Evictions::logged("login"), move |request: Request<Incoming>| {
                let asked = admit(&uri, &request);
                let judge = judge.clone();
                async move {
                    match asked {
                        Ok(callback) => judge(callback).await,
                        Err((status, sentence)) => page(status, "Not here", sentence),
                    }
                }
            })
        });
        futures_util::future::join_all(servers).await;
    }
}

/// The answer in a request, where it is one that a browser sends here after a login.
fn admit<B>(uri: &Url, request: &Request<B>) -> Result<Callback, (StatusCode, &'static str)> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, more) = (hosts.next().and_then(|host| host.to_str().ok()), hosts.next());
    // A name that was rebound to this machine is not ours.
    if more.is_some()
        || host.is_none_or(|host| {
            !uri[url::Position::BeforeHost..url::Position::AfterPort].eq_ignore_ascii_case(host)
        })
    {
        return Err((StatusCode::MISDIRECTED_REQUEST, "This address is not the one of the login."));
    }
    if request.uri().path() != uri.path() {
        return Err((StatusCode::NOT_FOUND, "There is nothing but the end of a login here."));
    }
    if request.method() != Method::GET {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "A login ends with a GET."));
    }
    Ok(Callback::parse(request.uri().query().unwrap_or_default()))
}

/// What the place may cost: a browser and a few strangers. The request that ends the login waits for the token.
const LIMITS: Limits = Limits {
    connections: 16,
    requests: 8,
    header_timeout: Duration::from_secs(10),
    request_timeout: Duration::from_mins(2),
};

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &str, target: &str, host: &str) -> Option<u16> {
        let uri = Url::parse("http://127.0.0.1:4711/callback").unwrap();
        let request = Request::builder().method(method).uri(target).header(HOST, host).body(()).unwrap();
        admit(&uri, &request).err().map(|(status, _)| status.as_u16())
    }

    #[test]
    fn only_the_exact_path_under_the_exact_host_is_the_end_of_a_login() {
        assert_eq!(status("GET", "/callback?state=a", "127.0.0.1:4711"), None);
        for (method, target, host, want) in [
            ("GET", "/callback?state=a", "evil.test:4711", 421),
            ("GET", "/callback?state=a", "localhost:4711", 421),
            ("GET", "/callback?state=a", "127.0.0.1", 421),
            ("GET", "/callback/", "127.0.0.1:4711", 404),
            ("GET", "/", "127.0.0.1:4711", 404),
            ("POST", "/callback?state=a", "127.0.0.1:4711", 405),
            ("HEAD", "/callback", "127.0.0.1:4711", 405),
        ] {
            assert_eq!(status(method, target, host), Some(want), "{method} {target} {host}");
        }
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let uri = Url::parse(&format!("http://127.0.0.1:{port}/callback")).unwrap();
        let error = Redirect::open(&uri).await.unwrap_err().to_string();
        assert!(error.contains(&port.to_string()) && error.contains("`redirect_uri`"), "{error}");
    }

    #[tokio::test]
    async fn without_a_port_a_free_one_is_told_to_the_server() {
        for text in ["http://127.0.0.1/callback", "http://localhost/callback"] {
            let redirect = Redirect::open(&Url::parse(text).unwrap()).await.unwrap();
            let uri = Url::parse(redirect.uri()).unwrap();
            assert!(uri.port().is_some_and(|port| port > 0) && uri.path() == "/callback", "{uri}");
        }
    }
}
