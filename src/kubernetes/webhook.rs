//! The mutating admission webhook: HTTPS, for the API server and for the kubelet's probes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};

use super::admission::{self, Policy};
use crate::lifecycle::Drain;
use crate::net::acceptor::Acceptor;
use crate::net::eviction::Evictions;
use crate::net::family;
use crate::net::files::{LOOK_INTERVAL, Watched};
use crate::net::handshake_fault::HandshakeFault;
use crate::net::serve::{self, Place};
use crate::net::tls::TlsError;

/// A webhook that is ready to serve.
#[derive(Debug)]
pub struct Webhook {
    listener: TcpListener,
    acceptor: Arc<Acceptor>,
    policy: Arc<Policy>,
}

/// Why it cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
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
    pub async fn bind(
        address: SocketAddr,
        cert_file: &Path,
        key_file: &Path,
        policy: Policy,
    ) -> Result<Self, WebhookError> {
        let acceptor = Arc::new(Acceptor::load(cert_file, key_file, None)?);
        let listener =
            family::listen(address).await.map_err(|source| WebhookError::Listen { address, source })?;
        Ok(Self { listener, acceptor, policy: Arc::new(policy) })
    }

    /// Where it listens, which is told by the system where port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Serves until `drain` starts; then requests under way are answered, for 10 s at most. The certificate is read again
    /// when its files change.
    pub async fn serve(self, drain: Drain) {
        let Self { listener, acceptor, policy } = self;
        let mut last = drain.clone();
        let evictions = Evictions::logged("webhook");
        let started = last.started();
        let connections =
            serve::connections(listener, MOST_CONNECTIONS, evictions, started, |stream, place| {
                connection(stream, place, Arc::clone(&acceptor), Arc::clone(&policy), drain.clone())
            });
        let mut end = drain.clone();
        let too_long = async {
            end.started().await;
            tokio::time::sleep(LAST_ANSWERS).await;
        };
        tokio::select! {
            () = connections => {}
            () = reload(&acceptor) => {}
            () = too_long => {}
        }
        acceptor.finish();
    }
}

async fn connection(
    stream: TcpStream,
    place: Place,
    acceptor: Arc<Acceptor>,
    policy: Arc<Policy>,
    mut drain: Drain,
) {
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
    let has_asked = Arc::clone(&asked);
    let service = hyper::service::service_fn(move |request| {
        has_asked.store(true, Ordering::Relaxed);
        let (policy, place) = (Arc::clone(&policy), place.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(request, &policy, &place).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(IDLE);
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        // Whoever connects and asks nothing must not keep a place from the API server.
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

async fn answer(request: Request<Incoming>, policy: &Policy, place: &Place) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/livez" | "/readyz") => {
            let mut response = text(StatusCode::OK, "ok\n".to_owned());
            // Who looks now and then gains nothing by a connection that stays. HTTP/2 has no such field.
            if request.version() <= Version::HTTP_11 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
        (&Method::POST, "/inject") => review(request.into_body(), policy, place).await,
        (_, "/inject" | "/livez" | "/readyz") => {
            text(StatusCode::METHOD_NOT_ALLOWED, "POST to /inject, GET /livez and /readyz\n".to_owned())
        }
        _ => text(StatusCode::NOT_FOUND, "there are /inject, /livez and /readyz\n".to_owned()),
    }
}

async fn review(body: Incoming, policy: &Policy, place: &Place) -> Response<Full<Bytes>> {
    let body = match tokio::time::timeout(BODY, read(body)).await {
        Ok(Ok(Some(body))) => body,
        Ok(Ok(None)) => {
            return text(StatusCode::PAYLOAD_TOO_LARGE, "a review has at most 8 MiB\n".to_owned());
        }
        Ok(Err(_)) | Err(_) => return text(StatusCode::BAD_REQUEST, "the body broke off\n".to_owned()),
    };
    // Until here the connection waited for its peer.
    let _at_work = place.work();
    match admission::answer(&body, policy) {
        Ok(answered) => {
            let problem = answered.problem.unwrap_or_default();
            tracing::info!(
                object = answered.object,
                outcome = answered.outcome,
                problem,
                "a review was answered"
            );
            let mut response = text(StatusCode::OK, answered.review.to_string());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => {
            tracing::warn!(error, "a review cannot be read");
            text(StatusCode::BAD_REQUEST, error + "\n")
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
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Reads the certificate again whenever its files have changed, which may be one before the other.
async fn reload(acceptor: &Acceptor) {
    let files: Vec<PathBuf> = acceptor.files().map(Path::to_owned).collect();
    let mut files = Watched::new(&files);
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        acceptor.report_failures();
        if files.changed().is_empty() {
            continue;
        }
        match acceptor.reload() {
            Ok(()) => tracing::info!("the certificate was replaced"),
            Err(error) => tracing::warn!(%error, "the new certificate cannot be used; the old one stays"),
        }
    }
}

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
