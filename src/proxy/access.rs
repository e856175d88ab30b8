//! A request's line in the access log: who asked what, what went upstream, whose answer it was and how it ended. Neither query, nor any field or
//! body: tokens are found there. The exchange owns it, where `log.access` asks for it.

use std::net::SocketAddr;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, Version};

use super::trace;

/// What the line will say.
#[derive(Debug)]
pub(super) struct Access {
    method: Method,
    path: String,
    version: Version,
    /// `None`: a Unix socket.
    peer: Option<SocketAddr>,
    /// What the request's head said; `None` where its body had no length beforehand.
    request_bytes: Option<u64>,
    upstream: Option<String>,
    token: Option<String>,
    trace: Option<String>,
    answer: Option<(StatusCode, Answerer, Duration)>,
    response_bytes: u64,
    complete: bool,
}

/// Whose answer it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answerer {
    Upstream,
    /// The proxy's own, with the kind of the error where it was one.
    Proxy(Option<&'static str>),
}

impl Access {
    /// Of a request whose head has come.
    pub(super) fn of(parts: &Parts, peer: Option<SocketAddr>) -> Self {
        let length = parts.headers.get(CONTENT_LENGTH);
        Self {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            version: parts.version,
            peer,
            request_bytes: length
                .and_then(|length| length.to_str().ok())
                .and_then(|length| length.parse().ok()),
            upstream: None,
            token: None,
            trace: None,
            answer: None,
            response_bytes: 0,
            complete: false,
        }
    }

    /// It is about to be sent to `upstream`, with the token of this name.
    pub(super) fn sent_to(&mut self, upstream: &str, token: Option<&str>, headers: &HeaderMap) {
        self.upstream = Some(upstream.to_owned());
        self.token = token.map(str::to_owned);
        self.trace = trace::id(headers).map(str::to_owned);
    }

    /// The answer's head is known, so long after the request's.
    pub(super) fn answered(&mut self, status: StatusCode, by: Answerer, after: Duration) {
        self.answer = Some((status, by, after));
    }

    /// So many bytes of the answer's body are on their way.
    pub(super) fn passed(&mut self, bytes: usize) {
        self.response_bytes += bytes as u64;
    }

    /// The answer has come to its end.
    pub(super) fn completed(&mut self) {
        self.complete = true;
    }

    /// Writes the line.
    pub(super) fn log(&self, route: &str, took: Duration) {
        let (status, by, head) = match self.answer {
            Some((status, by, head)) => (Some(status.as_u16()), Some(by), Some(head.as_secs_f64())),
            None => (None, None, None),
        };
        let (upstream_status, answered_by, error) = match by {
            Some(Answerer::Upstream) => (status, Some("upstream"), None),
            Some(Answerer::Proxy(kind)) => (None, Some("proxy"), kind),
            None => (None, None, None),
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
            request_bytes = self.request_bytes,
            response_bytes = self.response_bytes,
            head_seconds = head,
            seconds = took.as_secs_f64(),
            ended = if self.complete { "complete" } else { "aborted" },
            "request"
        );
    }
}
