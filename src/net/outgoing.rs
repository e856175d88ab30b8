//! What the program asks others by itself, over HTTP: authorization servers, and a collector of traces. Not the request path, which has
//! connections of its own.

use std::time::Duration;

use http::HeaderMap;
use http::header::RETRY_AFTER;

use super::resolver::{LookupError, Resolver};
use crate::clock;

/// A client that is set up for secrets: it follows no redirect, tells nobody where it comes from, and takes no proxy out of the
/// environment. `resolver` looks its names up. More is for the caller to say.
pub fn client(
    tls: rustls::ClientConfig,
    resolver: &'static Resolver,
    connect_timeout: Duration,
) -> reqwest::ClientBuilder {
    // A bit less for the name, so that a lookup that takes too long is what the error says.
    let names = Names { resolver, timeout: connect_timeout.mul_f64(LOOKUP_SHARE) };
    reqwest::Client::builder()
        .dns_resolver(names)
        .connect_timeout(connect_timeout)
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy()
        .user_agent(concat!("cupbearer/", env!("CARGO_PKG_VERSION")))
}

/// Why there are no addresses, as found in the causes of a client's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// The lookup took too long.
    #[error("its name was not resolved in time")]
    Timeout,
    /// The lookup failed.
    #[error("its name cannot be resolved: {0}")]
    Failed(LookupError),
}

struct Names {
    resolver: &'static Resolver,
    timeout: Duration,
}

impl reqwest::dns::Resolve for Names {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let Self { resolver, timeout } = *self;
        Box::pin(async move {
            let found = tokio::time::timeout(timeout, resolver.addresses(name.as_str())).await;
            let addresses = found.map_err(|_elapsed| NameFault::Timeout)?.map_err(NameFault::Failed)?;
            Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

/// `Retry-After` (RFC 9110 section 10.2.3) in seconds or as a date, up to [`MAX_RETRY_AFTER`].
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let hold = if value.bytes().all(|b| b.is_ascii_digit()) && !value.is_empty() {
        // More digits than fit are as good as for ever: the cap below answers both.
        value.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        clock::until(httpdate::parse_http_date(value).ok()?)
    };
    (!hold.is_zero()).then(|| hold.min(MAX_RETRY_AFTER))
}

/// How much of the time for a connection its name may take.
const LOOKUP_SHARE: f64 = 0.9;

/// No server may keep anybody away for longer with one answer.
pub const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(value: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        retry_after(&headers)
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date_and_is_capped() {
        assert_eq!(hold("60"), Some(Duration::from_mins(1)));
        assert_eq!(hold("999999999999999999999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(hold("86400"), Some(MAX_RETRY_AFTER));
        let date = httpdate::fmt_http_date(clock::wall() + Duration::from_secs(90));
        let held = hold(&date).unwrap();
        assert!(held > Duration::from_secs(80) && held <= Duration::from_secs(90), "{held:?}");
        for nothing in ["0", "-5", "soon", "", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            assert_eq!(hold(nothing), None, "{nothing}");
        }
    }
}
