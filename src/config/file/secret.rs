//! A secret that stands in the configuration itself.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};

use crate::secret::Secret;

struct SecretVisitor;

impl Visitor<'_> for SecretVisitor {
    type Value = Option<Secret<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string in quotes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Secret::new(text.to_owned())))
    }
}

/// A string that goes straight into custody.
pub(super) fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret<String>>, D::Error> {
    deserializer.deserialize_str(SecretVisitor)
}
