//! What the request path counts. Everything that a request touches is resolved when a route is made, so that
//! counting is a few atomic additions and never a look-up by name.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::StatusCode;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::local_reply_log::LocalReplyLog;
use super::upstream_metrics::{ConnectionCounters, UpstreamMetrics};
use crate::metrics::{Metrics, Server, counter_vec, gauge_vec};
use crate::net::eviction::Evictions;
use crate::proxy::error::{CLIENT_GONE, GuardRejection, KINDS};
use crate::proxy::memory::MemoryMetrics;

/// The families of the request path.
#[derive(Clone, Debug)]
pub(crate) struct ProxyMetrics {
    requests: IntCounterVec,
    durations: HistogramVec,
    upstream: HistogramVec,
    overhead: HistogramVec,
    request_bytes: IntCounterVec,
    response_bytes: IntCounterVec,
    unauthorized: IntCounterVec,
    replays: IntCounterVec,
    in_flight: IntGaugeVec,
    errors: IntCounterVec,
    rejections: IntCounterVec,
    connections: IntGaugeVec,
    upstreams: UpstreamMetrics,
    evictions: Arc<Evictions>,
    aborted: IntCounterVec,
    memory: IntCounterVec,
}

/// What is counted of one route.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    label: String,
    requests: IntCounterVec,
    by_code: Vec<OnceLock<IntCounter>>,
    duration: Histogram,
    upstream: Histogram,
    overhead: Histogram,
    request_bytes: IntCounter,
    response_bytes: IntCounter,
    unauthorized: IntCounter,
    replays: [IntCounter; Replay::ALL.len()],
    in_flight: IntGauge,
    errors: IntCounterVec,
    by_kind: [OnceLock<IntCounter>; KINDS.len()],
    aborted: [IntCounter; Aborted::ALL.len()],
    local_reply_log: LocalReplyLog,
}

/// Counts the bytes of one direction of a request as they come: those of its route, and its own where anybody asks. That of
/// no route counts nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    route: Option<IntCounter>,
    own: Option<Rc<Cell<u64>>>,
}

impl Meter {
    pub(crate) fn passed(&self, bytes: usize) {
        if let Some(route) = &self.route {
            route.inc_by(bytes as u64);
        }
        if let Some(own) = &self.own {
            own.set(own.get() + bytes as u64);
        }
    }
}

/// Why a request ended before its response was through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aborted {
    /// The application gave it up, or broke off its upload.
    Application,
    /// The upstream broke off its response.
    Upstream,
    /// The route's `max_stream_age` was reached.
    MaxStreamAge,
    /// The WebSocket that it became was cut by either side.
    WebSocket,
}

impl Aborted {
    /// The closed set of the metric's label.
    const ALL: [Self; 4] = [Self::Application, Self::Upstream, Self::MaxStreamAge, Self::WebSocket];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Upstream => "upstream",
            Self::MaxStreamAge => "max_stream_age",
            Self::WebSocket => "websocket",
        }
    }
}

/// What came of the wish to send a request again after its token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replay {
    /// It was sent again, and taken.
    Ok,
    /// It was sent again, and refused again.
    StillUnauthorized,
    /// It was sent again, and no answer came.
    Broken,
    /// No new token came, or not in time.
    RenewalFailed,
    /// No new token is asked for now.
    NotAllowed,
    /// More of its body had been sent than is kept.
    BodyTooLarge,
}

impl Replay {
    /// All of them: the closed set of the metric's label.
    const ALL: [Self; 6] = [
        Self::Ok,
        Self::StillUnauthorized,
        Self::Broken,
        Self::RenewalFailed,
        Self::NotAllowed,
        Self::BodyTooLarge,
    ];

    /// The word for it in the metric and the log.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::StillUnauthorized => "still_unauthorized",
            Self::Broken => "broken",
            Self::RenewalFailed => "renewal_failed",
            Self::NotAllowed => "not_allowed",
            Self::BodyTooLarge => "body_too_large",
        }
    }
}

