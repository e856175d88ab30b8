//! The body of a response before anything is known of it: its form, its bounds, its byte order mark.

use serde_json::{Map, Value};
use url::form_urlencoded;

/// What kind of body a response has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::oauth) enum Form {
    Empty,
    /// A JSON object.
    Json,
    /// JSON objects in a list.
    List,
    /// A form.
    Pairs,
    /// A page for people.
    Page,
    Other,
}

impl Form {
    pub(in crate::oauth) fn of(body: &[u8]) -> Self {
        let body = without_mark(body).trim_ascii();
        match body.first() {
            None => Self::Empty,
            Some(b'{') if serde_json::from_slice::<Map<String, Value>>(body).is_ok() => Self::Json,
            Some(b'[') if serde_json::from_slice::<Vec<Map<String, Value>>>(body).is_ok() => Self::List,
            Some(b'<') if is_page(body) => Self::Page,
            Some(_) if is_form(body) => Self::Pairs,
            Some(_) => Self::Other,
        }
    }

    /// Whether it is a response of a program to a program.
    pub(in crate::oauth) const fn is_structured(self) -> bool {
        matches!(self, Self::Json | Self::List | Self::Pairs)
    }
}

/// HTML, and not XML of another kind.
fn is_page(body: &[u8]) -> bool {
    let begin = &body[..body.len().min(PAGE_BEGIN)].to_ascii_lowercase();
    let begin = String::from_utf8_lossy(begin);
    ["<html", "<!doctype html", "<head>", "<body", "<title", "<h1", "<p>", "<div", "<center", "<script"]
        .iter()
        .any(|tag| begin.contains(tag))
}

/// Whether a body is a form with a member in it that is looked for.
fn is_form(body: &[u8]) -> bool {
    body.contains(&b'=')
        && body.iter().all(|byte| byte.is_ascii_graphic() && !b"<>{}[]\"".contains(byte))
        && form_urlencoded::parse(body).any(|(name, _)| {
            let name = plain_name(&name);
            ["error", "errorcode", "errordescription", "message", "code"].contains(&name.as_str())
        })
}

/// The name of a member without case, underscores and hyphens.
pub(in crate::oauth) fn plain_name(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// A body without the byte order mark that some servers begin it with (RFC 8259 section 8.1).
pub(in crate::oauth) fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Whether a member says anything: servers that mean nothing write null, false, 0 and "".
pub(in crate::oauth) fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !matches!(text.trim(), "" | "0"),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// Far more than any answer of a token or metadata endpoint; a wrong address may send gigabytes.
pub(in crate::oauth) const MAX_BODY_BYTES: usize = 256 * 1024;

/// Where a page shows that it is one.
const PAGE_BEGIN: usize = 1024;
