//! The mutating admission webhook: HTTPS, for the API server and for the kubelet's probes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cupbearer_inject::admission::{self, Decision, Policy, ReviewResponse};
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};

use super::lifetime::{Lifetime, LifetimeLog};
use super::metrics::WebhookMetrics;
use crate::clock;
use crate::lifecycle::Drain;
use crate::metrics::{CertificateUse, Metrics, Server};
use crate::net::acceptor::Acceptor;
use crate::net::bind;
use crate::net::eviction::Evictions;
use crate::net::files::{LOOK_INTERVAL, Watched};
use crate::net::handshake_fault::HandshakeFault;
use crate::net::serve::{self, Place};
use crate::net::tls::TlsError;

/// A webhook that is ready to serve.
#[derive(Debug)]
pub(crate) struct Webhook {
    listener: TcpListener,
    surface: Arc<Surface>,
}

/// What every connection has in common.
#[derive(Debug)]
struct Surface {
    acceptor: Acceptor,
    policy: Policy,
    registry: Metrics,
    metrics: WebhookMetrics,
    lifetime: LifetimeLog,
}

/// Why it cannot serve.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebhookError {
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be listened on.
    #[error("{address} cannot be listened on: {source}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

impl Webhook {
    /// Reads the certificate and its key, and listens.
    ///
    /// # Errors
    /// [`WebhookError`]
    pub(crate) async fn bind(
        address: SocketAddr,
        cert_file: &Path,
        key_file: &Path,
        policy: Policy,
    ) -> Result<Self, WebhookError> {
        let acceptor = Acceptor::load(cert_file, key_file, None)?;
        let registry = Metrics::new();
        acceptor.register(&registry, CertificateUse::Webhook);
        let metrics = WebhookMetrics::new(&registry);
        let lifetime = LifetimeLog::default();
        lifetime.look(acceptor.validity());
        let listener =
            bind::listen(address).await.map_err(|source| WebhookError::Listen { address, source })?;
        Ok(Self { listener, surface: Arc::new(Surface { acceptor, policy, registry, metrics, lifetime }) })
    }

    /// Where it listens, which is told by the system where port 0 was asked for.
    #[must_use]
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Serves until `drain` starts; then requests under way are answered, for 10 s at most. The certificate is read again
    /// when its files change.
    pub(crate) async fn serve(self, drain: Drain) {
        let Self { listener, surface } = self;
        let mut last = drain.clone();
        let evictions = Evictions::counted(Server::Webhook, &surface.registry);
        let started = last.started();
        let connections =
            serve::connections(listener, MOST_CONNECTIONS, evictions, started, |stream, place| {
                connection(stream, place, Arc::clone(&surface), drain.clone())
            });
        let mut end = drain.clone();
        let too_long = async {
            end.started().await;
            tokio::time::sleep(LAST_ANSWERS).await;
        };
        tokio::select! {
            () = connections => {}
            () = reload(&surface) => {}
            () = too_long => {}
        }
        surface.acceptor.finish();
    }
}