impl ProxyMetrics {
    /// Registers the families; once per program.
    #[must_use]
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let connections = gauge_vec(CONNECTIONS, "Open connections", &["side"]);
        let upstreams = UpstreamMetrics::new(metrics, connections.with_label_values(&["upstream"]));
        let this = Self {
            requests: counter_vec(
                REQUESTS,
                "Requests by the status of their response, the proxy's own responses included; 499: the application gave it up before its response began",
                &["route", "code"],
            ),
            durations: histogram_vec(
                DURATION,
                "Seconds from a request's head to its response's last byte, or to its end without one",
                DURATION_BUCKETS,
            ),
            upstream: histogram_vec(
                UPSTREAM,
                "Seconds that requests waited for their upstream's response, head and body, over all sendings; without the opening of connections and the upload",
                DURATION_BUCKETS,
            ),
            overhead: histogram_vec(
                OVERHEAD,
                "Seconds of the proxy's own work from a request's head to its response's head; without every wait: for the upstream, a connection, the application, a token or a turn by the route's limits",
                OVERHEAD_BUCKETS,
            ),
            request_bytes: counter_vec(
                REQUEST_BYTES,
                "Bytes that came from applications in bodies that were sent on, and in WebSockets",
                &["route"],
            ),
            response_bytes: counter_vec(
                RESPONSE_BYTES,
                "Bytes that went to applications in bodies, the proxy's own included, and in WebSockets",
                &["route"],
            ),
            unauthorized: counter_vec(
                UNAUTHORIZED,
                "Responses of an upstream that refuse a token, by status 401 or another of unauthorized_status, those that were followed by a replay included",
                &["route"],
            ),
            replays: counter_vec(
                REPLAYS,
                "Requests that were to be sent again after the upstream had refused their token, by what came of it",
                &["route", "result"],
            ),
            in_flight: gauge_vec(IN_FLIGHT, "Requests that are not answered to the end yet", &["route"]),
            errors: counter_vec(
                ERRORS,
                "Responses of the proxy's own, by kind; client_gone: none, for the application gave the request up",
                &["kind", "route"],
            ),
            rejections: metrics.rejections(),
            connections,
            upstreams,
            evictions: Arc::new(Evictions::counted(Server::Proxy, metrics)),
            aborted: counter_vec(
                ABORTED,
                "Requests that ended before their response was through, by who or what ended them",
                &["route", "cause"],
            ),
            memory: counter_vec(
                MEMORY_LIMITED,
                "What waited, was refused or was not kept because of memory_limit",
                &["what"],
            ),
        };
        for kind in KINDS {
            this.errors.with_label_values(&[kind, UNROUTED]);
        }
        for reason in GuardRejection::ALL {
            this.rejections.with_label_values(&[reason.as_str()]);
        }
        metrics.register(this.requests.clone());
        metrics.register(this.durations.clone());
        metrics.register(this.upstream.clone());
        metrics.register(this.overhead.clone());
        metrics.register(this.request_bytes.clone());
        metrics.register(this.response_bytes.clone());
        metrics.register(this.unauthorized.clone());
        metrics.register(this.replays.clone());
        metrics.register(this.in_flight.clone());
        metrics.register(this.errors.clone());
        metrics.register(this.connections.clone());
        metrics.register(this.aborted.clone());
        metrics.register(this.memory.clone());
        this.memory();
        this
    }

    /// The counters of the route called `label`.
    pub(crate) fn route(&self, label: &str) -> Arc<RouteMetrics> {
        Arc::new(RouteMetrics {
            label: label.to_owned(),
            requests: self.requests.clone(),
            by_code: std::iter::repeat_with(OnceLock::new).take(STATUS_CODES).collect(),
            duration: self.durations.with_label_values(&[label]),
            upstream: self.upstream.with_label_values(&[label]),
            overhead: self.overhead.with_label_values(&[label]),
            request_bytes: self.request_bytes.with_label_values(&[label]),
            response_bytes: self.response_bytes.with_label_values(&[label]),
            unauthorized: self.unauthorized.with_label_values(&[label]),
            replays: Replay::ALL.map(|result| self.replays.with_label_values(&[label, result.as_str()])),
            in_flight: self.in_flight.with_label_values(&[label]),
            errors: self.errors.clone(),
            by_kind: [const { OnceLock::new() }; KINDS.len()],
            aborted: Aborted::ALL.map(|cause| self.aborted.with_label_values(&[label, cause.as_str()])),
            local_reply_log: LocalReplyLog::new(label),
        })
    }

    /// Where requests are counted that take no route.
    pub(crate) fn unrouted(&self) -> Arc<RouteMetrics> {
        self.route(UNROUTED)
    }

    /// The connections of applications.
    pub(crate) fn connections(&self) -> OpenConnections {
        OpenConnections(self.connections.with_label_values(&["downstream"]))
    }

    /// The connections to the upstream called `name`.
    pub(crate) fn upstream(&self, name: &str) -> Arc<ConnectionCounters> {
        self.upstreams.of(name)
    }

    /// The idle connections of applications that were closed to make room.
    pub(crate) fn evictions(&self) -> &Evictions {
        &self.evictions
    }

    /// What is counted of memory; all of it shows from the start.
    pub(crate) fn memory(&self) -> MemoryMetrics {
        MemoryMetrics::new(|what| self.memory.with_label_values(&[what]))
    }

    pub(crate) fn rejected(&self, reason: GuardRejection) {
        self.rejections.with_label_values(&[reason.as_str()]).inc();
    }
}

/// Counts the open connections of applications.
#[derive(Debug)]
pub(crate) struct OpenConnections(IntGauge);

