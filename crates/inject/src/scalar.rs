//! What a plain scalar of YAML means to Kubernetes, whose reader is one of YAML 1.1: `yes` is true there and `0644` is 420.

use serde_json::{Number, Value};

/// The value of a scalar without quotes.
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        _ => {}
    }
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return Value::String(text.to_owned());
    }
    number(&text.replace('_', "")).map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

fn number(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x', ..] => (16, &digits[2..]),
        [b'0', b'o', ..] => (8, &digits[2..]),
        [b'0', b'b', ..] => (2, &digits[2..]),
        [b'0', b'0'..=b'7', ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    // A sign between the digits is no part of a whole number.
    let whole = Some(digits).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_alphanumeric()));
    if let Some(whole) = whole.and_then(|digits| u64::from_str_radix(digits, radix).ok()) {
        return if negative {
            0i64.checked_sub_unsigned(whole).map(Number::from)
        } else {
            Some(whole.into())
        };
    }
    let is_float = digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte))
        && digits.bytes().any(|byte| byte.is_ascii_digit());
    if is_float { text.parse().ok().and_then(Number::from_f64) } else { None }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::plain;

    #[test]
    fn a_plain_scalar_means_what_kubernetes_takes_it_for() {
        for (text, value) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("yess", json!("yess")),
            ("8080", json!(8080)),
            ("-1", json!(-1)),
            ("+5", json!(5)),
            ("0644", json!(420)),
            ("0o644", json!(420)),
            ("0x1F", json!(31)),
            ("0b101", json!(5)),
            ("1_000", json!(1000)),
            ("0", json!(0)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            ("1.2.3", json!("1.2.3")),
            ("10m", json!("10m")),
            ("64Mi", json!("64Mi")),
            ("-", json!("-")),
            (".", json!(".")),
            ("0.0.0.0:9901", json!("0.0.0.0:9901")),
            ("18446744073709551615", json!(u64::MAX)),
            ("2026-11-27", json!("2026-11-27")),
            ("apps/v1", json!("apps/v1")),
        ] {
            assert_eq!(plain(text), value, "{text}");
        }
    }
}
