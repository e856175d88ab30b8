//! A damaged token response: its members that are whole.
//!
//! A strict parser reports a damaged body and returns nothing of it. `failure` needs its refresh token all the same, which
//! the server does not issue again. This reader passes over the damage: text in another encoding, a missing brace or quote,
//! a raw control character, a number that is none, text around the JSON, the end of the body. A value that may be cut off
//! is left out. Time is linear in the length of the body.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};
use url::form_urlencoded;

/// Whether a body is all that the server sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::oauth) enum Extent {
    Whole,
    /// The rest did not arrive.
    Cut,
}

/// The text of a body: UTF-8, or UTF-16 with or without its byte order mark. What is neither becomes U+FFFD.
pub(in crate::oauth) fn text(body: &[u8]) -> Cow<'_, str> {
    match body {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [1..=0xff, 0, ..] => utf16(body, u16::from_le_bytes),
        [0, 1..=0xff, ..] => utf16(body, u16::from_be_bytes),
        _ => String::from_utf8_lossy(body),
    }
}

fn utf16(body: &[u8], unit: fn([u8; 2]) -> u16) -> Cow<'static, str> {
    let units = body.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    char::decode_utf16(units).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// The JSON objects in a text, one after the other, without those that are within another.
pub(in crate::oauth) fn objects(text: &str) -> impl Iterator<Item = Map<String, Value>> + '_ {
    let mut reader = Reader { text, at: 0 };
    std::iter::from_fn(move || {
        reader.at += text.as_bytes().get(reader.at..)?.iter().position(|byte| *byte == b'{')?;
        Some(reader.object(0))
    })
}

/// The pairs of a form. The last one of a body that was cut may be cut as well.
pub(in crate::oauth) fn form(text: &str, extent: Extent) -> Option<Map<String, Value>> {
    let text = match extent {
        Extent::Whole => text.trim(),
        Extent::Cut => &text[..text.rfind('&')?],
    };
    let is_form = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>{}\"".contains(&byte));
    let pairs = form_urlencoded::parse(text.as_bytes());
    is_form.then(|| pairs.map(|(name, value)| (name.into_owned(), value.into_owned().into())).collect())
}

