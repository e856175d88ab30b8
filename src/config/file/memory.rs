//! `server.memory_limit`: a word or a size.

use std::fmt;

use serde::de::Unexpected;

use super::quantity::{Bytes, Quantity, serde_as_text};

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

impl Quantity for MemoryLimit {
    const NAME: &'static str = "MemoryLimit";
    const EXPECTED: &'static str = "\"auto\", \"none\", or a size in quotes such as \"64MiB\"";
    const PATTERN: &'static str = "^(auto|none|[0-9]+(B|KiB|MiB|GiB))$";

    fn read(text: &str) -> Option<Self> {
        match text {
            "auto" => Some(Self::Auto),
            "none" => Some(Self::None),
            _ => Bytes::parse(text).map(Self::Size),
        }
    }

    fn fault(text: &str) -> Unexpected<'_> {
        Bytes::fault(text)
    }
}

serde_as_text!(MemoryLimit);

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
