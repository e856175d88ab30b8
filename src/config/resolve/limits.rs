//! How much a route lets through at a time.

use super::{Zero, duration, number};
use crate::config::file::{self, Route};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::proxy::{Rate, RouteLimits};

pub(super) fn resolve(path: &KeyPath, route: &Route, review: &mut Review<'_>) -> RouteLimits {
    let (rate_path, burst_path) = (path.key("rate_limit"), path.key("rate_burst"));
    let rate = route.rate_limit.map(|rate| self::rate(path, rate, route.rate_burst, review));
    if rate.is_none() && review.is_given(&burst_path) && !review.is_spoken_for(&rate_path) {
        review.error(&burst_path, "has no meaning without `rate_limit`", "set that too, or take this out");
    }
    let concurrent = route
        .max_concurrent
        .map(|most| number(&path.key("max_concurrent"), most, 1..=MAX_CONCURRENT, review));
    let queue = number(&path.key("max_queue"), route.max_queue, 0..=MAX_QUEUE, review);
    let queue_timeout = duration(&path.key("queue_timeout"), route.queue_timeout, Zero::Refused, review);
    let unlimited = [&rate_path, &path.key("max_concurrent")]
        .iter()
        .all(|key| !review.is_given(key) && !review.is_spoken_for(key));
    if unlimited && review.is_whole() {
        for key in ["max_queue", "queue_timeout"].map(|key| path.key(key)) {
            if review.is_given(&key) && !review.is_spoken_for(&key) {
                let what = "has no meaning without a limit that a request would wait for";
                review.error(&key, what, "set `rate_limit` or `max_concurrent`, or take it out");
            }
        }
    }
    RouteLimits { rate, concurrent, queue, queue_timeout }
}

fn rate(path: &KeyPath, rate: file::Rate, burst: Option<u32>, review: &mut Review<'_>) -> Rate {
    let requests = rate.number;
    if !(1..=MAX_REQUESTS).contains(&requests) {
        let what = format!("must be from 1 to {MAX_REQUESTS} requests, not {requests}");
        review.error(&path.key("rate_limit"), what, "set it to a rate such as \"100/s\"");
    }
    let of_a_second = u64::from(requests).div_ceil(rate.per.as_secs().max(1));
    let burst = burst.map_or_else(
        || u32::try_from(of_a_second).unwrap_or(u32::MAX).max(1),
        |burst| {
            let most = number(&path.key("rate_burst"), burst as usize, 1..=MAX_REQUESTS as usize, review);
            u32::try_from(most).unwrap_or(u32::MAX)
        },
    );
    Rate { requests, per: rate.per, burst }
}

/// Far above what any machine forwards, and far below where the time between two requests would be none.
const MAX_REQUESTS: u32 = 10_000_000;
const MAX_CONCURRENT: usize = 1_000_000;
const MAX_QUEUE: usize = 1_000_000;
