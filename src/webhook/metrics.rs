//! What the webhook counts.

use std::time::Duration;

use cupbearer_inject::admission::Decision;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge};

use crate::metrics::{Metrics, counter_vec};

/// The families of the webhook.
#[derive(Clone, Debug)]
pub(super) struct WebhookMetrics {
    admissions: IntCounterVec,
    duration: Histogram,
    reloads: IntCounterVec,
    last_reload: IntGauge,
}

impl WebhookMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let admissions =
            counter_vec(ADMISSIONS, "Admission reviews, by what became of the pod", &["outcome"]);
        for decision in Decision::ALL.iter().map(|decision| decision.as_str()).chain([UNREADABLE]) {
            admissions.with_label_values(&[decision]);
        }
        let help = "Admission reviews, from the request's end to the response";
        let options = HistogramOpts::new(DURATION, help).buckets(BUCKETS.to_vec());
        let duration = Histogram::with_opts(options).expect("the names are constants");
        let help = "Replacements of the webhook's certificate by what its files hold, by how they ended";
        let reloads = counter_vec(RELOADS, help, &["result"]);
        for result in [APPLIED, REFUSED] {
            reloads.with_label_values(&[result]);
        }
        let help = "0 while the webhook's certificate files hold what was refused, and the one before stays in force";
        let last_reload = IntGauge::new(LAST_RELOAD, help).expect("the name is a constant");
        last_reload.set(1);
        metrics.register(admissions.clone());
        metrics.register(duration.clone());
        metrics.register(reloads.clone());
        metrics.register(last_reload.clone());
        Self { admissions, duration, reloads, last_reload }
    }

    /// A review was responded to; `None`: it was none that can be read.
    pub(super) fn reviewed(&self, decision: Option<Decision>, took: Duration) {
        self.admissions.with_label_values(&[decision.map_or(UNREADABLE, Decision::as_str)]).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// The certificate's files have changed, and it was replaced or not.
    pub(super) fn reloaded(&self, is_applied: bool) {
        self.reloads.with_label_values(&[if is_applied { APPLIED } else { REFUSED }]).inc();
        self.last_reload.set(i64::from(is_applied));
    }
}

const ADMISSIONS: &str = "cupbearer_webhook_admissions_total";
const DURATION: &str = "cupbearer_webhook_admission_duration_seconds";
const RELOADS: &str = "cupbearer_webhook_certificate_reloads_total";
const LAST_RELOAD: &str = "cupbearer_webhook_certificate_last_reload_successful";
const UNREADABLE: &str = "unreadable";
const APPLIED: &str = "applied";
const REFUSED: &str = "refused";
/// An API server waits for 5 s by default here, and for 30 s at most.
const BUCKETS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];
