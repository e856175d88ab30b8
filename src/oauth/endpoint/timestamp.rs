//! Points in time as servers write them: RFC 3339, an HTTP date, or seconds or milliseconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::oauth::endpoint::number::number;

/// A timestamp of RFC 3339 section 5.6. Fractions of a second are dropped: earlier is safe.
pub(crate) fn rfc3339(text: &str) -> Option<SystemTime> {
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
    };
    let marks = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| text.as_bytes().get(*at) != Some(mark)) {
        return None;
    }
    if !matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|digit: char| digit.is_ascii_digit()),
        None => rest,
    };
    let offset = match zone.as_bytes() {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let part = |range: std::ops::Range<usize>| zone.get(range)?.parse::<u8>().ok();
            let seconds = i64::from(part(1..3)?) * 3600 + i64::from(part(4..6)?) * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };
    // Days since 1970 in the Gregorian calendar, years taken from March on so that the leap day comes last.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

/// The point in time since 1970 that a member names; `None`: it names none, or is a number that is one of seconds.
pub(in crate::oauth) fn instant_of(value: &Value) -> Option<Duration> {
    if let Some(text) = value.as_str().map(str::trim)
        && let Some(at) = rfc3339(text).or_else(|| httpdate::parse_http_date(text).ok())
    {
        return at.duration_since(UNIX_EPOCH).ok();
    }
    let said = number(value)?;
    [said, said / 1e3, said / 1e6].into_iter().find(|at| YEARS.contains(at)).map(Duration::from_secs_f64)
}

/// From 2017 to 2099, in seconds since 1970: no lifetime of a token is so long.
const YEARS: std::ops::Range<f64> = 1.5e9..4.1e9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_read_with_its_offset_and_its_leap_days() {
        let seconds = |text: &str| Some(rfc3339(text)?.duration_since(UNIX_EPOCH).unwrap().as_secs());
        for (text, want) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T23:59:59.999Z", Some(951_868_799)),
            ("2024-03-01t00:00:00+02:00", Some(1_709_244_000)),
            ("2033-05-17T19:33:20-08:00", Some(2_000_000_000)),
            ("1969-12-31T23:59:59Z", None),
            ("2033-13-18T03:33:20Z", None),
            ("2033-05-18T03:33:20", None),
            ("2033-05-18", None),
            ("+033-05-18T03:33:20Z", None),
        ] {
            assert_eq!(seconds(text), want, "{text}");
        }
    }

    #[test]
    fn an_instant_is_read_in_each_form_and_a_duration_is_none() {
        for (value, want) in [
            (Value::from(1_800_000_000_u64), Some(1_800_000_000)),
            (Value::from("1800000000"), Some(1_800_000_000)),
            (Value::from(1_800_000_000_000_u64), Some(1_800_000_000)),
            (Value::from(1_800_000_000_000_000_u64), Some(1_800_000_000)),
            (Value::from(" 2027-01-15T08:00:00Z "), Some(1_800_000_000)),
            (Value::from("Fri, 15 Jan 2027 08:00:00 GMT"), Some(1_800_000_000)),
            (Value::from(3600), None),
            (Value::from(86_400_000), None),
            (Value::from("never"), None),
            (Value::Bool(true), None),
        ] {
            assert_eq!(instant_of(&value).map(|at| at.as_secs()), want, "{value}");
        }
    }
}
