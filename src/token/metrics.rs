//! What is counted of tokens. Labels: the token's name and closed sets; all series of a token go when it goes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use crate::clock::{self, BootInstant};
use crate::metrics::{Metrics, counter_vec, gauge_vec};
use crate::oauth::Class;

use super::state::Status;

/// The families of all tokens.
#[derive(Clone, Debug)]
pub(super) struct TokenMetrics {
    expiry: IntGaugeVec,
    renewals: IntCounterVec,
    duration: HistogramVec,
    last_success: IntGaugeVec,
    adoptions: IntCounterVec,
    state: IntGaugeVec,
    required: IntGaugeVec,
}

impl TokenMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let duration =
            HistogramOpts::new(DURATION, "How long token requests took, from first byte to last, in seconds")
                .buckets(BUCKETS.to_vec());
        let families = Self {
            expiry: gauge_vec(EXPIRY, "When the token held expires, in seconds since 1970", &["token"]),
            renewals: counter_vec(RENEWALS, "Token requests, by how they ended", &["token", "result"]),
            duration: HistogramVec::new(duration, &["token"]).expect("the names are constants"),
            last_success: gauge_vec(
                LAST_SUCCESS,
                "When the last token request succeeded, in seconds since 1970",
                &["token"],
            ),
            adoptions: counter_vec(
                ADOPTIONS,
                "Tokens taken out of the store, where another process, an earlier run or a login had put them",
                &["token"],
            ),
            state: gauge_vec(STATE, "1 for the state that the token is in, else 0", &["token", "state"]),
            required: gauge_vec(REQUIRED, "1 where readiness waits for the token, else 0", &["token"]),
        };
        metrics.register(families.expiry.clone());
        metrics.register(families.renewals.clone());
        metrics.register(families.duration.clone());
        metrics.register(families.last_success.clone());
        metrics.register(families.adoptions.clone());
        metrics.register(families.state.clone());
        metrics.register(families.required.clone());
        families
    }

    /// Shows a token from its first instant, so that a rate over its counters starts at zero.
    pub(super) fn added(&self, token: &str, required: bool) {
        for result in RESULTS {
            self.renewals.with_label_values(&[token, result]);
        }
        self.duration.with_label_values(&[token]);
        self.adoptions.with_label_values(&[token]);
        self.required.with_label_values(&[token]).set(i64::from(required));
        self.status(token, Status::Pending);
    }

    /// One more token request has ended.
    pub(super) fn ended(&self, token: &str, took: Duration, failed: Option<Class>) {
        let result = failed.map_or(SUCCESS, Class::as_str);
        self.renewals.with_label_values(&[token, result]).inc();
        self.duration.with_label_values(&[token]).observe(took.as_secs_f64());
        if failed.is_none() {
            self.last_success.with_label_values(&[token]).set(clock::unix_seconds().cast_signed());
        }
    }

    /// A token that was requested at `asked`, by whichever process, was taken out of the store.
    pub(super) fn adopted(&self, token: &str, asked: SystemTime) {
        self.adoptions.with_label_values(&[token]).inc();
        self.last_success.with_label_values(&[token]).set(unix(asked));
    }

    /// A new token is held.
    pub(super) fn expiry(&self, token: &str, at: BootInstant) {
        self.expiry.with_label_values(&[token]).set(unix(clock::wall_at(at)));
    }

    /// The state that a token is in from now on.
    pub(super) fn status(&self, token: &str, now: Status) {
        for status in Status::ALL {
            self.state.with_label_values(&[token, status.as_str()]).set(i64::from(status == now));
        }
    }

    /// No token is held any more.
    pub(super) fn forgotten(&self, token: &str) {
        // An error says that none ever was.
        let _ = self.expiry.remove_label_values(&[token]);
    }

    /// Forgets a token.
    pub(super) fn removed(&self, token: &str) {
        // An error says that there was no such series, as for a token that never was fetched.
        let _ = self.expiry.remove_label_values(&[token]);
        let _ = self.last_success.remove_label_values(&[token]);
        let _ = self.duration.remove_label_values(&[token]);
        let _ = self.adoptions.remove_label_values(&[token]);
        let _ = self.required.remove_label_values(&[token]);
        for result in RESULTS {
            let _ = self.renewals.remove_label_values(&[token, result]);
        }
        for status in Status::ALL {
            let _ = self.state.remove_label_values(&[token, status.as_str()]);
        }
    }
}

impl TokenMetrics {
    /// The series that all tokens of a pool share. They stay when it is empty: a pool is as long-lived as its name.
    pub(super) fn pool(&self, name: &str) -> PoolMetrics {
        PoolMetrics {
            renewals: RESULTS.map(|result| self.renewals.with_label_values(&[name, result])),
            duration: self.duration.with_label_values(&[name]),
            last_success: self.last_success.with_label_values(&[name]),
            adoptions: self.adoptions.with_label_values(&[name]),
            state: Status::ALL.map(|status| self.state.with_label_values(&[name, status.as_str()])),
        }
    }
}

