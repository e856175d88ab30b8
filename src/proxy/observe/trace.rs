//! The trace that a request belongs to (W3C Trace Context, Level 1 and 2). It is passed on where it is valid. Where there is
//! none, one begins here if the configuration says which share of them is sampled; else the API begins its own. Where spans
//! are recorded, each sending has one of its own, which the API gets as its parent.

use http::{HeaderMap, Method, Response, Version};
use tokio::time::Instant;

use crate::clock;
use crate::proxy::error::ProxyError;
use crate::proxy::message::outbound_head::OutboundHead;
use crate::proxy::message::traceparent;
use crate::traces::{Context, Kind, Parent, Sink, Span, Traces, Value};

/// Decides the trace of a request that is about to go upstream and of which nothing is recorded: leaves a valid
/// `traceparent` and its `tracestate` as they are; else begins a trace, or removes a broken one where none begins here. A
/// `tracestate` means nothing without its parent (section 3.3 of the Recommendation). Most requests have neither field:
/// `may_have` says whether there may be one.
pub(crate) fn pass_on_or_begin(headers: &mut HeaderMap, may_have: bool, traces: &Traces) {
    if may_have {
        if traceparent::parent(headers).is_some() {
            return;
        }
        headers.remove(&traceparent::TRACESTATE);
        if !traces.begins() {
            headers.remove(&traceparent::TRACEPARENT);
        }
    }
    if !traces.begins() {
        return;
    }
    // Had it been drawn where spans are recorded, it would be.
    traceparent::put(headers, Context::begin(traces.sink().is_none() && traces.draw()));
}

/// A request's own place in its trace, where its spans are recorded.
#[derive(Debug)]
pub(crate) struct Tracing {
    pub(crate) sink: Sink,
    pub(crate) context: Context,
    /// The caller's span.
    pub(crate) parent: Option<u64>,
}

impl Tracing {
    /// Of a request with these fields: `None` where it is not sampled, by the beginner of its trace, or by the proxy.
    pub(crate) fn begin(traces: &Traces, headers: &HeaderMap) -> Option<Self> {
        let sink = traces.sink()?;
        let parent = traceparent::parent(headers);
        let sampled = parent.map_or_else(|| traces.draw(), Context::is_sampled);
        if !sampled {
            return None;
        }
        let context = parent.map_or_else(|| Context::begin(true), Context::child);
        Some(Self { sink: sink.clone(), context, parent: parent.map(|parent| parent.span) })
    }

    /// A sending begins, to the upstream of these `attributes`, with the token of this name and generation; the API is told of
    /// its span. Before it, the request was sent `resent` times.
    pub(crate) fn send(
        &self,
        head: &mut OutboundHead,
        upstream: impl IntoIterator<Item = (&'static str, Value)>,
        token: Option<(&str, u64)>,
        resent: u64,
    ) -> SendSpan<'_> {
        let context = self.context.child();
        traceparent::put(&mut head.headers, context);
        if self.parent.is_none() {
            head.headers.remove(&traceparent::TRACESTATE);
        }
        // By the semantic conventions for HTTP clients, 1.23 and later.
        let (method, mut attributes) = method_of(&head.method);
        attributes.extend(upstream);
        if let Some((name, generation)) = token {
            attributes.push(("cupbearer.token.name", Value::of(name)));
            attributes.push(("cupbearer.token.generation", generation.into()));
        }
        if resent > 0 {
            attributes.push(("http.request.resend_count", resent.into()));
        }
        let name = method.to_owned();
        SendSpan { tracing: self, context, name, attributes, begun: clock::now(), failed: true }
    }

    /// The request begins to wait for the token of this name, and does until this is dropped.
    pub(crate) fn wait(&self, token: &str) -> WaitSpan<'_> {
        WaitSpan { tracing: self, token: Value::of(token), begun: clock::now() }
    }
}

/// The time that a request waits for a token.
#[derive(Debug)]
pub(crate) struct WaitSpan<'a> {
    tracing: &'a Tracing,
    token: Value,
    begun: Instant,
}

impl Drop for WaitSpan<'_> {
    fn drop(&mut self) {
        self.tracing.sink.record(Span {
            name: "wait for token".into(),
            kind: Kind::Internal,
            context: self.tracing.context.child(),
            parent: Parent::Own(self.tracing.context.span),
            ended: clock::wall(),
            took: clock::now().saturating_duration_since(self.begun),
            attributes: vec![("cupbearer.token.name", self.token.clone())],
            failed: false,
        });
    }
}

/// One sending of a request: recorded when its answer's head has come, or when it is given up.
#[derive(Debug)]
pub(crate) struct SendSpan<'a> {
    tracing: &'a Tracing,
    context: Context,
    name: String,
    attributes: Vec<(&'static str, Value)>,
    begun: Instant,
    failed: bool,
}

