//! The server of the health surface: HTTP/1.1, GET and HEAD alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::net::TcpListener;

use super::readiness::{Phase, Readiness, ReadyOnce};
use crate::clock::BootInstant;
use crate::metrics::{Metrics, Server};
use crate::net::descriptors::SURFACE_CONNECTIONS;
use crate::net::eviction::Evictions;
use crate::net::serve::{self, Limits};
use crate::token::TokenRegistry;

/// Where the health surface is, and what readiness stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HealthSettings {
    /// Its address.
    pub listen: SocketAddr,
    /// What `/readyz` waits for.
    pub ready: ReadyOnce,
}

/// What the health surface speaks of; clones speak of the same.
///
/// It holds no [`Drain`](crate::lifecycle::Drain): the drain waits for all of those, and this one outlives it.
#[derive(Clone, Debug)]
pub(crate) struct HealthState {
    registry: TokenRegistry,
    metrics: Metrics,
    draining: Arc<AtomicBool>,
    /// Whether all required tokens have been there once; `None`: that does not count.
    started: Option<Arc<AtomicBool>>,
}

impl HealthState {
    /// The health of a program that serves `registry`.
    #[must_use]
    pub(crate) fn new(registry: TokenRegistry, metrics: Metrics, ready: ReadyOnce) -> Self {
        let started = (ready == ReadyOnce::Started).then(Arc::default);
        Self { registry, metrics, draining: Arc::default(), started }
    }

    /// The end has come: from now on `/readyz` says no. It is reported before the drain starts, so that no load balancer sends a
    /// new connection to a listener that is gone.
    pub(crate) fn draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// How things stand now.
    #[must_use]
    pub(crate) fn readiness(&self) -> Readiness {
        let phase = if self.draining.load(Ordering::Relaxed) { Phase::Draining } else { Phase::Serving };
        Readiness::read(&self.registry, phase, self.started.as_deref(), BootInstant::now())
    }
}

/// Serves the health surface on `listener` until it is dropped, which is after the drain.
pub(crate) async fn serve(listener: TcpListener, state: HealthState) {
    let evictions = Evictions::counted(Server::Health, &state.metrics);
    serve::short_requests(listener, LIMITS, evictions, move |request| {
        let response = answer(&state, &request);
        async move { response }
    })
    .await;
}

fn answer(state: &HealthState, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mut response = match request.uri().path() {
        "/livez" | "/readyz" | "/metrics" if !matches!(*request.method(), Method::GET | Method::HEAD) => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "read it with GET or HEAD\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" => readyz(&state.readiness()),
        "/metrics" => typed(StatusCode::OK, PROMETHEUS_TEXT, state.metrics.render()),
        _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics\n"),
    };
    // Who looks now and then gains nothing by a connection that stays, and would keep its place from another.
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn readyz(readiness: &Readiness) -> Response<Full<Bytes>> {
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // Text and booleans: it always serialises.
    let body = serde_json::to_string(readiness).unwrap_or_default();
    typed(status, "application/json", body + "\n")
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", body.to_owned())
}

fn typed(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// What the health surface may cost.
const LIMITS: Limits = Limits {
    connections: SURFACE_CONNECTIONS,
    requests: 32,
    header_timeout: Duration::from_secs(10),
    request_timeout: Duration::from_secs(10),
};
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;
    use crate::net::local_client;

    const SOON: Duration = Duration::from_secs(5);

    /// A program that needs no token.
    async fn program() -> (SocketAddr, HealthState, JoinSet<()>) {
        let state = HealthState::new(TokenRegistry::default(), Metrics::new(), ReadyOnce::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(serve(listener, state.clone()));
        (address, state, task)
    }

    async fn send(address: SocketAddr, method: Method, path: &str) -> Response<Bytes> {
        let request = Request::builder().method(method).uri(path).body(Full::default()).unwrap();
        local_client::send(address, request, SOON).await.unwrap()
    }

    #[tokio::test]
    async fn it_is_ready_until_the_drain_and_lives_on_in_it() {
        let (address, state, _task) = program().await;
        assert_eq!(send(address, Method::GET, "/readyz").await.status(), StatusCode::OK);
        state.draining();
        let answer = send(address, Method::GET, "/readyz").await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let readiness: Readiness = serde_json::from_slice(answer.body()).unwrap();
        assert!(readiness.draining && !readiness.ready);
        let alive = send(address, Method::GET, "/livez").await;
        assert_eq!((alive.status().as_u16(), &alive.body()[..]), (200, &b"ok\n"[..]));
    }

    #[tokio::test]
    async fn it_is_read_only_and_names_what_is_there() {
        let (address, _state, _task) = program().await;
        for path in ["/livez", "/readyz", "/metrics"] {
            let answer = send(address, Method::POST, path).await;
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(answer.headers()[ALLOW], "GET, HEAD");
        }
        let head = send(address, Method::HEAD, "/livez").await;
        assert_eq!((head.status().as_u16(), head.body().len()), (200, 0));
        let unknown = send(address, Method::GET, "/").await;
        assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
        assert_eq!(&unknown.body()[..], b"there are /livez, /readyz and /metrics\n");
    }

    #[tokio::test]
    async fn metrics_are_prometheus_text() {
        let (address, _state, _task) = program().await;
        let answer = send(address, Method::GET, "/metrics").await;
        assert_eq!(answer.headers()[CONTENT_TYPE], PROMETHEUS_TEXT);
        let text = String::from_utf8(answer.body().to_vec()).unwrap();
        assert!(text.contains("cupbearer_build_info{version="), "{text}");
    }
}
