//! A token request that brought no usable token, and what came with it all the same.
//!
//! A response may be of no use and still have spent what counts once: the refresh token, the code, the device code. What
//! the server issued in its place is in that response and nowhere else. So it is handed out beside the error, for
//! `token` to store before the error is reported. An [`Error`] itself is copied, shown and logged, and holds no secret.

use std::fmt;
use std::ops::Deref;

use serde_json::{Map, Value};

use crate::secret::Secret;

use crate::oauth::endpoint::members::{Members, Reading};
use crate::oauth::endpoint::response::{TokenResponse, scopes, text, token_text};
use crate::oauth::endpoint::salvage::{self, Extent};
use crate::oauth::endpoint::server_clock::Distance;
use crate::oauth::error::Error;

/// Why a token request failed, and what its response holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenFailure {
    error: Error,
    issued: Option<Box<Issued>>,
    /// How far the server's clock is from the one that was assumed, where it is.
    apart: Option<Distance>,
}

/// What a response with a flaw holds that is worth keeping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issued {
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
    pub(in crate::oauth) const fn apart(mut self, apart: Option<Distance>) -> Self {
        self.apart = apart;
        self
    }

    /// What the response holds that must not be lost.
    #[must_use]
    pub(crate) fn issued(&self) -> Option<&Issued> {
        self.issued.as_deref()
    }

    /// How far the server's clock is from the one that was assumed, where that may be why it refused.
    pub(in crate::oauth) const fn distance(&self) -> Option<Distance> {
        self.apart
    }
}

impl Issued {
    /// Looks into the body of a success that could not be used, whatever is wrong with it: the first JSON object that
    /// holds a whole refresh token counts, else a form.
    pub(in crate::oauth) fn find(body: &[u8], extent: Extent, reading: Reading<'_>) -> Option<Self> {
        let text = salvage::text(body);
        // Some servers write their JSON into a string.
        let inner = serde_json::from_str::<String>(&text);
        let text = inner.as_deref().unwrap_or(&text);
        let mut objects = salvage::objects(text);
        objects
            .find_map(|members| Self::among(&members, reading))
            .or_else(|| Self::among(&salvage::form(text, extent)?, reading))
    }

    fn among(members: &Map<String, Value>, reading: Reading<'_>) -> Option<Self> {
        let members = Members::of(members, reading);
        let readable = |text: &String| !text.contains(char::REPLACEMENT_CHARACTER);
        Some(Self {
            refresh_token: members.refresh_token.and_then(token_text).filter(readable).map(Secret::new)?,
            scope: members.scope.and_then(scopes),
            id_token: members.id_token.and_then(text).filter(readable).map(Secret::new),
        })
    }

