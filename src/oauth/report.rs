//! What a response that is no success says of itself: a code and a text, whatever members hold them.
//!
//! RFC 6749 section 5.2 has `error` and `error_description`. Other servers have `errorCode` and `errorSummary`, `errors`,
//! `errcode`, `message` and their like: one function finds them for every endpoint. What they mean is for `refusal`.

use http::StatusCode;
use serde_json::{Map, Value};

use super::error::Error;
use super::kind::{Code, Kind, Place};
use super::mention::Mentions;
use super::refusal::Details;
use super::remark::{Carried, Remark, plain};
use super::situation::Situation;
use super::token_type::TypeWord;
use super::transport::Answer;

/// What the body of a response says of a failure. Cleaned by [`Report::details`] alone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// The code, as the server spells it.
    word: Option<String>,
    /// What the code is.
    code: Option<Code>,
    text: Option<String>,
    token_type: Option<TypeWord>,
    /// It says outright that it is a failure, whatever the status.
    pub(super) fails: bool,
}

/// What kind of body a response has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Empty,
    /// A JSON object.
    Json,
    /// A page for people.
    Page,
    Other,
}

impl Form {
    pub(super) fn of(body: &[u8]) -> Self {
        let body = without_mark(body).trim_ascii();
        match body.first() {
            None => Self::Empty,
            Some(b'{') if serde_json::from_slice::<Map<String, Value>>(body).is_ok() => Self::Json,
            Some(b'<') => Self::Page,
            Some(_) => Self::Other,
        }
    }
}

impl Report {
    /// Reads a body; one that is no JSON object says nothing.
    pub(super) fn read(body: &[u8]) -> Self {
        match serde_json::from_slice::<Map<String, Value>>(without_mark(body)) {
            Ok(members) => Self::of(&members),
            Err(_) => Self::default(),
        }
    }

    /// What a browser brings back.
    pub(super) fn said(word: Option<&str>, text: Option<&str>) -> Self {
        let word = word.map(str::to_owned);
        Self {
            code: word.as_deref().map(Code::parse),
            word,
            text: text.map(str::to_owned),
            token_type: None,
            fails: true,
        }
    }

    fn of(members: &Map<String, Value>) -> Self {
        let mut words = Vec::new();
        for name in CODES {
            candidates(name, members.get(name), 0, &mut words);
        }
        let known = words.iter().find_map(|(_, word)| Some((word, Code::registered(word)?)));
        let (word, code) = match known {
            Some((word, code)) => (Some(word.clone()), Some(code)),
            None => match words.iter().find(|(name, word)| names_a_code(name, word)) {
                Some((_, word)) => (Some(word.clone()), Some(Code::Other)),
                None if members.get("error").is_some_and(says_something) => (None, Some(Code::Other)),
                None => (None, None),
            },
        };
        let stated = |name: &str| members.get(name).is_some_and(says_something);
        let denied = |name: &str| members.get(name) == Some(&Value::Bool(false));
        let fails = ["error", "errors", "errorCode", "error_code", "errcode"].into_iter().any(stated)
            || ["ok", "success"].into_iter().any(denied)
            || members.get("code").is_some_and(|code| says_something(code) && !is_success(code))
            || known.is_some();
        let text = text(members, 0).filter(|text| word.as_ref() != Some(text));
        Self { word, code, text, token_type: members.get("token_type").map(TypeWord::of), fails }
    }

    /// The code, where there is one; what no registry has is [`Code::Other`].
    pub(super) const fn code(&self) -> Option<Code> {
        self.code
    }

    pub(super) fn mentions(&self) -> Mentions {
        Mentions::of(self.word.as_deref(), self.text.as_deref())
    }

    /// What an error keeps of it.
    pub(super) fn details(
        &self,
        status: StatusCode,
        form: Form,
        carried: &Carried,
        situation: Situation,
    ) -> Details {
        let word = self.word.as_deref().filter(|word| is_word(word) && !carried.is_repeated_in(word));
        Details {
            situation,
            status,
            code: self.code,
            word: word.map(str::to_owned),
            remark: self.text.as_deref().and_then(|text| Remark::of(text, carried)),
            mentions: self.mentions(),
            form,
            token_type: self.token_type.clone(),
            tried: Vec::new(),
            interrupted: false,
        }
    }
}

