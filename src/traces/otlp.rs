//! The way of spans to a collector: OTLP over HTTP in protobuf, a batch at a time. The crates of OpenTelemetry encode, send and
//! repeat; here is when, and what a user hears of it.

use std::time::Duration;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::metrics::SpanMetrics;
use super::{Collector, Kind, Parent, Span, TracesError, Value};
use crate::net::tls::{NoRoots, client_config};

/// A collector, and what is said of whoever sends.
#[derive(Debug)]
pub(super) struct Exporter {
    sender: SpanExporter,
    scope: InstrumentationScope,
    endpoint: String,
}

impl Exporter {
    /// Reads the certificate authorities, and those variables of OpenTelemetry that the configuration has no key for:
    /// `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME`.
    pub(super) fn new(collector: &Collector) -> Result<Self, TracesError> {
        let tls = client_config(collector.ca_file.as_deref(), NoRoots::Allowed, None)?;
        let refused = |error: &dyn std::fmt::Display| TracesError::Refused(error.to_string());
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| refused(&error))?;
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(collector.endpoint.as_str())
            .with_timeout(TIMEOUT)
            .build()
            .map_err(|error| refused(&error))?;
        let resource = Resource::builder();
        let resource = match &collector.service_name {
            Some(name) => resource.with_service_name(name.clone()),
            None if std::env::var_os("OTEL_SERVICE_NAME").is_some() => resource,
            None => resource.with_service_name(env!("CARGO_PKG_NAME")),
        };
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        exporter.set_resource(&resource.with_attribute(version).build());
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Ok(Self { sender: exporter, scope, endpoint: collector.endpoint.to_string() })
    }

    /// Sends `spans` as they come, until `end` is told or nobody is left who records any; then the rest.
    pub(super) async fn run(
        self,
        mut spans: mpsc::Receiver<Span>,
        mut end: oneshot::Receiver<()>,
        metrics: SpanMetrics,
    ) {
        tracing::info!(endpoint = self.endpoint, "traces go to a collector");
        let mut batch = Vec::with_capacity(BATCH);
        let mut ending = false;
        let mut failing = false;
        while !ending {
            tokio::select! {
                taken = spans.recv_many(&mut batch, BATCH) => ending = taken == 0,
                _ = &mut end => ending = true,
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
                self.send(&mut batch, &mut failing, &metrics).await;
            }
        }
    }

    /// Sends a batch and empties it. A change of fortune is logged once.
    async fn send(&self, batch: &mut Vec<Span>, failing: &mut bool, metrics: &SpanMetrics) {
        let count = batch.len();
        let data = batch.drain(..).map(|span| self.data(span)).collect();
        match self.sender.export(data).await {
            Ok(()) => {
                metrics.sent(count);
                if std::mem::take(failing) {
                    tracing::info!(endpoint = self.endpoint, "the collector takes traces again");
                }
            }
            Err(error) => {
                metrics.failed(count);
                if !std::mem::replace(failing, true) {
                    tracing::warn!(endpoint = self.endpoint, %error, "the collector does not take traces; they are lost");
                }
            }
        }
    }

    fn data(&self, span: Span) -> SpanData {
        let Span { name, kind, context, parent, ended, took, attributes, failed } = span;
        let (parent_span_id, parent_span_is_remote) = match parent {
            Parent::None => (SpanId::INVALID, false),
            Parent::Own(span) => (SpanId::from(span), false),
            Parent::Remote(span) => (SpanId::from(span), true),
        };
        SpanData {
            span_context: SpanContext::new(
                TraceId::from(context.trace),
                SpanId::from(context.span),
                TraceFlags::new(context.flags),
                false,
                TraceState::NONE,
            ),
            parent_span_id,
            parent_span_is_remote,
            span_kind: match kind {
                Kind::Server => SpanKind::Server,
                Kind::Client => SpanKind::Client,
            },
            name,
            start_time: ended.checked_sub(took).unwrap_or(ended),
            end_time: ended,
            attributes: attributes
                .into_iter()
                .map(|(key, value)| match value {
                    Value::Text(text) => KeyValue::new(key, text.into_owned()),
                    Value::Number(number) => KeyValue::new(key, number),
                })
                .collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: if failed { Status::error("") } else { Status::Unset },
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// Spans in one message.
const BATCH: usize = 512;
/// How long a span waits for others.
const DELAY: Duration = Duration::from_secs(2);
/// For one batch with all its repetitions.
const TIMEOUT: Duration = Duration::from_secs(10);
