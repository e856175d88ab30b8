//! How long a server that throttles wants to be left alone: `Retry-After`, and the fields of rate limits that servers send
//! in its place.
//!
//! `X-RateLimit-Remaining` and `X-RateLimit-Reset` in several spellings (Okta, Auth0, GitHub, Reddit, X), and the
//! `RateLimit` fields of draft-ietf-httpapi-ratelimit-headers in its older and newer forms. A reset is an instant in
//! seconds or milliseconds since 1970, a date, or a number of seconds. The way to authorization servers calls this.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, StatusCode};

use super::retry_after::{MAX_RETRY_AFTER, RetryAfter, date, retry_after};

/// What a response says of the requests that its server allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RateLimit {
    /// For how long it asks for no request, up to [`MAX_RETRY_AFTER`].
    pub retry_after: Option<RetryAfter>,
    /// The request was refused, and none is left, or the server names a pause: whatever the status, that may be why.
    pub exhausted: bool,
}

/// What the fields beside `Retry-After` say.
#[derive(Clone, Copy, Debug, Default)]
struct Quota {
    remaining: Option<f64>,
    /// From now on.
    reset: Option<Duration>,
}

impl RateLimit {
    /// Reads a response that came at `now` on its server's clock. The fields of a success say nothing of this request.
    #[must_use]
    pub(crate) fn read(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> Self {
        let retry_after = retry_after(headers);
        if !status.is_client_error() && !status.is_server_error() {
            return Self { retry_after, exhausted: false };
        }
        let quota = Quota::read(headers, now);
        let none_left = quota.remaining.is_some_and(|left| left <= 0.0);
        let throttles = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
            && quota.remaining.is_none();
        let reset = quota.reset.filter(|_| none_left || throttles).map(RetryAfter::In);
        let refuses = matches!(status, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN);
        let exhausted = refuses && (none_left || retry_after.is_some());
        Self { retry_after: retry_after.or(reset), exhausted }
    }
}

impl Quota {
    fn read(headers: &HeaderMap, now: SystemTime) -> Self {
        let field = |names: &[&str]| names.iter().find_map(|name| headers.get(*name)?.to_str().ok());
        let first = |value: &str| value.split(',').next().unwrap_or_default().trim().to_owned();
        let plain = Self {
            remaining: field(&REMAINING).and_then(|value| first(value).parse().ok()),
            // A date has a comma.
            reset: field(&RESET).and_then(|value| pause(value, now).or_else(|| pause(&first(value), now))),
        };
        let combined = headers.get_all("ratelimit").iter().filter_map(|value| value.to_str().ok());
        let combined = combined.map(|value| Self::combined(value, now)).next().unwrap_or_default();
        Self { remaining: plain.remaining.or(combined.remaining), reset: plain.reset.or(combined.reset) }
    }

