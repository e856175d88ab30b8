//! When: pure functions of lifetimes, failures and jitter. They read no clock and draw no random number.
//!
//! The renewer calls them with what happened and does what they say. Jitter is a number from 0 to 1 that the caller
//! draws: without it, proxies that started together would renew together for ever.

use std::time::Duration;

use crate::clock::Moment;

use crate::oauth::{Class, MAX_LIFETIME};

use super::settings::{Backoff, Policy};

/// For how long after it was asked for a token is sent: its lifetime less the margin, which is never more than a
/// tenth of the lifetime.
#[must_use]
pub fn usable_for(lifetime: Duration, policy: &Policy) -> Duration {
    let lifetime = lifetime.min(MAX_LIFETIME);
    lifetime.saturating_sub(policy.expiry_margin.min(lifetime / 10))
}

/// How long after it was asked for a token is renewed: at `renew_at` of its lifetime, less up to `jitter` of it; a while
/// before it stops being usable, so that there is time to fetch; and never sooner than [`MIN_RENEWAL_GAP`], which
/// for a token of a second or so wins over all else.
#[must_use]
pub fn renew_after(lifetime: Duration, policy: &Policy, jitter: f64) -> Duration {
    let lifetime = lifetime.min(MAX_LIFETIME);
    let planned = share(lifetime, policy.renew_at);
    let latest = share(usable_for(lifetime, policy), LATEST_RENEWAL);
    let early = share(lifetime, policy.jitter * unit(jitter));
    planned.min(latest).saturating_sub(early).max(MIN_RENEWAL_GAP)
}

/// What a failed attempt has to say about the next one.
#[derive(Clone, Copy, Debug)]
pub struct Setback {
    /// When it failed.
    pub now: Moment,
    /// How many have failed in a row, this one included.
    pub failures: u32,
    /// Whose fault it was.
    pub class: Class,
    /// How long the server asks to be left alone for.
    pub hold: Option<Duration>,
    /// When the token held stops being usable; `None`: none is held.
    pub usable_until: Option<Moment>,
}

/// When to try again; `None`: not before someone asks.
///
/// Full-jitter backoff from `initial`, doubled by each failure, up to `max`; `max` itself where the configuration is
/// at fault. A server's `Retry-After` is kept to. Where the token held expires before, one attempt is made within
/// two seconds of its end; once that time has begun, the backoff alone counts.
#[must_use]
pub fn retry_at(setback: &Setback, backoff: &Backoff, jitter: f64) -> Option<Moment> {
    let floor = (backoff.initial / 2).clamp(MIN_RETRY_GAP, MAX_DELAY);
    let max = backoff.max.clamp(floor, MAX_DELAY);
    let delay = match setback.class {
        Class::Refused => return None,
        Class::Misconfigured => max,
        Class::Transient => {
            let doublings = setback.failures.saturating_sub(1).min(32);
            let bound = backoff.initial.saturating_mul(2_u32.saturating_pow(doublings)).clamp(floor, max);
            share(bound, unit(jitter)).max(floor)
        }
    };
    let now = setback.now;
    let mut at = now + delay;
    let last_chance = setback.usable_until.map(|end| end - LAST_CHANCE);
    if let Some(begin) = last_chance.filter(|begin| *begin > now + floor) {
        // In its first half, so that the answer has time to come; not all proxies at the very same instant. Never a
        // second time: an end that comes near would pull each retry to the shortest gap.
        at = at.min(begin + share(LAST_CHANCE / 2, unit(jitter)));
    }
    if let Some(hold) = setback.hold {
        // Not all at the very instant that a crowd was told.
        at = at.max(now + hold.min(MAX_DELAY) + share(floor, unit(jitter)));
    }
    Some(at)
}

/// A number from 0 to 1, whatever was given.
fn unit(jitter: f64) -> f64 {
    if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 }
}

