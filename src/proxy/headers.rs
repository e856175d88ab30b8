//! What of a message's head goes on and what stops here (RFC 9110 section 7.6.1).
//!
//! One pass over the names finds what is there; only that is removed. It runs before anything of ours is put in, so
//! that no field of the application's can take ours away again.

use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};

/// What a request's head asked of this hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HopFields {
    /// `TE: trailers` was there: it is made anew for the next hop.
    pub(super) te_trailers: bool,
    /// `Via` was there: it is extended, and looked at for a loop.
    pub(super) via: bool,
    /// `Expect: 100-continue` was there.
    pub(super) expect_continue: bool,
}

/// Removes from a request what must not go upstream: hop-by-hop fields, those that `Connection` names, and what
/// claims to come from a trusted proxy (RFC 9700 section 4.13).
pub(super) fn strip_request(headers: &mut HeaderMap) -> HopFields {
    let mut hop = HopFields::default();
    let mut found = Found::default();
    for name in headers.keys() {
        match name.as_str() {
            "connection" => found.connection = true,
            "via" => hop.via = true,
            "expect" => hop.expect_continue = true,
            other => found.more |= is_request_hop_field(other),
        }
    }
    if hop.expect_continue {
        let expected =
            headers.get(header::EXPECT).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        hop.expect_continue = expected;
    }
    if found.more {
        hop.te_trailers = headers.get_all(header::TE).iter().any(|v| {
            v.to_str().is_ok_and(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case("trailers")))
        });
    }
    found.remove(headers, is_request_hop_field);
    hop
}

/// Removes from a response what must not go downstream: hop-by-hop fields, and what only this proxy may say.
pub(super) fn strip_response(headers: &mut HeaderMap) {
    let mut found = Found::default();
    for name in headers.keys() {
        match name.as_str() {
            "connection" => found.connection = true,
            other => found.more |= is_response_hop_field(other),
        }
    }
    found.remove(headers, is_response_hop_field);
}

/// Trailer fields that would change what the head said (RFC 9110 section 6.5.1).
pub(super) fn strip_trailers(trailers: &mut HeaderMap) {
    for name in [
        header::AUTHORIZATION,
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::HOST,
        header::SET_COOKIE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
    ] {
        trailers.remove(name);
    }
}

/// Whether the `Via` fields name `pseudonym`: then this request was here before (RFC 9110 section 7.6.3).
pub(super) fn has_passed(headers: &HeaderMap, pseudonym: &str) -> bool {
    headers.get_all(header::VIA).iter().any(|via| {
        via.to_str()
            .is_ok_and(|via| via.split(',').any(|hop| hop.split_ascii_whitespace().nth(1) == Some(pseudonym)))
    })
}

/// Adds our hop to `Via`, after those that are there.
pub(super) fn add_via(headers: &mut HeaderMap, ours: &HeaderValue) {
    match headers.entry(header::VIA) {
        Entry::Occupied(mut there) => there.append(ours.clone()),
        Entry::Vacant(none) => {
            none.insert(ours.clone());
        }
    }
}

/// Which of the removable fields a head has.
#[derive(Default)]
struct Found {
    connection: bool,
    more: bool,
}

impl Found {
    fn remove(&self, headers: &mut HeaderMap, is_hop_field: fn(&str) -> bool) {
        if self.connection {
            remove_named_by_connection(headers);
        }
        if self.more {
            let names: Vec<HeaderName> =
                headers.keys().filter(|n| is_hop_field(n.as_str())).cloned().collect();
            for name in names {
                headers.remove(name);
            }
        }
    }
}

/// Removes `Connection` and every field that it names. Framing is not for it to name: hyper keeps the body's length
/// apart from the fields.
fn remove_named_by_connection(headers: &mut HeaderMap) {
    let Entry::Occupied(there) = headers.entry(header::CONNECTION) else { return };
    let (_, values) = there.remove_entry_mult();
    let named: Vec<HeaderName> = values
        .filter(|value| !is_about_connection(value.as_bytes()))
        .flat_map(|value| {
            value
                .as_bytes()
                .split(|byte| *byte == b',')
                .map(<[u8]>::trim_ascii)
                .map(HeaderName::from_bytes)
                .collect::<Vec<_>>()
        })
        .flatten()
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// Whether a `Connection` option is about the connection itself and names no field.
fn is_about_connection(option: &[u8]) -> bool {
    option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close")
}

fn is_request_hop_field(name: &str) -> bool {
    matches!(
        name,
        "keep-alive"
            | "proxy-connection"
            | "proxy-authorization"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "te"
            | "forwarded"
            | "x-real-ip"
            | "x-client-cert"
    ) || name.starts_with("x-forwarded-")
        || name.starts_with("x-cupbearer-")
}

fn is_response_hop_field(name: &str) -> bool {
    matches!(
        name,
        "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "transfer-encoding"
            | "upgrade"
            | "cupbearer-error"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn hop_by_hop_fields_and_what_connection_names_stop_here() {
        let mut map = headers(&[
            ("connection", "close, X-Foo"),
            ("connection", "x-bar"),
            ("x-foo", "1"),
            ("x-bar", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("proxy-connection", "close"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("transfer-encoding", "chunked"),
            ("x-kept", "1"),
        ]);
        strip_request(&mut map);
        assert_eq!(map, headers(&[("x-kept", "1")]));
    }

    #[test]
    fn what_claims_to_come_from_a_trusted_proxy_is_removed() {
        let mut map = headers(&[
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-anything", "x"),
            ("x-real-ip", "1.2.3.4"),
            ("x-client-cert", "x"),
            ("x-cupbearer-secret", "x"),
        ]);
        strip_request(&mut map);
        assert!(map.is_empty(), "{map:?}");
    }

    #[test]
    fn te_trailers_is_noticed_and_made_anew() {
        for (te, kept) in [("trailers", true), ("gzip, Trailers", true), ("gzip", false)] {
            let mut map = headers(&[]);
            map.insert("te", HeaderValue::from_static(te));
            assert_eq!(strip_request(&mut map).te_trailers, kept, "{te}");
            assert!(map.is_empty());
        }
    }

    #[test]
    fn an_answer_cannot_pretend_to_be_the_proxys() {
        let mut map =
            headers(&[("cupbearer-error", "token_unavailable"), ("set-cookie", "a"), ("set-cookie", "b")]);
        strip_response(&mut map);
        assert_eq!(map, headers(&[("set-cookie", "a"), ("set-cookie", "b")]));
    }

    #[test]
    fn a_loop_is_known_by_our_own_pseudonym_alone() {
        let map = headers(&[("via", "1.1 other, 2 cupbearer-1a"), ("via", "1.0 third")]);
        assert!(has_passed(&map, "cupbearer-1a"));
        assert!(!has_passed(&map, "cupbearer-1"));
        assert!(!has_passed(&map, "other,"));
    }
}
