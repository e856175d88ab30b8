//! When a token is renewed, and for how long one is waited for.

use crate::config::file::{Period, Token};
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::config::resolve::{Zero, duration};
use crate::token::{Backoff, Policy};

pub(super) fn resolve(path: &KeyPath, token: &Token, review: &mut Review<'_>) -> Policy {
    let (renew_at, jitter) = (token.renew_at, token.jitter);
    let (renew_path, jitter_path) = (path.key("renew_at"), path.key("jitter"));
    if !(renew_at > 0.0 && renew_at <= 1.0) {
        review.error(&renew_path, format!("must be above 0 and at most 1, not {renew_at}"), "set it to 0.75");
    }
    if !(0.0..=1.0).contains(&jitter) {
        review.error(
            &jitter_path,
            format!("must be from 0 to below renew_at, not {jitter}"),
            jitter_mend(renew_at),
        );
    } else if jitter >= renew_at && !review.is_spoken_for(&renew_path) && !review.is_spoken_for(&jitter_path)
    {
        let what = format!(
            "must be below renew_at, which is {renew_at}: a token could be renewed as soon as it came"
        );
        review.error(&jitter_path, what, jitter_mend(renew_at));
    }
    let retry_path = path.key("retry");
    let (initial_path, max_path) = (retry_path.key("initial"), retry_path.key("max"));
    let initial = duration(&initial_path, token.retry.initial, Zero::Refused, review);
    let max = duration(&max_path, token.retry.max, Zero::Refused, review);
    if initial > max && !review.is_spoken_for(&initial_path) && !review.is_spoken_for(&max_path) {
        let what = format!("must be at most retry.max, which is {}", Period(max));
        review.error(&initial_path, what, "set `initial` lower, or `max` higher");
    }
    Policy {
        renew_at,
        jitter,
        expiry_margin: duration(&path.key("expiry_margin"), token.expiry_margin, Zero::Allowed, review),
        default_lifetime: token
            .default_lifetime
            .0
            .map(|lifetime| duration(&path.key("default_lifetime"), Period(lifetime), Zero::Refused, review)),
        retry: Backoff { initial, max },
        wait: duration(&path.key("wait"), token.wait, Zero::Allowed, review),
    }
}

/// A jitter that is below `renew_at`, whatever that is.
fn jitter_mend(renew_at: f64) -> String {
    if renew_at > 0.0 && renew_at <= 0.10 {
        format!("set it to a value below renew_at, such as {}", renew_at / 2.0)
    } else {
        "set it to a tenth of the lifetime, 0.10".to_owned()
    }
}
