//! The way of spans to a collector: OTLP over HTTP in protobuf (OTLP specification 1.x, section "OTLP/HTTP"), a batch at a time. When they are
//! sent, what is sent again, and what a user hears of it; `message` says in what words. [`super::Traces::start`] begins it.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::BodyExt as _;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceResponse,
};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::message::message;
use super::metrics::SpanMetrics;
use super::{Collector, Span, TracesError};
use crate::clock;
use crate::net::http_client::{HttpClient, HttpFault, Ways};
use crate::net::outbound_proxy::OutboundProxy;
use crate::net::resolver;
use crate::net::retry_after::{RetryAfter, retry_after};
use crate::net::tls::{NoRoots, client_config};

/// A collector, and what is reported of the sender.
#[derive(Debug)]
pub(super) struct Exporter {
    collector: Collector,
    uri: Uri,
    client: HttpClient,
    /// The collector asked for silence until then.
    silent_until: Option<Instant>,
    /// The last batch was lost.
    failing: bool,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Network(HttpFault),
    #[error("it gave no answer in time")]
    Timeout,
    #[error("it answered {0}")]
    Status(StatusCode, Option<Duration>),
    #[error("it answers, but not in OTLP: is this its port for OTLP over HTTP?")]
    NotOtlp,
}

impl Exporter {
    /// Reads the certificate authorities.
    pub(super) fn new(collector: Collector) -> Result<Self, TracesError> {
        let client = client(&collector)?;
        let uri = collector.endpoint.as_str().parse();
        let uri = uri.map_err(|_| TracesError::Collector("the endpoint is no URL".to_owned()))?;
        Ok(Self { collector, uri, client, silent_until: None, failing: false })
    }

    /// Sends `spans` as they come, until `end` is told or no recorder is left; then the rest.
    pub(super) async fn run(
        mut self,
        mut spans: mpsc::Receiver<Span>,
        mut end: oneshot::Receiver<()>,
        metrics: SpanMetrics,
    ) {
        tracing::info!(endpoint = %self.collector.endpoint, "traces go to a collector");
        let mut batch = Vec::with_capacity(BATCH);
        let mut ending = false;
        while !ending {
            if let Some(until) = self.silent_until.take() {
                tokio::select! {
                    () = sleep_until(until) => {}
                    _ = &mut end => ending = true,
                }
            }
            if !ending {
                tokio::select! {
                    taken = spans.recv_many(&mut batch, BATCH) => ending = taken == 0,
                    _ = &mut end => ending = true,
                }
            }
            if !ending {
                // More may follow: a batch is cheaper than as many as it has spans.
                let fill = async {
                    while let room @ 1.. = BATCH - batch.len() {
                        if spans.recv_many(&mut batch, room).await == 0 {
                            break;
                        }
                    }
                };
                tokio::select! {
                    _ = timeout(DELAY, fill) => {}
                    _ = &mut end => ending = true,
                }
            }
            if batch.len() < BATCH {
                metrics.caught_up();
            }
            while !batch.is_empty() || ending {
                if ending {
                    while batch.len() < BATCH
                        && let Ok(span) = spans.try_recv()
                    {
                        batch.push(span);
                    }
                    if batch.is_empty() {
                        break;
                    }
                }
                self.deliver(std::mem::take(&mut batch), &metrics).await;
            }
        }
    }

