//! Our name in `Via` (RFC 9110 section 7.6.3).

use http::HeaderValue;

/// Our name in `Via` (RFC 9110 section 7.6.3), made anew for each process so that two of us in a row are no loop.
#[derive(Debug)]
pub(crate) struct Via {
    pub(crate) pseudonym: String,
    pub(crate) http_1_0: HeaderValue,
    pub(crate) http_1_1: HeaderValue,
    pub(crate) http_2: HeaderValue,
}

impl Via {
    pub(crate) fn new() -> Self {
        let pseudonym = format!("cupbearer-{:08x}", fastrand::u32(..));
        let value = |version: &str| {
            HeaderValue::from_str(&format!("{version} {pseudonym}")).expect("letters, digits and a hyphen")
        };
        Self { http_1_0: value("1.0"), http_1_1: value("1.1"), http_2: value("2"), pseudonym }
    }
}
