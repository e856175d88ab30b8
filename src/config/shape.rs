//! The tree read as a [`File`]: every wrong type, unknown word and unknown key in one run.
//!
//! The first problem ends a deserialisation. So the node that caused it is set aside and the rest is read again,
//! until nothing is wrong any more.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde_path_to_error::Segment;

use super::file::File;
use super::problem::{KeyPath, Shown, Step};
use super::tree::{Node, Value};

/// A node that does not have the shape of a [`File`].
#[derive(Debug)]
pub(super) struct Misfit {
    pub(super) path: KeyPath,
    pub(super) kind: MisfitKind,
}

/// What a misfit is. It never holds a value of the user's, apart from names and words from a fixed set.
#[derive(Debug, thiserror::Error)]
pub(super) enum MisfitKind {
    #[error("must be {expected}, not {found}")]
    Value { expected: String, found: String },
    /// A string that is nearly a duration or a size.
    #[error("{fault}")]
    Quantity { fault: String, expected: String },
    #[error("has no such word")]
    Word { given: String, known: &'static [&'static str] },
    #[error("unknown key")]
    Key { given: String, known: &'static [&'static str] },
    /// What a derive that is not one of the above would say. None of `File`'s types has one.
    #[error("cannot be read")]
    Unreadable,
}

/// Reads `root`, hands each misfit to `report` and sets it aside. `None`: there were more than a user would read.
pub(super) fn read(root: &mut Node, mut report: impl FnMut(&Node, Misfit)) -> Option<File> {
    for _ in 0..MAX_MISFITS {
        let error = match serde_path_to_error::deserialize::<_, File>(&*root) {
            Ok(file) => return Some(file),
            Err(error) => error,
        };
        let path = path_in(root, error.path());
        report(root, Misfit { path: path.clone(), kind: error.into_inner() });
        root.set_aside(&path);
        if root.set_aside {
            return None;
        }
    }
    None
}

/// The path that serde saw, with the numbers that the elements have for the user.
fn path_in(root: &Node, seen: &serde_path_to_error::Path) -> KeyPath {
    let mut path = KeyPath::default();
    for segment in seen {
        path = match segment {
            Segment::Map { key } => path.key(key),
            Segment::Seq { index } => {
                let indices = root.find(&path).map(Node::indices).unwrap_or_default();
                path.index(indices.get(*index).copied().unwrap_or(*index))
            }
            Segment::Enum { .. } | Segment::Unknown => break,
        };
    }
    path
}

/// Of `known`, the one that was probably meant: a slip of the keys, or a part of the name left out.
pub(super) fn nearest<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // The cost grows with the square of the length, and nothing known is that long.
    if given.len() > MAX_COMPARED_BYTES {
        return None;
    }
    let given = given.to_ascii_lowercase().replace('-', "_");
    let slips = |word: &str| {
        let slips = strsim::osa_distance(&given, &word.to_ascii_lowercase());
        let part = given.len() >= MIN_PART_BYTES && (word.starts_with(&given) || word.ends_with(&given));
        (part || slips <= given.len().max(word.len()) / BYTES_PER_SLIP).then_some(slips)
    };
    known.into_iter().filter_map(|word| Some((slips(word)?, word))).min().map(|(_, word)| word)
}

/// What is known, as a list for a sentence.
pub(super) fn listed(known: &[&str]) -> String {
    known.join(", ")
}

/// The last key of a path, shown.
pub(super) fn last_key(path: &KeyPath) -> String {
    match path.steps().last() {
        Some(Step::Key(key)) => Shown(key).to_string(),
        Some(Step::Index(index)) => format!("[{index}]"),
        None => "it".to_owned(),
    }
}

/// serde's words for a type, in the user's.
fn in_plain_words(expected: &dyn Expected) -> String {
    let words = expected.to_string();
    match words.as_str() {
        "a boolean" => "true or false".to_owned(),
        "a string" => "a string in quotes".to_owned(),
        "u16" | "u32" | "u64" | "usize" => "a whole number of 0 or more".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a table".to_owned(),
        "any valid JSON value" => "a string, a number, true, false, a list or a table".to_owned(),
        words if words.starts_with("struct ") => "a table".to_owned(),
        words if words.starts_with("enum ") => "a word in quotes".to_owned(),
        words => words.to_owned(),
    }
}

fn kind_of(found: &Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "true or false",
        Unexpected::Signed(n) if *n < 0 => "a number below 0",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a whole number",
        Unexpected::Float(_) => "a number with a fraction",
        Unexpected::Str(_) | Unexpected::Char(_) => "a string",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a table",
        Unexpected::Other(DATE) => "a date",
        _ => "something else",
    }
}

impl de::Error for MisfitKind {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Unreadable
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Value { expected: in_plain_words(expected), found: kind_of(&found).to_owned() }
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            // Only the quantities' own visitors say this.
            Unexpected::Other(fault) => {
                return Self::Quantity { fault: fault.to_owned(), expected: in_plain_words(expected) };
            }
            Unexpected::Str(_) => "this string".to_owned(),
            Unexpected::Unsigned(number) => number.to_string(),
            Unexpected::Signed(number) => number.to_string(),
            found => kind_of(&found).to_owned(),
        };
        Self::Value { expected: in_plain_words(expected), found }
    }

    fn unknown_variant(given: &str, known: &'static [&'static str]) -> Self {
        Self::Word { given: given.to_owned(), known }
    }

    fn unknown_field(given: &str, known: &'static [&'static str]) -> Self {
        Self::Key { given: given.to_owned(), known }
    }
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = MisfitKind;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, MisfitKind> {
        match &self.value {
            Value::String(text) => visitor.visit_borrowed_str(text.expose()),
            Value::Integer(number) => match u64::try_from(*number) {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => visitor.visit_i64(*number),
            },
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(word) => visitor.visit_bool(*word),
            Value::Date => Err(de::Error::invalid_type(Unexpected::Other(DATE), &visitor)),
            Value::Array(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.iter().filter(|item| !item.set_aside)))
            }
            Value::Table(entries) => visitor.visit_map(MapDeserializer::new(
                entries.iter().filter(|(_, node)| !node.set_aside).map(|(key, node)| (key.as_str(), node)),
            )),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, MisfitKind> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, MisfitKind> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, MisfitKind> {
        match &self.value {
            Value::String(text) => visitor.visit_enum(text.expose().as_str().into_deserializer()),
            _ => self.deserialize_any(visitor),
        }
    }

    // A table is never read in the order of its fields, which a list would be.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, MisfitKind> {
        match &self.value {
            Value::Array(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, MisfitKind> for &'de Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

const DATE: &str = "a date";
/// One slip is forgiven for every so many characters.
const BYTES_PER_SLIP: usize = 3;
/// A shorter part of a name could be anything.
const MIN_PART_BYTES: usize = 4;
const MAX_COMPARED_BYTES: usize = 64;
/// Problems of shape in one run; each costs one reading of the tree.
const MAX_MISFITS: usize = 100;

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_the_name_and_another_word_finds_none() {
        let known = ["client_id", "client_secret_file", "issuer", "api", "renew_at", "wait"];
        for (given, meant) in [
            ("isuer", "issuer"),
            ("clientid", "client_id"),
            ("client-id", "client_id"),
            ("secret_file", "client_secret_file"),
            ("renew", "renew_at"),
            ("apy", "api"),
            ("API", "api"),
        ] {
            assert_eq!(nearest(given, known), Some(meant), "{given}");
        }
        for given in ["x", "", "colour", "re", "orders"] {
            assert_eq!(nearest(given, known), None, "{given}");
        }
    }
}
