//! A token request that brought no usable token, and what came with it all the same.
//!
//! A response may be of no use and still have spent what counts once: the refresh token, the code, the device code. What
//! the server issued in its place is in that response and nowhere else. So it is handed out beside the error, for
//! `token` to store before the error is reported. An [`Error`] itself is copied, shown and logged, and holds no secret.

use std::fmt;
use std::ops::Deref;

use serde_json::{Deserializer, Map, Value};

use crate::secret::Secret;

use super::error::Error;
use super::members::{Members, Reading};
use super::response::{TokenResponse, scopes, text};
use super::server_clock::Distance;

/// Why a token request failed, and what its response holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFailure {
    error: Error,
    issued: Option<Box<Issued>>,
    /// How far the server's clock is from the one that was assumed, where it is.
    apart: Option<Distance>,
}

/// What a response with a flaw holds that is worth keeping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The refresh token: the first one, or the next (RFC 6749 section 6).
    pub refresh_token: Secret<String>,
    /// The scope that was granted, where the server says so.
    pub scope: Option<Vec<String>>,
    /// Who logged in, as the server says. Not verified.
    pub id_token: Option<Secret<String>>,
}

impl TokenFailure {
    /// The same, with what the response holds.
    pub(crate) fn with(mut self, issued: Option<Issued>) -> Self {
        self.issued = issued.map(Box::new);
        self
    }

    /// The same, with the distance to the server's clock.
    pub(super) const fn apart(mut self, apart: Option<Distance>) -> Self {
        self.apart = apart;
        self
    }

    /// What the response holds that must not be lost.
    #[must_use]
    pub fn issued(&self) -> Option<&Issued> {
        self.issued.as_deref()
    }

    /// How far the server's clock is from the one that was assumed, where that may be why it refused.
    pub(super) const fn distance(&self) -> Option<Distance> {
        self.apart
    }
}

impl Issued {
    /// Looks into the body of a success that could not be used: the first JSON object in it counts, whatever stands
    /// before or behind it.
    pub(super) fn find(body: &[u8], reading: Reading<'_>) -> Option<Self> {
        let start = body.iter().position(|byte| *byte == b'{')?;
        let mut values = Deserializer::from_slice(&body[start..]).into_iter::<Map<String, Value>>();
        let members = Members::of(&values.next()?.ok()?, reading);
        Some(Self {
            refresh_token: members.refresh_token.and_then(text).map(Secret::new)?,
            scope: members.scope.and_then(scopes),
            id_token: members.id_token.and_then(text).map(Secret::new),
        })
    }

    /// Of a response that could be read, and whose token is of no use all the same.
    pub(super) fn of(response: TokenResponse) -> Option<Self> {
        let TokenResponse { refresh_token, scope, id_token, .. } = response;
        Some(Self { refresh_token: refresh_token?, scope, id_token })
    }
}

impl From<Error> for TokenFailure {
    fn from(error: Error) -> Self {
        Self { error, issued: None, apart: None }
    }
}

/// For a request that spends nothing which counts once.
impl From<TokenFailure> for Error {
    fn from(failure: TokenFailure) -> Self {
        failure.error
    }
}

impl Deref for TokenFailure {
    type Target = Error;

    fn deref(&self) -> &Error {
        &self.error
    }
}

impl fmt::Display for TokenFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_token_is_found_whatever_else_is_wrong_with_the_response() {
        for body in [
            r#"{"access_token":"a","token_type":"bot","refresh_token":"next"}"#,
            r#"{"access_token":"a","expires_in":"1h","refresh_token":"next"}"#,
            r#"{"access_token":7,"refresh_token":"next"}"#,
            r#"{"refresh_token":"next"}"#,
            r#"{"refresh_token":"old","refresh_token":"next"}"#,
            "\u{feff}{\"refresh_token\":\"next\"}",
            "<br />\n<b>Notice</b>: x\n{\"refresh_token\":\"next\"} <hr>",
            r#"{"error":"temporarily_unavailable","refresh_token":"next"}"#,
        ] {
            let found = Issued::find(body.as_bytes(), Reading::PLAIN).unwrap_or_else(|| panic!("{body}"));
            assert_eq!(found.refresh_token.expose(), "next", "{body}");
            assert!(!format!("{found:?}").contains("next"));
        }
        for body in
            ["", "{", "[]", r#"{"refresh_token":""}"#, r#"{"refresh_token":null}"#, r#"{"refresh_token":"a"#]
        {
            assert_eq!(Issued::find(body.as_bytes(), Reading::PLAIN), None, "{body}");
        }
    }

    #[test]
    fn scope_and_id_token_come_with_it() {
        let body = br#"{"refresh_token":"r","scope":"a b","id_token":"i"}"#;
        let found = Issued::find(body, Reading::PLAIN).unwrap();
        assert_eq!(found.scope.unwrap(), ["a", "b"]);
        assert_eq!(found.id_token.unwrap().expose(), "i");
    }
}
