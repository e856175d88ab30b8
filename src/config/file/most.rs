//! A bound that is a number or left to the program: `upstreams.X.max_connections`, `http2_connections`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};
use serde::{Serialize, Serializer};

/// `"auto"`, which is `None`, or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) struct Most(pub(in crate::config) Option<usize>);

struct MostVisitor;

impl Visitor<'_> for MostVisitor {
    type Value = Most;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"auto\" or a whole number")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Most, E> {
        let count = usize::try_from(number);
        count
            .map(|count| Most(Some(count)))
            .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Most, E> {
        match text {
            AUTO => Ok(Most(None)),
            // As an environment variable has it.
            _ => text
                .parse()
                .map(|count| Most(Some(count)))
                .map_err(|_| E::invalid_value(Unexpected::Str(text), &self)),
        }
    }
}

impl<'de> Deserialize<'de> for Most {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MostVisitor)
    }
}

impl Serialize for Most {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(count) => serializer.serialize_u64(count as u64),
            None => serializer.serialize_str(AUTO),
        }
    }
}

impl JsonSchema for Most {
    fn schema_name() -> Cow<'static, str> {
        "Most".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": 1 },
            { "type": "string", "pattern": "^(auto|[1-9][0-9]*)$" },
        ] })
    }
}

const AUTO: &str = "auto";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn it_is_a_number_or_auto() {
        let read = |value: Value| serde_json::from_value::<Most>(value).ok();
        assert_eq!(read(json!("auto")), Some(Most(None)));
        assert_eq!([read(json!(6)), read(json!("6"))], [Some(Most(Some(6))); 2]);
        for none in [json!("none"), json!(-1), json!(1.5), json!(true), json!("")] {
            assert_eq!(read(none.clone()), None, "{none}");
        }
        assert_eq!(serde_json::to_value([Most(None), Most(Some(6))]).unwrap(), json!(["auto", 6]));
    }
}
