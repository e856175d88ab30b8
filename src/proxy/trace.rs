//! The trace that a request belongs to (W3C Trace Context, Level 1 and 2). It is passed on where it is valid, and begun
//! where there is none, so that whoever looks at the API's log can find one request of many. Where spans are recorded, each
//! sending has one of its own, which the API gets as its parent.

use http::uri::Scheme;
use http::{HeaderMap, Method, Version};
use tokio::time::Instant;

use super::error::ProxyError;
use super::recovery::Received;
use super::sending::Head;
use super::traceparent;
use super::upstream::Upstream;
use crate::clock;
use crate::traces::{Context, Kind, Parent, Span, Traces, Value};

/// Sees to it that a request that is about to go upstream belongs to a trace: leaves a valid `traceparent` and its
/// `tracestate` as they are; else begins a trace and drops the `tracestate`, which means nothing without its parent
/// (section 3.3 of the Recommendation). One that is recorded belongs to that already.
pub(super) fn pass_on_or_begin(headers: &mut HeaderMap, traces: &Traces, recorded: Option<&Tracing>) {
    let parent = traceparent::parent(headers);
    let context = match (recorded, parent) {
        (None, Some(_)) => return,
        (Some(recorded), _) => recorded.context,
        // Had it been drawn where spans are recorded, it would be.
        (None, None) => Context::begin(!traces.records() && traces.draw()),
    };
    if parent.is_none() {
        headers.remove(&traceparent::TRACESTATE);
    }
    traceparent::put(headers, context);
}

/// A request's own place in its trace, where its spans are recorded.
#[derive(Debug)]
pub(super) struct Tracing {
    pub(super) traces: Traces,
    pub(super) context: Context,
    /// The caller's span.
    pub(super) parent: Option<u64>,
}

impl Tracing {
    /// Of a request with these fields: `None` where it is not sampled, by whoever began its trace, or by us.
    pub(super) fn begin(traces: &Traces, headers: &HeaderMap) -> Option<Self> {
        if !traces.records() {
            return None;
        }
        let parent = traceparent::parent(headers);
        let sampled = parent.map_or_else(|| traces.draw(), Context::is_sampled);
        if !sampled {
            return None;
        }
        let context = parent.map_or_else(|| Context::begin(true), Context::child);
        Some(Self { traces: traces.clone(), context, parent: parent.map(|parent| parent.span) })
    }

    /// A sending to `upstream` begins, with the token of this name and generation; the API is told of its span.
    pub(super) fn send(
        &self,
        head: &mut Head,
        upstream: &Upstream,
        token: Option<(&str, u64)>,
    ) -> Sending<'_> {
        let context = self.context.child();
        traceparent::put(&mut head.headers, context);
        // By the semantic conventions for HTTP clients, 1.23 and later.
        let (method, original) = method(&head.method);
        let mut attributes: Vec<(&'static str, Value)> = Vec::with_capacity(12);
        attributes.push(("http.request.method", method.to_owned().into()));
        if let Some(original) = original {
            attributes.push(("http.request.method_original", original.to_owned().into()));
        }
        let usual = if upstream.scheme == Scheme::HTTPS { 443 } else { 80 };
        let port = upstream.authority.port_u16().unwrap_or(usual);
        attributes.push(("server.address", upstream.authority.host().to_owned().into()));
        attributes.push(("server.port", port.into()));
        attributes.push(("url.scheme", upstream.scheme.as_str().to_owned().into()));
        // Without the query, where tokens are found.
        attributes.push(("url.full", format!("{}{}", upstream.origin, head.uri.path()).into()));
        attributes.push(("cupbearer.upstream", upstream.name.clone().into()));
        if let Some((name, generation)) = token {
            attributes.push(("cupbearer.token.name", name.to_owned().into()));
            attributes.push(("cupbearer.token.generation", generation.into()));
        }
        let name = method.to_owned();
        Sending { tracing: self, context, name, attributes, begun: clock::now(), failed: true }
    }
}

/// One sending of a request: recorded when its answer's head has come, or when it is given up.
#[derive(Debug)]
pub(super) struct Sending<'a> {
    tracing: &'a Tracing,
    context: Context,
    name: String,
    attributes: Vec<(&'static str, Value)>,
    begun: Instant,
    failed: bool,
}

impl Sending<'_> {
    /// It has come to this.
    pub(super) fn answered(mut self, answer: Result<&Received, &ProxyError>) {
        match answer {
            Ok(answer) => {
                let status = answer.status();
                self.attributes.push(("http.response.status_code", status.as_u16().into()));
                self.attributes.push(("network.protocol.version", protocol_version(answer.version()).into()));
                self.failed = status.is_client_error() || status.is_server_error();
                if self.failed {
                    self.attributes.push(("error.type", status.as_str().to_owned().into()));
                }
            }
            Err(error) => self.attributes.push(("error.type", error.kind().into())),
        }
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        let mut attributes = std::mem::take(&mut self.attributes);
        if self.failed && !attributes.iter().any(|(key, _)| *key == "error.type") {
            attributes.push(("error.type", "aborted".into()));
        }
        self.tracing.traces.record(Span {
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

/// A method as spans name it, and as it came where that is another word: anybody may make one up.
pub(super) fn method(method: &Method) -> (&str, Option<&str>) {
    let known = [
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
    if known.contains(method) { (method.as_str(), None) } else { ("_OTHER", Some(method.as_str())) }
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

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn passed(parents: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for parent in parents {
            headers.append("traceparent", HeaderValue::from_str(parent).unwrap());
        }
        headers.insert("tracestate", HeaderValue::from_static("a=1"));
        pass_on_or_begin(&mut headers, &Traces::off(), None);
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
            let headers = passed(&[parent]);
            assert_eq!(headers["traceparent"], parent);
            assert_eq!(headers["tracestate"], "a=1", "{parent}");
        }
    }

    #[test]
    fn a_trace_is_begun_where_there_is_none_or_a_broken_one() {
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
            let headers = passed(parents);
            let begun: Vec<_> = headers.get_all("traceparent").iter().collect();
            assert_eq!(begun.len(), 1, "{parents:?}");
            assert!(traceparent::parent(&headers).is_some() && begun[0] != VALID, "{parents:?}: {begun:?}");
            assert!(begun[0].as_bytes().ends_with(b"-02"), "{begun:?}");
            assert!(!headers.contains_key("tracestate"), "{parents:?}");
        }
    }

    #[test]
    fn no_two_requests_begin_the_same_trace() {
        assert_ne!(passed(&[])["traceparent"], passed(&[])["traceparent"]);
    }
}
