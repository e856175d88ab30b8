//! When: pure functions of lifetimes, failures and jitter. They read no clock and draw no random number.
//!
//! The renewer calls them with what happened and does what they say. Jitter is a number from 0 to 1 that the caller
//! draws: without it, proxies that started together would renew together for ever.

use std::time::Duration;

use crate::clock::BootInstant;

use crate::oauth::{Class, MAX_LIFETIME};

use super::facts::{Credential, Facts, Failing};
use super::settings::{Backoff, Policy};

/// For how long after it was asked for a token is sent: its lifetime less the margin, which is never more than a
/// tenth of the lifetime.
#[must_use]
pub(crate) fn usable_for(lifetime: Duration, policy: &Policy) -> Duration {
    let lifetime = lifetime.min(MAX_LIFETIME);
    lifetime.saturating_sub(policy.expiry_margin.min(lifetime / 10))
}

/// How long after it was asked for a token is renewed: at `renew_at` of its lifetime, less up to `jitter` of it; a while
/// before it stops being usable, so that there is time to fetch; and never sooner than [`MIN_RENEWAL_GAP`], which
/// for a token of a second or so wins over all else.
#[must_use]
pub(crate) fn renew_after(lifetime: Duration, policy: &Policy, jitter: f64) -> Duration {
    let lifetime = lifetime.min(MAX_LIFETIME);
    let planned = share(lifetime, policy.renew_at);
    let latest = share(usable_for(lifetime, policy), LATEST_RENEWAL);
    let early = share(lifetime, policy.jitter * unit(jitter));
    planned.min(latest).saturating_sub(early).max(MIN_RENEWAL_GAP)
}

/// The same, where the login that renews it ends by itself after `login`: before the earlier of the two ends.
#[must_use]
pub(crate) fn renew_before(
    lifetime: Duration,
    login: Option<Duration>,
    policy: &Policy,
    jitter: f64,
) -> Duration {
    let sooner = login.map_or(lifetime, |login| login.min(lifetime));
    renew_after(sooner, policy, jitter)
}

/// When to try again after a failure; `None`: not before something changes or a person wants it. `facts` are those at
/// the failure; without one there is nothing to plan.
///
/// Full-jitter backoff from `initial`, doubled by each failure, up to `max`, for every class: what is refused may
/// have worked a minute ago. What may be the end of a login keeps to the latter half of each pause, however many wait, and
/// is as good as given up after `DOUBTFUL_ATTEMPTS`. Else, while requests wait for a token the next attempt is [`WAITED_FOR`] away at most, a little
/// more in a long outage, and [`WAITED_FOR_LONG`] while an application waits to start. A server's `Retry-After` is kept to. Where the token or the login ends before, one attempt is
/// made within two seconds of that end; once that time has begun, the backoff alone counts.
#[must_use]
pub(crate) fn retry_at(facts: &Facts, backoff: &Backoff, jitter: f64) -> Option<BootInstant> {
    let failing = facts.failing.as_ref()?;
    if failing.class == Class::Refused || failing.credential == Credential::Withheld {
        return None;
    }
    let floor = (backoff.initial / 2).clamp(MIN_RETRY_GAP, MAX_DELAY);
    let max = backoff.max.clamp(floor, MAX_DELAY);
    let person = failing.credential == Credential::Person;
    let doublings =
        failing.attempts.saturating_sub(1).saturating_add(if person { PERSON_DOUBLINGS } else { 0 });
    let bound = backoff.initial.saturating_mul(2_u32.saturating_pow(doublings.min(32))).clamp(floor, max);
    let mut delay = share(bound, unit(jitter)).max(floor);
    if failing.ends_the_login() {
        delay = DOUBTFUL_GAP + share(DOUBTFUL_GAP / 10, unit(jitter));
    } else if person || failing.class == Class::Doubtful {
        // The few tries that there are last for a while, whatever waits.
        delay = (bound / 2 + share(bound / 2, unit(jitter))).max(floor);
    } else if failing.waited_for || facts.starting {
        let least = if failing.waited_for { WAITED_FOR } else { WAITED_FOR_LONG };
        let bound = waited_for(failing, least, max);
        delay = delay.min(bound / 2 + share(bound / 2, unit(jitter)));
    }
    let now = failing.at;
    let mut at = now + delay;
    let ends = [facts.usable_until, facts.login_ends].into_iter().flatten();
    let last_chances = ends.map(|end| end - LAST_CHANCE).filter(|begin| *begin > now + floor);
    if let Some(begin) = last_chances.min() {
        // In its first half, so that the response has time to come; not all proxies at the very same instant. Never a
        // second time: an end that comes near would pull each retry to the shortest gap.
        at = at.min(begin + share(LAST_CHANCE / 2, unit(jitter)));
    }
    if let Some(hold) = failing.hold {
        // Not all at the very instant that a crowd was told.
        at = at.max(now + hold.min(MAX_DELAY) + share(floor, unit(jitter)));
    }
    Some(at)
}

