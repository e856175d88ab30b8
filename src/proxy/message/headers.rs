//! What of a message's head goes on and what stops here (RFC 9110 section 7.6.1).
//!
//! One pass over the names finds what is there; only that is removed. It runs before anything of ours is put in, so
//! that no field of the application's can take ours away again.

use bytes::Bytes;
use cupbearer_h1::LengthFault;
use http::Version;
use http::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use hyper::body::Frame;

use super::fields;
use super::upgrade::{self, Upgrade};
use crate::proxy::error::Malformed;
use crate::proxy::settings::Forwarded;

/// What a request's head asked of this hop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HopByHop {
    /// `TE: trailers` was there: it is made anew for the next hop.
    pub(crate) te_trailers: bool,
    /// `Via` was there: it is extended, and looked at for a loop.
    pub(crate) via: bool,
    /// `DPoP` was there: a proof of the application's own, which goes with no token of ours.
    pub(crate) dpop: bool,
    /// `traceparent` or `tracestate` was there.
    pub(crate) trace: bool,
    /// What the request asks to be upgraded to, where that may go on.
    pub(crate) upgrade: Option<Box<Upgrade>>,
    /// What was expected.
    pub(crate) expect: Expect,
}

/// What a request's `Expect` asks for (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Nothing.
    #[default]
    Nothing,
    /// `100-continue`.
    Continue,
    /// Something that is not defined.
    Unknown,
}

/// What becomes of fields that give a request another method: many servers honour them, and no standard knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overrides {
    /// They go on: no route looks at methods.
    Pass,
    /// They would walk around what a route says of methods.
    Remove,
}

/// Removes from a request what must not go upstream: hop-by-hop fields, those that `Connection` names, the shared
/// secret, what makes it another request for some server, and what claims to come from a trusted proxy (RFC 9700
/// section 4.13) unless `forwarded` passes that.
pub(crate) fn strip_request(headers: &mut HeaderMap, forwarded: Forwarded, overrides: Overrides) -> HopByHop {
    let stops = |name: &str| match kind_of(name) {
        FieldKind::EndToEnd => false,
        FieldKind::Hop => true,
        FieldKind::Claim => forwarded != Forwarded::Pass,
        FieldKind::Override => overrides == Overrides::Remove,
    };
    let mut hop = HopByHop::default();
    let mut upgrades = false;
    let mut found = FoundFields::default();
    for name in headers.keys() {
        match name.as_str() {
            "connection" => found.connection = true,
            "via" => hop.via = true,
            "dpop" => hop.dpop = true,
            "traceparent" | "tracestate" => hop.trace = true,
            "expect" => hop.expect = Expect::Unknown,
            "upgrade" => (upgrades, found.more) = (true, true),
            other => found.more |= stops(other),
        }
    }
    if hop.expect == Expect::Unknown {
        hop.expect = expectation(headers);
    }
    if upgrades {
        hop.upgrade = upgrade::wanted(headers).map(Box::new);
    }
    if found.more {
        hop.te_trailers = headers.get_all(header::TE).iter().any(|v| {
            v.to_str().is_ok_and(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case("trailers")))
        });
    }
    found.remove(headers, stops);
    hop
}

fn expectation(headers: &HeaderMap) -> Expect {
    let mut expected = headers.get_all(header::EXPECT).iter();
    let is_continue = expected.next().is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if is_continue && expected.next().is_none() { Expect::Continue } else { Expect::Unknown }
}

