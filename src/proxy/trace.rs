//! The trace that a request belongs to (W3C Trace Context, Level 1 and 2). It is passed on where it is valid, and begun
//! where there is none, so that whoever looks at the API's log can find one request of many. Where spans are recorded, each
//! sending has one of its own, which the API gets as its parent.

use http::header::HeaderName;
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Version};
use tokio::time::Instant;

use super::error::ProxyError;
use super::recovery::Received;
use super::sending::Head;
use super::upstream::Upstream;
use crate::clock;
use crate::traces::{Context, Kind, Parent, RANDOM, SAMPLED, Span, Traces, Value};

/// Sees to it that a request that is about to go upstream belongs to a trace: leaves a valid `traceparent` and its
/// `tracestate` as they are; else begins a trace and drops the `tracestate`, which means nothing without its parent
/// (section 3.3 of the Recommendation). One that is recorded belongs to that already.
pub(super) fn pass_on_or_begin(headers: &mut HeaderMap, traces: &Traces, recorded: Option<&Tracing>) {
    let parent = parent(headers);
    let context = match (recorded, parent) {
        (None, Some(_)) => return,
        (Some(recorded), _) => recorded.context,
        // Had it been drawn where spans are recorded, it would be.
        (None, None) => Context::begin(!traces.records() && traces.draw()),
    };
    if parent.is_none() {
        headers.remove(&TRACESTATE);
    }
    put(headers, context);
}

/// The parent that a request names. Of several it is not for us to choose.
fn parent(headers: &HeaderMap) -> Option<Context> {
    let mut parents = headers.get_all(&TRACEPARENT).iter();
    let parent = parse(parents.next()?.as_bytes())?;
    parents.next().is_none().then_some(parent)
}

fn put(headers: &mut HeaderMap, context: Context) {
    if let Ok(value) = HeaderValue::from_bytes(&written(context)) {
        headers.insert(TRACEPARENT, value);
    }
}

/// The trace id of the request that has these fields.
pub(super) fn id(headers: &HeaderMap) -> Option<&str> {
    headers.get(&TRACEPARENT)?.to_str().ok()?.get(3..35)
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
        let parent = parent(headers);
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
        put(&mut head.headers, context);
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

/// A `traceparent` of version 00.
fn written(context: Context) -> [u8; LENGTH] {
    let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
    write_hex(&mut value[3..35], &context.trace.to_be_bytes());
    write_hex(&mut value[36..52], &context.span.to_be_bytes());
    write_hex(&mut value[53..], &[context.flags]);
    value
}

fn write_hex(digits: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// A `traceparent` of version 00, or of a later one that begins as 00 does and says more only after another hyphen
/// (section 4.3). Of the flags only those that are known.
fn parse(value: &[u8]) -> Option<Context> {
    let (known, more) = value.split_at_checked(LENGTH)?;
    let (version, trace, span, flags) = (&known[..2], &known[3..35], &known[36..52], &known[53..]);
    let hyphens = [known[2], known[35], known[52]] == *b"---";
    let ends = more.is_empty() || version != b"00" && more[0] == b'-';
    if !hyphens || !ends || read_hex(version)? == 0xff {
        return None;
    }
    let (trace, span) = (read_hex(trace)?, read_hex(span)? as u64);
    let flags = read_hex(flags)? as u8 & (SAMPLED | RANDOM);
    (trace != 0 && span != 0).then_some(Context { trace, span, flags })
}

/// Lower-case digits, at most 32.
fn read_hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// In bytes, of version 00.
const LENGTH: usize = 55;

#[cfg(test)]
mod tests {
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
            assert!(parse(begun[0].as_bytes()).is_some() && begun[0] != VALID, "{parents:?}: {begun:?}");
            assert!(begun[0].as_bytes().ends_with(b"-02"), "{begun:?}");
            assert!(!headers.contains_key("tracestate"), "{parents:?}");
        }
    }

    #[test]
    fn no_two_requests_begin_the_same_trace() {
        assert_ne!(passed(&[])["traceparent"], passed(&[])["traceparent"]);
        let context = Context { trace: 0xab, span: 0xcd, flags: RANDOM };
        assert_eq!(&written(context), b"00-000000000000000000000000000000ab-00000000000000cd-02");
    }
}
