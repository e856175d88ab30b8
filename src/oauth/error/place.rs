//! Where an error happened.

use std::fmt;

use url::Url;

/// Where an error happened: scheme, host, port and path of a URL; never its query, nor a user name in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place(Box<str>);

impl Place {
    pub(crate) fn of(url: &Url) -> Self {
        Self(format!("{}{}", url.origin().ascii_serialization(), url.path()).into_boxed_str())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
