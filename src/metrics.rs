//! The registry that every metric is in, and what does not belong to one room.
//!
//! A room keeps its own families in its own `metrics.rs`; names are the contract and stand there as constants.
//! Nothing here knows a token, a route or a request.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, TextEncoder};

use crate::clock;

/// The registry of one program: created once in `app`, shared by clone.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: prometheus::Registry,
    reloads: IntCounterVec,
    last_reload: IntGauge,
    rejections: IntCounterVec,
    evictions: IntCounterVec,
    certificate_expiry: IntGaugeVec,
    certificate_start: IntGaugeVec,
}

/// How a reload of the configuration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reload {
    /// The new configuration is in force.
    Applied,
    /// It was broken; the old one stays in force.
    Refused,
}

/// A server of this program that closes idle connections where it has no room for new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// The proxy's own listeners.
    Proxy,
    /// `/livez`, `/readyz` and `/metrics`.
    Health,
    /// The dashboard, `/status` and the commands.
    Control,
    /// The admission webhook, a program of its own.
    Webhook,
}

impl Server {
    /// All of them: the closed set of the metric's label.
    const ALL: [Self; 3] = [Self::Proxy, Self::Health, Self::Control];

    /// The word for it in the metric and the log.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Health => "health",
            Self::Control => "control",
            Self::Webhook => "webhook",
        }
    }
}

/// What a certificate of this program's own is for: the closed set of the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertificateUse {
    /// The proxy's listeners present it (`[server] tls`).
    Server,
    /// An authorization server knows a client by it (`[tokens.NAME]`).
    Token,
    /// An API is shown it (`[upstreams.NAME]`).
    Upstream,
    /// The admission webhook presents it.
    Webhook,
}

impl CertificateUse {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Token => "token",
            Self::Upstream => "upstream",
            Self::Webhook => "webhook",
        }
    }
}

/// From when until when a certificate is valid (RFC 5280 section 4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    /// `notBefore`.
    pub not_before: SystemTime,
    /// `notAfter`.
    pub not_after: SystemTime,
}

/// Shows the validity of the certificates of one use.
#[derive(Clone, Debug)]
pub(crate) struct CertificateGauges {
    expiry: IntGaugeVec,
    start: IntGaugeVec,
    label: &'static str,
}

impl CertificateGauges {
    /// Shows the certificate that expires first; none of `certificates`: there is no series.
    pub(crate) fn set(&self, certificates: impl IntoIterator<Item = Validity>) {
        let first = certificates.into_iter().min_by_key(|certificate| certificate.not_after);
        let label = [self.label];
        if let Some(Validity { not_before, not_after }) = first {
            self.expiry.with_label_values(&label).set(unix(not_after));
            self.start.with_label_values(&label).set(unix(not_before));
        } else {
            // An error says that there was no such series.
            let _ = self.expiry.remove_label_values(&label);
            let _ = self.start.remove_label_values(&label);
        }
    }
}

fn unix(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed()
}

/// Counts the idle connections that one server closes to make room.
#[derive(Clone, Debug)]
pub(crate) struct EvictionCounter(IntCounter);

impl EvictionCounter {
    /// One is closed.
    pub(crate) fn count(&self) {
        self.0.inc();
    }
}

impl Metrics {
    /// An empty registry with the build's own facts in it.
    #[must_use]
    pub(crate) fn new() -> Self {
        let registry = prometheus::Registry::new();
        let build = gauge_vec(BUILD_INFO, "Always 1; the label says which version this is", &["version"]);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let reloads =
            counter_vec(CONFIG_RELOADS, "Reloads of the configuration, by how they ended", &["result"]);
        for result in ["applied", "refused"] {
            reloads.with_label_values(&[result]);
        }
        let help =
            "1, or 0 where the configuration that there is was refused and the one before stays in force";
        let last_reload = IntGauge::new(LAST_RELOAD, help).expect("the name is a constant");
        // It has started, so it was taken.
        last_reload.set(1);
        let rejections = counter_vec(REJECTIONS, "Requests that a guard refused, by reason", &["reason"]);
        let evictions = counter_vec(
            EVICTIONS,
            "Idle connections that were closed to make room for new ones",
            &["server"],
        );
        for server in Server::ALL {
            evictions.with_label_values(&[server.as_str()]);
        }
        let certificate_expiry = gauge_vec(
            CERTIFICATE_EXPIRY,
            "When the certificate of this use that expires first expires, in seconds since 1970",
            &["use"],
        );
        let certificate_start = gauge_vec(
            CERTIFICATE_START,
            "From when on the certificate of this use that expires first is valid, in seconds since 1970",
            &["use"],
        );
        let help = "When this process started, in seconds since 1970";
        let start = IntGauge::new(PROCESS_START, help).expect("the name is a constant");
        start.set(clock::unix_seconds().cast_signed());
        let metrics = Self {
            registry,
            reloads,
            last_reload,
            rejections,
            evictions,
            certificate_expiry,
            certificate_start,
        };
        metrics.register(metrics.certificate_expiry.clone());
        metrics.register(metrics.certificate_start.clone());
        metrics.register(metrics.evictions.clone());
        metrics.register(metrics.rejections.clone());
        metrics.register(build);
        metrics.register(start);
        metrics.register(metrics.reloads.clone());
        metrics.register(metrics.last_reload.clone());
        metrics
    }