/// Removes from a response what must not go downstream: hop-by-hop fields, and what only this proxy may say. `Via` goes
/// on as it came, without us: a gateway may leave itself out of it (RFC 9110 section 7.6.3), and an application is not to
/// tell that it is there.
///
/// # Errors
/// Where `Transfer-Encoding` stands beside `Content-Length` or has another coding than chunked (RFC 9112 section 6.3), or where
/// the length is not one number, or where a field of HTTP/2 has no token for a name.
pub(crate) fn strip_response(version: Version, headers: &mut HeaderMap) -> Result<(), Malformed> {
    if version == Version::HTTP_2 {
        fields::from_http2(headers)?;
    }
    let mut found = FoundFields::default();
    let mut length = false;
    let mut coded = false;
    for name in headers.keys() {
        match name.as_str() {
            "connection" => found.connection = true,
            "content-length" => length = true,
            other => {
                coded |= other == "transfer-encoding";
                found.more |= is_response_hop_field(other);
            }
        }
    }
    if coded {
        let only = headers
            .get_all(header::TRANSFER_ENCODING)
            .iter()
            .all(|coding| coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
        if length {
            return Err(LengthFault::LengthAndEncoding.into());
        }
        if !only {
            return Err(LengthFault::TransferEncoding.into());
        }
    }
    if length {
        fields::one_length(headers)?;
    }
    found.remove(headers, is_response_hop_field);
    Ok(())
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
        HeaderName::from_static("dpop"),
        header::HOST,
        header::SET_COOKIE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
    ] {
        trailers.remove(name);
    }
    remove_all(trailers, |name| {
        kind_of(name) != FieldKind::EndToEnd || is_response_hop_field(name) || !fields::is_token(name)
    });
    fields::trim(trailers);
}

/// Whether the `Via` fields name `pseudonym`: then this request was here before (RFC 9110 section 7.6.3).
pub(crate) fn has_passed(headers: &HeaderMap, pseudonym: &str) -> bool {
    headers.get_all(header::VIA).iter().any(|via| {
        via.to_str()
            .is_ok_and(|via| via.split(',').any(|hop| hop.split_ascii_whitespace().nth(1) == Some(pseudonym)))
    })
}

/// Adds our hop to `Via`, after those that are there.
pub(crate) fn add_via(headers: &mut HeaderMap, ours: &HeaderValue) {
    match headers.entry(header::VIA) {
        Entry::Occupied(mut there) => there.append(ours.clone()),
        Entry::Vacant(none) => {
            none.insert(ours.clone());
        }
    }
}

/// HTTP/2 may split Cookie into crumbs; HTTP/1.1 knows one field (RFC 9113 section 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let joined = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect::<Vec<_>>()
        .join(&b"; "[..]);
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Which of the removable fields a head has.
#[derive(Default)]
struct FoundFields {
    connection: bool,
    more: bool,
}

impl FoundFields {
    fn remove(&self, headers: &mut HeaderMap, stops: impl Fn(&str) -> bool) {
        if self.connection {
            remove_named_by_connection(headers);
        }
        if self.more {
            remove_all(headers, stops);
        }
    }
}

fn remove_all(headers: &mut HeaderMap, stops: impl Fn(&str) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| stops(name.as_str())).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Removes `Connection` and every field that it names. Framing is not for it to name: hyper keeps the body's length
/// apart from the fields.
fn remove_named_by_connection(headers: &mut HeaderMap) {
    let Entry::Occupied(there) = headers.entry(header::CONNECTION) else { return };
    // All that most messages say; it names no field.
    if is_about_connection(there.get().as_bytes()) && there.iter().nth(1).is_none() {
        there.remove();
        return;
    }
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

/// What a request's field is to this hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldKind {
    /// The application's and the API's affair.
    EndToEnd,
    /// It ends here, always.
    Hop,
    /// It says where the request comes from, as only a trusted proxy may.
    Claim,
    /// It gives the request another method.
    Override,
}

