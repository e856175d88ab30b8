//! What a browser says of the requests that it sends (Fetch standard; Fetch Metadata Request Headers).
//!
//! `proxy` and `control` decide by it whether a web page may reach them. A page can neither set nor remove these fields.

use http::header::{ACCEPT, UPGRADE_INSECURE_REQUESTS, USER_AGENT};
use http::{HeaderMap, HeaderName};

/// Who caused a request, by `Sec-Fetch-Site`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Initiator {
    /// There is no such field: a program, or a browser that speaks plain HTTP to another host than the loopback.
    Unknown,
    /// A page of the same origin.
    SameOrigin,
    /// A person: an address typed in, a bookmark, a reload, a link in another program.
    Person,
    /// The browser itself, an extension or a debugger; no page, and no person who opened the address.
    Browser,
    /// A page of another origin; or the field is there twice.
    OtherPage,
}

impl Initiator {
    /// Reads it off a request's header fields.
    #[must_use]
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
        let Some(site) = sites.next() else { return Self::Unknown };
        let is = |name: HeaderName, value: &str| headers.get(name).is_some_and(|given| given == value);
        match (site.as_bytes(), sites.next()) {
            (b"same-origin", None) => Self::SameOrigin,
            (b"none", None) if is(SEC_FETCH_MODE, "navigate") && is(SEC_FETCH_USER, "?1") => Self::Person,
            (b"none", None) => Self::Browser,
            // `same-site` is not enough: every port of localhost is one site.
            _ => Self::OtherPage,
        }
    }
}

/// Whether an extension's script sent this request: a page's never says `Sec-Fetch-Site: none`, and what a browser sends
/// by itself is a navigation.
#[must_use]
pub(crate) fn is_of_extension(headers: &HeaderMap) -> bool {
    Initiator::of(headers) == Initiator::Browser
        && headers.get(SEC_FETCH_MODE).is_some_and(|mode| mode == "cors")
}

/// Whether a browser goes to this address: by a link, a form, a redirect or a frame.
#[must_use]
pub(crate) fn is_navigation(headers: &HeaderMap) -> bool {
    headers.get(SEC_FETCH_MODE).is_some_and(|mode| mode == "navigate")
}

/// Whether [`Initiator`], [`is_speculative`] or the `Origin` of a request depend on the field of this name.
#[must_use]
pub(crate) fn is_of_browser(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'o') => name == "origin",
        Some(b'p') => name == "purpose",
        Some(b's') => name.starts_with("sec-"),
        Some(b'x') => matches!(name, "x-purpose" | "x-moz"),
        _ => false,
    }
}

/// Whether a browser sends this request ahead of time, before anyone wants the response: a prefetch, a prerendering or
/// a preview. Chromium says `Sec-Fetch-Site: none` of those that a page's speculation rules cause.
#[must_use]
pub(crate) fn is_speculative(headers: &HeaderMap) -> bool {
    headers.iter().any(|(name, value)| match name.as_str() {
        // Defined for requests that do not serve immediate use (Fetch standard), whatever else they serve.
        "sec-purpose" => true,
        // Older forms: Chromium, Safari and Firefox.
        "purpose" | "x-purpose" | "x-moz" => {
            let mut words = value.as_bytes().split(|byte| !byte.is_ascii_alphanumeric());
            words.any(|word| SPECULATIONS.iter().any(|known| word.eq_ignore_ascii_case(known)))
        }
        _ => false,
    })
}

/// Whether a browser sends this request, by what no page can avoid: every browser calls itself Mozilla, a navigation
/// says that it would rather be secure, and the `Accept` of navigations and images is the browser's own. `Referer` and
/// `Accept-Language` are no signs: a page can leave out the one, and programs send either.
#[must_use]
pub(crate) fn is_browser(headers: &HeaderMap) -> bool {
    let is_image = |accept: &[u8]| {
        accept.starts_with(b"image/") && accept.windows(ANY_IMAGE.len()).any(|part| part == ANY_IMAGE)
    };
    headers.get_all(USER_AGENT).iter().any(|agent| agent.as_bytes().starts_with(b"Mozilla/"))
        || headers.contains_key(UPGRADE_INSECURE_REQUESTS)
        || headers
            .get_all(ACCEPT)
            .iter()
            .map(http::HeaderValue::as_bytes)
            .any(|accept| accept.starts_with(b"text/html,application/xhtml+xml") || is_image(accept))
}

const SPECULATIONS: [&[u8]; 3] = [b"prefetch", b"prerender", b"preview"];
const ANY_IMAGE: &[u8] = b"image/*";
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_USER: HeaderName = HeaderName::from_static("sec-fetch-user");

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_person_is_known_by_a_navigation_with_user_activation() {
        let of = |fields: &[(&str, &str)]| Initiator::of(&headers(fields));
        let (none, navigate, user) =
            (("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate"), ("sec-fetch-user", "?1"));
        assert_eq!(of(&[none, navigate, user]), Initiator::Person);
        for fields in
            [&[none][..], &[none, navigate], &[none, user], &[none, ("sec-fetch-mode", "cors"), user]]
        {
            assert_eq!(of(fields), Initiator::Browser, "{fields:?}");
        }
        assert_eq!(of(&[navigate, user]), Initiator::Unknown, "Node's fetch sends a mode and no site");
        assert_eq!(of(&[("sec-fetch-site", "same-origin")]), Initiator::SameOrigin);
        for site in ["same-site", "cross-site", "", "None", "none, none"] {
            assert_eq!(of(&[("sec-fetch-site", site), navigate, user]), Initiator::OtherPage, "{site}");
        }
        assert_eq!(of(&[none, none, navigate, user]), Initiator::OtherPage);
    }

    #[test]
    fn every_form_of_speculation_is_recognised() {
        for (name, value) in [
            ("sec-purpose", "prefetch"),
            ("sec-purpose", "prefetch;prerender"),
            ("sec-purpose", "prefetch;anonymous-client-ip"),
            ("sec-purpose", "something-new"),
            ("purpose", "prefetch"),
            ("purpose", "Prefetch"),
            ("purpose", "prefetch;prerender"),
            ("x-purpose", "preview"),
            ("x-purpose", ": preview"),
            ("x-moz", "prefetch"),
        ] {
            assert!(is_speculative(&headers(&[("purpose", "x"), (name, value)])), "{name}: {value}");
        }
        for (name, value) in [("purpose", "billing"), ("purpose", "prefetching-report"), ("x-moz", "1")] {
            assert!(!is_speculative(&headers(&[(name, value)])), "{name}: {value}");
        }
    }

    #[test]
    fn browsers_are_told_from_programs_by_what_a_page_cannot_change() {
        let navigation = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        let image = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5";
        for field in [
            ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
            ("upgrade-insecure-requests", "1"),
            ("accept", navigation),
            ("accept", image),
        ] {
            assert!(is_browser(&headers(&[("accept", "*/*"), field])), "{field:?}");
        }
        for field in [
            ("user-agent", "curl/8.5.0"),
            ("user-agent", "kube-probe/1.31"),
            ("user-agent", "Go-http-client/2.0"),
            ("accept", "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"),
            ("accept", "image/png"),
            ("accept", "application/json"),
            ("referer", "http://orders.test/"),
            ("sec-fetch-mode", "cors"),
        ] {
            assert!(!is_browser(&headers(&[field])), "{field:?}");
        }
    }
}