    /// Adds a family. Each name is registered once per registry, by the room that owns it.
    pub(crate) fn register(&self, family: impl Collector + 'static) {
        self.registry
            .register(Box::new(family))
            .expect("each room registers its own names once, when the program starts");
    }

    /// Counts a reload, and remembers how it ended.
    pub(crate) fn reloaded(&self, result: Reload) {
        let (result, successful) = match result {
            Reload::Applied => ("applied", 1),
            Reload::Refused => ("refused", 0),
        };
        self.last_reload.set(successful);
        self.reloads.with_label_values(&[result]).inc();
    }

    /// Requests that a guard refused, by `reason`: those of the proxy's listeners and of the control surface are one family.
    #[must_use]
    pub(crate) fn rejections(&self) -> IntCounterVec {
        self.rejections.clone()
    }

    /// What counts the evictions of `server`.
    #[must_use]
    pub(crate) fn evictions(&self, server: Server) -> EvictionCounter {
        EvictionCounter(self.evictions.with_label_values(&[server.as_str()]))
    }

    /// What shows the certificates of `one_use`.
    #[must_use]
    pub(crate) fn certificates(&self, one_use: CertificateUse) -> CertificateGauges {
        CertificateGauges {
            expiry: self.certificate_expiry.clone(),
            start: self.certificate_start.clone(),
            label: one_use.as_str(),
        }
    }

    /// All families as they are now.
    #[must_use]
    pub(crate) fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }

    /// All families in Prometheus' text format 0.0.4.
    #[must_use]
    pub(crate) fn render(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_else(|error| format!("# the metrics could not be encoded: {error}\n"))
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A family of counters. Panics where name or labels are malformed: both are constants of this crate.
#[must_use]
pub(crate) fn counter_vec(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect("the names are constants")
}

/// A family of gauges. Panics where name or labels are malformed: both are constants of this crate.
#[must_use]
pub(crate) fn gauge_vec(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    IntGaugeVec::new(Opts::new(name, help), labels).expect("the names are constants")
}

/// As every client library of Prometheus names it: a row of restarts shows in it.
const PROCESS_START: &str = "process_start_time_seconds";
const BUILD_INFO: &str = "cupbearer_build_info";
const REJECTIONS: &str = "cupbearer_guard_rejections_total";
const CERTIFICATE_EXPIRY: &str = "cupbearer_certificate_expiry_timestamp_seconds";
const CERTIFICATE_START: &str = "cupbearer_certificate_not_before_timestamp_seconds";
const EVICTIONS: &str = "cupbearer_idle_connections_closed_total";
const CONFIG_RELOADS: &str = "cupbearer_config_reloads_total";
const LAST_RELOAD: &str = "cupbearer_config_last_reload_successful";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn validity(from: u64, until: u64) -> Validity {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        Validity { not_before: at(from), not_after: at(until) }
    }

    #[test]
    fn the_certificate_that_expires_first_is_shown_and_none_has_no_series() {
        let metrics = Metrics::new();
        let gauges = metrics.certificates(CertificateUse::Upstream);
        assert!(!metrics.render().contains("use=\"upstream\""));
        gauges.set([validity(10, 900), validity(20, 300), validity(5, 400)]);
        let text = metrics.render();
        assert!(
            text.contains("cupbearer_certificate_expiry_timestamp_seconds{use=\"upstream\"} 300\n"),
            "{text}"
        );
        assert!(
            text.contains("cupbearer_certificate_not_before_timestamp_seconds{use=\"upstream\"} 20\n"),
            "{text}"
        );
        gauges.set(None);
        assert!(!metrics.render().contains("use=\"upstream\""));
    }
}
