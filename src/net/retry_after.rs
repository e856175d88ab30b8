//! How long a server wants to be left alone: `Retry-After` of authorization servers and of a collector of traces.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use http::header::RETRY_AFTER;

use crate::clock;

/// How long a server asks to be left alone for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryAfter {
    /// For so long, up to [`MAX_RETRY_AFTER`].
    In(Duration),
    /// It asks for a pause, and not in words that can be read.
    Unreadable,
}

impl RetryAfter {
    /// The pause where it can be read.
    #[must_use]
    pub(crate) const fn known(self) -> Option<Duration> {
        match self {
            Self::In(pause) => Some(pause),
            Self::Unreadable => None,
        }
    }
}

impl From<Duration> for RetryAfter {
    fn from(pause: Duration) -> Self {
        Self::In(pause)
    }
}

/// `Retry-After` (RFC 9110 section 10.2.3) in seconds, with a fraction too, or as a date. `None`: there is none, or it is
/// over.
#[must_use]
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<RetryAfter> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok().unwrap_or_default().trim();
    let number = |b: u8| b.is_ascii_digit() || b == b'.' || b == b'-' || b == b'+';
    let pause = if !value.is_empty() && value.bytes().all(number) {
        let Ok(seconds) = value.parse::<f64>() else { return Some(RetryAfter::Unreadable) };
        // Up: never before the time. What is beyond the cap is as good as for ever.
        Duration::from_secs_f64(seconds.ceil().clamp(0.0, MAX_RETRY_AFTER.as_secs_f64()))
    } else {
        let Some(at) = date(value) else { return Some(RetryAfter::Unreadable) };
        clock::until(at).min(MAX_RETRY_AFTER)
    };
    (!pause.is_zero()).then_some(RetryAfter::In(pause))
}

/// A date of HTTP, or one with another zone than `GMT` in its place.
pub(super) fn date(value: &str) -> Option<SystemTime> {
    if let Ok(at) = httpdate::parse_http_date(value) {
        return Some(at);
    }
    let (date, zone) = value.rsplit_once(' ')?;
    let at = httpdate::parse_http_date(&format!("{date} GMT")).ok()?;
    if matches!(zone, "UTC" | "UT" | "Z") {
        return Some(at);
    }
    let (sign, digits) = zone.split_at_checked(1)?;
    if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (u64, u64) = (digits[..2].parse().ok()?, digits[2..].parse().ok()?);
    let offset = Duration::from_secs(hours * 3600 + minutes * 60);
    match sign {
        "+" => at.checked_sub(offset),
        "-" => at.checked_add(offset),
        _ => None,
    }
}

/// No server may keep anybody away for longer with one answer.
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(value: &str) -> Option<RetryAfter> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        retry_after(&headers)
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date_and_is_capped() {
        for (value, seconds) in
            [("60", 60), ("4.5", 5), ("0.2", 1), ("999999999999999999999999", 3600), ("86400", 3600)]
        {
            assert_eq!(hold(value), Some(RetryAfter::In(Duration::from_secs(seconds))), "{value}");
        }
        for nothing in ["0", "-5", "0.0", "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 +0000"]
        {
            assert_eq!(hold(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_date_may_have_another_zone_than_gmt() {
        let at = |ahead: u64| httpdate::fmt_http_date(clock::wall() + Duration::from_secs(ahead));
        for (ahead, zone) in [(90, "GMT"), (90, "UTC"), (90, "+0000"), (7290, "+0200"), (90, "-0000")] {
            let value = at(ahead).replace("GMT", zone);
            let Some(RetryAfter::In(held)) = hold(&value) else { panic!("{value}") };
            assert!(held > Duration::from_secs(80) && held <= Duration::from_secs(90), "{value}: {held:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_still_asks_for_a_pause() {
        for value in ["soon", "", "1.2.3", "Sun, 06 Nov 1994 08:49:37 CET", "5 minutes", "1e3"] {
            assert_eq!(hold(value), Some(RetryAfter::Unreadable), "{value}");
        }
    }
}