/// Reads JSON at `at`, which is at the beginning of a character wherever a text is taken.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    /// The members from a `{` to its `}`, or as far as there are any.
    fn object(&mut self, depth: usize) -> Map<String, Value> {
        self.at += 1;
        let mut members = Map::new();
        while let Some(byte) = self.peek() {
            if byte == b'}' {
                self.at += 1;
                break;
            }
            let Some(name) = self.name() else { continue };
            if let Some(value) = self.value(depth) {
                members.insert(name, value);
            }
        }
        members
    }

    /// What stands before a colon. Else the reader goes past what cannot be a name.
    fn name(&mut self) -> Option<String> {
        let start = self.at;
        let name = match self.peek()? {
            b'"' | b'\'' => self.string()?,
            byte if is_bare(byte) => self.bare().to_owned(),
            // Its quote ends nothing.
            b'\\' => {
                self.at += 2;
                return None;
            }
            _ => {
                self.at += 1;
                return None;
            }
        };
        let is_quoted = !is_bare(self.text.as_bytes()[start]);
        let end = self.at;
        self.skip_space();
        if self.peek() == Some(b':') {
            self.at += 1;
            return Some(name);
        }
        // A quote where none belongs: what follows it may be a name.
        self.at = if is_quoted { start + 1 } else { end };
        None
    }

    /// What stands behind a colon; `None`: nothing that is whole.
    fn value(&mut self, depth: usize) -> Option<Value> {
        self.skip_space();
        let start = self.at;
        match self.peek()? {
            b'{' | b'[' if depth == DEPTH => {
                self.at = self.text.len();
                None
            }
            b'{' => Some(Value::Object(self.object(depth + 1))),
            b'[' => Some(Value::Array(self.array(depth + 1))),
            b'"' | b'\'' => {
                let text = self.string()?;
                if self.peek().is_some_and(|next| next.is_ascii_alphanumeric()) {
                    // The quote is not the end of this value.
                    self.at = start + 1;
                    return None;
                }
                Some(Value::String(text))
            }
            byte if is_bare(byte) => {
                let word = self.bare().to_owned();
                // At the end of the body it may be a part.
                self.peek()?;
                plain(&word)
            }
            _ => None,
        }
    }

    fn array(&mut self, depth: usize) -> Vec<Value> {
        self.at += 1;
        let mut items = Vec::new();
        while let Some(byte) = self.peek() {
            let start = self.at;
            match byte {
                b']' => {
                    self.at += 1;
                    break;
                }
                // Its own end is missing.
                b'}' => break,
                b'\\' => {
                    self.at += 2;
                    continue;
                }
                _ => {}
            }
            let item = self.value(depth);
            let end = self.at;
            self.skip_space();
            if matches!(item, Some(Value::String(_))) && self.peek() == Some(b':') {
                // The same, and this is the name of a member behind it.
                self.at = start;
                break;
            }
            self.at = if end == start { start + 1 } else { end };
            items.extend(item);
        }
        items
    }

    /// A string in its quotes. What cannot be read in it becomes U+FFFD. `None`: it has no end.
    fn string(&mut self) -> Option<String> {
        let bytes = self.text.as_bytes();
        let (start, quote) = (self.at + 1, bytes[self.at]);
        let mut end = start;
        while let Some(byte) = bytes.get(end) {
            match *byte {
                b'\\' => end += 2,
                byte if byte == quote => {
                    self.at = end + 1;
                    let inner = &self.text[start..end];
                    return Some(unescaped(inner, quote == b'"').unwrap_or_else(|| UNREADABLE.to_owned()));
                }
                _ => end += 1,
            }
        }
        // An apostrophe may be one.
        self.at = if quote == b'"' { bytes.len() } else { start };
        None
    }

    fn bare(&mut self) -> &str {
        let rest = &self.text[self.at..];
        let end = rest.bytes().position(|byte| !is_bare(byte)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

const fn is_bare(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'.')
}

/// What a string says within its quotes. JSON's escapes are for its own quotes.
fn unescaped(inner: &str, is_json: bool) -> Option<String> {
    let inner = inner.replace(|letter: char| letter.is_control(), UNREADABLE);
    match inner.contains('\\') {
        false => Some(inner),
        true if is_json => serde_json::from_str(&format!("\"{inner}\"")).ok(),
        true => None,
    }
}

/// A word without quotes. A number that is too long for its type is taken as it is written.
fn plain(word: &str) -> Option<Value> {
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
    match word {
        "true" => Some(true.into()),
        "false" => Some(false.into()),
        "null" => Some(Value::Null),
        _ if is_number && word.parse::<u64>().is_err() => Some(word.into()),
        _ => word.parse::<Number>().ok().map(Value::Number),
    }
}

/// In the place of what cannot be read.
const UNREADABLE: &str = "\u{fffd}";

/// More objects within each other than any response has.
const DEPTH: usize = 32;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn first(text: &str) -> Value {
        Value::Object(objects(text).next().unwrap_or_default())
    }

    #[test]
    fn what_is_valid_is_read_as_any_parser_reads_it() {
        for body in [
            json!({}),
            json!({"a": "b", "c": {"d": [1, -2.5, true, null, "x", {"e": []}]}, "f": ""}),
            json!({"quotes": "a \"b\" \\ 'c' {d} [e] :, \u{e9}\u{1f600}\n\t", "it's": "x"}),
        ] {
            assert_eq!(first(&body.to_string()), body);
            assert_eq!(first(&serde_json::to_string_pretty(&body).unwrap()), body);
        }
        assert_eq!(first(r#"{"a":"\u0041\ud83d\ude00\/"}"#), json!({"a": "A\u{1f600}/"}));
        assert_eq!(
            first(r#"{"a":123456789012345678901234567890,"b":1}"#),
            json!({"a": "123456789012345678901234567890", "b": 1})
        );
    }

    #[test]
    fn members_behind_damage_are_read_and_what_may_be_cut_is_not() {
        for (text, want) in [
            (r#"{"a":"b""#, json!({"a": "b"})),
            (r#"{"a":"b"#, json!({})),
            (r#"{"a":12"#, json!({})),
            (r#"{"a":12,"#, json!({"a": 12})),
            (r#"{"a":"b\"#, json!({})),
            (r#"{"x":1e999,"y":NaN,"z":,"a":"b",}"#, json!({"a": "b"})),
            ("{\"x\":\"1\n2\",\"a\":\"b\"}", json!({"x": "1\u{fffd}2", "a": "b"})),
            (r#"{"x":"\q","a":"b"}"#, json!({"x": "\u{fffd}", "a": "b"})),
            (r#"{"x":"say "hi" there","a":"b"}"#, json!({"a": "b"})),
            (r#"{"x":"one two,"a":"b"}"#, json!({"a": "b"})),
            (r#"{"x":["1","2","a":"b"}"#, json!({"x": ["1", "2"], "a": "b"})),
            (r#"{"x":{"y":[1},"a":"b"}"#, json!({"x": {"y": [1]}, "a": "b"})),
            (r#"{"x":"1" "a":"b"}"#, json!({"x": "1", "a": "b"})),
            (r#"{'x':'it"s','a':'b'}"#, json!({"x": "it\"s", "a": "b"})),
            (r#"{x:1,a:"b"}"#, json!({"x": 1, "a": "b"})),
            (r#"{"a":"b";}"#, json!({"a": "b"})),
        ] {
            assert_eq!(first(text), want, "{text}");
        }
    }

    #[test]
    fn what_is_within_another_object_or_a_string_is_not_taken_for_a_member() {
        for text in [
            r#"{"other":{"a":"b"},}"#,
            r#"{"other":[{"a":"b"}],}"#,
            r#"{"text":"{\"a\":\"b\"}",}"#,
            r#"{"text":"\"a\":\"b\"",}"#,
            r#"{"other":{"a":"b""#,
        ] {
            assert!(objects(text).all(|members| !members.contains_key("a")), "{text}");
        }
        let found: Vec<_> = objects(r#"if(x){it's("5" wide)} {"a":1}<hr>{"a":2} {"#).collect();
        assert_eq!(found.iter().filter_map(|members| members.get("a")).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn any_bytes_are_read_in_linear_time() {
        for unit in [
            "{", "[", "\"", "'", "{\"", "{'", "\\\"", "\\'", "{\"\\\"", "a", "{\"a\":", "{\"a\":[", "'\"",
            "é", ":", "{a", "\\",
        ] {
            for lead in ["", "{", "{\"", "{\"a\":\"", "{\"a\":["] {
                let text = format!("{lead}{}", unit.repeat(256 * 1024 / unit.len()));
                assert!(objects(&text).count() <= text.len(), "{lead} {unit}");
            }
        }
    }

    #[test]
    fn a_form_has_the_pairs_that_are_whole() {
        let of = |text, extent| form(text, extent).map(Value::Object);
        assert_eq!(of("a=1&b=x%2By+z\n", Extent::Whole), Some(json!({"a": "1", "b": "x+y z"})));
        assert_eq!(of("a=1&b=x", Extent::Cut), Some(json!({"a": "1"})));
        assert_eq!(of("a=1", Extent::Cut), None);
        assert_eq!(of("<p a=1&b=2>", Extent::Whole), None);
        assert_eq!(of("not a form", Extent::Whole), None);
    }

    #[test]
    fn the_text_is_known_by_its_bytes() {
        let units = |unit: fn(u16) -> [u8; 2]| "{é}".encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        let (little, big) = (units(u16::to_le_bytes), units(u16::to_be_bytes));
        for body in [&little, &big, &[&b"\xff\xfe"[..], &little].concat(), &[&b"\xfe\xff"[..], &big].concat()]
        {
            assert_eq!(text(body), "{é}");
        }
        assert_eq!(text(&little[..5]), "{é");
        assert_eq!(text(b"{\xe9}"), "{\u{fffd}}");
    }
}
