//! What goes through the proxy, second by second: read from the registry's own families, whose names are the contract.

use std::collections::BTreeMap;

use prometheus::IntCounterVec;
use prometheus::proto::MetricFamily;
use serde::Serialize;

use crate::metrics::Metrics;

/// Requests that the guard refused, by reason; of one family with those that the proxy's guard did.
#[derive(Clone, Debug)]
pub(super) struct Rejections(IntCounterVec);

impl Rejections {
    pub(super) fn of(metrics: &Metrics) -> Self {
        Self(metrics.rejections())
    }

    pub(super) fn count(&self, reason: &str) {
        self.0.with_label_values(&[reason]).inc();
    }
}

/// All that went through until an instant.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Totals {
    /// Requests by the first digit of their status.
    by_class: BTreeMap<u8, u64>,
    /// Cumulative, by the bucket's upper bound in seconds.
    buckets: Vec<(f64, u64)>,
}

/// What went through between two instants.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Traffic {
    /// Requests that ended, a second.
    pub(super) requests_per_second: f64,
    /// The same by class of status: `2xx` and its like.
    pub(super) by_class: BTreeMap<String, f64>,
    /// Of those requests, from their head to the last byte of their answer, in milliseconds; `None`: there were none.
    /// As exact as the histogram's buckets.
    pub(super) p50_ms: Option<f64>,
    /// The same for 99 of 100.
    pub(super) p99_ms: Option<f64>,
}

impl Totals {
    pub(super) fn read(metrics: &Metrics) -> Self {
        let mut totals = Self::default();
        for family in metrics.gather() {
            match family.name() {
                REQUESTS => totals.count(&family),
                DURATION => totals.time(&family),
                _ => {}
            }
        }
        totals
    }

    fn count(&mut self, family: &MetricFamily) {
        for metric in family.get_metric() {
            let code = metric.get_label().iter().find(|label| label.name() == "code");
            let class =
                code.and_then(|code| code.value().bytes().next()).map(|digit| digit.wrapping_sub(b'0'));
            let count = metric.get_counter().get_value();
            *self.by_class.entry(class.unwrap_or_default()).or_default() += count as u64;
        }
    }

    fn time(&mut self, family: &MetricFamily) {
        for metric in family.get_metric() {
            let buckets = metric.get_histogram().get_bucket();
            if self.buckets.is_empty() {
                self.buckets = buckets.iter().map(|bucket| (bucket.upper_bound(), 0)).collect();
            }
            for (sum, bucket) in self.buckets.iter_mut().zip(buckets) {
                sum.1 += bucket.cumulative_count();
            }
        }
    }

    /// What came since `before`, `seconds` ago.
    pub(super) fn since(&self, before: &Self, seconds: f64) -> Traffic {
        let rate = |count: u64| count as f64 / seconds.max(0.001);
        let by_class: BTreeMap<u8, u64> = self
            .by_class
            .iter()
            .map(|(class, count)| {
                (*class, count.saturating_sub(before.by_class.get(class).copied().unwrap_or(0)))
            })
            .collect();
        let ended = by_class.values().sum();
        let earlier = |index: usize| before.buckets.get(index).map_or(0, |(_, count)| *count);
        let buckets: Vec<_> = self
            .buckets
            .iter()
            .enumerate()
            .map(|(index, (bound, count))| (*bound, count.saturating_sub(earlier(index))))
            .collect();
        Traffic {
            requests_per_second: rate(ended),
            by_class: by_class
                .into_iter()
                .map(|(class, count)| (format!("{class}xx"), rate(count)))
                .collect(),
            p50_ms: quantile(&buckets, 0.5),
            p99_ms: quantile(&buckets, 0.99),
        }
    }
}

/// As Prometheus estimates it: by a straight line through the bucket that it falls into.
fn quantile(buckets: &[(f64, u64)], share: f64) -> Option<f64> {
    let total = buckets.last().map(|(_, count)| *count).filter(|total| *total > 0)?;
    let rank = share * total as f64;
    let (mut lower, mut below) = (0.0, 0);
    for (bound, count) in buckets {
        if *count as f64 >= rank {
            let upper = if bound.is_finite() { *bound } else { lower };
            let inside = (rank - below as f64) / ((count - below).max(1)) as f64;
            return Some(1000.0 * (lower + (upper - lower) * inside));
        }
        (lower, below) = (*bound, *count);
    }
    None
}

const REQUESTS: &str = "cupbearer_requests_total";
const DURATION: &str = "cupbearer_request_duration_seconds";

#[cfg(test)]
mod tests {
    use prometheus::{HistogramOpts, HistogramVec};

    use super::*;
    use crate::metrics::counter_vec;

    #[test]
    fn a_second_is_the_difference_of_two_readings() {
        let metrics = Metrics::new();
        let requests = counter_vec(REQUESTS, "x", &["route", "code"]);
        let options = HistogramOpts::new(DURATION, "x").buckets(vec![0.001, 0.01, 0.1]);
        let durations = HistogramVec::new(options, &["route"]).unwrap();
        metrics.register(requests.clone());
        metrics.register(durations.clone());
        requests.with_label_values(&["/", "200"]).inc_by(5);
        durations.with_label_values(&["/"]).observe(5.0);
        let before = Totals::read(&metrics);
        assert!(before.since(&before, 1.0).requests_per_second.abs() < f64::EPSILON);
        assert_eq!(before.since(&before, 1.0).p50_ms, None);
        requests.with_label_values(&["/", "200"]).inc_by(90);
        requests.with_label_values(&["/b", "503"]).inc_by(10);
        for _ in 0..99 {
            durations.with_label_values(&["/"]).observe(0.0005);
        }
        durations.with_label_values(&["/b"]).observe(0.05);
        let traffic = Totals::read(&metrics).since(&before, 2.0);
        assert!((traffic.requests_per_second - 50.0).abs() < 0.01, "{traffic:?}");
        assert!(
            (traffic.by_class["2xx"] - 45.0).abs() < 0.01 && (traffic.by_class["5xx"] - 5.0).abs() < 0.01
        );
        assert!(traffic.p50_ms.unwrap() <= 1.0 && traffic.p99_ms.unwrap() <= 1.0, "{traffic:?}");
    }
}
