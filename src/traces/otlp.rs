//! The way of spans to a collector: OTLP over HTTP in protobuf (OTLP specification 1.x, section "OTLP/HTTP"), a batch at a time. The messages are
//! OpenTelemetry's own; here is when they are sent, what is sent again, and what a user hears of it.

use std::error::Error as _;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as proto;
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::metrics::SpanMetrics;
use super::{Collector, Kind, Parent, Span, TracesError, Value};
use crate::clock;
use crate::net::tls::{NoRoots, client_config};

/// A collector, and what is said of whoever sends.
#[derive(Debug)]
pub(super) struct Exporter {
    collector: Collector,
    client: reqwest::Client,
    /// The collector asked for silence until then.
    silent_until: Option<Instant>,
    /// The last batch was lost.
    failing: bool,
}

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{}", causes(.0))]
    Network(reqwest::Error),
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
        Ok(Self { collector, client, silent_until: None, failing: false })
    }

    /// Sends `spans` as they come, until `end` is told or nobody is left who records any; then the rest.
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
        let message = bytes::Bytes::from(self.message(batch).encode_to_vec());
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
                    self.silent_until = Some(next.min(clock::now() + LONGEST_SILENCE));
                    break Err(failure);
                }
                None => break Err(failure),
            }
            pause *= 2;
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
        let nothing = self.message(Vec::new()).encode_to_vec().into();
        let answer = timeout(TIMEOUT, self.post(nothing)).await.unwrap_or(Err(Failure::Timeout));
        answer.map(|_| ()).map_err(|failure| TracesError::Collector(failure.to_string()))
    }

    /// What the collector says of those that it refused.
    async fn post(&self, message: bytes::Bytes) -> Result<ExportTracePartialSuccess, Failure> {
        let request = self
            .client
            .post(self.collector.endpoint.clone())
            .headers(self.collector.headers.clone())
            .header(CONTENT_TYPE, PROTOBUF)
            .body(message);
        let mut response = request.send().await.map_err(Failure::Network)?;
        if response.status() != StatusCode::OK {
            return Err(Failure::Status(response.status(), retry_after(response.headers())));
        }
        // Some leave the type out where there is nothing to say.
        let of_protobuf = response
            .headers()
            .get(CONTENT_TYPE)
            .is_none_or(|kind| kind.as_bytes().starts_with(PROTOBUF.as_bytes()));
        if !of_protobuf {
            return Err(Failure::NotOtlp);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(Failure::Network)? {
            if body.len() + chunk.len() > LONGEST_ANSWER {
                return Err(Failure::NotOtlp);
            }
            body.extend_from_slice(&chunk);
        }
        let answer = ExportTraceServiceResponse::decode(&*body).map_err(|_| Failure::NotOtlp)?;
        Ok(answer.partial_success.unwrap_or_default())
    }

    fn message(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let resource = self.collector.resource.iter().map(|(key, value)| text(key.clone(), value.clone()));
        let scope = InstrumentationScope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let spans = proto::ScopeSpans {
            scope: Some(scope),
            spans: spans.into_iter().map(span).collect(),
            ..proto::ScopeSpans::default()
        };
        let resource_spans = proto::ResourceSpans {
            resource: Some(Resource { attributes: resource.collect(), ..Resource::default() }),
            scope_spans: vec![spans],
            ..proto::ResourceSpans::default()
        };
        ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
    }
}

impl Failure {
    /// How long to wait before it is tried again; `None`: that would not help. `pause` where the collector does not say.
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
            ) => Some(retry_after.unwrap_or(pause)),
            Self::Status(..) | Self::Timeout | Self::NotOtlp => None,
        }
    }
}

fn client(collector: &Collector) -> Result<reqwest::Client, TracesError> {
    let Collector { endpoint, ca_file, .. } = collector;
    // In the clear none are needed.
    let no_roots = if endpoint.scheme() == "https" { NoRoots::Refused } else { NoRoots::Allowed };
    let tls = client_config(ca_file.as_deref(), no_roots, None)?;
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .user_agent(concat!("cupbearer/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| TracesError::Collector(causes(&error)))
}

/// What lies behind an error of the transport, without the URL, which is said beside it.
fn causes(error: &reqwest::Error) -> String {
    let mut all = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        all.push(error.to_string());
        cause = error.source();
    }
    if all.is_empty() { "the request could not be sent".to_owned() } else { all.join(": ") }
}

/// In seconds; a date is none that a collector is known to send.
fn retry_after(headers: &HeaderMap<HeaderValue>) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn span(span: Span) -> proto::Span {
    let Span { name, kind, context, parent, ended, took, attributes, failed } = span;
    let (parent, remote) = match parent {
        Parent::None => (None, LOCAL),
        Parent::Own(span) => (Some(span), LOCAL),
        Parent::Remote(span) => (Some(span), REMOTE),
    };
    let nanoseconds = |at: std::time::SystemTime| {
        let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    };
    let code = if failed { proto::status::StatusCode::Error } else { proto::status::StatusCode::Unset };
    let kind = match kind {
        Kind::Server => proto::span::SpanKind::Server,
        Kind::Client => proto::span::SpanKind::Client,
        Kind::Internal => proto::span::SpanKind::Internal,
    };
    proto::Span {
        trace_id: context.trace.to_be_bytes().to_vec(),
        span_id: context.span.to_be_bytes().to_vec(),
        parent_span_id: parent.map_or_else(Vec::new, |span| span.to_be_bytes().to_vec()),
        flags: u32::from(context.flags) | remote,
        name: name.into_owned(),
        kind: kind.into(),
        start_time_unix_nano: nanoseconds(ended.checked_sub(took).unwrap_or(ended)),
        end_time_unix_nano: nanoseconds(ended),
        attributes: attributes
            .into_iter()
            .map(|(key, value)| match value {
                Value::Text(value) => text(key.to_owned(), value.into_owned()),
                Value::Number(value) => attribute(key.to_owned(), any_value::Value::IntValue(value)),
            })
            .collect(),
        status: Some(proto::Status { message: String::new(), code: code.into() }),
        ..proto::Span::default()
    }
}

fn text(key: String, value: String) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value))
}

fn attribute(key: String, value: any_value::Value) -> KeyValue {
    KeyValue { key, value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

const PROTOBUF: &str = "application/x-protobuf";
/// Of a span's flags: it is known whether the parent is remote.
const LOCAL: u32 = 0x100;
/// And it is.
const REMOTE: u32 = 0x300;
/// Spans in one message.
const BATCH: usize = 512;
/// How long a span waits for others.
const DELAY: Duration = Duration::from_secs(2);
/// For one batch with all its repetitions.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Before the first repetition where the collector says nothing of it; twice as long before each one more.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Whatever a collector asks for.
const LONGEST_SILENCE: Duration = Duration::from_mins(1);
/// An answer has two fields.
const LONGEST_ANSWER: usize = 64 * 1024;
/// Characters of what a collector says that are logged.
const LONGEST_SAYING: usize = 200;
