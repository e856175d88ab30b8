//! What a hostile authorization server can send us, as functions of bytes, each with what must hold of the outcome.
//!
//! For the fuzz targets in `fuzz/` and for the test that replays their corpus; nothing that ships calls it.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::oauth::discovery::document::{Endpoints, Handshake};
use crate::oauth::discovery::role::Role;
use crate::oauth::discovery::server::Issuer;
use crate::oauth::dpop::challenge::demands_nonce;
use crate::oauth::endpoint::failure::Issued;
use crate::oauth::endpoint::members::Reading;
use crate::oauth::endpoint::number::MAX_LIFETIME;
use crate::oauth::endpoint::response::{self, Lifetime};
use crate::oauth::endpoint::salvage::Extent;

/// An answer of the token endpoint (RFC 6749 section 5), with each kind of status.
pub(crate) fn token_response(data: &[u8]) {
    flawed_response(data);
    for status in [StatusCode::OK, StatusCode::BAD_REQUEST, StatusCode::SERVICE_UNAVAILABLE] {
        match response::parse(status, data) {
            Ok(token) => {
                assert!(status.is_success(), "an error's answer gave a token");
                let text = token.access_token.expose();
                assert!(!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()));
                if let Lifetime::ExpiresIn(lifetime) = token.lifetime {
                    assert!(lifetime <= MAX_LIFETIME);
                }
                for scope in token.scope.iter().flatten() {
                    assert!(!scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic()));
                }
            }
            Err(kind) => assert!(kind.to_string().len() < LONGEST_ERROR, "an error as long as a body"),
        }
    }
}

/// The body of a success that cannot be used: what is taken out of it is whole.
fn flawed_response(data: &[u8]) {
    for extent in [Extent::Whole, Extent::Cut] {
        if let Some(issued) = Issued::find(data, extent, Reading::PLAIN) {
            let token = issued.refresh_token.expose();
            assert!(!token.is_empty() && !token.contains(char::REPLACEMENT_CHARACTER));
        }
    }
}

/// Metadata (RFC 8414 section 3.2).
pub(crate) fn metadata(data: &[u8]) {
    let issuer: Issuer = ISSUER.parse().expect("a constant that is a URL");
    for handshake in [Handshake::Plain, Handshake::MutualTls] {
        match Endpoints::parse(data, &issuer, handshake) {
            Ok(found) => {
                for role in [Role::Token, Role::Introspection, Role::Revocation] {
                    assert!(
                        found.get(role).is_none_or(|url| url.host().is_some()),
                        "an endpoint without a host"
                    );
                }
            }
            Err(kind) => assert!(kind.to_string().len() < LONGEST_ERROR, "an error as long as a body"),
        }
    }
}

/// The claims of a JWT whose signature cannot be verified here (RFC 7519): as a payload, and as a whole token.
pub(crate) fn jwt_claims(data: &[u8]) {
    let payload = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(data));
    let whole = std::str::from_utf8(data).unwrap_or_default();
    for token in [payload.as_str(), whole] {
        if let Some(expiry) = response::jwt_expiry(token) {
            let since = expiry.duration_since(UNIX_EPOCH).expect("no expiry lies before 1970");
            assert!(since <= END_OF_CALENDAR);
        }
        if let Some(claims) = response::claims(token) {
            assert!(response::left(claims.exp, None, UNIX_EPOCH) <= MAX_LIFETIME);
        }
    }
}

/// Challenges (RFC 9110 section 11.6.1), a field to a line.
pub(crate) fn challenge(data: &[u8]) {
    let mut answer = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(field) = HeaderValue::from_bytes(line) {
            answer.append(WWW_AUTHENTICATE, field);
        }
    }
    if demands_nonce(&answer) {
        assert!(data.windows(DEMAND.len()).any(|window| window == DEMAND), "the input has no such demand");
    }
}

/// The issuer whose metadata the corpus holds.
const ISSUER: &str = "https://as.example";

/// Longer than any sentence of ours with a place in it, and shorter than what a server can make us repeat.
const LONGEST_ERROR: usize = 1024;

/// What a server writes that wants a nonce (RFC 9449 section 9).
const DEMAND: &[u8] = b"use_dpop_nonce";

/// The year 10000.
const END_OF_CALENDAR: Duration = Duration::from_hours(70_389_528);
