//! Spans of traces (OpenTelemetry): what one is, which are recorded, and their way to a collector. What does the work
//! records it; `traces::otlp`, which the feature of its name brings, sends it. A collector that is slow or gone costs spans,
//! never a request.

#[cfg(feature = "otlp")]
mod message;
#[cfg(feature = "otlp")]
mod metrics;
#[cfg(feature = "otlp")]
mod otlp;

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use http::HeaderMap;
#[cfg(feature = "otlp")]
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use url::Url;

use crate::metrics::Metrics;
use crate::net::tls::TlsError;
#[cfg(feature = "otlp")]
use metrics::SpanMetrics;

/// Whether this program was built with what sends spans.
pub(crate) const BUILT: bool = cfg!(feature = "otlp");

/// What is recorded, and where it goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TracesSettings {
    /// The collector that takes spans.
    pub collector: Option<Collector>,
    /// Of the traces that begin here, the share that is marked as sampled: 0 to 1. `None`: none begins here, and the API
    /// begins its own.
    pub sample_ratio: Option<f64>,
}

/// A collector that speaks OTLP/HTTP, in protobuf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Collector {
    /// Where it takes spans: its address and `/v1/traces`.
    pub endpoint: Url,
    /// The authorities that its certificate may come from; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// What goes with each message, such as a key; the values are marked sensitive.
    pub headers: HeaderMap,
    /// What is reported of the sender: `service.name` and more.
    pub resource: Vec<(String, String)>,
}

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TracesError {
    /// The authorities cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The collector does not take them.
    #[error("{0}")]
    #[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "only a program with traces has one"))]
    Collector(String),
}

/// A span's place: in which trace, and which of its spans (W3C Trace Context section 3.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    /// Never 0.
    pub trace: u128,
    /// Never 0.
    pub span: u64,
    /// [`SAMPLED`] and [`RANDOM`].
    pub flags: u8,
}

impl Context {
    /// The root of a new trace.
    #[must_use]
    pub(crate) fn begin(sampled: bool) -> Self {
        let flags = if sampled { SAMPLED | RANDOM } else { RANDOM };
        Self { trace: fastrand::u128(1..), span: fastrand::u64(1..), flags }
    }

    /// Another span of the same trace.
    #[must_use]
    pub(crate) fn child(self) -> Self {
        Self { span: fastrand::u64(1..), ..self }
    }

    /// Whether it is recorded by those who follow their parent's decision.
    #[must_use]
    pub(crate) const fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// One piece of work that is over. Never holds a token, a field's value or a query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    /// What kind of work it was, in few different words.
    pub name: Cow<'static, str>,
    /// Who asked whom.
    pub kind: Kind,
    /// Its place.
    pub context: Context,
    /// The span that it belongs to.
    pub parent: Parent,
    /// When it was over, by the wall clock.
    pub ended: SystemTime,
    /// How long it took.
    pub took: Duration,
    /// By the names of OpenTelemetry's semantic conventions.
    pub attributes: Vec<(&'static str, Value)>,
    /// Whether it failed.
    pub failed: bool,
}

/// Who asked whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It was asked of us.
    Server,
    /// A request that the program sent (client span).
    Client,
    /// It was our own.
    Internal,
}

/// The span that another belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parent {
    /// It is the trace's first.
    None,
    /// One of ours.
    Own(u64),
    /// A request that the program received (server span).
    Remote(u64),
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Text.
    Text(Cow<'static, str>),
    /// A number.
    Number(i64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl Value {
    /// The beginning of `text`, 512 bytes at most: a path may have 64 KiB, and thousands of spans may wait.
    #[must_use]
    pub(crate) fn of(text: &str) -> Self {
        Self::Text(Cow::Owned(text[..text.floor_char_boundary(LONGEST_TEXT)].to_owned()))
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number.cast_signed())
    }
}

/// Whether a collector takes spans: sends it a message with none in it.
///
/// # Errors
/// [`TracesError`]
#[cfg(feature = "otlp")]
pub(crate) async fn try_out(collector: &Collector) -> Result<(), TracesError> {
    otlp::Exporter::new(collector.clone())?.try_out().await
}

/// Where spans are recorded; a clone is the same place.
#[derive(Clone, Debug)]
pub(crate) struct Traces {
    sink: Option<Sink>,
    sample_ratio: Option<f64>,
}

/// The way to a collector.
#[cfg(feature = "otlp")]
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    spans: mpsc::Sender<Span>,
    metrics: SpanMetrics,
}

