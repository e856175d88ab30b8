//! What was found in the place of the configured issuer. A server wrote it, so it is shown as plain text and cut.

use std::fmt;

use crate::oauth::endpoint::remark::excerpt;

/// Another issuer than the configured one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundIssuer(Option<String>);

impl FoundIssuer {
    /// `None`: it names no issuer, or not as text.
    pub(in crate::oauth) fn of(text: Option<&str>) -> Self {
        Self(text.map(|text| excerpt(text, MOST_CHARS)).filter(|text| !text.is_empty()))
    }
}

impl fmt::Display for FoundIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(issuer) => write!(f, "\"{issuer}\""),
            None => f.write_str("none"),
        }
    }
}

const MOST_CHARS: usize = 200;
