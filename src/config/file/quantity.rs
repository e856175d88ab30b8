//! The small typed values of the file: durations, sizes, rates, and lists of words.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Unexpected, Visitor};

/// A duration: whole numbers with a unit, `"500ms"`, `"30s"`, `"5m"`, `"1h30m"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Period(pub(in crate::config) Duration);

/// A duration, or `"unlimited"`, which is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Lifetime(pub(in crate::config) Option<Duration>);

/// A size in bytes: a whole number with a unit, `"512B"`, `"64KiB"`, `"1MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Bytes(pub(in crate::config) usize);

/// How often something may happen: a whole number and a unit of time, `"100/s"`, `"600/m"`, `"5000/h"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Rate {
    /// So many ...
    pub(in crate::config) number: u32,
    /// ... in this time.
    pub(in crate::config) per: Duration,
}

/// A list of strings, where one alone may stand without brackets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(in crate::config) struct Words(pub(in crate::config) Vec<String>);

impl Period {
    pub(in crate::config) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub(in crate::config) fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let (number, unit, after) = number_and_unit(rest)?;
            let millis = number.checked_mul(UNITS_OF_TIME.iter().find(|(name, _)| *name == unit)?.1)?;
            total = total.checked_add(Duration::from_millis(millis))?;
            rest = after;
        }
        (!text.is_empty()).then_some(Self(total))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (unit, size) = UNITS_OF_TIME
            .into_iter()
            .rev()
            .find(|(_, size)| millis > 0 && millis.is_multiple_of(*size))
            .unwrap_or(("s", 1000));
        write!(f, "{}{unit}", millis / size)
    }
}

impl Bytes {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (number, unit, after) = number_and_unit(text)?;
        let size = UNITS_OF_SIZE.iter().find(|(name, _)| *name == unit)?.1;
        let bytes = usize::try_from(number.checked_mul(size)?).ok()?;
        after.is_empty().then_some(Self(bytes))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0 as u64;
        let (unit, size) = UNITS_OF_SIZE
            .into_iter()
            .rev()
            .find(|(_, size)| bytes > 0 && bytes.is_multiple_of(*size))
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", bytes / size)
    }
}

impl Rate {
    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = text.split_once('/')?;
        let millis = UNITS_OF_RATE.iter().find(|(name, _)| *name == unit)?.1;
        // The parser would take a sign.
        let number = number.parse().ok().filter(|_| number.bytes().all(|b| b.is_ascii_digit()))?;
        Some(Self { number, per: Duration::from_millis(millis) })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = self.per.as_millis();
        let unit =
            UNITS_OF_RATE.iter().find(|(_, millis)| u128::from(*millis) == per).map_or("s", |(u, _)| u);
        write!(f, "{}/{unit}", self.number)
    }
}

/// `"1h30m"` -> (1, "h", "30m").
fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, rest) = text.split_at(digits);
    let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, after) = rest.split_at(letters);
    Some((number.parse().ok()?, unit, after))
}

/// What is wrong with a text that is no quantity: it has no unit, it is too large or its unit is none, or it is
/// something else altogether.
fn fault<'f>(text: &str, [unitless, misfit]: [&'f str; 2]) -> Unexpected<'f> {
    let number = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    match &text.as_bytes()[number..] {
        _ if number == 0 => Unexpected::Str(""),
        [] => Unexpected::Other(unitless),
        unit if unit.iter().all(u8::is_ascii_alphanumeric) => Unexpected::Other(misfit),
        _ => Unexpected::Str(""),
    }
}

/// A value that the file has as a text: how it is read, described and written.
pub(super) trait Quantity: Sized + fmt::Display {
    /// Its name in the schema.
    const NAME: &'static str;
    /// What a message says was expected.
    const EXPECTED: &'static str;
    /// The texts that are one, in the schema.
    const PATTERN: &'static str;

    /// `None`: `text` is none.
    fn read(text: &str) -> Option<Self>;

    /// What is wrong with a text that is none.
    fn fault(text: &str) -> Unexpected<'_>;
}

/// Reads a [`Quantity`].
pub(super) struct QuantityVisitor<Q>(pub(super) PhantomData<Q>);

impl<Q: Quantity> Visitor<'_> for QuantityVisitor<Q> {
    type Value = Q;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Q::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Q, E> {
        Q::read(text).ok_or_else(|| E::invalid_value(Q::fault(text), &self))
    }
}

/// Reads, writes and describes a [`Quantity`].
macro_rules! serde_as_text {
    ($quantity:ty) => {
        impl<'de> serde::Deserialize<'de> for $quantity {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::config::file::quantity::QuantityVisitor(
                    std::marker::PhantomData,
                ))
            }
        }

        impl serde::Serialize for $quantity {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl schemars::JsonSchema for $quantity {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                <Self as $crate::config::file::quantity::Quantity>::NAME.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let pattern = <Self as $crate::config::file::quantity::Quantity>::PATTERN;
                schemars::json_schema!({ "type": "string", "pattern": pattern })
            }
        }
    };
}
pub(super) use serde_as_text;

impl Quantity for Period {
    const NAME: &'static str = "Duration";
    const EXPECTED: &'static str = "a duration in quotes such as \"500ms\", \"30s\", \"5m\" or \"1h\"";
    const PATTERN: &'static str = "^([0-9]+(ms|s|m|h|d))+$";

    fn read(text: &str) -> Option<Self> {
        Self::parse(text)
    }

    fn fault(text: &str) -> Unexpected<'_> {
        fault(text, FAULTS_OF_TIME)
    }
}