impl Answer {
    pub(super) fn report(&self) -> Report {
        Report::read(&self.body)
    }

    /// The error that this answer is, with all that it says of itself.
    pub(super) fn failure(&self, place: Place, kind: Kind, situation: Situation) -> Error {
        let details = self.report().details(self.status, Form::of(&self.body), &self.carried, situation);
        Error::at(place, kind).with(details).after(self.retry_after)
    }
}

/// A body without the byte order mark that some servers begin it with (RFC 8259 section 8.1).
pub(super) fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// What may be a code in a member: a word, a number, or one of them in an object or in the first item of a list.
fn candidates(
    name: &'static str,
    value: Option<&Value>,
    depth: usize,
    words: &mut Vec<(&'static str, String)>,
) {
    match value {
        Some(Value::String(text)) if !text.is_empty() => words.push((name, text.trim().to_owned())),
        Some(Value::Number(number)) if number.as_f64() != Some(0.0) => words.push((name, number.to_string())),
        Some(Value::Object(members)) if depth < DEPTH => {
            for name in CODES {
                candidates(name, members.get(name), depth + 1, words);
            }
        }
        Some(Value::Array(items)) if depth < DEPTH => candidates(name, items.first(), depth + 1, words),
        _ => {}
    }
}

/// The first text for people. `error` itself may be one.
fn text(members: &Map<String, Value>, depth: usize) -> Option<String> {
    let own = TEXTS.iter().filter_map(|name| members.get(*name)?.as_str()).find(|text| is_text(text));
    let nested = || {
        let mut inner = ["error", "errors"].into_iter().filter_map(|name| match members.get(name)? {
            Value::Object(members) => Some(members),
            Value::Array(items) => items.first()?.as_object(),
            _ => None,
        });
        if depth < DEPTH { inner.find_map(|members| text(members, depth + 1)) } else { None }
    };
    let hint = members.get("error_hint").and_then(Value::as_str).unwrap_or_default();
    let listed = || {
        members.get("errors")?.as_array()?.first()?.as_str().filter(|text| is_text(text)).map(str::to_owned)
    };
    let bare =
        || members.get("error")?.as_str().filter(|text| !is_word(text) && is_text(text)).map(str::to_owned);
    let found = own.map(str::to_owned).or_else(nested).or_else(listed).or_else(bare)?;
    Some(if hint.is_empty() || found.contains(hint) { found } else { format!("{found} {hint}") })
}

fn is_text(text: &str) -> bool {
    !plain(text).is_empty()
}

/// Whether a member says anything: servers that mean nothing write null, false, 0 and "".
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !matches!(text.trim(), "" | "0"),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// What servers that always have a `code` write where nothing is wrong.
fn is_success(code: &Value) -> bool {
    *code == 200
        || code
            .as_str()
            .is_some_and(|code| ["200", "ok", "success"].iter().any(|word| code.eq_ignore_ascii_case(word)))
}

/// Whether a word that nobody registered is a code there: `message` and `status` hold other words, too.
fn names_a_code(name: &str, word: &str) -> bool {
    let looser = matches!(name, "status" | "message" | "reason" | "type");
    is_word(word) && (!looser || word.contains(['_', '-']))
}

/// What is shown of a code that nobody registered.
fn is_word(word: &str) -> bool {
    (1..=MAX_WORD).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Members that hold a code, the registered one first.
const CODES: [&str; 11] = [
    "error",
    "errors",
    "errorCode",
    "error_code",
    "errorType",
    "error_type",
    "errcode",
    "code",
    "status",
    "reason",
    "message",
];

/// Members that hold a text, the registered one first.
const TEXTS: [&str; 12] = [
    "error_description",
    "errorSummary",
    "error_message",
    "errorMessage",
    "errmsg",
    "error_msg",
    "message",
    "msg",
    "description",
    "detail",
    "reason",
    "title",
];

const MAX_WORD: usize = 40;
/// `{"errors": [{"error": {"code": ...}}]}` is as deep as it gets.
const DEPTH: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_text_are_found_in_whatever_members_hold_them() {
        let code = |word: &str| Code::registered(word).unwrap_or(Code::Other);
        for (body, word, text) in [
            (r#"{"error":"invalid_client","error_description":"no"}"#, Some("invalid_client"), Some("no")),
            (r#"{"error":"INVALID_GRANT"}"#, Some("INVALID_GRANT"), None),
            // Okta.
            (
                r#"{"errorCode":"E0000011","errorSummary":"Invalid token provided","errorLink":"E0000011"}"#,
                Some("E0000011"),
                Some("Invalid token provided"),
            ),
            // Fitbit.
            (
                r#"{"errors":[{"errorType":"invalid_grant","message":"Refresh token invalid: x"}],"success":false}"#,
                Some("invalid_grant"),
                Some("Refresh token invalid: x"),
            ),
            // Twitch.
            (r#"{"status":400,"message":"authorization_pending"}"#, Some("authorization_pending"), None),
            (r#"{"status":400,"message":"Invalid refresh token"}"#, None, Some("Invalid refresh token")),
            // Reddit.
            (r#"{"message":"Bad Request","error":400}"#, Some("400"), Some("Bad Request")),
            // Feishu, WeChat.
            (r#"{"code":20037,"error_description":"used"}"#, Some("20037"), Some("used")),
            (r#"{"errcode":40001,"errmsg":"invalid credential"}"#, Some("40001"), Some("invalid credential")),
            (r#"{"status":"BAD_REFRESH_TOKEN"}"#, Some("BAD_REFRESH_TOKEN"), None),
            // Google's APIs.
            (
                r#"{"error":{"code":401,"message":"Not you","status":"UNAUTHENTICATED"}}"#,
                Some("401"),
                Some("Not you"),
            ),
            (r#"{"error":"Access Denied"}"#, None, Some("Access Denied")),
            (r#"{"errors":["Not a good one"]}"#, None, Some("Not a good one")),
            (r#"{"message":"Unauthorized"}"#, None, Some("Unauthorized")),
            // fosite with hints.
            (
                r#"{"error":"invalid_request","error_description":"Boilerplate.","error_hint":"The reason."}"#,
                Some("invalid_request"),
                Some("Boilerplate. The reason."),
            ),
            (
                r#"{"type":"about:blank","title":"Forbidden","detail":"Not from there"}"#,
                None,
                Some("Not from there"),
            ),
        ] {
            let report = Report::read(body.as_bytes());
            assert_eq!(
                (report.word.as_deref().filter(|word| is_word(word)), report.text.as_deref()),
                (word, text),
                "{body}"
            );
            if let Some(word) = word {
                assert_eq!(report.code(), Some(code(word)), "{body}");
            }
        }
    }

    #[test]
    fn a_success_says_nothing_of_a_failure() {
        for body in [
            r#"{"access_token":"t","error":""}"#,
            r#"{"access_token":"t","error":null,"errcode":0,"errmsg":"ok"}"#,
            r#"{"code":0,"msg":"success","data":{}}"#,
            r#"{"code":200,"status":"success"}"#,
            r#"{"ok":true}"#,
            "<html>",
            "[]",
            "",
        ] {
            assert!(!Report::read(body.as_bytes()).fails, "{body}");
        }
        for body in [
            r#"{"code":20037}"#,
            r#"{"ok":false,"error":"invalid_refresh_token"}"#,
            r#"{"status":"BAD_REFRESH_TOKEN"}"#,
            r#"{"error":{"a":1}}"#,
            r#"{"errcode":"40001"}"#,
            "\u{feff}{\"error\":\"invalid_grant\"}",
        ] {
            assert!(Report::read(body.as_bytes()).fails, "{body}");
        }
    }

    #[test]
    fn only_a_short_word_is_shown_as_a_code_and_never_one_that_was_sent() {
        let details = |body: &str, sent: &str| {
            let request = http::Request::post("/").body(sent.as_bytes().to_vec()).unwrap();
            let situation = Situation::METADATA;
            let carried = Carried::by(&request);
            Report::read(body.as_bytes()).details(StatusCode::BAD_REQUEST, Form::Json, &carried, situation)
        };
        assert_eq!(details(r#"{"error":"Client_Locked.2"}"#, "").word.as_deref(), Some("Client_Locked.2"));
        for word in ["s3cret\\r\\nset-cookie: x", "two words", &"a".repeat(41), "ä"] {
            assert_eq!(details(&format!(r#"{{"error":"{word}"}}"#), "").word, None, "{word}");
        }
        assert_eq!(details(r#"{"error":"s3cret"}"#, "client_secret=s3cret").word, None);
    }
}