    /// Sends a batch, again where that may help. A change of fortune is logged once.
    async fn deliver(&mut self, batch: Vec<Span>, metrics: &SpanMetrics) {
        let count = batch.len();
        let message = bytes::Bytes::from(message(&self.collector.resource, batch).encode_to_vec());
        let deadline = clock::now() + TIMEOUT;
        let mut pause = FIRST_PAUSE;
        let ended = loop {
            let answer = timeout_at(deadline, self.post(message.clone())).await;
            let failure = match answer.unwrap_or(Err(Failure::Timeout)) {
                Ok(refused) => break Ok(refused),
                Err(failure) => failure,
            };
            let wait = failure.worth_waiting(pause);
            match wait.map(|wait| clock::now() + wait) {
                Some(next) if next < deadline => sleep_until(next).await,
                Some(next) => {
                    // So long nothing is sent at all: what comes meanwhile waits, as far as there is room.
                    self.silent_until = Some(next);
                    break Err(failure);
                }
                None => break Err(failure),
            }
            pause = (pause * 2).min(LONGEST_SILENCE);
        };
        let endpoint = &self.collector.endpoint;
        match ended {
            Ok(ExportTracePartialSuccess { rejected_spans: refused @ 1.., error_message }) => {
                let refused = usize::try_from(refused).unwrap_or(count).min(count);
                metrics.sent(count - refused);
                metrics.failed(refused);
                if !std::mem::replace(&mut self.failing, true) {
                    let says: String =
                        error_message.chars().filter(|c| !c.is_control()).take(LONGEST_SAYING).collect();
                    tracing::warn!(%endpoint, refused, says, "the collector refuses spans; they are lost");
                }
            }
            Ok(_) => {
                metrics.sent(count);
                if std::mem::take(&mut self.failing) {
                    tracing::info!(%endpoint, "the collector takes traces again");
                }
            }
            Err(failure) => {
                metrics.failed(count);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%endpoint, error = %failure, "the collector does not take traces; they are lost");
                }
                // Its authorities may be others by now.
                if let (Failure::Network(_), Some(_), Ok(client)) =
                    (&failure, &self.collector.ca_file, client(&self.collector))
                {
                    self.client = client;
                }
            }
        }
    }

    /// Sends a message with no span in it.
    pub(super) async fn try_out(&self) -> Result<(), TracesError> {
        // Not quite empty: a body of no bytes goes without its length, which not every server takes.
        let nothing = message(&self.collector.resource, Vec::new()).encode_to_vec().into();
        let answer = timeout(TIMEOUT, self.post(nothing)).await.unwrap_or(Err(Failure::Timeout));
        answer.map(|_| ()).map_err(|failure| TracesError::Collector(failure.to_string()))
    }

    /// What the collector says of those that it refused.
    async fn post(&self, message: bytes::Bytes) -> Result<ExportTracePartialSuccess, Failure> {
        let mut request = Request::new(message);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.collector.headers.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROTOBUF));
        let mut response = self.client.send(request).await.map_err(Failure::Network)?;
        if !response.status().is_success() {
            return Err(Failure::Status(
                response.status(),
                retry_after(response.headers()).and_then(RetryAfter::known),
            ));
        }
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or(PROTOBUF);
        let is_protobuf =
            kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(PROTOBUF));
        let mut body = Vec::new();
        while let Some(frame) = response.body_mut().frame().await {
            let frame = frame.map_err(|error| Failure::Network(HttpFault::of(&error)))?;
            let Some(chunk) = frame.data_ref() else { continue };
            if body.len() + chunk.len() > LONGEST_ANSWER {
                return Err(Failure::NotOtlp);
            }
            body.extend_from_slice(chunk);
        }
        // Nothing at all is what the message says where all is well, whatever it is called.
        if !is_protobuf && !body.is_empty() {
            return Err(Failure::NotOtlp);
        }
        let answer = ExportTraceServiceResponse::decode(&*body).map_err(|_| Failure::NotOtlp)?;
        Ok(answer.partial_success.unwrap_or_default())
    }
}

impl Failure {
    /// How long to wait before it is tried again; `None`: that would not help. At least `pause`, whatever the collector says, and
    /// not for ever.
    fn worth_waiting(&self, pause: Duration) -> Option<Duration> {
        match self {
            Self::Network(_) => Some(pause),
            // What the specification calls retryable.
            Self::Status(
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT,
                retry_after,
            ) => Some(retry_after.unwrap_or(pause).clamp(pause, LONGEST_SILENCE)),
            Self::Status(..) | Self::Timeout | Self::NotOtlp => None,
        }
    }
}

fn client(collector: &Collector) -> Result<HttpClient, TracesError> {
    let Collector { endpoint, ca_file, .. } = collector;
    // In the clear none are needed.
    let no_roots = if endpoint.scheme() == "https" { NoRoots::Refused } else { NoRoots::Allowed };
    let tls = client_config(ca_file.as_deref(), no_roots, None)?;
    Ok(HttpClient::new(Ways {
        tls,
        resolver: &resolver::REQUESTS,
        proxy: OutboundProxy::Direct,
        connect_timeout: CONNECT_TIMEOUT,
        idle_connections: 1,
        idle_timeout: IDLE_TIMEOUT,
    }))
}

const PROTOBUF: &str = "application/x-protobuf";
/// Spans in one message.
const BATCH: usize = 512;
/// How long a span waits for others.
const DELAY: Duration = Duration::from_secs(2);
/// For one batch with all its repetitions.
const TIMEOUT: Duration = Duration::from_secs(10);
/// For a connection to the collector.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection to the collector is kept without a batch.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// Before the first repetition where the collector says nothing of it; twice as long before each one more.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Whatever a collector asks for.
const LONGEST_SILENCE: Duration = Duration::from_mins(1);
/// An answer has two fields.
const LONGEST_ANSWER: usize = 64 * 1024;
/// Characters of what a collector says that are logged.
const LONGEST_SAYING: usize = 200;
