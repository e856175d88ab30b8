//! Numbers and durations as servers write them.

use std::time::Duration;

use serde_json::Value;

/// `expires_in` as servers write it; what is over counts as zero, what is absurd as [`MAX_LIFETIME`].
pub(in crate::oauth) fn seconds(value: &Value) -> Option<Duration> {
    number(value).map(clamped)
}

/// A number, a float, or either in a string.
pub(in crate::oauth) fn number(value: &Value) -> Option<f64> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        // `parse` alone would also take "inf" and "nan".
        Value::String(text) => {
            let text = text.trim();
            let plain = |b: u8| b.is_ascii_digit() || b"+-.eE".contains(&b);
            if !text.bytes().all(plain) {
                return None;
            }
            text.parse::<f64>().ok()?
        }
        _ => return None,
    };
    Some(seconds)
}

pub(in crate::oauth) fn clamped(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.clamp(0.0, MAX_LIFETIME.as_secs_f64())).unwrap_or_default()
}

/// No token counts as good for longer: beyond it lie only mistakes, and the overflow of clocks.
pub(crate) const MAX_LIFETIME: Duration = Duration::from_hours(365 * 24);