async fn connection(stream: TcpStream, place: Place, surface: Arc<Surface>, mut drain: Drain) {
    let acceptor = &surface.acceptor;
    let peer = stream.peer_addr().ok();
    // A probe of the port leaves without a byte.
    let mut first = [0; FIRST_BYTES];
    let Ok(Ok(read @ 1..)) = tokio::time::timeout(HANDSHAKE, stream.peek(&mut first)).await else { return };
    if HandshakeFault::is_plain_http(&first[..read]) {
        return acceptor.failed(HandshakeFault::PlainHttp, peer);
    }
    let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
    let stream = match shaken.unwrap_or(Err(HandshakeFault::Timeout)) {
        Ok(stream) => stream,
        Err(fault) => return acceptor.failed(fault, peer),
    };
    let asked = Arc::new(AtomicBool::new(false));
    let (has_asked, served) = (Arc::clone(&asked), Arc::clone(&surface));
    let service = hyper::service::service_fn(move |request| {
        has_asked.store(true, Ordering::Relaxed);
        let (surface, place) = (Arc::clone(&served), place.clone());
        async move { Ok::<_, std::convert::Infallible>(surface.answer(request, &place).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(IDLE);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        // A client that connects and sends nothing must not keep a place from the API server.
        () = silence(&asked) => return,
        () = drain.started() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// Ends where nothing was asked within [`HANDSHAKE`].
async fn silence(asked: &AtomicBool) {
    tokio::time::sleep(HANDSHAKE).await;
    if asked.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

impl Surface {
    async fn answer(&self, request: Request<Incoming>, place: &Place) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, path @ ("/livez" | "/readyz" | "/metrics")) => {
                let mut response = match path {
                    "/readyz" => self.ready(),
                    "/metrics" => typed(StatusCode::OK, PROMETHEUS_TEXT, self.registry.render()),
                    _ => text(StatusCode::OK, "ok\n".to_owned()),
                };
                // Who looks now and then gains nothing by a connection that stays. HTTP/2 has no such field.
                if request.version() <= Version::HTTP_11 {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
            (&Method::POST, "/inject") => self.review(request.into_body(), place).await,
            (_, "/inject" | "/livez" | "/readyz" | "/metrics") => {
                let says = "POST to /inject, GET /livez, /readyz and /metrics\n";
                text(StatusCode::METHOD_NOT_ALLOWED, says.to_owned())
            }
            _ => text(StatusCode::NOT_FOUND, "there are /inject, /livez, /readyz and /metrics\n".to_owned()),
        }
    }

    /// With a certificate that the API server refuses, no review arrives. A restart would not change it: `/livez` is as it was.
    fn ready(&self) -> Response<Full<Bytes>> {
        let says = match Lifetime::now(self.acceptor.validity()) {
            lifetime if lifetime.is_accepted() => return text(StatusCode::OK, "ok\n".to_owned()),
            Lifetime::Ahead => "the certificate is not valid yet\n",
            _ => "the certificate has expired\n",
        };
        text(StatusCode::SERVICE_UNAVAILABLE, says.to_owned())
    }

    async fn review(&self, body: Incoming, place: &Place) -> Response<Full<Bytes>> {
        let body = match tokio::time::timeout(BODY, read(body)).await {
            Ok(Ok(Some(body))) => body,
            Ok(Ok(None)) => {
                self.metrics.reviewed(None, Duration::ZERO);
                return text(StatusCode::PAYLOAD_TOO_LARGE, "a review has at most 8 MiB\n".to_owned());
            }
            Ok(Err(_)) | Err(_) => return text(StatusCode::BAD_REQUEST, "the body broke off\n".to_owned()),
        };
        // Until here the connection waited for its peer.
        let _at_work = place.work();
        let begun = clock::now();
        let response = admission::respond(&body, &self.policy);
        self.metrics.reviewed(response.as_ref().ok().map(|response| response.decision), begun.elapsed());
        match response {
            Ok(response) => {
                log(&response);
                typed(StatusCode::OK, "application/json", response.body.to_string())
            }
            Err(error) => {
                tracing::warn!(error, "a review cannot be read");
                text(StatusCode::BAD_REQUEST, error + "\n")
            }
        }
    }
}

fn log(response: &ReviewResponse) {
    let ReviewResponse { object, uid, namespace, name, decision, problem, .. } = response;
    let (outcome, problem) = (decision.as_str(), problem.as_deref().unwrap_or_default());
    match decision {
        Decision::Refused => {
            tracing::warn!(uid, namespace, name, object, outcome, problem, "a pod was refused");
        }
        Decision::LetIn => {
            tracing::warn!(uid, namespace, name, object, outcome, problem, "a pod was let in by --fail open");
        }
        Decision::Injected | Decision::Moved | Decision::LeftAlone => {
            tracing::info!(uid, namespace, name, object, outcome, problem, "a review was answered");
        }
    }
}

/// The whole body; `None` where it is too large. Up to a point it is read to its end all the same: who is answered in the middle of
/// sending may not see the answer.
async fn read(mut body: Incoming) -> Result<Option<Vec<u8>>, hyper::Error> {
    let (mut kept, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let data = frame?.into_data().unwrap_or_default();
        length += data.len();
        if length <= LARGEST_REVIEW {
            kept.extend_from_slice(&data);
        } else if length <= LARGEST_READ {
            kept = Vec::new();
        } else {
            break;
        }
    }
    Ok((length <= LARGEST_REVIEW).then_some(kept))
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", text)
}

fn typed(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Reads the certificate again whenever its files have changed, which may be one before the other.
async fn reload(surface: &Surface) {
    let acceptor = &surface.acceptor;
    let files: Vec<PathBuf> = acceptor.files().map(Path::to_owned).collect();
    let mut files = Watched::new(&files);
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        acceptor.report_failures();
        if !files.changed().is_empty() {
            let reloaded = acceptor.reload();
            surface.metrics.reloaded(reloaded.is_ok());
            match reloaded {
                Ok(()) => tracing::info!("the certificate was replaced"),
                Err(error) => tracing::warn!(%error, "the new certificate cannot be used; the old one stays"),
            }
        }
        surface.lifetime.look(acceptor.validity());
    }
}

const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The API server keeps a handful.
const MOST_CONNECTIONS: usize = 256;
/// An object has at most 1.5 MiB, and an update comes with the old one.
const LARGEST_REVIEW: usize = 8 * 1024 * 1024;
/// What is read of one that is larger.
const LARGEST_READ: usize = 8 * LARGEST_REVIEW;
/// Bytes that tell HTTP in the clear from other protocols.
const FIRST_BYTES: usize = 16;
const HANDSHAKE: Duration = Duration::from_secs(10);
const BODY: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_mins(2);
const LAST_ANSWERS: Duration = Duration::from_secs(10);
