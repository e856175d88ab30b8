//! Cookies of the upstream, as cookies of the proxy (RFC 6265).

use super::place::RewritePlace;
use crate::proxy::settings::CookieAttributes;

/// `text` of a `Set-Cookie` field for the proxy's place. What `attributes` leaves out stays to the letter.
pub(super) fn rewrite(text: &str, attributes: CookieAttributes, place: &RewritePlace<'_>) -> String {
    let mut parts = text.split(';');
    let pair = parts.next().unwrap_or_default();
    let name = trim(pair);
    // Names that promise something of these attributes (RFC 6265bis section 4.1.3), in any case; browsers hold them to it,
    // and take `Secure` from this machine without TLS.
    let has = |prefix: &str| name.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix));
    // `__Host-Http-` is one of these.
    let host_only = has("__Host-");
    let secured = host_only || has("__Secure-") || has("__Http-");
    let in_the_clear = attributes.secure && !place.has_tls() && !secured;
    let mut cookie = pair.to_owned();
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (trim(name).to_ascii_lowercase(), trim(value));
        match name.as_str() {
            "domain" if attributes.domain && !is_in(place.client.host_str(), value) => continue,
            "path" if attributes.path && !host_only => {
                cookie.push_str("; Path=");
                cookie.push_str(&path(place, value));
                continue;
            }
            "secure" | "partitioned" if in_the_clear => continue,
            // Without `Secure` browsers refuse it.
            "samesite" if in_the_clear && value.eq_ignore_ascii_case("none") => {
                cookie.push_str("; SameSite=Lax");
                continue;
            }
            _ => {}
        }
        cookie.push(';');
        cookie.push_str(part);
    }
    cookie
}

/// `text` without the white space around it (RFC 6265 section 5.2). All else may be a byte of the value.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// The path here of a cookie's path at the upstream, without a slash at its end: a request for the path without one gets the
/// cookie, too. `/` stays: all that the proxy serves is in it.
fn path(place: &RewritePlace<'_>, path: &str) -> String {
    let bare = path.trim_end_matches('/');
    if bare.is_empty() {
        return path.to_owned();
    }
    let here = place.client_path(bare).or_else(|| {
        // One for more than what the upstream's address covers is for all of what the route leads to.
        let above = place.base().strip_prefix(bare);
        above.is_some_and(|rest| rest.starts_with('/')).then(|| place.prefix().to_owned())
    });
    match here {
        Some(here) if here.is_empty() => "/".to_owned(),
        Some(here) => here,
        None => path.to_owned(),
    }
}

/// Whether `host` is in a cookie's domain (RFC 6265 section 5.1.3).
fn is_in(host: Option<&str>, domain: &str) -> bool {
    let domain = domain.trim_start_matches('.').to_ascii_lowercase();
    let host = host.unwrap_or_default();
    host == domain || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.') && !domain.is_empty())
}
