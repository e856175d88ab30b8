//! How long a server wants to be left alone: `Retry-After` of authorization servers and of a collector of traces.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;

use crate::clock;

/// `Retry-After` (RFC 9110 section 10.2.3) in seconds or as a date, up to [`MAX_RETRY_AFTER`].
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let hold = if value.bytes().all(|b| b.is_ascii_digit()) && !value.is_empty() {
        // More digits than fit are as good as for ever: the cap below answers both.
        value.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        clock::until(httpdate::parse_http_date(value).ok()?)
    };
    (!hold.is_zero()).then(|| hold.min(MAX_RETRY_AFTER))
}

/// No server may keep anybody away for longer with one answer.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        retry_after(&headers)
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date_and_is_capped() {
        assert_eq!(hold("60"), Some(Duration::from_mins(1)));
        assert_eq!(hold("999999999999999999999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(hold("86400"), Some(MAX_RETRY_AFTER));
        let date = httpdate::fmt_http_date(clock::wall() + Duration::from_secs(90));
        let held = hold(&date).unwrap();
        assert!(held > Duration::from_secs(80) && held <= Duration::from_secs(90), "{held:?}");
        for nothing in ["0", "-5", "soon", "", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            assert_eq!(hold(nothing), None, "{nothing}");
        }
    }
}