/// Tells fields by their first letter first: most of a browser's dozen are known by it to be end to end.
fn kind_of(name: &str) -> FieldKind {
    let hop = match name.as_bytes().first() {
        Some(b'x') if name.contains('_') => return kind_of_x(&name.replace('_', "-")),
        Some(b'x') => return kind_of_x(name),
        Some(b'c') => {
            return match name {
                "client-ip" | "cf-connecting-ip" | "cf-connecting-ipv6" => FieldKind::Claim,
                _ => FieldKind::EndToEnd,
            };
        }
        Some(b'f') => {
            return match name {
                "forwarded" | "forwarded-for" | "forwarded-host" | "fastly-client-ip" | "front-end-https" => {
                    FieldKind::Claim
                }
                _ => FieldKind::EndToEnd,
            };
        }
        Some(b't') if name == "true-client-ip" => return FieldKind::Claim,
        Some(b't') => matches!(name, "te" | "transfer-encoding"),
        Some(b'h') => name == "http2-settings",
        Some(b'k') => name == "keep-alive",
        // `Proxy` is not a registered field, but becomes the variable HTTP_PROXY of a CGI program.
        Some(b'p') => matches!(name, "proxy" | "proxy-connection" | "proxy-authorization"),
        Some(b'u') => name == "upgrade",
        _ => false,
    };
    if hop { FieldKind::Hop } else { FieldKind::EndToEnd }
}

/// An underscore is a hyphen to what stands in CGI's tradition, so it is here.
fn kind_of_x(name: &str) -> FieldKind {
    match name {
        "x-original-url"
        | "x-original-uri"
        | "x-original-method"
        | "x-rewrite-url"
        | "x-rewrite-uri"
        | "x-override-url"
        | "x-forwarded-uri"
        | "x-forwarded-url"
        | "x-forwarded-path"
        | "x-forwarded-method"
        | "x-forwarded-client-cert"
        | "x-client-cert" => FieldKind::Hop,
        "x-real-ip"
        | "x-client-ip"
        | "x-cluster-client-ip"
        | "x-remote-ip"
        | "x-remote-addr"
        | "x-originating-ip"
        | "x-original-forwarded-for"
        | "x-original-host"
        | "x-http-host-override"
        | "x-host"
        | "x-scheme"
        | "x-url-scheme" => FieldKind::Claim,
        "x-http-method-override" | "x-http-method" | "x-method-override" => FieldKind::Override,
        _ if name.starts_with("x-cupbearer-") => FieldKind::Hop,
        _ if name.starts_with("x-forwarded") => FieldKind::Claim,
        _ => FieldKind::EndToEnd,
    }
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
            | "cupbearer-response"
    )
}

