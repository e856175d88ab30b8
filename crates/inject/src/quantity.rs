//! Kubernetes' quantities, such as `64Mi` and `10m`.

use serde_json::Value;

/// How much `text` is, in units: `64Mi` is 67,108,864 and `10m` is 0.01. `None`: it is no quantity.
pub(super) fn quantity(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "" => 1.0,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "P" => 1e15,
        "E" => 1e18,
        "Ki" => 1024f64,
        "Mi" => 1024f64.powi(2),
        "Gi" => 1024f64.powi(3),
        "Ti" => 1024f64.powi(4),
        "Pi" => 1024f64.powi(5),
        "Ei" => 1024f64.powi(6),
        // 1e6
        _ => 10f64.powi(unit.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let amount = number.parse::<f64>().ok()? * factor;
    amount.is_finite().then_some(amount)
}

/// The same of a field, which may be a number as well: `cpu: 1`.
pub(super) fn amount(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => quantity(text),
        Value::Number(number) => quantity(&number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::quantity;

    #[test]
    fn a_quantity_is_what_kubernetes_takes_it_for() {
        for (text, amount) in [
            ("64Mi", Some(67_108_864.0)),
            ("67108864", Some(67_108_864.0)),
            ("0.5Ki", Some(512.0)),
            (".5", Some(0.5)),
            ("2.", Some(2.0)),
            ("1e6", Some(1e6)),
            ("1E3", Some(1e3)),
            ("1E", Some(1e18)),
            ("1Ei", Some(1_152_921_504_606_846_976.0)),
            ("2k", Some(2000.0)),
            ("64MB", None),
            ("64mi", None),
            ("64 Mi", None),
            ("K", None),
            ("1K", None),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("-1", None),
            ("inf", None),
            ("1e999", None),
        ] {
            assert_eq!(quantity(text), amount, "{text}");
        }
        assert!((quantity("10m").unwrap() - 0.01).abs() < 1e-12);
    }
}
