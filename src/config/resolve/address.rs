//! Addresses of others: URLs of authorization servers and upstreams, and host names.

use url::{Host, Url};

use crate::config::Options;
use crate::config::findings::Review;
use crate::config::problem::KeyPath;
use crate::config::shape::last_key;

/// What a URL may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Query {
    Allowed,
    Refused,
}

/// An `http` or `https` URL without a user and without a fragment. No problem shows it: what was refused may well
/// have a password in it.
pub(super) fn url(path: &KeyPath, text: &str, query: Query, review: &mut Review<'_>) -> Option<Url> {
    let url = web_address(path, text, review)?;
    is_plain(path, &url, query, review).then_some(url)
}

fn web_address(path: &KeyPath, text: &str, review: &mut Review<'_>) -> Option<Url> {
    let what = match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => return Some(url),
        Ok(_) => "must begin with https:// or http://",
        Err(url::ParseError::RelativeUrlWithoutBase) => "has no scheme",
        Err(_) => "is not a URL",
    };
    let example = match last_key(path).as_str() {
        "issuer" => "https://login.example.com",
        "token_endpoint" => "https://login.example.com/token",
        "proxy" => "http://proxy.example.com:3128",
        "otlp_endpoint" => "http://localhost:4318",
        _ => "https://api.example.com",
    };
    review.error(path, what, format!("write it out, such as \"{example}\""));
    None
}

/// Whether the URL has nothing that it must not have; all that it has is said at once.
fn is_plain(path: &KeyPath, url: &Url, query: Query, review: &mut Review<'_>) -> bool {
    let user = !url.username().is_empty() || url.password().is_some();
    let query = query == Query::Refused && url.query().is_some();
    let fragment = url.fragment().is_some();
    for (present, what, help) in [
        (user, "must not have a user name or a password in it", "take out everything before the @"),
        (query, "must not have a query", "take out the ? and what follows"),
        (fragment, "must not have a fragment", "take out the # and what follows"),
    ] {
        if present {
            review.error(path, what, help);
        }
    }
    !(user || query || fragment)
}

/// As [`url()`], and its connection is encrypted, or stays on this machine, or goes in the clear on purpose.
pub(super) fn secure_url(
    path: &KeyPath,
    text: &str,
    query: Query,
    options: Options,
    review: &mut Review<'_>,
) -> Option<Url> {
    let url = web_address(path, text, review)?;
    let plain = is_plain(path, &url, query, review);
    if url.scheme() == "https" || is_loopback(&url) {
        return plain.then_some(url);
    }
    if options.insecure_plaintext {
        review.warning(path, "is not encrypted: secrets and tokens go out in the clear", "use https");
        return plain.then_some(url);
    }
    review.error(
        path,
        "must be https: a secret or a token would go out in the clear",
        "use https, or start with --insecure-plaintext where the network is trusted",
    );
    None
}

/// Whether the URL's host is this machine by its name alone.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

/// Whether the URL's host is a link-local address: no router forwards what goes there, and clouds have their metadata
/// servers there.
pub(super) fn is_link_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_link_local(),
        Some(Host::Ipv6(address)) => address.is_unicast_link_local(),
        Some(Host::Domain(_)) | None => false,
    }
}

/// A host name or an IP address, in lower case, without a port.
pub(super) fn host(path: &KeyPath, text: &str, review: &mut Review<'_>) -> Option<String> {
    let fits = |host: &Host| match host {
        Host::Domain(name) => name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
        Host::Ipv4(_) | Host::Ipv6(_) => true,
    };
    // With the root's dot it is the same name, and requests are compared without.
    let text = text.strip_suffix('.').unwrap_or(text);
    let host = Host::parse(text).ok().filter(fits);
    if host.is_none() {
        review.error(
            path,
            "must be a host name or an IP address, without scheme, port or wildcard",
            "write it as in \"orders.local\" or \"[::1]\"",
        );
    }
    Some(host?.to_string())
}