/// An open connection; while it lives, it is counted.
#[derive(Debug)]
pub(crate) struct Counted(IntGauge);

impl OpenConnections {
    pub(crate) fn count(&self) -> Counted {
        self.0.inc();
        Counted(self.0.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl RouteMetrics {
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    pub(crate) fn begun(&self) {
        self.in_flight.inc();
    }

    /// The head of the answer is there.
    pub(crate) fn answered(&self, status: StatusCode) {
        self.count(status.as_u16());
    }

    /// The application gave a request up before its response began.
    pub(crate) fn gave_up(&self) {
        self.count(GAVE_UP);
        self.failed(CLIENT_GONE);
    }

    fn count(&self, code: u16) {
        let slot = usize::from(code).saturating_sub(100).min(STATUS_CODES - 1);
        self.by_code[slot]
            .get_or_init(|| self.requests.with_label_values(&[self.label.as_str(), &code.to_string()]))
            .inc();
    }

    /// So long the proxy itself worked until the head of a response.
    pub(crate) fn worked(&self, took: Duration) {
        self.overhead.observe(took.as_secs_f64());
    }

    /// So long a request waited for its upstream.
    pub(crate) fn waited_for_upstream(&self, took: Duration) {
        self.upstream.observe(took.as_secs_f64());
    }

    /// Counts bytes from the application; `own` is the request's own count.
    pub(crate) fn received(&self, own: Option<Rc<Cell<u64>>>) -> Meter {
        Meter { route: Some(self.request_bytes.clone()), own }
    }

    /// The same to the application.
    pub(crate) fn given(&self, own: Option<Rc<Cell<u64>>>) -> Meter {
        Meter { route: Some(self.response_bytes.clone()), own }
    }

    /// So many bytes of a response's body go to the application.
    pub(crate) fn gave(&self, bytes: usize) {
        self.response_bytes.inc_by(bytes as u64);
    }

    /// The response is the proxy's own, of this kind; or there is none, as the application has gone.
    pub(crate) fn failed(&self, kind: &'static str) {
        let Some(slot) = KINDS.iter().position(|known| *known == kind) else { return };
        self.by_kind[slot].get_or_init(|| self.errors.with_label_values(&[kind, &self.label])).inc();
    }

    /// What the log says of the proxy's own responses.
    pub(crate) const fn local_reply_log(&self) -> &LocalReplyLog {
        &self.local_reply_log
    }

    /// The upstream, not the proxy, said 401.
    pub(crate) fn unauthorized(&self) {
        self.unauthorized.inc();
    }

    pub(crate) fn replay(&self, result: Replay) {
        self.replays[result as usize].inc();
    }

    /// The request ended before its response was through.
    pub(crate) fn aborted(&self, cause: Aborted) {
        self.aborted[cause as usize].inc();
    }

    /// A request was refused before a handler had it: its head could not be read.
    pub(crate) fn refused(&self, status: StatusCode, bytes: usize) {
        self.answered(status);
        self.gave(bytes);
        self.duration.observe(0.0);
    }

    /// The answer is through, or given up.
    pub(crate) fn ended(&self, took: Duration) {
        self.in_flight.dec();
        self.duration.observe(took.as_secs_f64());
    }
}

fn histogram_vec(name: &str, help: &str, buckets: &[f64]) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    HistogramVec::new(options, &["route"]).expect("the names are constants")
}

/// nginx's status for a request that its application gave up before its response began. It goes over no wire.
pub(super) const GAVE_UP: u16 = 499;
/// The label of requests that match no route; no path of a route begins without a slash.
const UNROUTED: &str = "none";

const REQUESTS: &str = "cupbearer_requests_total";
const DURATION: &str = "cupbearer_request_duration_seconds";
const UPSTREAM: &str = "cupbearer_upstream_duration_seconds";
const OVERHEAD: &str = "cupbearer_overhead_seconds";
const REQUEST_BYTES: &str = "cupbearer_request_bytes_total";
const RESPONSE_BYTES: &str = "cupbearer_response_bytes_total";
const UNAUTHORIZED: &str = "cupbearer_upstream_unauthorized_total";
const REPLAYS: &str = "cupbearer_replays_total";
const IN_FLIGHT: &str = "cupbearer_requests_in_flight";
const ERRORS: &str = "cupbearer_proxy_errors_total";
const CONNECTIONS: &str = "cupbearer_connections";
const ABORTED: &str = "cupbearer_aborted_total";
const MEMORY_LIMITED: &str = "cupbearer_memory_limited_total";

/// 100 to 999, as the grammar has it.
const STATUS_CODES: usize = 900;

/// From a local response to a slow API; seconds.
const DURATION_BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0, 60.0,
];

/// From a small request on an idle machine to one that a large head or a busy machine holds up; seconds.
const OVERHEAD_BUCKETS: &[f64] = &[
    0.00001, 0.000_025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    1.0,
];
