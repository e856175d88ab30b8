//! What an authorization server sees of a fleet in an outage of an hour, and when it comes back.
//!
//! Each replica follows the schedule alone, as the renewer does; its tokens are at another point of their lives when the
//! outage begins. The server responds at once, which is the worst for it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::BootInstant;
use crate::oauth::Class;
use crate::token::facts::tests::failing;
use crate::token::schedule::{renew_after, retry_at, usable_for};
use crate::token::{Facts, Failing, Policy};

/// What a server saw.
#[derive(Debug, PartialEq)]
struct Seen {
    /// Requests in the outage.
    requests: usize,
    /// The most of them in one second.
    worst: usize,
    /// The most in one second after it.
    return_worst: usize,
    /// Until the last replica has a token again.
    back_after: Duration,
}

/// Whether requests wait at each replica as soon as its token is over.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Demand {
    Idle,
    Waiting,
    /// An application waits at each for a token that there never was.
    Starting,
}

fn outage(replicas: usize, demand: Demand, seed: u64) -> Seen {
    let mut random = fastrand::Rng::with_seed(seed);
    let policy = Policy::default();
    let begin = BootInstant::now() + LIFETIME;
    let end = begin + OUTAGE;
    let mut seconds: BTreeMap<u64, usize> = BTreeMap::new();
    let mut last = end;
    for _ in 0..replicas {
        let life = renew_after(LIFETIME, &policy, random.f64());
        let age = life.mul_f64(random.f64());
        let usable_until = begin - age + usable_for(LIFETIME, &policy);
        let mut next = begin - age + life;
        let mut facts = Facts { usable_until: Some(usable_until), ..Facts::default() };
        if demand == Demand::Starting {
            facts = Facts { usable_until: None, starting: true, ..facts };
            next = begin + ROLLOUT.mul_f64(random.f64());
        }
        while next < end {
            *seconds.entry((next - begin).as_secs()).or_default() += 1;
            let failing = match facts.failing {
                None => failing(Class::Transient, next),
                Some(before) => Failing { at: next, attempts: before.attempts + 1, ..before },
            };
            facts.failing = Some(failing);
            let planned = retry_at(&facts, &policy.retry, random.f64()).unwrap();
            next = match demand {
                Demand::Idle | Demand::Starting => planned,
                // The first request after the end of the token, or after this failure.
                Demand::Waiting if planned < usable_until => planned,
                Demand::Waiting => {
                    let waited = retry_at(&facts.waited_for(), &policy.retry, random.f64()).unwrap();
                    planned.min(waited.max(usable_until))
                }
            };
        }
        *seconds.entry((next - begin).as_secs()).or_default() += 1;
        last = last.max(next);
    }
    let of = |range: std::ops::Range<u64>| {
        let counts = seconds.range(range).map(|(_, count)| *count);
        (counts.clone().sum(), counts.max().unwrap_or(0))
    };
    let (requests, worst) = of(0..OUTAGE.as_secs());
    let (_, return_worst) = of(OUTAGE.as_secs()..u64::MAX);
    Seen { requests, worst, return_worst, back_after: last - end }
}

#[test]
#[expect(clippy::print_stdout, reason = "figures for a run with --nocapture")]
fn no_fleet_overruns_a_server_that_is_away_for_an_hour_or_just_back() {
    println!(
        "replicas         demand   in the outage   a replica   worst second   at its return   all back after"
    );
    for replicas in [1, 100, 1000] {
        for demand in [Demand::Idle, Demand::Waiting, Demand::Starting] {
            let seen = outage(replicas, demand, 7);
            let each = seen.requests / replicas;
            let name = format!("{demand:?}");
            println!(
                "{replicas:8}  {name:>13}  {:14}  {each:10}  {:13}  {:14}  {:13.1} s",
                seen.requests,
                seen.worst,
                seen.return_worst,
                seen.back_after.as_secs_f64()
            );
            let (hourly, back) = match demand {
                Demand::Idle => (MOST_IDLE, policy_max()),
                Demand::Waiting | Demand::Starting => (MOST_WAITING, crate::token::schedule::WAITED_FOR_LONG),
            };
            assert!(each <= hourly, "{seen:?}");
            assert!(seen.back_after <= back + Duration::from_secs(1), "{seen:?}");
            let share = (replicas as f64 * MOST_AT_RETURN).ceil() as usize;
            assert!(seen.return_worst <= share.max(1), "{seen:?}");
            let most = (replicas as f64 * MOST_AT_ONCE).ceil() as usize + 3;
            assert!(seen.worst <= most, "{seen:?}");
        }
    }
}

fn policy_max() -> Duration {
    Policy::default().retry.max
}

/// The share of a fleet that asks in any one second once its server is back.
const MOST_AT_RETURN: f64 = 0.4;

/// The same in the outage: the first retries are close together.
const MOST_AT_ONCE: f64 = 0.6;

/// Requests of one replica in the hour: one in half of `retry.max` on average, and a few at first.
const MOST_IDLE: usize = 150;

/// The same while requests wait all the time.
const MOST_WAITING: usize = 1100;

/// In which the pods of a fleet start.
const ROLLOUT: Duration = Duration::from_mins(1);

const OUTAGE: Duration = Duration::from_hours(1);

/// Short: nearly all of the outage is beyond it.
const LIFETIME: Duration = Duration::from_mins(5);
