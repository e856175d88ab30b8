//! What is told of one request: who asked what, what went upstream, whose answer it was and how it ended. It becomes a line
//! in the access log, the span of a trace, or both; the exchange owns it where either is asked for. Neither query, nor any
//! field or body is in it: tokens are found there.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, StatusCode, Version};

use super::metrics::GAVE_UP;
use super::timing::Timing;
use super::trace::{self, Tracing};
use crate::clock;
use crate::proxy::error::{CLIENT_GONE, Cause};
use crate::proxy::message::peer::Peer;
use crate::proxy::message::{target, traceparent};
use crate::telemetry::AccessLog;
use crate::traces::{Kind, Parent, Span, Traces, Value};

/// What is known so far.
#[derive(Debug)]
pub(crate) struct AccessRecord {
    /// Whether it may get a line.
    access_log: Option<AccessLog>,
    /// Its place in its trace, where it gets a span.
    tracing: Option<Tracing>,
    method: Method,
    /// Whether it came by TLS.
    tls: bool,
    path: String,
    version: Version,
    /// `None`: a Unix socket.
    peer: Option<SocketAddr>,
    /// Whom the request names; `None` where it is malformed.
    host: Option<Authority>,
    /// Bytes of the request's body, or of the WebSocket, that have come.
    request_bytes: Rc<Cell<u64>>,
    upstream: Option<String>,
    token: Option<String>,
    trace: Option<String>,
    answer: Option<(StatusCode, Answerer, Duration)>,
    response_bytes: Rc<Cell<u64>>,
    complete: bool,
    /// It was the upstream that broke off.
    broken: bool,
}

/// Writes the line of a request whose head could not be read, and which no handler saw. `sample` is [`AccessLog::share`].
pub(crate) fn log_refused(
    peer: Option<SocketAddr>,
    route: &str,
    kind: &str,
    status: StatusCode,
    bytes: usize,
    sample: Option<f64>,
) {
    tracing::info!(
        target: "cupbearer::access",
        peer = peer.map(tracing::field::display),
        route,
        status = status.as_u16(),
        answered_by = "proxy",
        error = kind,
        request_bytes = 0_u64,
        response_bytes = bytes as u64,
        seconds = 0.0,
        ended = "complete",
        sample,
        "request"
    );
}

/// Whose answer it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answerer {
    Upstream,
    /// The proxy's own, with what went wrong where it was that.
    Proxy(Option<Cause>),
}

impl AccessRecord {
    /// Of a request whose head has come. `None`: no line is wanted.
    pub(crate) fn of(parts: &Parts, peer: &Peer, records: &Records) -> Option<Box<Self>> {
        let Records { access_log, traces } = records;
        let tracing = Tracing::begin(traces, &parts.headers);
        if access_log.is_none() && tracing.is_none() {
            return None;
        }
        let host = tracing.as_ref().and_then(|_| target::authority(parts).ok()?.parse().ok());
        let trace = tracing.as_ref().map(|tracing| format!("{:032x}", tracing.context.trace));
        Some(Box::new(Self {
            access_log: *access_log,
            tracing,
            method: parts.method.clone(),
            tls: peer.tls,
            path: parts.uri.path().to_owned(),
            version: parts.version,
            peer: peer.remote,
            host,
            request_bytes: Rc::default(),
            upstream: None,
            token: None,
            trace,
            answer: None,
            response_bytes: Rc::default(),
            complete: false,
            broken: false,
        }))
    }