    /// `limit=10, remaining=0, reset=30`, or of each policy `"burst";r=0;t=30`, of which the one that is spent, and of
    /// these the longest, counts.
    fn combined(value: &str, now: SystemTime) -> Self {
        let (mut whole, mut policies) = (Self::default(), Vec::new());
        for item in value.split(',') {
            let mut policy = Self::default();
            for (name, number) in item.split(';').filter_map(|part| part.split_once('=')) {
                let number = number.trim().trim_matches('"');
                match name.trim().to_ascii_lowercase().as_str() {
                    "remaining" => whole.remaining = number.parse().ok(),
                    "reset" => whole.reset = pause(number, now),
                    "r" => policy.remaining = number.parse().ok(),
                    "t" => policy.reset = pause(number, now),
                    _ => {}
                }
            }
            policies.push(policy);
        }
        let left = |policy: &Self| policy.remaining.filter(|left| *left > 0.0).unwrap_or(0.0);
        let named = policies.into_iter().filter(|policy| policy.remaining.is_some());
        let strictest = named
            .min_by(|one, other| left(one).total_cmp(&left(other)).then_with(|| other.reset.cmp(&one.reset)));
        strictest.unwrap_or(whole)
    }
}

/// From `now` to a reset, up to [`MAX_RETRY_AFTER`]. `None`: it is over, or cannot be read.
fn pause(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let seconds = match value.parse::<f64>() {
        Ok(instant) if instant >= EPOCH_MILLISECONDS => instant / 1000.0 - now,
        Ok(instant) if instant >= EPOCH_SECONDS => instant - now,
        Ok(seconds) => seconds,
        Err(_) => date(value)?.duration_since(UNIX_EPOCH).ok()?.as_secs_f64() - now,
    };
    // Up: never before the time.
    let seconds = seconds.ceil().clamp(0.0, MAX_RETRY_AFTER.as_secs_f64());
    Duration::try_from_secs_f64(seconds).ok().filter(|pause| !pause.is_zero())
}

const REMAINING: [&str; 3] = ["x-rate-limit-remaining", "x-ratelimit-remaining", "ratelimit-remaining"];
const RESET: [&str; 5] = [
    "x-rate-limit-reset",
    "x-ratelimit-reset",
    "ratelimit-reset",
    "x-ratelimit-reset-after",
    "x-rate-limit-reset-after",
];
/// The year 2001: a larger number is an instant and no duration.
const EPOCH_SECONDS: f64 = 1e9;
/// The year 5138 in seconds: a larger number counts milliseconds.
const EPOCH_MILLISECONDS: f64 = 1e11;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn read(status: u16, fields: &[(&'static str, &str)]) -> (Option<u64>, bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        let limit = RateLimit::read(StatusCode::from_u16(status).unwrap(), &headers, now);
        (limit.retry_after.and_then(RetryAfter::known).map(|pause| pause.as_secs()), limit.exhausted)
    }

    #[test]
    fn a_reset_is_read_where_retry_after_is_missing_as_an_instant_or_a_number_of_seconds() {
        for (fields, want) in [
            // Okta, Auth0 and GitHub, Reddit, X, Discord.
            (&[("x-rate-limit-remaining", "0"), ("x-rate-limit-reset", "1800000040")][..], Some(40)),
            (&[("x-ratelimit-reset", "1800000040")], Some(40)),
            (&[("x-ratelimit-remaining", "0.0"), ("x-ratelimit-reset", "40")], Some(40)),
            (&[("x-ratelimit-reset", "1800000039500")], Some(40)),
            (&[("x-ratelimit-reset-after", "39.2")], Some(40)),
            (&[("x-ratelimit-reset", "Fri, 15 Jan 2027 08:00:40 GMT")], Some(40)),
            // The drafts.
            (&[("ratelimit-limit", "10"), ("ratelimit-remaining", "0"), ("ratelimit-reset", "40")], Some(40)),
            (&[("ratelimit", "limit=10, remaining=0, reset=40")], Some(40)),
            (&[("ratelimit", r#""default";r=0;t=40"#)], Some(40)),
            (&[("ratelimit", r#""burst";r=0;t=4, "day";r=0;t=40, "month";r=9;t=999"#)], Some(40)),
            // `Retry-After` goes first, and what is absurd is capped as it is.
            (&[("retry-after", "7"), ("x-ratelimit-reset", "40")], Some(7)),
            (&[("x-ratelimit-reset", "1800086400")], Some(3600)),
            (&[("x-ratelimit-reset", "1e300")], Some(3600)),
            // Nothing to wait for.
            (&[("x-ratelimit-remaining", "3"), ("x-ratelimit-reset", "40")], None),
            (&[("x-ratelimit-reset", "1799999999")], None),
            (&[("x-ratelimit-reset", "0")], None),
            (&[("x-ratelimit-reset", "-5")], None),
            (&[("x-ratelimit-reset", "soon")], None),
            (&[("x-ratelimit-reset", "NaN")], None),
            (&[], None),
        ] {
            assert_eq!(read(429, fields).0, want, "{fields:?}");
        }
    }

    #[test]
    fn a_refusal_with_no_request_left_is_throttling_and_other_responses_are_not() {
        let none = ("x-ratelimit-remaining", "0");
        let reset = ("x-ratelimit-reset", "40");
        for (status, fields, want) in [
            (403, &[none, reset][..], (Some(40), true)),
            (400, &[none, reset], (Some(40), true)),
            (403, &[none], (None, true)),
            (403, &[("retry-after", "5")], (Some(5), true)),
            (403, &[reset], (None, false)),
            (403, &[("x-ratelimit-remaining", "9"), reset], (None, false)),
            (401, &[none, reset], (Some(40), false)),
            (200, &[none, reset], (None, false)),
            (503, &[reset], (Some(40), false)),
        ] {
            assert_eq!(read(status, fields), want, "{status} {fields:?}");
        }
    }
}
