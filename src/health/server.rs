//! The server of the health surface: HTTP/1.1, GET and HEAD alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::net::TcpListener;

use super::readiness::{Phase, Readiness};
use crate::clock;
use crate::metrics::Metrics;
use crate::net::serve::{self, Limits};
use crate::token::Roster;

/// What the health surface speaks of; clones speak of the same.
///
/// It holds no [`Drain`](crate::lifecycle::Drain): the drain waits for all of those, and this one outlives it.
#[derive(Clone, Debug)]
pub struct HealthState {
    roster: Roster,
    metrics: Metrics,
    draining: Arc<AtomicBool>,
}

impl HealthState {
    /// The health of a program that serves `roster`.
    #[must_use]
    pub fn new(roster: Roster, metrics: Metrics) -> Self {
        Self { roster, metrics, draining: Arc::default() }
    }

    /// The end has come: from now on `/readyz` says no. It is said before the drain starts, so that nobody sends a
    /// new connection to a listener that is gone.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// How things stand now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let phase = if self.draining.load(Ordering::Relaxed) { Phase::Draining } else { Phase::Serving };
        Readiness::read(&self.roster, phase, clock::now())
    }
}

/// Serves the health surface on `listener` until it is dropped, which is after the drain.
pub async fn serve(listener: TcpListener, state: HealthState) {
    serve::short_requests(listener, LIMITS, move |request| {
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
    connections: 256,
    requests: 64,
    header_timeout: Duration::from_secs(10),
    request_timeout: Duration::from_secs(10),
};
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;

    use futures_util::FutureExt as _;
    use futures_util::future::BoxFuture;
    use tokio::sync::Notify;
    use tokio::task::JoinSet;

    use super::super::client::{LastSeen, wait_ready};
    use super::*;
    use crate::lifecycle::DrainTrigger;
    use crate::net::ask::ask;
    use crate::oauth::{
        Client, ClientAuth, Error, Grant, Lifetime, Location, ServerSettings, TokenRequest, TokenResponse,
        TokenType, Transport,
    };
    use crate::secret::{Secret, SecretSource};
    use crate::token::{Attachment, Policy, Renewer, RenewerHandle, Source, TokenSettings};

    const SOON: Duration = Duration::from_secs(5);

    /// Answers once it is told to.
    #[derive(Default)]
    struct Held(Arc<Notify>);

    impl Source for Held {
        fn fetch(&self) -> BoxFuture<'_, Result<TokenResponse, Error>> {
            let answer = TokenResponse {
                access_token: Secret::new("sentinel-token".to_owned()),
                lifetime: Lifetime::ExpiresIn(Duration::from_hours(1)),
                token_type: TokenType::Bearer,
                scope: None,
            };
            async move {
                self.0.notified().await;
                Ok(answer)
            }
            .boxed()
        }
    }

    fn settings(required: bool) -> TokenSettings {
        let secret = SecretSource::Inline(Secret::new("sentinel-secret".to_owned()));
        TokenSettings {
            server: ServerSettings {
                location: Location::TokenEndpoint("https://as.example/token".parse().unwrap()),
                transport: Transport { ca_file: None, proxy: None, connect_timeout: SOON, timeout: SOON },
            },
            client: Client { id: "orders".into(), auth: ClientAuth::SecretBasic(secret) },
            request: TokenRequest {
                grant: Grant::ClientCredentials,
                scope: Vec::new(),
                audience: None,
                resource: Vec::new(),
                params: Vec::new(),
            },
            attachment: Attachment { header: http::header::AUTHORIZATION, scheme: "Bearer".into() },
            policy: Policy::default(),
            required,
        }
    }

    struct Program {
        address: SocketAddr,
        state: HealthState,
        api: Arc<Notify>,
        _renewer: RenewerHandle,
        _drain: DrainTrigger,
        _task: JoinSet<()>,
    }

    /// A program with a required token `api`, which comes once told so, and an optional one that never does.
    async fn program() -> Program {
        let (trigger, drain) = DrainTrigger::new();
        let metrics = Metrics::new();
        let renewer = Renewer::spawn(crate::token::Limits::default(), drain, &metrics);
        let source = Held::default();
        let api = Arc::clone(&source.0);
        let roster = Roster::default();
        roster.replace(BTreeMap::from([
            ("api".to_owned(), renewer.add("api", settings(true), source)),
            ("spare".to_owned(), renewer.add("spare", settings(false), Held::default())),
        ]));
        let state = HealthState::new(roster, metrics);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(serve(listener, state.clone()));
        Program { address, state, api, _renewer: renewer, _drain: trigger, _task: task }
    }

    async fn get(program: &Program, path: &str) -> (u16, String) {
        let request = Request::get(path).body(Full::default()).unwrap();
        let response = ask(program.address, request, SOON).await.unwrap();
        (response.status().as_u16(), String::from_utf8(response.body().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn it_is_ready_once_every_required_token_is_usable_and_until_the_drain() {
        let program = program().await;
        let (status, body) = get(&program, "/readyz").await;
        let readiness: Readiness = serde_json::from_str(&body).unwrap();
        assert_eq!((status, readiness.missing, readiness.tokens.len()), (503, vec!["api".to_owned()], 1));
        program.api.notify_one();
        wait_ready(program.address, clock::now() + SOON).await.unwrap();
        assert_eq!(get(&program, "/readyz").await.0, 200);
        program.state.draining();
        let (status, body) = get(&program, "/readyz").await;
        assert_eq!((status, body.contains("\"draining\":true")), (503, true));
        assert_eq!(get(&program, "/livez").await, (200, "ok\n".to_owned()), "it lives as long as it runs");
    }

    #[tokio::test]
    async fn it_is_read_only_and_names_what_is_there() {
        let program = program().await;
        for path in ["/livez", "/readyz", "/metrics"] {
            let request = Request::post(path).body(Full::default()).unwrap();
            let response = ask(program.address, request, SOON).await.unwrap();
            assert_eq!(
                (response.status().as_u16(), response.headers()[ALLOW].as_bytes()),
                (405, &b"GET, HEAD"[..])
            );
        }
        let head = Request::head("/livez").body(Full::default()).unwrap();
        let head = ask(program.address, head, SOON).await.unwrap();
        assert_eq!((head.status().as_u16(), head.body().len()), (200, 0));
        let (status, body) = get(&program, "/").await;
        assert!(status == 404 && body.contains("/livez, /readyz and /metrics"), "{body}");
    }

    #[tokio::test]
    async fn metrics_are_prometheus_text_and_nothing_shows_a_secret() {
        let program = program().await;
        program.api.notify_one();
        wait_ready(program.address, clock::now() + SOON).await.unwrap();
        let request = Request::get("/metrics").body(Full::default()).unwrap();
        let response = ask(program.address, request, SOON).await.unwrap();
        assert_eq!(response.headers()[CONTENT_TYPE], PROMETHEUS_TEXT);
        let metrics = String::from_utf8(response.body().to_vec()).unwrap();
        assert!(
            metrics.contains("cupbearer_build_info{version=") && metrics.contains("{token=\"api\"}"),
            "{metrics}"
        );
        for shown in [metrics, get(&program, "/readyz").await.1, format!("{:?}", program.state)] {
            assert!(!shown.contains("sentinel"), "{shown}");
        }
    }

    #[tokio::test]
    async fn waiting_ends_with_what_was_seen_last() {
        let program = program().await;
        let soon = || clock::now() + Duration::from_millis(250);
        let missing = wait_ready(program.address, soon()).await.unwrap_err();
        assert_eq!(missing.to_string(), "not ready: these tokens are missing: api");
        let gone = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let silent = wait_ready(gone, soon()).await.unwrap_err();
        assert!(matches!(silent.last, LastSeen::Silent(_)), "{silent}");
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let start = clock::now();
        let nothing = wait_ready(mute.local_addr().unwrap(), soon()).await.unwrap_err();
        assert!(matches!(nothing.last, LastSeen::Nothing(_)) && start.elapsed() < Duration::from_secs(2));
    }
}
