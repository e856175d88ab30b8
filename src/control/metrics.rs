//! What goes through the proxy, second by second: read from the registry's own families, whose names are the contract.

use std::collections::BTreeMap;

use prometheus::IntCounterVec;
use prometheus::proto::MetricFamily;
use serde::Serialize;

use super::status::Latency;
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
    /// How long they took.
    durations: Buckets,
    /// The proxy's own share of that.
    own: Buckets,
}

/// Cumulative counts by the bucket's upper bound in seconds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Buckets(Vec<(f64, u64)>);

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
    /// The same as the 99th percentile.
    pub(super) p99_ms: Option<f64>,
    /// The proxy's own share of the time until the head of the response, without any waits.
    pub(super) own_p50_ms: Option<f64>,
    /// The same as the 99th percentile.
    pub(super) own_p99_ms: Option<f64>,
}

impl Totals {
    pub(super) fn read(metrics: &Metrics) -> Self {
        let mut totals = Self::default();
        for family in metrics.gather() {
            match family.name() {
                REQUESTS => totals.count(&family),
                DURATION => totals.durations.add(&family),
                OVERHEAD => totals.own.add(&family),
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
        let (durations, own) = (self.durations.since(&before.durations), self.own.since(&before.own));
        Traffic {
            requests_per_second: rate(ended),
            by_class: by_class
                .into_iter()
                .map(|(class, count)| (format!("{class}xx"), rate(count)))
                .collect(),
            p50_ms: durations.quantile_ms(0.5),
            p99_ms: durations.quantile_ms(0.99),
            own_p50_ms: own.quantile_ms(0.5),
            own_p99_ms: own.quantile_ms(0.99),
        }
    }

    /// How long the requests took; `None`: there were none.
    pub(super) fn latency(&self) -> Option<Latency> {
        let micros = |buckets: &Buckets, share| Some((buckets.quantile_ms(share)? * 1000.0).round() as u64);
        Some(Latency {
            p50_us: micros(&self.durations, 0.5)?,
            p99_us: micros(&self.durations, 0.99)?,
            own_p50_us: micros(&self.own, 0.5)?,
            own_p99_us: micros(&self.own, 0.99)?,
        })
    }
}

impl Buckets {
    fn add(&mut self, family: &MetricFamily) {
        for metric in family.get_metric() {
            let buckets = metric.get_histogram().get_bucket();
            if self.0.is_empty() {
                self.0 = buckets.iter().map(|bucket| (bucket.upper_bound(), 0)).collect();
            }
            for (sum, bucket) in self.0.iter_mut().zip(buckets) {
                sum.1 += bucket.cumulative_count();
            }
        }
    }

    fn since(&self, before: &Self) -> Self {
        let earlier = |index: usize| before.0.get(index).map_or(0, |(_, count)| *count);
        let counts = self.0.iter().enumerate();
        Self(counts.map(|(index, (bound, count))| (*bound, count.saturating_sub(earlier(index)))).collect())
    }

    /// As Prometheus estimates it: by a straight line through the bucket that it falls into.
    fn quantile_ms(&self, share: f64) -> Option<f64> {
        let total = self.0.last().map(|(_, count)| *count).filter(|total| *total > 0)?;
        let rank = share * total as f64;
        let (mut lower, mut below) = (0.0, 0);
        for (bound, count) in &self.0 {
            if *count as f64 >= rank {
                let upper = if bound.is_finite() { *bound } else { lower };
                let inside = (rank - below as f64) / ((count - below).max(1)) as f64;
                return Some(1000.0 * (lower + (upper - lower) * inside));
            }
            (lower, below) = (*bound, *count);
        }
        None
    }
}

const REQUESTS: &str = "cupbearer_requests_total";
const DURATION: &str = "cupbearer_request_duration_seconds";
const OVERHEAD: &str = "cupbearer_overhead_seconds";

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
        let options = HistogramOpts::new(OVERHEAD, "x").buckets(vec![0.0001, 0.001]);
        let own = HistogramVec::new(options, &["route"]).unwrap();
        metrics.register(own.clone());
        requests.with_label_values(&["/", "200"]).inc_by(5);
        durations.with_label_values(&["/"]).observe(5.0);
        let before = Totals::read(&metrics);
        assert!(before.since(&before, 1.0).requests_per_second.abs() < f64::EPSILON);
        assert_eq!(before.since(&before, 1.0).p50_ms, None);
        assert_eq!(before.latency(), None);
        requests.with_label_values(&["/", "200"]).inc_by(90);
        requests.with_label_values(&["/b", "503"]).inc_by(10);
        for _ in 0..99 {
            durations.with_label_values(&["/"]).observe(0.0005);
            own.with_label_values(&["/"]).observe(0.000_05);
        }
        durations.with_label_values(&["/b"]).observe(0.05);
        let traffic = Totals::read(&metrics).since(&before, 2.0);
        assert!((traffic.requests_per_second - 50.0).abs() < 0.01, "{traffic:?}");
        assert!(
            (traffic.by_class["2xx"] - 45.0).abs() < 0.01 && (traffic.by_class["5xx"] - 5.0).abs() < 0.01
        );
        assert!(traffic.p50_ms.unwrap() <= 1.0 && traffic.p99_ms.unwrap() <= 1.0, "{traffic:?}");
        assert!(traffic.own_p50_ms.unwrap() <= 0.1 && traffic.own_p99_ms.unwrap() <= 0.1, "{traffic:?}");
        let latency = Totals::read(&metrics).latency().unwrap();
        assert!(latency.p50_us <= 1000 && latency.own_p99_us <= 100, "{latency:?}");
    }
}
