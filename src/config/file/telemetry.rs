//! `[telemetry]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret;
use crate::secret::Secret;

/// Traces of requests and renewals.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Telemetry {
    /// The OpenTelemetry collector that gets spans, by OTLP over HTTP: its base URL, to which /v1/traces is added where it does
    /// not end so. Only where the program was built with the feature otlp.
    pub(in crate::config) otlp_endpoint: Option<String>,
    /// A PEM file of the authorities that the collector's certificate may come from; without it, the system's.
    pub(in crate::config) otlp_ca_file: Option<String>,
    /// File of header fields for the collector, such as a key: name=value, with commas between several. Read at the start.
    pub(in crate::config) otlp_headers_file: Option<String>,
    /// Environment variable that holds them, such as `OTEL_EXPORTER_OTLP_HEADERS`.
    pub(in crate::config) otlp_headers_env: Option<String>,
    /// The header fields themselves; for trials only.
    #[serde(skip_serializing, deserialize_with = "secret")]
    #[schemars(with = "Option<String>")]
    pub(in crate::config) otlp_headers: Option<Secret<String>>,
    /// The resource's service.name; without it, that of the variables `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, else
    /// cupbearer.
    pub(in crate::config) service_name: Option<String>,
    /// Of the traces that begin here, the share that is marked as sampled, from 0 to 1: these are recorded, and told to the
    /// API. Without it 1 where there is an `otlp_endpoint`, else 0. For a trace that came with a request, its caller has
    /// decided.
    pub(in crate::config) sample_ratio: Option<f64>,
}