/// What is counted of a pool of tokens as of one: each state shows how many of them are in it.
#[derive(Debug)]
pub(super) struct PoolMetrics {
    renewals: [IntCounter; RESULTS.len()],
    duration: Histogram,
    last_success: IntGauge,
    adoptions: IntCounter,
    state: [IntGauge; Status::ALL.len()],
}

impl PoolMetrics {
    /// One more token request has ended.
    pub(super) fn ended(&self, took: Duration, failed: Option<Class>) {
        let result = failed.map_or(SUCCESS, Class::as_str);
        for (series, _) in self.renewals.iter().zip(RESULTS).filter(|(_, name)| *name == result) {
            series.inc();
        }
        self.duration.observe(took.as_secs_f64());
        if failed.is_none() {
            self.last_success.set(clock::unix_seconds().cast_signed());
        }
    }

    /// See [`TokenMetrics::adopted`].
    pub(super) fn adopted(&self, asked: SystemTime) {
        self.adoptions.inc();
        self.last_success.set(self.last_success.get().max(unix(asked)));
    }

    /// A token of it is in a state from now on.
    pub(super) fn enter(&self, status: Status) {
        self.gauge(status).inc();
    }

    /// A token of it is no longer in a state.
    pub(super) fn leave(&self, status: Status) {
        self.gauge(status).dec();
    }

    fn gauge(&self, status: Status) -> &IntGauge {
        let place = Status::ALL.iter().position(|one| *one == status);
        &self.state[place.unwrap_or_default()]
    }
}

fn unix(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed()
}

/// What is counted of the token store.
#[derive(Clone, Debug)]
pub(super) struct StoreMetrics {
    degraded: IntGauge,
}

impl StoreMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let help = "1 while the token store does not hold all that it should, else 0";
        let families = Self { degraded: IntGauge::new(DEGRADED, help).expect("the name is a constant") };
        metrics.register(families.degraded.clone());
        families
    }

    pub(super) fn degraded(&self, degraded: bool) {
        self.degraded.set(i64::from(degraded));
    }
}

const DEGRADED: &str = "cupbearer_store_degraded";
const ADOPTIONS: &str = "cupbearer_token_adoptions_total";
const EXPIRY: &str = "cupbearer_token_expiry_timestamp_seconds";
const RENEWALS: &str = "cupbearer_token_renewals_total";
const DURATION: &str = "cupbearer_token_renewal_duration_seconds";
const LAST_SUCCESS: &str = "cupbearer_token_last_success_timestamp_seconds";
const STATE: &str = "cupbearer_token_state";
const REQUIRED: &str = "cupbearer_token_required";

const SUCCESS: &str = "success";
const RESULTS: [&str; 5] = [
    SUCCESS,
    Class::Transient.as_str(),
    Class::Misconfigured.as_str(),
    Class::Doubtful.as_str(),
    Class::Refused.as_str(),
];

/// From a server next door to one that hardly answers.
const BUCKETS: [f64; 10] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_series_from_its_first_instant_and_none_after_its_last() {
        let metrics = Metrics::new();
        let tokens = TokenMetrics::new(&metrics);
        tokens.added("api", true);
        let text = metrics.render();
        assert!(text.contains(r#"cupbearer_token_renewals_total{result="success",token="api"} 0"#), "{text}");
        assert!(text.contains(r#"cupbearer_token_state{state="pending",token="api"} 1"#), "{text}");
        assert!(text.contains(r#"cupbearer_token_required{token="api"} 1"#), "{text}");
        tokens.ended("api", Duration::from_millis(30), None);
        tokens.expiry("api", BootInstant::now() + Duration::from_mins(1));
        tokens.status("api", Status::Valid);
        tokens.ended("api", Duration::from_millis(30), Some(Class::Transient));
        tokens.adopted("api", UNIX_EPOCH + Duration::from_secs(1000));
        let text = metrics.render();
        for line in [
            r#"cupbearer_token_adoptions_total{token="api"} 1"#,
            r#"cupbearer_token_last_success_timestamp_seconds{token="api"} 1000"#,
            r#"cupbearer_token_renewals_total{result="success",token="api"} 1"#,
            r#"cupbearer_token_renewals_total{result="transient",token="api"} 1"#,
            r#"cupbearer_token_state{state="valid",token="api"} 1"#,
            r#"cupbearer_token_state{state="pending",token="api"} 0"#,
            r#"cupbearer_token_renewal_duration_seconds_count{token="api"} 2"#,
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
        tokens.removed("api");
        assert!(!metrics.render().contains("api"));
    }
}