/// `share` of `whole`, which is at most a year; never more than the whole.
fn share(whole: Duration, share: f64) -> Duration {
    whole.mul_f64(unit(share)).min(whole)
}

/// No attempt that the lifetime plans or that someone asks for starts sooner after the one before it; a retry keeps to
/// its backoff, which may be shorter at first.
pub const MIN_RENEWAL_GAP: Duration = Duration::from_secs(1);

/// No failure is followed by another attempt sooner, whatever the configuration.
pub const MIN_RETRY_GAP: Duration = Duration::from_millis(100);

/// How long before a token's end a last attempt is made while renewals fail.
const LAST_CHANCE: Duration = Duration::from_secs(2);

/// A renewal is planned for this share of the usable time at the latest, even with `renew_at = 1.0`.
const LATEST_RENEWAL: f64 = 0.95;

/// Longer delays are mistakes; a clock plus this does not overflow.
const MAX_DELAY: Duration = MAX_LIFETIME;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(renew_at: f64, jitter: f64, margin: Duration) -> Policy {
        Policy { renew_at, jitter, expiry_margin: margin, ..Policy::default() }
    }

    fn transient(failures: u32) -> Setback {
        Setback { now: Moment::now(), failures, class: Class::Transient, hold: None, usable_until: None }
    }

    #[test]
    fn an_hour_is_renewed_between_39_and_45_minutes() {
        let policy = Policy::default();
        let hour = Duration::from_hours(1);
        assert_eq!(renew_after(hour, &policy, 0.0), Duration::from_mins(45));
        assert_eq!(renew_after(hour, &policy, 1.0), Duration::from_mins(39));
        assert_eq!(usable_for(hour, &policy), Duration::from_secs(3590));
    }

    #[test]
    fn the_margin_never_eats_a_short_lifetime() {
        assert_eq!(usable_for(Duration::from_secs(20), &Policy::default()), Duration::from_secs(18));
        assert_eq!(usable_for(Duration::ZERO, &Policy::default()), Duration::ZERO);
    }

    #[test]
    fn the_backoff_doubles_up_to_its_bound() {
        let backoff = Backoff { initial: Duration::from_millis(500), max: Duration::from_mins(1) };
        let delays: Vec<u64> = (1..=9)
            .map(|failures| {
                let setback = transient(failures);
                (retry_at(&setback, &backoff, 1.0).unwrap() - setback.now).as_millis() as u64
            })
            .collect();
        assert_eq!(delays, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
    }

    #[test]
    fn what_is_misconfigured_is_tried_slowly_and_what_is_refused_never() {
        let backoff = Policy::default().retry;
        let setback = Setback { class: Class::Misconfigured, ..transient(1) };
        assert_eq!(retry_at(&setback, &backoff, 0.0), Some(setback.now + backoff.max));
        assert_eq!(retry_at(&Setback { class: Class::Refused, ..transient(1) }, &backoff, 0.0), None);
    }

    #[test]
    fn a_token_about_to_end_gets_a_last_attempt_but_not_within_retry_after() {
        let backoff = Policy::default().retry;
        let mut setback = Setback { class: Class::Misconfigured, ..transient(9) };
        setback.usable_until = Some(setback.now + Duration::from_secs(30));
        for (jitter, seconds) in [(0.0, 28), (1.0, 29)] {
            let at = setback.now + Duration::from_secs(seconds);
            assert_eq!(retry_at(&setback, &backoff, jitter), Some(at));
        }
        setback.hold = Some(Duration::from_mins(2));
        assert!(retry_at(&setback, &backoff, 1.0).unwrap() >= setback.now + Duration::from_mins(2));
    }

    fn seconds(range: std::ops::Range<f64>) -> impl Strategy<Value = Duration> {
        range.prop_map(Duration::from_secs_f64)
    }

    prop_compose! {
        fn policies()(renew_at in 0.01..=1.0_f64, part in 0.0..=1.0_f64, margin in seconds(0.0..1e6)) -> Policy {
            policy(renew_at, part * renew_at, margin)
        }
    }

    proptest! {
        #[test]
        fn a_renewal_falls_in_its_window_and_before_the_usable_end(
            policy in policies(), lifetime in seconds(1.3..1e7), jitter in 0.0..=1.0_f64,
        ) {
            let at = renew_after(lifetime, &policy, jitter);
            let slack = Duration::from_micros(1);
            prop_assert!(at <= lifetime.mul_f64(policy.renew_at).max(MIN_RENEWAL_GAP) + slack);
            prop_assert!(at < usable_for(lifetime, &policy));
            let capped = lifetime.mul_f64(policy.renew_at).min(usable_for(lifetime, &policy).mul_f64(LATEST_RENEWAL));
            let earliest = capped.saturating_sub(lifetime.mul_f64(policy.jitter));
            prop_assert!(at + slack >= earliest);
        }

        #[test]
        fn no_lifetime_however_short_makes_a_hot_loop(
            policy in policies(), lifetime in seconds(0.0..2.0), jitter in 0.0..=1.0_f64,
        ) {
            prop_assert!(renew_after(lifetime, &policy, jitter) >= MIN_RENEWAL_GAP);
        }

        #[test]
        fn a_retry_is_never_hot_never_late_and_never_within_retry_after(
            failures in any::<u32>(), initial in seconds(0.0..1e4), max in seconds(0.0..1e6),
            hold in proptest::option::of(seconds(0.0..3600.0)), left in proptest::option::of(seconds(0.0..1e4)),
            jitter in 0.0..=1.0_f64,
        ) {
            let backoff = Backoff { initial, max };
            let mut setback = transient(failures);
            setback.hold = hold;
            setback.usable_until = left.map(|left| setback.now + left);
            let delay = retry_at(&setback, &backoff, jitter).unwrap() - setback.now;
            let floor = (initial / 2).max(MIN_RETRY_GAP);
            prop_assert!(delay >= floor);
            prop_assert!(delay >= hold.unwrap_or_default());
            if hold.is_none() {
                prop_assert!(delay <= max.max(floor));
            }
        }

        #[test]
        fn the_end_of_a_token_brings_one_attempt_at_most_that_the_backoff_would_not_have_made(
            left in seconds(0.0..120.0), failures in 1..20_u32, initial in seconds(0.0..20.0),
            max in seconds(0.0..100.0), jitters in proptest::collection::vec(0.0..=1.0_f64, 200),
        ) {
            let backoff = Backoff { initial, max };
            let mut setback = transient(failures);
            let end = setback.now + left;
            setback.usable_until = Some(end);
            let mut brought = 0;
            for jitter in jitters {
                let at = retry_at(&setback, &backoff, jitter).unwrap();
                let alone = retry_at(&Setback { usable_until: None, ..setback }, &backoff, jitter).unwrap();
                prop_assert!(at <= alone);
                if at != alone {
                    prop_assert!(at < end && end - at <= LAST_CHANCE);
                    brought += 1;
                }
                setback.now = at;
                setback.failures += 1;
            }
            prop_assert!(brought <= 1, "{brought} attempts");
        }

        #[test]
        fn absurd_numbers_neither_overflow_nor_panic(
            failures in any::<u32>(), nanos in any::<u64>(), secs in any::<u64>(), number in any::<f64>(),
        ) {
            let absurd = Duration::new(secs, (nanos % 1_000_000_000) as u32);
            let policy = Policy {
                retry: Backoff { initial: absurd, max: absurd },
                ..policy(number, number, absurd)
            };
            let _ = renew_after(absurd, &policy, number);
            let _ = usable_for(absurd, &policy);
            let mut setback = transient(failures);
            setback.hold = Some(absurd);
            setback.usable_until = Some(setback.now + absurd);
            prop_assert!(retry_at(&setback, &policy.retry, number).is_some());
        }
    }
}
