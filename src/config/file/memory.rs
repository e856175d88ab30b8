//! `server.memory_limit`: a word or a size.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

use super::quantity::{Bytes, fault_of_size};

/// `"auto"`, `"none"`, or a size such as `"64MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum MemoryLimit {
    Auto,
    None,
    Size(Bytes),
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::None => f.write_str("none"),
            Self::Size(size) => size.fmt(f),
        }
    }
}

struct MemoryLimitVisitor;

impl Visitor<'_> for MemoryLimitVisitor {
    type Value = MemoryLimit;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"auto\", \"none\", or a size in quotes such as \"64MiB\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<MemoryLimit, E> {
        match text {
            "auto" => Ok(MemoryLimit::Auto),
            "none" => Ok(MemoryLimit::None),
            _ => Bytes::parse(text)
                .map(MemoryLimit::Size)
                .ok_or_else(|| E::invalid_value(fault_of_size(text), &self)),
        }
    }
}

impl<'de> Deserialize<'de> for MemoryLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(MemoryLimitVisitor)
    }
}

impl Serialize for MemoryLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for MemoryLimit {
    fn schema_name() -> Cow<'static, str> {
        "MemoryLimit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(auto|none|[0-9]+(B|KiB|MiB|GiB))$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_it_is_read() {
        for text in ["auto", "none", "64MiB"] {
            let read: MemoryLimit = serde_json::from_value(text.into()).unwrap();
            assert_eq!(read.to_string(), text);
        }
        for text in ["", "all", "64", "64MB", "-1MiB"] {
            assert!(serde_json::from_value::<MemoryLimit>(text.into()).is_err(), "{text}");
        }
    }
}
