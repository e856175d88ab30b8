//! Where a person's browser comes back to: a listener on this machine, for one login (RFC 8252 section 7.3).
//!
//! It answers `GET` of exactly the one path, under exactly its own Host, and only the answer to the login that it was
//! opened for ends it; whatever else comes is refused and waited past. Dropping it closes it.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use url::{Host, Url};

use super::page::page;
use crate::net::browser::is_speculative;
use crate::net::eviction::Evictions;
use crate::net::host_policy::only_host;
use crate::net::serve::{Limits, short_requests};
use crate::oauth::{Callback, RedirectUri};

/// Why there is nowhere to come back to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RedirectError {
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
    uri: RedirectUri,
}

impl Redirect {
    /// Listens where `configured` says; without a port there, at a free one. `localhost` is both loopback addresses
    /// where the machine has both: browsers differ in which one they take first, and a program at the other one would
    /// receive the code.
    pub(super) async fn open(configured: &RedirectUri) -> Result<Self, RedirectError> {
        let hosts = match configured.url().and_then(Url::host) {
            Some(Host::Ipv6(address)) => vec![IpAddr::V6(address)],
            Some(Host::Ipv4(address)) => vec![IpAddr::V4(address)],
            _ => vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
        };
        let port = configured.port().unwrap_or(0);
        let mut tries = 1;
        let (listeners, port) = loop {
            match bind(&hosts, port).await {
                // The port that is free at one address is taken at the other.
                Err(RedirectError::Taken(_)) if port == 0 && tries < MOST_PORTS => tries += 1,
                outcome => break outcome?,
            }
        };
        Ok(Self { listeners, uri: configured.clone().on_port(port) })
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
        let Some(uri) = self.uri.url().cloned() else { return };
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

/// Listens at each of `hosts` that this machine has, all on one port. A port that is taken at one of them counts as taken.
async fn bind(hosts: &[IpAddr], mut port: u16) -> Result<(Vec<TcpListener>, u16), RedirectError> {
    let mut listeners = Vec::with_capacity(hosts.len());
    let mut refused = None;
    for host in hosts {
        let address = SocketAddr::new(*host, port);
        let bound = TcpListener::bind(address).await;
        match bound.and_then(|listener| Ok((listener.local_addr()?.port(), listener))) {
            Ok((actual, listener)) => {
                port = actual;
                listeners.push(listener);
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(RedirectError::Taken(address));
            }
            Err(error) => refused = Some(RedirectError::Refused { address, kind: error.kind() }),
        }
    }
    match refused {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok((listeners, port)),
    }
}

/// The answer in a request, where it is one that a browser sends here after a login.
fn admit<B>(uri: &Url, request: &Request<B>) -> Result<Callback, (StatusCode, &'static str)> {
    let own = &uri[url::Position::BeforeHost..url::Position::AfterPort];
    // A name that was rebound to this machine is not ours.
    if only_host(request.headers()).is_none_or(|host| !own.eq_ignore_ascii_case(host)) {
        return Err((StatusCode::MISDIRECTED_REQUEST, "This address is not the one of the login."));
    }
    if request.uri().path() != uri.path() {
        return Err((StatusCode::NOT_FOUND, "There is nothing but the end of a login here."));
    }
    if request.method() != Method::GET {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "A login ends with a GET."));
    }
    // A code counts once: the request that a person sees the response of redeems it.
    if is_speculative(request.headers()) {
        return Err((
            StatusCode::FORBIDDEN,
            "A login does not end with a request that is sent ahead of time.",
        ));
    }
    Ok(Callback::parse(request.uri().query().unwrap_or_default()))
}

/// How many free ports are tried where one has to be free at two addresses.
const MOST_PORTS: u32 = 10;
/// What the place may cost: a browser and a few strangers. The request that ends the login waits for the token.
const LIMITS: Limits = Limits {
    connections: 16,
    requests: 8,
    header_timeout: Duration::from_secs(10),
    request_timeout: Duration::from_mins(2),
};

#[cfg(test)]
mod tests {
    use http::header::HOST;

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

    #[test]
    fn a_request_that_is_sent_ahead_of_time_ends_no_login() {
        let uri = Url::parse("http://127.0.0.1:4711/callback").unwrap();
        let request = Request::builder()
            .uri("/callback?state=a&code=b")
            .header(HOST, "127.0.0.1:4711")
            .header("sec-purpose", "prefetch")
            .body(())
            .unwrap();
        assert_eq!(admit(&uri, &request).unwrap_err().0, StatusCode::FORBIDDEN);
    }

    async fn opened(text: &str) -> Result<Redirect, RedirectError> {
        Redirect::open(&RedirectUri::parse(text).unwrap()).await
    }

    #[tokio::test]
    async fn a_port_that_is_taken_at_any_address_of_the_name_is_named_with_what_to_do() {
        for (held, host) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1", "localhost"),
            ("[::1]", "localhost"),
            ("[::1]", "[::1]"),
        ] {
            let taken = TcpListener::bind(format!("{held}:0")).await.unwrap();
            let address = taken.local_addr().unwrap();
            let error = opened(&format!("http://{host}:{}/callback", address.port())).await.unwrap_err();
            assert!(matches!(error, RedirectError::Taken(at) if at == address), "{held} {host}: {error}");
            assert!(error.to_string().contains("`redirect_uri`"), "{error}");
        }
    }

    #[tokio::test]
    async fn without_a_port_a_free_one_is_told_to_the_server() {
        for text in ["http://127.0.0.1/callback", "http://localhost/callback"] {
            let redirect = opened(text).await.unwrap();
            let uri = Url::parse(redirect.uri()).unwrap();
            assert!(uri.port().is_some_and(|port| port > 0) && uri.path() == "/callback", "{uri}");
        }
    }
}
