//! `[telemetry]`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Traces of requests and renewals.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Telemetry {
    /// The OpenTelemetry collector that gets spans, by OTLP over HTTP: its base URL, to which /v1/traces is added. Only
    /// where the program was built with the feature otlp.
    pub(in crate::config) otlp_endpoint: Option<String>,
    /// A PEM file of the authorities that the collector's certificate may come from; without it, the system's.
    pub(in crate::config) otlp_ca_file: Option<String>,
    /// The resource's service.name; without it, the variable `OTEL_SERVICE_NAME`'s, else cupbearer.
    pub(in crate::config) service_name: Option<String>,
    /// Of the traces that begin here, the share that is marked as sampled, from 0 to 1: these are recorded, and told to the
    /// API. Without it 1 where there is an `otlp_endpoint`, else 0. For a trace that came with a request, its caller has
    /// decided.
    pub(in crate::config) sample_ratio: Option<f64>,
}