impl Quantity for Lifetime {
    const NAME: &'static str = "Lifetime";
    const EXPECTED: &'static str = "a duration in quotes such as \"5m\" or \"1h\", or \"unlimited\"";
    const PATTERN: &'static str = "^(([0-9]+(ms|s|m|h|d))+|unlimited)$";

    fn read(text: &str) -> Option<Self> {
        if text == UNLIMITED {
            Some(Self(None))
        } else {
            Period::parse(text).map(|period| Self(Some(period.0)))
        }
    }

    fn fault(text: &str) -> Unexpected<'_> {
        fault(text, FAULTS_OF_TIME)
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(period) => Period(period).fmt(f),
            None => f.write_str(UNLIMITED),
        }
    }
}

impl Quantity for Bytes {
    const NAME: &'static str = "Size";
    const EXPECTED: &'static str = "a size in quotes such as \"512B\", \"64KiB\" or \"1MiB\"";
    const PATTERN: &'static str = "^[0-9]+(B|KiB|MiB|GiB)$";

    fn read(text: &str) -> Option<Self> {
        Self::parse(text)
    }

    fn fault(text: &str) -> Unexpected<'_> {
        fault(text, FAULTS_OF_SIZE)
    }
}

impl Quantity for Rate {
    const NAME: &'static str = "Rate";
    const EXPECTED: &'static str = "a rate in quotes such as \"100/s\", \"600/m\" or \"5000/h\"";
    const PATTERN: &'static str = "^[0-9]+/(s|m|h)$";

    fn read(text: &str) -> Option<Self> {
        Self::parse(text)
    }

    fn fault(text: &str) -> Unexpected<'_> {
        let (number, unit) = text.split_once('/').unwrap_or((text, ""));
        match (number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()), unit) {
            (true, _) => Unexpected::Str(""),
            (false, "") => Unexpected::Other(FAULTS_OF_RATE[0]),
            (false, _) => Unexpected::Other(FAULTS_OF_RATE[1]),
        }
    }
}

serde_as_text!(Period);
serde_as_text!(Lifetime);
serde_as_text!(Bytes);
serde_as_text!(Rate);

const UNLIMITED: &str = "unlimited";

struct WordsVisitor;

impl<'de> Visitor<'de> for WordsVisitor {
    type Value = Words;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string in quotes or a list of them")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<Words, E> {
        Ok(Words(vec![word.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Words, A::Error> {
        let mut words = Vec::new();
        while let Some(word) = items.next_element()? {
            words.push(word);
        }
        Ok(Words(words))
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordsVisitor)
    }
}

impl JsonSchema for Words {
    fn schema_name() -> Cow<'static, str> {
        "Words".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "array", "items": { "type": "string" } }, { "type": "string" }] })
    }
}

/// In milliseconds, the smallest first.
const UNITS_OF_TIME: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const FAULTS_OF_TIME: [&str; 2] = [
    "has no unit; the units are ms, s, m, h and d",
    "is too large, or has an unknown unit; the units are ms, s, m, h and d",
];
/// In bytes, the smallest first.
const UNITS_OF_SIZE: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
const FAULTS_OF_SIZE: [&str; 2] = [
    "has no unit; the units are B, KiB, MiB and GiB",
    "is too large, or has an unknown unit; the units are B, KiB, MiB and GiB",
];
/// In milliseconds.
const UNITS_OF_RATE: [(&str, u64); 3] = [("s", 1000), ("m", 60_000), ("h", 3_600_000)];
const FAULTS_OF_RATE: [&str; 2] = [
    "says no time; write it as in \"100/s\", \"100/m\" or \"100/h\"",
    "is too large, or has an unknown unit; the units are s, m and h",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_whole_numbers_with_units() {
        for (text, millis) in
            [("500ms", 500), ("30s", 30_000), ("1h30m", 5_400_000), ("0s", 0), ("1d", 86_400_000)]
        {
            assert_eq!(Period::parse(text), Some(Period(Duration::from_millis(millis))), "{text}");
        }
        for text in [
            "",
            "30",
            "s",
            "1.5s",
            "-1s",
            "30 s",
            "5min",
            "99999999999999999999s",
            "1e3s",
            "18446744073709551615d",
        ] {
            assert_eq!(Period::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_size_is_a_whole_number_with_a_unit() {
        for (text, bytes) in [("512B", 512), ("64KiB", 65_536), ("1MiB", 1 << 20)] {
            assert_eq!(Bytes::parse(text), Some(Bytes(bytes)), "{text}");
        }
        for text in ["", "64", "64KB", "64k", "1KiB1B", "18446744073709551615GiB"] {
            assert_eq!(Bytes::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_rate_is_a_whole_number_in_a_second_a_minute_or_an_hour() {
        for (text, number, seconds) in [("100/s", 100, 1), ("0/m", 0, 60), ("4294967295/h", u32::MAX, 3600)] {
            assert_eq!(Rate::parse(text), Some(Rate { number, per: Duration::from_secs(seconds) }), "{text}");
            assert_eq!(Rate::parse(text).unwrap().to_string(), text);
        }
        for text in
            ["", "100", "/s", "100/", "100/d", "100/ms", "1.5/s", "+1/s", "-1/s", "4294967296/s", "1/s/s"]
        {
            assert_eq!(Rate::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_the_same() {
        for text in ["500ms", "30s", "5m", "1h", "0s", "90s"] {
            assert_eq!(Period::parse(text).map(|p| p.to_string()).as_deref(), Some(text));
        }
        for text in ["512B", "64KiB", "3MiB", "0B"] {
            assert_eq!(Bytes::parse(text).map(|b| b.to_string()).as_deref(), Some(text));
        }
    }
}