/// The way to a collector; there is none, so that a program without the feature carries nothing of what would go there.
#[cfg(not(feature = "otlp"))]
#[derive(Clone, Debug)]
pub(crate) struct Sink(std::convert::Infallible);

impl Sink {
    /// Takes a span that is over. Where the collector does not keep up, it is counted and dropped.
    #[cfg(feature = "otlp")]
    pub(crate) fn record(&self, span: Span) {
        match self.spans.try_send(span) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.metrics.crowded_out(),
            // The program ends.
            Err(TrySendError::Closed(_)) => self.metrics.dropped(),
        }
    }

    /// Takes a span that is over.
    #[cfg(not(feature = "otlp"))]
    pub(crate) fn record(&self, _span: Span) {
        match self.0 {}
    }
}

impl Traces {
    /// Nothing is recorded, and no trace begins here.
    #[must_use]
    pub(crate) const fn off() -> Self {
        Self { sink: None, sample_ratio: None }
    }

    /// Begins to send what is recorded from now on, where `settings` name a collector and this program can. The task that
    /// does it ends by [`Export::end`], or once the last clone of `Self` is gone.
    ///
    /// # Errors
    /// [`TracesError`]
    #[cfg_attr(
        not(feature = "otlp"),
        expect(unused_variables, clippy::unnecessary_wraps, reason = "only spans that are sent are counted")
    )]
    pub(crate) fn start(
        settings: &TracesSettings,
        metrics: &Metrics,
    ) -> Result<(Self, Option<Export>), TracesError> {
        let sample_ratio = settings.sample_ratio;
        match &settings.collector {
            #[cfg(feature = "otlp")]
            Some(collector) => {
                let exporter = otlp::Exporter::new(collector.clone())?;
                let metrics = SpanMetrics::new(metrics);
                let (spans, recorded) = mpsc::channel(QUEUE);
                let (end, told_to_end) = oneshot::channel();
                let task = tokio::spawn(exporter.run(recorded, told_to_end, metrics.clone()));
                let sink = Some(Sink { spans, metrics });
                Ok((Self { sink, sample_ratio }, Some(Export { end, task })))
            }
            _ => Ok((Self { sink: None, sample_ratio }, None)),
        }
    }

    /// Where spans are recorded; `None`: nowhere.
    #[must_use]
    pub(crate) const fn sink(&self) -> Option<&Sink> {
        self.sink.as_ref()
    }

    /// Whether a request without a trace gets one here. An API that follows its callers' decisions records nothing of a
    /// trace that is not sampled, so none begins where that is not decided.
    #[must_use]
    pub(crate) const fn begins(&self) -> bool {
        self.sample_ratio.is_some()
    }

    /// Whether a trace that begins now is sampled: drawn anew each time.
    #[must_use]
    pub(crate) fn draw(&self) -> bool {
        self.sample_ratio.is_some_and(|ratio| ratio > 0.0 && fastrand::f64() < ratio)
    }
}

/// What sends spans.
#[derive(Debug)]
pub(crate) struct Export {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Export {
    /// Sends what was recorded so far, for three seconds at most, and ends.
    pub(crate) async fn end(mut self) {
        // It is gone already where it panicked.
        let _ = self.end.send(());
        match tokio::time::timeout(FAREWELL, &mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "what sends spans had ended before"),
            Err(_) => {
                self.task.abort();
                tracing::warn!("the last spans were not taken by the collector in time");
            }
        }
    }
}

/// The trace is recorded (W3C Trace Context section 3.2.2.5.1).
pub(crate) const SAMPLED: u8 = 1;
/// All of the trace's id is random (Level 2, section 3.2.2.5.2).
pub(crate) const RANDOM: u8 = 2;
/// Spans that wait to be sent: one and a half mebibytes with what requests usually ask for, five at most.
#[cfg(feature = "otlp")]
const QUEUE: usize = 2048;
/// Bytes of an attribute.
const LONGEST_TEXT: usize = 512;
/// A collector that is gone holds the end up no longer: a pod has five seconds left after its drain, as a rule.
const FAREWELL: Duration = Duration::from_secs(3);
