//! The members of a body that may hold the code and the text of a failure, whatever a server calls them and however it
//! nests them.
//!
//! `report` calls this and decides what the words mean. Names are compared without case, underscores and hyphens. The
//! search goes [`DEPTH`] levels down and into the first item of a list alone, so that its cost is bounded.

use serde_json::{Map, Value};
use url::form_urlencoded;

use super::is_word;
use crate::oauth::endpoint::body::{Form, plain_name, without_mark};
use crate::oauth::endpoint::remark::plain;
use crate::oauth::error::kind::Code;

/// The members of one object, by their plain names.
pub(super) struct Members<'a>(Vec<(String, &'a Value)>);

/// Reads a body: a JSON object, the first item of a list of them, a form (what servers send that do not heed `Accept`),
/// or a short plain text. `None`: it says nothing.
pub(super) fn parse(body: &[u8]) -> Option<Map<String, Value>> {
    let body = without_mark(body).trim_ascii();
    let of_text = |text: String| Map::from_iter([("message".to_owned(), Value::String(text))]);
    match Form::of(body) {
        Form::Empty | Form::Page => None,
        Form::Json | Form::List => match serde_json::from_slice(body).ok()? {
            Value::Object(members) => Some(members),
            Value::Array(mut items) => match items.first_mut()?.take() {
                Value::Object(members) => Some(members),
                _ => None,
            },
            _ => None,
        },
        Form::Pairs => {
            let pairs = form_urlencoded::parse(body).into_owned();
            Some(pairs.map(|(name, value)| (name, Value::String(value))).collect())
        }
        Form::Other => {
            let is_start = |byte: &u8| b"<{[".contains(byte);
            if body.len() > LONGEST_TEXT || body.first().is_none_or(is_start) {
                return None;
            }
            let text = match serde_json::from_slice(body) {
                Ok(Value::String(text)) => text,
                _ => std::str::from_utf8(body).ok()?.to_owned(),
            };
            // A bare word may be a token.
            let is_text =
                !text.contains(['<', '=']) && text.contains(' ') || Code::registered(&text).is_some();
            is_text.then(|| of_text(text))
        }
    }
}

impl<'a> Members<'a> {
    pub(super) fn of(members: &'a Map<String, Value>) -> Self {
        Self(members.iter().map(|(name, value)| (plain_name(name), value)).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        Some(self.0.iter().find(|(known, _)| known == name)?.1)
    }

    fn all(&self, names: &'static [&'static str]) -> impl Iterator<Item = (&'static str, &'a Value)> {
        names.iter().filter_map(|name| Some((*name, self.get(name)?)))
    }

    /// What may be a code, the likeliest first, each with the name of its member.
    pub(super) fn words(&self) -> Vec<(&'static str, String)> {
        let mut words = Vec::new();
        self.collect_words(0, &mut words);
        words
    }

    fn collect_words(&self, depth: usize, words: &mut Vec<(&'static str, String)>) {
        for (name, value) in self.all(CODES).chain(self.all(CONTAINERS)) {
            collect_words(name, value, depth, words);
        }
    }

    /// A registered code that a text begins with: `invalid_grant: Token has been revoked`.
    pub(super) fn leading_code(&self) -> Option<(String, Code)> {
        let texts = self.all(CODES).chain(self.all(TEXTS)).filter_map(|(_, value)| value.as_str());
        let mut first = texts.filter_map(|text| {
            text.trim().split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').next()
        });
        first.find_map(|word| {
            let code = Code::registered(word).filter(|_| word.contains('_'))?;
            Some((word.to_owned(), code))
        })
    }

    /// The text for people, of those that were found. What says no more than the status, or than `word`, is taken where
    /// there is nothing else.
    pub(super) fn text(&self, found: &[String], word: Option<&str>) -> Option<String> {
        let says_more = |text: &&String| {
            let text = text.trim().trim_end_matches('.').to_ascii_lowercase();
            !EMPTY_WORDS.contains(&text.as_str())
        };
        let new = || found.iter().filter(|text| word != Some(text.as_str()));
        let text = new().find(says_more).or_else(|| new().next())?.clone();
        let hint = self.get("errorhint").and_then(Value::as_str).unwrap_or_default();
        Some(if hint.is_empty() || text.contains(hint) { text } else { format!("{text} {hint}") })
    }

    /// All that may be it, the likeliest first.
    pub(super) fn texts(&self, depth: usize) -> Vec<String> {
        let mut texts = Vec::new();
        for (name, value) in self.all(TEXTS) {
            texts.extend(text_of(name, value, depth));
        }
        for (name, value) in self.all(CODES).chain(self.all(CONTAINERS)) {
            match value {
                // A code is no text; a sentence in its place is one.
                Value::String(text) if is_word(text) || !HOLD_ERRORS.contains(&name) => {}
                Value::Object(_) | Value::Array(_) | Value::String(_) => {
                    texts.extend(text_of(name, value, depth));
                }
                _ => {}
            }
        }
        if texts.is_empty() && depth == 0 {
            texts.extend(self.by_name());
        }
        texts
    }

    /// What is wrong with which parameter: `{"refresh_token": ["is not a valid one"]}`. What is no sentence in a list may
    /// be anything.
    fn by_name(&self) -> Option<String> {
        self.0.iter().find_map(|(name, value)| {
            let text = value.as_array()?.first()?.as_str().filter(|text| is_text(text))?;
            (text.split_ascii_whitespace().count() > 1).then(|| format!("{name}: {text}"))
        })
    }

    /// The field that an item of a list is about.
    fn field(&self) -> Option<&'a str> {
        self.all(FIELDS).find_map(|(_, value)| match value {
            Value::String(field) => Some(field.as_str()),
            Value::Array(path) => path.last()?.as_str(),
            _ => None,
        })
    }
}

