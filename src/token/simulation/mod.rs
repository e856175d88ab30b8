//! Years of renewals in seconds: the real renewer on a paused clock, against a model of everything around it.
//!
//! `world` is the model: authorization server, store, weather, and what must never happen. `source` is the way between the
//! two; `life` is what goes on in a year. All chance comes from the seed: a seed that fails fails again.
//! `CUPBEARER_SIMULATION="SEEDS DAYS"` runs more than the suite does, `CUPBEARER_SEED` one alone.

mod herd;
mod judge;
mod life;
mod source;
mod tally;
mod world;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use life::Plan;
use tally::Tally;
use world::Fault;

/// Runs each seed until one fails, on every core.
fn run(seeds: Range<u64>, days: u64, fault: Option<Fault>) -> Result<Tally, String> {
    let next = AtomicU64::new(seeds.start);
    let worker = || {
        let mut sum = Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return Ok(sum);
            }
            match life::live(&Plan { seed, days, fault }) {
                Ok(tally) => sum += tally,
                Err(violation) => {
                    next.store(seeds.end, Ordering::Relaxed);
                    return Err(format!("seed {seed}: {violation}"));
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let mut sum = Tally::default();
        for thread in running {
            sum += thread.join().unwrap()?;
        }
        Ok(sum)
    })
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures of a run that someone asked for")]
fn nothing_that_must_never_happen_happens_in_any_of_these_lives() {
    let asked = std::env::var("CUPBEARER_SIMULATION").unwrap_or_default();
    let mut words = asked.split_whitespace().filter_map(|word| word.parse().ok());
    let (seeds, days) = (words.next().unwrap_or(SEEDS), words.next().unwrap_or(DAYS));
    let one = std::env::var("CUPBEARER_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = one.map_or(0..seeds, |seed| seed..seed + 1);
    let tally = run(seeds.clone(), days, None).unwrap();
    println!("{} seeds x {days} days: {tally:?}", seeds.end - seeds.start);
    // A simulation in which nothing goes wrong proves nothing.
    for (what, seen) in tally.facts() {
        assert!(seen > 0 || one.is_some(), "{what} never happened: {tally:?}");
    }
}

#[test]
fn a_seed_that_is_run_twice_is_the_same_life() {
    let life = || run(7..8, 60, None).unwrap();
    assert_eq!(life(), life());
}

fn caught(fault: Fault, words: &str) {
    let violation = run(0..60, 120, Some(fault)).unwrap_err();
    assert!(violation.contains(words), "{fault:?} was seen as: {violation}");
}

#[test]
fn it_sees_a_token_that_counts_as_good_for_longer_than_it_is() {
    caught(Fault::LifetimeStretched, "has expired");
    caught(Fault::StoredTokenCountsFromNow, "has expired");
}

#[test]
fn it_sees_two_token_requests_at_once() {
    caught(Fault::AsksTwice, "two token requests at once");
}

#[test]
fn it_sees_a_lost_refresh_token() {
    caught(Fault::UsesBeforeItStores, "was lost");
    caught(Fault::NeverStores, "was lost");
}

#[test]
fn it_sees_calls_that_the_pace_forbids() {
    caught(Fault::DeafToRetryAfter, "asked to be left alone");
    caught(Fault::RetriesAtOnce, "too soon");
    caught(Fault::LifetimeShrunk, "too soon");
}

#[test]
fn it_sees_a_token_that_stays_away() {
    caught(Fault::GivesUp, "no token");
    caught(Fault::ClockUnwatched, "no token");
}

/// What the suite runs; each seed has its own tokens, weather and accidents.
const SEEDS: u64 = 1000;

/// Of simulated time for each seed.
const DAYS: u64 = 20;