    /// Where the bytes of its body are counted as they come.
    pub(crate) fn received(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.request_bytes)
    }

    /// Where the bytes that go to the application are counted.
    pub(crate) fn given(&self) -> Rc<Cell<u64>> {
        Rc::clone(&self.response_bytes)
    }

    /// Its place in its trace, where it gets a span.
    pub(crate) const fn tracing(&self) -> Option<&Tracing> {
        self.tracing.as_ref()
    }

    /// It is about to be sent to `upstream`, with the token of this name.
    pub(crate) fn sent_to(&mut self, upstream: &str, token: Option<&str>, headers: &HeaderMap) {
        self.upstream = Some(upstream.to_owned());
        self.token = token.map(str::to_owned);
        if self.trace.is_none() {
            self.trace = traceparent::id(headers).map(str::to_owned);
        }
    }

    /// The answer's head is known, so long after the request's.
    pub(crate) fn answered(&mut self, status: StatusCode, by: Answerer, after: Duration) {
        self.answer = Some((status, by, after));
    }

    /// So many bytes of the answer's body are on their way.
    pub(crate) fn passed(&self, bytes: usize) {
        self.response_bytes.set(self.response_bytes.get() + bytes as u64);
    }

    /// The upstream broke off in the middle of the answer.
    pub(crate) fn broken(&mut self) {
        self.broken = true;
        self.complete = false;
    }

    /// The answer has come to its end.
    pub(crate) fn completed(&mut self) {
        self.complete = true;
    }

    /// Writes the line and records the span, each where it is asked for.
    pub(crate) fn end(&self, route: &str, took: Duration, timing: &Timing) {
        if let Some(log) = &self.access_log {
            // The random number is the thread's own: no lock, and every worker draws alike.
            let is_kept = self.has_failed() || took >= log.slow;
            if is_kept || log.sample >= 1.0 || fastrand::f64() < log.sample {
                self.log(route, took, timing, log.share(is_kept));
            }
        }
        if let Some(tracing) = &self.tracing {
            tracing.sink.record(self.span(tracing, route, took));
        }
    }

    /// Whether the request failed, by the fault of any party.
    fn has_failed(&self) -> bool {
        let is_bad = |(status, by, _): (StatusCode, Answerer, Duration)| {
            status.as_u16() >= 400 || matches!(by, Answerer::Proxy(Some(_)))
        };
        !self.complete || self.answer.is_none_or(is_bad)
    }

    /// `sample` is [`AccessLog::share`].
    fn log(&self, route: &str, took: Duration, timing: &Timing, sample: Option<f64>) {
        let (status, by, head) = match self.answer {
            Some((status, by, head)) => (status.as_u16(), Some(by), Some(head.as_secs_f64())),
            None => (GAVE_UP, None, None),
        };
        let (upstream_status, answered_by, error) = match by {
            Some(Answerer::Upstream) => (Some(status), Some("upstream"), None),
            Some(Answerer::Proxy(cause)) => (None, Some("proxy"), cause.map(|cause| cause.kind)),
            None => (None, None, Some(CLIENT_GONE)),
        };
        let reset = match by {
            Some(Answerer::Proxy(cause)) => cause.and_then(|cause| cause.reset),
            Some(Answerer::Upstream) | None => None,
        };
        tracing::info!(
            target: "cupbearer::access",
            method = %self.method,
            path = %self.path,
            protocol = ?self.version,
            peer = self.peer.map(tracing::field::display),
            route,
            upstream = self.upstream,
            token = self.token,
            trace_id = self.trace,
            status,
            upstream_status,
            answered_by,
            error,
            reset,
            request_bytes = self.request_bytes.get(),
            response_bytes = self.response_bytes.get(),
            connect_seconds = timing.connect().map(|took| took.as_secs_f64()),
            upstream_seconds = timing.upstream().map(|took| took.as_secs_f64()),
            head_seconds = head,
            seconds = took.as_secs_f64(),
            ended = if self.complete { "complete" } else { "aborted" },
            sample,
            "request"
        );
    }

    /// By the semantic conventions for HTTP servers, 1.23 and later.
    fn span(&self, tracing: &Tracing, label: &str, took: Duration) -> Span {
        let (method, mut attributes) = trace::method_of(&self.method);
        // A route's label is its host and its path.
        let route = label.find('/').map(|path| &label[path..]);
        attributes.push(("url.scheme", if self.tls { "https" } else { "http" }.into()));
        attributes.push(("url.path", Value::of(&self.path)));
        attributes.extend(route.map(|route| ("http.route", Value::of(route))));
        if let Some(host) = &self.host {
            attributes.push(("server.address", Value::of(trace::bare(host.host()))));
            attributes.extend(host.port_u16().map(|port| ("server.port", port.into())));
        }
        attributes.push(("network.protocol.version", trace::protocol_version(self.version).into()));
        attributes.extend(self.peer.map(|peer| ("client.address", Value::of(&peer.ip().to_string()))));
        let mut error = match (self.complete, self.broken) {
            (true, _) => None,
            (false, true) => Some("upstream_broken".into()),
            (false, false) => Some("aborted".into()),
        };
        let mut failed = error.is_some();
        if let Some((status, by, _)) = self.answer {
            attributes.push(("http.response.status_code", status.as_u16().into()));
            let (answered_by, cause) = match by {
                Answerer::Upstream => ("upstream", None),
                Answerer::Proxy(cause) => ("proxy", cause),
            };
            attributes.push(("cupbearer.answered_by", answered_by.into()));
            if let Some(cause) = cause {
                failed |= cause.is_failure;
                error = Some(cause.kind.into());
            } else if status.is_server_error() {
                failed = true;
                error = Some(Value::of(status.as_str()));
            }
        }
        attributes.extend(error.map(|error| ("error.type", error)));
        let name = route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
        Span {
            name: name.into(),
            kind: Kind::Server,
            context: tracing.context,
            parent: tracing.parent.map_or(Parent::None, Parent::Remote),
            ended: clock::wall(),
            took,
            attributes,
            failed,
        }
    }
}

/// What is kept of each request.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    /// Which requests get a line in the log; `None`: none does.
    pub access_log: Option<AccessLog>,
    /// Where its spans are recorded.
    pub traces: Traces,
}
