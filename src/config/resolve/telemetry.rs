//! `[telemetry]`.

use super::address::{self, Query};
use super::certificates::ca_file;
use crate::config::file::Telemetry;
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::traces::{BUILT, Collector, TracesSettings};

pub(super) fn resolve(telemetry: Telemetry, review: &mut Review<'_>) -> Option<TracesSettings> {
    let Telemetry { otlp_endpoint, otlp_ca_file, service_name, sample_ratio } = telemetry;
    let section = KeyPath::from("telemetry");
    let endpoint_path = section.key("otlp_endpoint");
    // In the clear too: no span holds a secret, and a collector is most often on the same node.
    let endpoint =
        otlp_endpoint.as_ref().map(|text| address::url(&endpoint_path, text, Query::Refused, review));
    if endpoint.is_some() && !BUILT {
        let mend = "take it out, or build with it: cargo build --release --features otlp";
        review.error(&endpoint_path, "this program was built without the feature otlp", mend);
    }
    if endpoint.iter().flatten().any(|url| url.port() == Some(GRPC_PORT)) {
        let what = "4317 is the port of OTLP over gRPC as a rule, and this is OTLP over HTTP";
        review.warning(&endpoint_path, what, "name the collector's port for HTTP, which is 4318 as a rule");
    }
    for (key, text) in [("otlp_ca_file", &otlp_ca_file), ("service_name", &service_name)] {
        if text.is_some() && endpoint.is_none() {
            let path = section.key(key);
            review.error(&path, "has no meaning without otlp_endpoint", "take it out, or name the collector");
        }
    }
    let ca_file = ca_file(&section.key("otlp_ca_file"), otlp_ca_file.as_deref(), review);
    let name_path = section.key("service_name");
    if service_name.as_ref().is_some_and(|name| name.trim().is_empty()) {
        review.error(&name_path, "is empty", "give it a name, or take it out");
    }
    let sample_ratio = sample_ratio.unwrap_or(if endpoint.is_some() { 1.0 } else { 0.0 });
    if !(0.0..=1.0).contains(&sample_ratio) {
        let path = section.key("sample_ratio");
        review.error(&path, "must be from 0 to 1", format!("{} to a share such as 0.1", review.set(&path)));
    }
    let collector = match endpoint {
        Some(endpoint) => {
            let mut endpoint = endpoint?;
            let base = endpoint.path().trim_end_matches('/').to_owned();
            endpoint.set_path(&(base + "/v1/traces"));
            Some(Collector { endpoint, ca_file: ca_file.ok()?, service_name })
        }
        None => None,
    };
    Some(TracesSettings { collector, sample_ratio })
}

/// What OpenTelemetry has collectors take OTLP over gRPC on.
const GRPC_PORT: u16 = 4317;
