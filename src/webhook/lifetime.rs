//! How long the webhook's certificate is still valid: an API server refuses one that is not, and no pod that opted in is created.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::clock;
use crate::metrics::Validity;

/// Where the clock is in a certificate's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lifetime {
    /// Its beginning is ahead: a clock is wrong, or it was issued for later.
    Ahead,
    /// It is valid.
    Valid,
    /// It is valid, and should have been renewed.
    Ending,
    /// It has expired.
    Expired,
}

impl Lifetime {
    /// As `now` has it. A certificate without dates that can be read is taken as it is.
    pub(super) fn at(now: SystemTime, validity: Option<Validity>) -> Self {
        let Some(Validity { not_before, not_after }) = validity else { return Self::Valid };
        if now < not_before {
            return Self::Ahead;
        }
        let Ok(left) = not_after.duration_since(now) else { return Self::Expired };
        let whole = not_after.duration_since(not_before).unwrap_or_default();
        if left < ENDING.min(whole / 5) { Self::Ending } else { Self::Valid }
    }

    pub(super) fn now(validity: Option<Validity>) -> Self {
        Self::at(clock::wall(), validity)
    }

    /// Whether an API server accepts it.
    pub(super) const fn is_accepted(self) -> bool {
        matches!(self, Self::Valid | Self::Ending)
    }
}

/// Logs each change, and what is wrong once an hour.
#[derive(Debug, Default)]
pub(super) struct LifetimeLog(Mutex<Option<(Lifetime, SystemTime)>>);

impl LifetimeLog {
    /// Looks at the certificate that is in force.
    pub(super) fn look(&self, validity: Option<Validity>) {
        let (now, lifetime) = (clock::wall(), Lifetime::now(validity));
        let Some(Validity { not_before, not_after }) = validity.filter(|_| self.is_due(lifetime, now)) else {
            return;
        };
        let (not_before, not_after) = (date(not_before), date(not_after));
        match lifetime {
            Lifetime::Ahead => {
                tracing::error!(not_before, help = "compare the clocks", "the certificate is not valid yet");
            }
            Lifetime::Expired => {
                tracing::error!(
                    not_after,
                    help = RENEW,
                    "the certificate has expired: the API server refuses it"
                );
            }
            Lifetime::Ending => tracing::warn!(not_after, help = RENEW, "the certificate expires soon"),
            Lifetime::Valid => tracing::info!(not_after, "the certificate is valid"),
        }
    }

    /// Whether there is something to log now, which is taken note of.
    fn is_due(&self, lifetime: Lifetime, now: SystemTime) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|(before, at)| {
            let is_old = now.duration_since(at).unwrap_or_default() >= AGAIN;
            before != lifetime || (lifetime != Lifetime::Valid && is_old)
        });
        if is_due {
            *last = Some((lifetime, now));
        }
        is_due
    }
}

fn date(at: SystemTime) -> String {
    // No certificate has a year beyond 9999, and no beginning before 1970 is kept.
    httpdate::fmt_http_date(at)
}

const RENEW: &str = "see what issues it (`kubectl describe certificate` in the webhook's namespace); a new file is read without a restart";
/// cert-manager renews when a third of the life is left.
const ENDING: Duration = Duration::from_hours(7 * 24);
const AGAIN: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const HOUR: u64 = 3600;
    const DAY: u64 = 24 * HOUR;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_certificate_ends_a_week_or_a_fifth_of_its_life_before_it_expires() {
        let of = |days: u64| Some(Validity { not_before: at(DAY), not_after: at(DAY + days * DAY) });
        for (days, now, lifetime) in [
            (90, DAY - 1, Lifetime::Ahead),
            (90, DAY, Lifetime::Valid),
            (90, 84 * DAY, Lifetime::Valid),
            (90, 84 * DAY + 1, Lifetime::Ending),
            (90, 91 * DAY + 1, Lifetime::Expired),
            (5, 5 * DAY, Lifetime::Valid),
            (5, 5 * DAY + 1, Lifetime::Ending),
        ] {
            assert_eq!(Lifetime::at(at(now), of(days)), lifetime, "{days} {now}");
        }
        assert_eq!(Lifetime::at(at(0), None), Lifetime::Valid);
        assert!(Lifetime::Ending.is_accepted() && !Lifetime::Expired.is_accepted());
    }

    #[test]
    fn a_change_is_logged_once_and_what_is_wrong_every_hour() {
        let log = LifetimeLog::default();
        for (lifetime, seconds, is_due) in [
            (Lifetime::Valid, 0, true),
            (Lifetime::Valid, 2 * HOUR, false),
            (Lifetime::Expired, 2 * HOUR, true),
            (Lifetime::Expired, 3 * HOUR - 1, false),
            (Lifetime::Expired, 3 * HOUR, true),
            (Lifetime::Valid, 3 * HOUR, true),
        ] {
            assert_eq!(log.is_due(lifetime, at(seconds)), is_due, "{lifetime:?} {seconds}");
        }
    }
}
