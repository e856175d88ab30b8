//! `[telemetry]`.

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use super::address::{self, Query, secure_url};
use super::certificates::ca_file;
use crate::config::Options;
use crate::config::file::Telemetry;
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::config::secret_ref::{Variables, Wanted, Written};
use crate::traces::{BUILT, Collector, TracesSettings};

pub(super) fn resolve(
    telemetry: &Telemetry,
    options: Options,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Option<TracesSettings> {
    let section = KeyPath::from("telemetry");
    let headers = headers(&section, telemetry, variables, review);
    let has_headers = headers.as_ref().is_ok_and(|headers| !headers.is_empty());
    let endpoint = telemetry
        .otlp_endpoint
        .as_ref()
        .map(|text| endpoint(&section.key("otlp_endpoint"), text, has_headers, options, review));
    let alone = [
        ("otlp_ca_file", telemetry.otlp_ca_file.is_some()),
        ("otlp_headers_file", telemetry.otlp_headers_file.is_some()),
        ("otlp_headers_env", telemetry.otlp_headers_env.is_some()),
        ("otlp_headers", telemetry.otlp_headers.is_some()),
        ("service_name", telemetry.service_name.is_some()),
    ];
    for (key, _) in alone.iter().filter(|(_, given)| *given && endpoint.is_none()) {
        let path = section.key(key);
        review.error(&path, "has no meaning without otlp_endpoint", "take it out, or name the collector");
    }
    let ca_file = ca_file(&section.key("otlp_ca_file"), telemetry.otlp_ca_file.as_deref(), review);
    if telemetry.service_name.as_ref().is_some_and(|name| name.trim().is_empty()) {
        review.error(&section.key("service_name"), "is empty", "give it a name, or take it out");
    }
    let sample_ratio = telemetry.sample_ratio.or(endpoint.is_some().then_some(1.0));
    if sample_ratio.is_some_and(|ratio| !(0.0..=1.0).contains(&ratio)) {
        let path = section.key("sample_ratio");
        review.error(&path, "must be from 0 to 1", format!("{} to a share such as 0.1", review.set(&path)));
    }
    let collector = match endpoint {
        Some(endpoint) => {
            let resource = resource(telemetry.service_name.as_deref(), variables);
            Some(Collector { endpoint: endpoint?, ca_file: ca_file.ok()?, headers: headers.ok()?, resource })
        }
        None => None,
    };
    Some(TracesSettings { collector, sample_ratio })
}

/// Where spans go.
fn endpoint(
    path: &KeyPath,
    text: &str,
    has_headers: bool,
    options: Options,
    review: &mut Review<'_>,
) -> Option<Url> {
    // No span holds a secret, and a collector is most often on the same node; a header may well hold one.
    let url = if has_headers {
        secure_url(path, text, Query::Refused, options, review)
    } else {
        address::url(path, text, Query::Refused, review)
    };
    if url.is_some() && !BUILT {
        let help = "take it out, or build with it: cargo build --release --features otlp";
        review.error(path, "this program was built without the feature otlp", help);
    }
    let mut url = url?;
    if url.port() == Some(GRPC_PORT) {
        let what = "4317 is the port of OTLP over gRPC as a rule, and this is OTLP over HTTP";
        review.warning(path, what, "name the collector's port for HTTP, which is 4318 as a rule");
    }
    let base = url.path().trim_end_matches('/');
    let traces = base.strip_suffix(TRACES).unwrap_or(base).to_owned() + TRACES;
    url.set_path(&traces);
    Some(url)
}

/// The header fields, in the form that OpenTelemetry has for `OTEL_EXPORTER_OTLP_HEADERS`. `Err`: something was reported.
fn headers(
    section: &KeyPath,
    telemetry: &Telemetry,
    variables: &Variables<'_>,
    review: &mut Review<'_>,
) -> Result<HeaderMap, ()> {
    let wanted = Wanted {
        noun: "text of header fields",
        owner: "the collector",
        keys: vec![
            ("otlp_headers_file", Written::File(telemetry.otlp_headers_file.as_deref())),
            ("otlp_headers_env", Written::Env(telemetry.otlp_headers_env.as_deref())),
            ("otlp_headers", Written::Inline(telemetry.otlp_headers.as_ref())),
        ],
    };
    let Some((key, _, now)) = wanted.resolve_now(section, variables, review)? else {
        return Ok(HeaderMap::new());
    };
    let fields: Option<HeaderMap> = pairs(now.expose())
        .map(|pair| {
            let (name, value) = pair?;
            let name = HeaderName::from_bytes(name.as_bytes()).ok().filter(|name| !OURS.contains(name))?;
            let mut value = HeaderValue::from_str(&value).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        })
        .collect();
    // What is wrong is not shown: it may be the key.
    fields.ok_or_else(|| {
        review.error(
            &key,
            "holds something that is no header field of yours to set",
            "write name=value, with commas between several",
        );
    })
}

/// What is reported of the sender. The key wins over the variables, as OpenTelemetry has them for all its programs.
fn resource(service_name: Option<&str>, variables: &Variables<'_>) -> Vec<(String, String)> {
    let variable = |name: &str| variables.value(name).and_then(|value| value.to_str());
    let told = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    let mut resource: Vec<(String, String)> = Vec::new();
    for (key, value) in pairs(told).flatten() {
        // A key is there once.
        resource.retain(|(known, _)| *known != key);
        resource.push((key, value));
    }
    let mut say = |key: &str, value: Option<&str>, instead: &str| {
        let known = resource.iter().position(|(known, _)| known == key);
        match (known, value) {
            (Some(at), Some(value)) => value.clone_into(&mut resource[at].1),
            (Some(_), None) => {}
            (None, value) => resource.push((key.to_owned(), value.unwrap_or(instead).to_owned())),
        }
    };
    say("service.name", service_name.or(variable("OTEL_SERVICE_NAME")), env!("CARGO_PKG_NAME"));
    say("service.version", None, env!("CARGO_PKG_VERSION"));
    resource
}

/// Pairs as in W3C Baggage: `name=value`, with commas between them, and what would be in the way as `%2C`.
fn pairs(text: &str) -> impl Iterator<Item = Option<(String, String)>> {
    text.split([',', '\n']).map(str::trim).filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let decoded = |text: &str| Some(percent_decode_str(text.trim()).decode_utf8().ok()?.into_owned());
        Some((decoded(name)?, decoded(value)?))
    })
}

/// Fields that a message has by itself, or that are its connection's.
const OURS: [HeaderName; 6] = [CONTENT_TYPE, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, CONNECTION, UPGRADE];
/// Where a collector takes traces, below its base.
const TRACES: &str = "/v1/traces";
/// What OpenTelemetry has collectors take OTLP over gRPC on.
const GRPC_PORT: u16 = 4317;