impl SendSpan<'_> {
    /// It has come to this.
    pub(crate) fn answered<B>(mut self, answer: Result<&Response<B>, &ProxyError>) {
        match answer {
            Ok(answer) => {
                let status = answer.status();
                self.attributes.push(("http.response.status_code", status.as_u16().into()));
                self.attributes.push(("network.protocol.version", protocol_version(answer.version()).into()));
                self.failed = status.is_client_error() || status.is_server_error();
                if self.failed {
                    self.attributes.push(("error.type", Value::of(status.as_str())));
                }
            }
            Err(error) => self.attributes.push(("error.type", error.kind().into())),
        }
    }
}

impl Drop for SendSpan<'_> {
    fn drop(&mut self) {
        let mut attributes = std::mem::take(&mut self.attributes);
        if self.failed && !attributes.iter().any(|(key, _)| *key == "error.type") {
            attributes.push(("error.type", "aborted".into()));
        }
        self.tracing.sink.record(Span {
            name: std::mem::take(&mut self.name).into(),
            kind: Kind::Client,
            context: self.context,
            parent: Parent::Own(self.tracing.context.span),
            ended: clock::wall(),
            took: clock::now().saturating_duration_since(self.begun),
            attributes,
            failed: self.failed,
        });
    }
}

/// A method as spans name it, and the attributes that say it: anybody may make one up.
pub(super) fn method_of(method: &Method) -> (&str, Vec<(&'static str, Value)>) {
    const KNOWN: [Method; 9] = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::OPTIONS,
        Method::CONNECT,
        Method::TRACE,
    ];
    let mut attributes = Vec::with_capacity(12);
    let name = if KNOWN.contains(method) { method.as_str() } else { "_OTHER" };
    attributes.push(("http.request.method", Value::of(name)));
    if name != method.as_str() {
        attributes.push(("http.request.method_original", Value::of(method.as_str())));
    }
    (name, attributes)
}

/// A host as spans have it: an address of IPv6 without its brackets.
pub(crate) fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// A version of HTTP as spans have it.
pub(super) const fn protocol_version(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::metrics::Metrics;
    use crate::traces::TracesSettings;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn passed(parents: &[&str], sample_ratio: Option<f64>) -> HeaderMap {
        let settings = TracesSettings { collector: None, sample_ratio };
        let (traces, _) = Traces::start(&settings, &Metrics::new()).unwrap();
        let mut headers = HeaderMap::new();
        for parent in parents {
            headers.append("traceparent", HeaderValue::from_str(parent).unwrap());
        }
        headers.insert("tracestate", HeaderValue::from_static("a=1"));
        pass_on_or_begin(&mut headers, true, &traces);
        headers
    }

    #[test]
    fn a_valid_trace_goes_on_as_it_came() {
        for parent in [
            VALID,
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-is-to-come",
        ] {
            for sample_ratio in [None, Some(0.0)] {
                let headers = passed(&[parent], sample_ratio);
                assert_eq!(headers["traceparent"], parent);
                assert_eq!(headers["tracestate"], "a=1", "{parent}");
            }
        }
    }

    #[test]
    fn a_trace_begins_where_there_is_none_or_a_broken_one_and_a_share_is_sampled() {
        for parents in [
            &[][..],
            &[VALID, VALID],
            &[""],
            &["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"],
            &["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"],
            &["01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more"],
            &["00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
        ] {
            assert!(passed(parents, None).is_empty(), "the API begins its own: {parents:?}");
            let headers = passed(parents, Some(0.0));
            let begun: Vec<_> = headers.get_all("traceparent").iter().collect();
            assert_eq!(begun.len(), 1, "{parents:?}");
            assert!(traceparent::parent(&headers).is_some() && begun[0] != VALID, "{parents:?}: {begun:?}");
            assert!(begun[0].as_bytes().ends_with(b"-02"), "{begun:?}");
            assert!(!headers.contains_key("tracestate"), "{parents:?}");
        }
    }

    #[test]
    fn a_trace_begins_where_no_field_was_seen() {
        for (sample_ratio, begins) in [(None, false), (Some(1.0), true)] {
            let settings = TracesSettings { collector: None, sample_ratio };
            let (traces, _) = Traces::start(&settings, &Metrics::new()).unwrap();
            let mut headers = HeaderMap::new();
            pass_on_or_begin(&mut headers, false, &traces);
            assert_eq!(traceparent::parent(&headers).is_some(), begins);
        }
    }

    #[test]
    fn no_two_requests_begin_the_same_trace() {
        let begun = || passed(&[], Some(1.0))["traceparent"].clone();
        assert_ne!(begun(), begun());
    }
}