/// A word, a number, or one of them in an object or in the first item of a list.
fn collect_words(name: &'static str, value: &Value, depth: usize, words: &mut Vec<(&'static str, String)>) {
    match value {
        Value::String(text) if !text.is_empty() && !CONTAINERS.contains(&name) => {
            words.push((name, text.trim().to_owned()));
        }
        Value::Number(number) if number.as_f64() != Some(0.0) && !CONTAINERS.contains(&name) => {
            words.push((name, number.to_string()));
        }
        Value::Object(members) if depth < DEPTH => Members::of(members).collect_words(depth + 1, words),
        Value::Array(items) if depth < DEPTH => {
            if let Some(first) = items.first() {
                collect_words(name, first, depth + 1, words);
            }
        }
        _ => {}
    }
}

fn text_of(name: &str, value: &Value, depth: usize) -> Option<String> {
    match value {
        Value::String(text) => is_text(text).then(|| text.clone()),
        Value::Array(items) if depth < DEPTH => text_of(name, items.first()?, depth + 1),
        Value::Object(members) if depth < DEPTH => {
            let members = Members::of(members);
            let text = members.texts(depth + 1).into_iter().next();
            let text = text.or_else(|| members.by_name().filter(|_| HOLD_ERRORS.contains(&name)));
            let Some(field) = members.field() else { return text };
            let text = text.or_else(|| Some(members.words().first()?.1.clone()))?;
            Some(if text.contains(field) { text } else { format!("{field}: {text}") })
        }
        _ => None,
    }
}

fn is_text(text: &str) -> bool {
    !plain(text).is_empty()
}

/// Members that hold a code, the registered one first.
const CODES: &[&str] = &[
    "error",
    "errors",
    "errorcode",
    "errortype",
    "errcode",
    "errno",
    "retcode",
    "ret",
    "code",
    "status",
    "reason",
    "type",
    "exception",
    "message",
];

/// Members that hold a text, the registered one first.
const TEXTS: &[&str] = &[
    "errordescription",
    "errorsummary",
    "errormessage",
    "errmsg",
    "errormsg",
    "message",
    "msg",
    "description",
    "detail",
    "details",
    "reason",
    "faultstring",
    "title",
];

/// Members of which a sentence is a text, and whose own members may be parameters.
const HOLD_ERRORS: &[&str] = &["error", "errors"];

/// Members that hold more of them.
const CONTAINERS: &[&str] = &["fault", "detail", "details", "data", "result", "response", "body", "meta"];

/// Members that name the parameter which is wrong.
const FIELDS: &[&str] = &["field", "param", "parameter", "property", "attribute", "loc"];

/// Texts that say no more than the status does.
const EMPTY_WORDS: [&str; 11] = [
    "error",
    "authorization error",
    "fail",
    "failed",
    "failure",
    "false",
    "bad request",
    "unauthorized",
    "forbidden",
    "not found",
    "internal server error",
];

/// `{"errors": [{"error": {"code": ...}}]}` is as deep as it gets.
const DEPTH: usize = 3;
/// A longer plain text is no message.
const LONGEST_TEXT: usize = 2000;