/// The bound of the delay while requests or an application's start wait. An outage that lasts gets a thirtieth of its length: a fleet whose requests
/// all wait must not be what keeps the server down. One that passes by itself gets a few seconds at most.
fn waited_for(failing: &Failing, least: Duration, max: Duration) -> Duration {
    let longest = match failing.class {
        Class::Transient => WAITED_FOR_LONG,
        Class::Misconfigured | Class::Doubtful | Class::Refused => max,
    };
    (failing.lasts(failing.at) / 30).min(longest).max(least)
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
pub(crate) const MIN_RENEWAL_GAP: Duration = Duration::from_secs(1);

/// No failure is followed by another attempt sooner, whatever the configuration.
pub(crate) const MIN_RETRY_GAP: Duration = Duration::from_millis(100);

/// While requests wait for lack of a token, the next attempt is no further away than this after the last one; in the
/// latter half of it.
pub(crate) const WAITED_FOR: Duration = Duration::from_secs(2);

/// The same once an outage has lasted for some minutes, and while an application waits to start: the pods of a rollout
/// are many.
pub(crate) const WAITED_FOR_LONG: Duration = Duration::from_secs(5);

/// A refused password is tried once more, after some seconds and not at once: what refused it may have been another login
/// of the same person at that moment.
const PERSON_DOUBLINGS: u32 = 4;

/// How seldom it is tried after what is taken for the end of a login: some servers block who asks too often.
const DOUBTFUL_GAP: Duration = Duration::from_hours(1);

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
    use crate::token::facts::DOUBTFUL_ATTEMPTS;
    use crate::token::facts::tests::failing;

    fn policy(renew_at: f64, jitter: f64, margin: Duration) -> Policy {
        Policy { renew_at, jitter, expiry_margin: margin, ..Policy::default() }
    }

    /// What is known after so many failures in a row, of which the first was just now.
    fn after(class: Class, attempts: u32) -> Facts {
        let failing = Failing { attempts, ..failing(class, BootInstant::now()) };
        Facts { failing: Some(failing), ..Facts::default() }
    }

    fn transient(attempts: u32) -> Facts {
        after(Class::Transient, attempts)
    }

    fn with(facts: Facts, change: impl FnOnce(&mut Failing)) -> Facts {
        let mut failing = facts.failing.unwrap();
        change(&mut failing);
        Facts { failing: Some(failing), ..facts }
    }

    fn delay(facts: &Facts, backoff: &Backoff, jitter: f64) -> Duration {
        retry_at(facts, backoff, jitter).unwrap() - facts.failing.unwrap().at
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
    fn a_login_that_ends_before_its_token_is_renewed_before_it_ends() {
        let policy = Policy::default();
        let (minute, hour) = (Duration::from_mins(1), Duration::from_hours(1));
        for (lifetime, login, want) in [
            (minute, None, renew_after(minute, &policy, 0.0)),
            (minute, Some(hour), renew_after(minute, &policy, 0.0)),
            (hour, Some(minute), renew_after(minute, &policy, 0.0)),
        ] {
            assert_eq!(renew_before(lifetime, login, &policy, 0.0), want, "{lifetime:?} {login:?}");
        }
        assert!(renew_before(minute, Some(Duration::from_secs(20)), &policy, 0.0) <= Duration::from_secs(15));
    }

    #[test]
    fn the_backoff_doubles_up_to_its_bound_in_every_class() {
        let backoff = Backoff { initial: Duration::from_millis(500), max: Duration::from_mins(1) };
        for class in [Class::Transient, Class::Misconfigured] {
            let delays: Vec<u128> =
                (1..=9).map(|n| delay(&after(class, n), &backoff, 1.0).as_millis()).collect();
            assert_eq!(delays, [500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000]);
            // With jitter over all of it: those who collided do not collide again.
            assert_eq!(delay(&after(class, 9), &backoff, 0.25), Duration::from_secs(15));
        }
    }

    #[test]
    fn what_only_a_person_can_change_is_not_tried_again() {
        let backoff = Policy::default().retry;
        assert_eq!(retry_at(&after(Class::Refused, 1).waited_for(), &backoff, 0.0), None);
        let withheld =
            with(after(Class::Misconfigured, 2), |failing| failing.credential = Credential::Withheld);
        assert_eq!(retry_at(&withheld.waited_for(), &backoff, 0.0), None);
        assert_eq!(retry_at(&Facts::default(), &backoff, 0.0), None);
    }

    #[test]
    fn what_may_be_the_end_of_a_login_is_tried_a_few_times_and_then_once_an_hour_whoever_waits() {
        let backoff = Policy::default().retry;
        let after = |doubtful| with(after(Class::Doubtful, doubtful), |failing| failing.doubtful = doubtful);
        for (doubtful, at_most) in [(1, 500), (2, 1000), (3, 2000), (7, 32_000)] {
            for facts in [after(doubtful), after(doubtful).waited_for()] {
                assert_eq!(delay(&facts, &backoff, 1.0), Duration::from_millis(at_most));
                assert_eq!(delay(&facts, &backoff, 0.0), Duration::from_millis(at_most / 2));
            }
        }
        let sum: Duration = (1..DOUBTFUL_ATTEMPTS).map(|tried| delay(&after(tried), &backoff, 0.0)).sum();
        assert!(sum >= Duration::from_secs(30), "a hiccup of half a minute is outlived: {sum:?}");
        for facts in [after(8), after(9), after(9).waited_for()] {
            assert_eq!(delay(&facts, &backoff, 0.0), DOUBTFUL_GAP);
            assert!(delay(&facts, &backoff, 1.0) <= DOUBTFUL_GAP + DOUBTFUL_GAP / 10);
        }
    }

    #[test]
    fn a_refused_password_is_tried_once_more_after_some_seconds_even_while_requests_wait() {
        let backoff = Policy::default().retry;
        let person = with(after(Class::Misconfigured, 1), |failing| failing.credential = Credential::Person);
        for facts in [person, person.waited_for()] {
            assert_eq!(delay(&facts, &backoff, 1.0), Duration::from_secs(8));
            assert_eq!(delay(&facts, &backoff, 0.0), Duration::from_secs(4));
        }
    }

    #[test]
    fn while_requests_wait_the_next_attempt_is_a_few_seconds_away() {
        let backoff = Policy::default().retry;
        let (secs, mins) = (Duration::from_secs, Duration::from_mins);
        for (class, attempts, lasts, hold, want) in [
            // The backoff where it is shorter.
            (Class::Transient, 1, secs(0), None, (0.25, 0.5)),
            (Class::Transient, 9, secs(30), None, (1.0, 2.0)),
            (Class::Transient, 9, mins(2), None, (2.0, 4.0)),
            (Class::Transient, 60, mins(60), None, (2.5, 5.0)),
            (Class::Misconfigured, 9, secs(28), None, (1.0, 2.0)),
            (Class::Misconfigured, 9, mins(5), None, (5.0, 10.0)),
            // What has been wrong for half an hour is the configuration's fault.
            (Class::Misconfigured, 60, mins(60), None, (30.0, 60.0)),
            // A server's own wish goes before.
            (Class::Transient, 9, secs(30), Some(secs(40)), (40.0, 40.25)),
        ] {
            let facts = with(after(class, attempts), |failing| {
                failing.since = failing.at - lasts;
                failing.hold = hold;
            });
            let waited = facts.waited_for();
            let at = |jitter| delay(&waited, &backoff, jitter).as_secs_f64();
            // The backoff's own delay may be shorter by chance.
            let latest = (at(1.0), want.1);
            assert!((latest.0 - latest.1).abs() < 1e-6, "{waited:?}: {latest:?}");
            assert!((0..=100).all(|n| at(f64::from(n) / 100.0) <= want.1 + 1e-6), "{waited:?}");
            assert!((0..=100).any(|n| at(f64::from(n) / 100.0) >= want.0), "{waited:?}");
            assert!(delay(&facts, &backoff, 1.0) >= delay(&waited, &backoff, 1.0));
        }
    }

    #[test]
    fn a_token_about_to_end_gets_a_last_attempt_but_not_within_retry_after() {
        let backoff = Policy::default().retry;
        let mut facts = after(Class::Misconfigured, 9);
        let now = facts.failing.unwrap().at;
        let end = Some(now + Duration::from_secs(30));
        for (usable_until, login_ends) in [(end, None), (Some(now + Duration::from_hours(1)), end)] {
            facts = Facts { usable_until, login_ends, ..facts };
            for (jitter, seconds) in [(0.49, 28), (1.0, 29)] {
                let at = retry_at(&facts, &backoff, jitter).unwrap();
                assert_eq!((at - now).as_secs(), seconds, "{jitter}");
            }
        }
        let held = with(facts, |failing| failing.hold = Some(Duration::from_mins(2)));
        assert!(delay(&held, &backoff, 1.0) >= Duration::from_mins(2));
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
            jitter in 0.0..=1.0_f64, waited in any::<bool>(),
        ) {
            let backoff = Backoff { initial, max };
            let mut facts = with(transient(failures), |failing| {
                failing.hold = hold;
                failing.waited_for = waited;
            });
            facts.usable_until = left.map(|left| facts.failing.unwrap().at + left);
            let delay = delay(&facts, &backoff, jitter);
            let floor = (initial / 2).max(MIN_RETRY_GAP);
            let least = if waited { floor.min(WAITED_FOR / 2) } else { floor };
            prop_assert!(delay >= least);
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
            let mut facts = transient(failures);
            let end = facts.failing.unwrap().at + left;
            facts.usable_until = Some(end);
            let mut brought = 0;
            for jitter in jitters {
                let at = retry_at(&facts, &backoff, jitter).unwrap();
                let alone = retry_at(&Facts { usable_until: None, ..facts }, &backoff, jitter).unwrap();
                prop_assert!(at <= alone);
                if at != alone {
                    prop_assert!(at < end && end - at <= LAST_CHANCE);
                    brought += 1;
                }
                facts = with(facts, |failing| {
                    failing.at = at;
                    failing.attempts += 1;
                });
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
            let _ = renew_before(absurd, Some(absurd), &policy, number);
            let mut facts = with(transient(failures), |failing| {
                failing.hold = Some(absurd);
                failing.waited_for = true;
            });
            facts.usable_until = Some(facts.failing.unwrap().at + absurd);
            facts.login_ends = facts.usable_until;
            prop_assert!(retry_at(&facts, &policy.retry, number).is_some());
        }
    }
}
