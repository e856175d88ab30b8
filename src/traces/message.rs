//! Spans in OpenTelemetry's own words: the messages of its protocol, as `otlp` sends them.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as proto;

use super::{Kind, Parent, Span, Value};

/// `spans` of the program that `resource` describes.
pub(super) fn message(resource: &[(String, String)], spans: Vec<Span>) -> ExportTraceServiceRequest {
    let attributes = resource.iter().map(|(key, value)| text(key.clone(), value.clone())).collect();
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
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_spans: vec![spans],
        ..proto::ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}

fn span(span: Span) -> proto::Span {
    let Span { name, kind, context, parent, ended, took, attributes, failed } = span;
    let (parent, remote) = match parent {
        Parent::None => (None, LOCAL),
        Parent::Own(span) => (Some(span), LOCAL),
        Parent::Remote(span) => (Some(span), REMOTE),
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

fn nanoseconds(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

fn text(key: String, value: String) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value))
}

fn attribute(key: String, value: any_value::Value) -> KeyValue {
    KeyValue { key, value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Of a span's flags: it is known whether the parent is remote.
const LOCAL: u32 = 0x100;
/// And it is.
const REMOTE: u32 = 0x300;