pub(crate) fn without_forbidden_trailers(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        strip_trailers(trailers);
    }
    frame
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

    fn strip(map: &mut HeaderMap) -> HopByHop {
        strip_request(map, Forwarded::Remove, Overrides::Pass)
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
        strip(&mut map);
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
            ("proxy", "http://evil.example"),
        ]);
        strip(&mut map);
        assert!(map.is_empty(), "{map:?}");
    }

    #[test]
    fn a_claim_passes_where_it_is_to_pass_but_never_another_request() {
        let claims =
            [("forwarded", "for=1.2.3.4"), ("x-forwarded-for", "1.2.3.4"), ("true-client-ip", "1.2.3.4")];
        let mut map = headers(&claims);
        strip_request(&mut map, Forwarded::Pass, Overrides::Pass);
        assert_eq!(map, headers(&claims));
        for made_anew in [Forwarded::Remove, Forwarded::XForwarded, Forwarded::Forwarded] {
            let mut map = headers(&claims);
            strip_request(&mut map, made_anew, Overrides::Pass);
            assert!(map.is_empty(), "{made_anew:?}: {map:?}");
        }
        let mut map = headers(&[
            ("x-original-url", "/admin"),
            ("x_rewrite_url", "/admin"),
            ("x-forwarded-path", "/admin"),
            ("x-forwarded-client-cert", "x"),
            ("x_cupbearer_secret", "x"),
        ]);
        strip_request(&mut map, Forwarded::Pass, Overrides::Pass);
        assert!(map.is_empty(), "{map:?}");
    }

    #[test]
    fn another_method_passes_only_where_no_route_looks_at_methods() {
        let all = [("x-http-method-override", "DELETE"), ("x-http-method", "A"), ("x_method_override", "B")];
        let mut map = headers(&all);
        strip_request(&mut map, Forwarded::Remove, Overrides::Pass);
        assert_eq!(map, headers(&all));
        strip_request(&mut map, Forwarded::Pass, Overrides::Remove);
        assert!(map.is_empty(), "{map:?}");
    }

    #[test]
    fn trailers_carry_nothing_that_a_head_may_not() {
        let mut map = headers(&[
            ("authorization", "x"),
            ("cupbearer-error", "x"),
            ("x-cupbearer-secret", "x"),
            ("x-forwarded-for", "x"),
            ("grpc-status", "0"),
        ]);
        strip_trailers(&mut map);
        assert_eq!(map, headers(&[("grpc-status", "0")]));
    }

    #[test]
    fn a_trace_is_noticed_by_either_of_its_fields() {
        for (name, is_trace) in [("traceparent", true), ("tracestate", true), ("x-trace", false)] {
            let mut map = HeaderMap::new();
            map.append(name, HeaderValue::from_static("1"));
            assert_eq!(strip(&mut map).trace, is_trace, "{name}");
            assert_eq!(map.len(), 1);
        }
    }

    #[test]
    fn te_trailers_is_noticed_and_made_anew() {
        for (te, kept) in [("trailers", true), ("gzip, Trailers", true), ("gzip", false)] {
            let mut map = headers(&[]);
            map.insert("te", HeaderValue::from_static(te));
            assert_eq!(strip(&mut map).te_trailers, kept, "{te}");
            assert!(map.is_empty());
        }
    }

    #[test]
    fn an_answer_cannot_pretend_to_be_the_proxys() {
        let mut map =
            headers(&[("cupbearer-error", "token_unavailable"), ("set-cookie", "a"), ("set-cookie", "b")]);
        assert_eq!(strip_response(Version::HTTP_11, &mut map), Ok(()));
        assert_eq!(map, headers(&[("set-cookie", "a"), ("set-cookie", "b")]));
    }

    #[test]
    fn an_answer_that_ends_in_two_places_is_refused() {
        for (fields, why) in [
            (
                &[("content-length", "3"), ("transfer-encoding", "chunked")][..],
                LengthFault::LengthAndEncoding.into(),
            ),
            (&[("transfer-encoding", "gzip, chunked")], LengthFault::TransferEncoding.into()),
            (&[("content-length", "5, 5")], LengthFault::ContentLength.into()),
            (&[("content-length", "+5")], LengthFault::ContentLength.into()),
        ] {
            assert_eq!(strip_response(Version::HTTP_11, &mut headers(fields)), Err(why), "{fields:?}");
        }
        for fields in [&[("content-length", "3")][..], &[("transfer-encoding", "chunked")]] {
            assert_eq!(strip_response(Version::HTTP_11, &mut headers(fields)), Ok(()), "{fields:?}");
        }
        let mut padded = headers(&[("content-length", "0002")]);
        assert_eq!(strip_response(Version::HTTP_11, &mut padded), Ok(()));
        assert_eq!(padded["content-length"], "2");
    }

    #[test]
    fn only_the_one_expectation_that_there_is_counts() {
        for (fields, expect) in [
            (&[("expect", "100-Continue")][..], Expect::Continue),
            (&[("expect", "100-continue"), ("expect", "x")], Expect::Unknown),
            (&[("expect", "100-continue, x")], Expect::Unknown),
            (&[("accept", "x")], Expect::Nothing),
        ] {
            assert_eq!(strip(&mut headers(fields)).expect, expect, "{fields:?}");
        }
    }

    #[test]
    fn a_loop_is_known_by_our_own_pseudonym_alone() {
        let map = headers(&[("via", "1.1 other, 2 cupbearer-1a"), ("via", "1.0 third")]);
        assert!(has_passed(&map, "cupbearer-1a"));
        assert!(!has_passed(&map, "cupbearer-1"));
        assert!(!has_passed(&map, "other,"));
    }
}