    /// Of a response that could be read, and whose token is of no use all the same.
    pub(in crate::oauth) fn of(response: TokenResponse) -> Option<Self> {
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

    fn find(body: &[u8]) -> Option<Issued> {
        Issued::find(body, Extent::Whole, Reading::PLAIN)
    }

    fn utf16(text: &str) -> Vec<u8> {
        let units = text.encode_utf16().flat_map(u16::to_le_bytes);
        b"\xff\xfe".iter().copied().chain(units).collect()
    }

    #[test]
    fn a_refresh_token_is_found_whatever_else_is_wrong_with_the_response() {
        for body in [
            r#"{"access_token":"a","token_type":"bot","refresh_token":"next"}"#,
            r#"{"access_token":"a","expires_in":"1h","refresh_token":"next"}"#,
            r#"{"access_token":{},"refresh_token":"next"}"#,
            r#"{"refresh_token":"next"}"#,
            r#"{"refresh_token":"old","refresh_token":"next"}"#,
            "\u{feff}{\"refresh_token\":\"next\"}",
            "<br />\n<b>Notice</b>: x\n{\"refresh_token\":\"next\"} <hr>",
            r#"{"error":"temporarily_unavailable","refresh_token":"next"}"#,
            // The end is missing.
            r#"{"access_token":"a","refresh_token":"next""#,
            r#"{"access_token":"a","refresh_token":"next","scope":"re"#,
            r#"{"access_token":"a","refresh_token":"next","user":{"id":1"#,
            // No valid JSON.
            r#"{"access_token":"a","refresh_token":"next",}"#,
            r#"{"access_token":"a","expires_in":1e999,"refresh_token":"next"}"#,
            r#"{"access_token":"a","expires_in":,"refresh_token":"next"}"#,
            r#"{"access_token":"a""refresh_token":"next"}"#,
            r#"{"scope":"a b,"refresh_token":"next"}"#,
            r"{'access_token':'a','refresh_token':'next'}",
            "{\"hint\":\"two\nlines\",\"refresh_token\":\"next\"}",
            "{\"hint\":\"nothing\0\",\"refresh_token\":\"next\"}",
            // Something around it.
            r#"<style>b{color:red}</style>{"access_token":"a","refresh_token":"next"}"#,
            r#"<script>if(a){it's("}</script>{"access_token":"a","refresh_token":"next"}"#,
            r#"{"debug":true}{"access_token":"a","refresh_token":"next"}"#,
            r#"callback({"refresh_token":"next"});"#,
            r#"[{"refresh_token":"next"}]"#,
            r#""{\"refresh_token\":\"next\"}""#,
            // No JSON.
            "access_token=a&refresh_token=next&token_type=bearer",
            "token_type=bearer&refresh_token=next\n",
        ] {
            let found = find(body.as_bytes()).unwrap_or_else(|| panic!("{body}"));
            assert_eq!(found.refresh_token.expose(), "next", "{body}");
            assert!(!format!("{found:?}").contains("next"));
            // Nor whatever encoding it is in.
            let found = find(&utf16(body)).unwrap_or_else(|| panic!("{body}"));
            assert_eq!(found.refresh_token.expose(), "next", "{body}");
        }
        let latin = b"{\"name\":\"Jos\xe9\",\"refresh_token\":\"next\"}";
        assert_eq!(find(latin).unwrap().refresh_token.expose(), "next");
    }

    #[test]
    fn a_refresh_token_that_is_a_number_is_found_as_it_is_written() {
        for number in ["12345", "18446744073709551616", "123456789012345678901234567890"] {
            let found = find(format!(r#"{{"refresh_token":{number}}}"#).as_bytes()).unwrap();
            assert_eq!(found.refresh_token.expose(), number);
        }
    }

    #[test]
    fn what_may_be_a_part_of_a_refresh_token_is_none() {
        for body in [
            "",
            "{",
            "[]",
            r#"{"refresh_token":""}"#,
            r#"{"refresh_token":null}"#,
            r#"{"refresh_token":"a"#,
            r#"{"access_token":"a","refresh_token":"next"#,
            r#"{"access_token":"a","refresh_token":"next\"#,
            r#"{"access_token":"a","refresh_token":"next\""#,
            r#"{"access_token":"a","refresh_token":12345"#,
            r#"{"refresh_token":"ne"xt"}"#,
            "{\"refresh_token\":\"ne\nxt\"}",
            r#"{"refresh_token":"ne\qxt"}"#,
            r#"{"bot":{"refresh_token":"another"},}"#,
            r#"{"message":"{\"refresh_token\":\"another\"}",}"#,
        ] {
            assert_eq!(find(body.as_bytes()), None, "{body}");
        }
        assert_eq!(find(b"{\"refresh_token\":\"next\xe9\"}"), None);
        let cut = |body: &str| Issued::find(body.as_bytes(), Extent::Cut, Reading::PLAIN);
        assert_eq!(cut("access_token=a&refresh_token=ne"), None);
        assert!(cut("access_token=a&refresh_token=next&tok").is_some());
        let whole = r#"{"access_token":"a","refresh_token":"next","expires_in":60}"#;
        let behind = whole.find("next").unwrap() + "next\"".len();
        for end in 0..whole.len() {
            assert_eq!(cut(&whole[..end]).is_some(), end >= behind, "{}", &whole[..end]);
        }
    }

    #[test]
    fn the_documentation_says_what_is_found() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
        let text = std::fs::read_to_string(path).unwrap();
        let row = |line: &str| {
            let (body, kept) = line.strip_prefix("| `")?.split_once("` | ")?;
            let kept = kept.strip_suffix(" |").filter(|kept| kept.ends_with("stored"))?;
            Some((body.to_owned(), kept == "stored"))
        };
        let rows: Vec<_> = text.lines().filter_map(row).collect();
        assert!(rows.len() > 10 && rows.iter().any(|(_, kept)| !kept), "{rows:?}");
        for (body, kept) in rows {
            assert_eq!(find(body.as_bytes()).is_some(), kept, "{body}");
        }
    }

    #[test]
    fn scope_and_id_token_come_with_it() {
        let found = find(br#"{"refresh_token":"r","scope":"a b","id_token":"i",}"#).unwrap();
        assert_eq!(found.scope.unwrap(), ["a", "b"]);
        assert_eq!(found.id_token.unwrap().expose(), "i");
    }
}
