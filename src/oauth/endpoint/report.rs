//! What a response that is no success says of itself: a code and a text, whatever members hold them.
//!
//! RFC 6749 section 5.2 has `error` and `error_description`. Other servers have `errorCode` and `errorSummary`, `errors`,
//! `errcode`, `message` and their like: one function finds them for every endpoint. What they mean is for `refusal`.

use http::StatusCode;
use serde_json::{Map, Value};

use crate::oauth::endpoint::body::{Form, says_something};
use crate::oauth::endpoint::remark::{Carried, Remark};
use crate::oauth::endpoint::token_type::TypeWord;
use crate::oauth::endpoint::transport::Answer;
use crate::oauth::error::Error;
use crate::oauth::error::details::Details;
use crate::oauth::error::kind::{Code, ErrorKind};
use crate::oauth::error::mention::Mentions;
use crate::oauth::error::place::Place;
use crate::oauth::error::situation::Situation;

mod members;

use members::Members;

/// What the body of a response says of a failure. Cleaned by [`Report::details`] alone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::oauth) struct Report {
    /// The code, as the server spells it.
    word: Option<String>,
    /// What the code is.
    code: Option<Code>,
    text: Option<String>,
    mentions: Mentions,
    token_type: Option<TypeWord>,
    /// It has the member `error`, and that says something.
    has_error: bool,
    /// It says outright that it is a failure, whatever the status.
    pub(in crate::oauth) fails: bool,
}

impl Report {
    /// Reads a body, whatever its type is said to be.
    pub(in crate::oauth) fn read(body: &[u8]) -> Self {
        members::parse(body).map(|members| Self::of(&members)).unwrap_or_default()
    }

    /// What a browser brings back.
    pub(in crate::oauth) fn said(word: Option<&str>, text: Option<&str>) -> Self {
        let word = word.map(str::to_owned);
        Self {
            code: word.as_deref().map(Code::parse),
            mentions: Mentions::of(word.as_deref(), text),
            word,
            text: text.map(str::to_owned),
            fails: true,
            ..Self::default()
        }
    }

    fn of(body: &Map<String, Value>) -> Self {
        let members = Members::of(body);
        let words = members.words();
        let known = words.iter().find_map(|(_, word)| Some((word.clone(), Code::registered(word)?)));
        let known = known.or_else(|| members.leading_code());
        let states = |name: &str| members.get(name).is_some_and(says_something);
        let (word, code) = match &known {
            Some((word, code)) => (Some(word.clone()), Some(*code)),
            None => match words.iter().find(|(name, word)| names_a_code(name, word)) {
                Some((_, word)) => (Some(word.clone()), Some(Code::Other)),
                None => (None, states("error").then_some(Code::Other)),
            },
        };
        let denied = |name: &str| {
            members.get(name).is_some_and(|value| *value == Value::Bool(false) || value == "false")
        };
        let fails = FAILURES.into_iter().any(states)
            || ["ok", "success"].into_iter().any(denied)
            || members.get("code").is_some_and(|code| says_something(code) && !is_success(code))
            || ["status", "result", "message"]
                .into_iter()
                .any(|name| members.get(name).is_some_and(is_failure))
            || known.is_some();
        let texts = members.texts(0);
        Self {
            text: members.text(&texts, word.as_deref()),
            mentions: Mentions::of_all(word.as_deref(), &texts),
            word,
            code,
            token_type: members.get("tokentype").map(TypeWord::of),
            has_error: states("error"),
            fails,
        }
    }

    /// What the response refuses with. A success refuses only where it says so outright, and an error beside a token
    /// only in the member that is registered for it.
    pub(in crate::oauth) fn refusal(
        &self,
        status: StatusCode,
        has_token: impl FnOnce() -> bool,
    ) -> Option<Code> {
        match self.code {
            code if status.is_client_error() || status.is_server_error() => code,
            code if status.is_redirection() => code.filter(|code| self.has_error && *code != Code::Other),
            code if self.has_error => code,
            code if self.fails && !has_token() => code.or(Some(Code::Other)),
            _ => None,
        }
    }

    /// The code, where there is one; what no registry has is [`Code::Other`].
    pub(in crate::oauth) const fn code(&self) -> Option<Code> {
        self.code
    }

    pub(in crate::oauth) const fn mentions(&self) -> Mentions {
        self.mentions
    }

    /// What an error keeps of it.
    pub(in crate::oauth) fn details(
        &self,
        status: StatusCode,
        form: Form,
        carried: &Carried,
        situation: Situation,
    ) -> Details {
        let word = self.word.as_deref().filter(|word| is_word(word) && !carried.is_repeated_in(word));
        Details {
            code: self.code,
            word: word.map(str::to_owned),
            remark: self.text.as_deref().and_then(|text| Remark::of(text, carried)),
            mentions: self.mentions(),
            form,
            token_type: self.token_type.clone(),
            ..Details::bare(status, situation)
        }
    }
}

impl Answer {
    pub(in crate::oauth) fn report(&self) -> Report {
        Report::read(&self.body)
    }

    /// The error that this answer is, with all that it says of itself.
    pub(in crate::oauth) fn failure(&self, place: Place, kind: ErrorKind, situation: Situation) -> Error {
        let details = self.report().details(self.status, Form::of(&self.body), &self.carried, situation);
        let details = Details { exhausted: self.exhausted, unattributed: self.unattributed, ..details };
        Error::at(place, kind).with(details).after(self.retry_after)
    }
}

/// What servers that always have a `code` write where nothing is wrong.
fn is_success(code: &Value) -> bool {
    *code == 200
        || code
            .as_str()
            .is_some_and(|code| ["200", "ok", "success"].iter().any(|word| code.eq_ignore_ascii_case(word)))
}

/// What servers that always have a `status` write where something is wrong.
fn is_failure(status: &Value) -> bool {
    match status {
        Value::Number(status) => status.as_f64().is_some_and(|status| status >= 400.0),
        Value::String(status) => {
            ["error", "fail", "failed", "failure"].iter().any(|word| status.eq_ignore_ascii_case(word))
        }
        _ => false,
    }
}

/// Whether a word that is not registered is a code there: some members hold other words, too.
fn names_a_code(name: &str, word: &str) -> bool {
    let looser = matches!(name, "status" | "message" | "reason" | "type" | "exception");
    let is_name = || word.contains(['_', '-']) || word.ends_with("Exception") || word.ends_with("Error");
    is_word(word) && (!looser || is_name())
}

/// What is shown of a code that is not registered.
fn is_word(word: &str) -> bool {
    (1..=MAX_WORD).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Members that are there, or say something, where something is wrong.
const FAILURES: [&str; 9] =
    ["error", "errors", "errorcode", "errortype", "errcode", "errno", "retcode", "ret", "fault"];
const MAX_WORD: usize = 40;
#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::too_many_lines, reason = "one table of what servers really send")]
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
            // Baidu, QQ.
            (r#"{"errno":110,"error_msg":"no such app"}"#, Some("110"), Some("no such app")),
            (r#"{"ret":1001,"msg":"invalid app key"}"#, Some("1001"), Some("invalid app key")),
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
            // Salesforce's APIs.
            (
                r#"[{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]"#,
                Some("INVALID_SESSION_ID"),
                Some("Session expired or invalid"),
            ),
            // AWS Cognito, AWS IAM Identity Center.
            (
                r#"{"__type":"NotAuthorizedException","message":"Refresh Token has been revoked"}"#,
                Some("NotAuthorizedException"),
                Some("Refresh Token has been revoked"),
            ),
            // Apigee.
            (
                r#"{"fault":{"faultstring":"Invalid client","detail":{"errorcode":"oauth.v2.InvalidClient"}}}"#,
                Some("oauth.v2.InvalidClient"),
                Some("Invalid client"),
            ),
            // TikTok.
            (
                r#"{"data":{"description":"Refresh token expired","error_code":10010},"message":"error"}"#,
                Some("10010"),
                Some("Refresh token expired"),
            ),
            // Strava.
            (
                r#"{"message":"Bad Request","errors":[{"resource":"RefreshToken","field":"refresh_token","code":"invalid"}]}"#,
                Some("invalid"),
                Some("refresh_token: invalid"),
            ),
            // FastAPI, Laravel, Django, NestJS.
            (
                r#"{"detail":[{"loc":["body","refresh_token"],"msg":"field required","type":"value_error.missing"}]}"#,
                Some("value_error.missing"),
                Some("refresh_token: field required"),
            ),
            (
                r#"{"errors":{"refresh_token":["is not a valid one"]}}"#,
                None,
                Some("refreshtoken: is not a valid one"),
            ),
            (
                r#"{"non_field_errors":["No such token is known."]}"#,
                None,
                Some("nonfielderrors: No such token is known."),
            ),
            (r#"{"statusCode":400,"message":["no such client"]}"#, None, Some("no such client")),
            // ASP.NET.
            (r#"{"Message":"Not for you","Code":"blocked"}"#, Some("blocked"), Some("Not for you")),
            (
                r#"{"error":"invalid_grant: Token has been revoked."}"#,
                Some("invalid_grant"),
                Some("invalid_grant: Token has been revoked."),
            ),
            // GitHub without `Accept`, and servers that write no JSON at all.
            (
                "error=bad_refresh_token&error_description=The+refresh+token+passed+is+incorrect+or+expired.",
                Some("bad_refresh_token"),
                Some("The refresh token passed is incorrect or expired."),
            ),
            ("authorization_pending", Some("authorization_pending"), None),
            (r#""Unknown client, sorry""#, None, Some("Unknown client, sorry")),
            ("Too many requests\n", None, Some("Too many requests")),
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
            r#"{"status":200,"message":"done"}"#,
            "access_token=t&scope=repo&token_type=bearer",
        ] {
            let report = Report::read(body.as_bytes());
            assert!(!report.fails && report.refusal(StatusCode::OK, || false).is_none(), "{body}");
        }
        for body in [
            r#"{"code":20037}"#,
            r#"{"ok":false,"error":"invalid_refresh_token"}"#,
            r#"{"status":"BAD_REFRESH_TOKEN"}"#,
            r#"{"error":{"a":1}}"#,
            r#"{"errcode":"40001"}"#,
            "\u{feff}{\"error\":\"invalid_grant\"}",
            r#"{"status":"error","message":"no such refresh token"}"#,
            r#"{"status":401,"body":{}}"#,
            r#"{"success":"false"}"#,
            "error=bad_refresh_token",
        ] {
            let report = Report::read(body.as_bytes());
            assert!(report.fails && report.refusal(StatusCode::OK, || false).is_some(), "{body}");
        }
        let beside_a_token = Report::read(br#"{"access_token":"t","code":17,"status":"error"}"#);
        assert_eq!(beside_a_token.refusal(StatusCode::OK, || true), None);
    }

    #[test]
    fn the_form_of_a_body_is_known_by_itself_whatever_its_type_is_said_to_be() {
        for (body, form) in [
            ("", Form::Empty),
            ("\u{feff} {}", Form::Json),
            (r#"[{"errorCode":"X"}]"#, Form::List),
            ("[1]", Form::Other),
            ("error=x&error_description=y", Form::Pairs),
            ("state=x", Form::Other),
            ("<!DOCTYPE html><html>", Form::Page),
            ("<h1>403 Forbidden</h1>", Form::Page),
            ("<?xml version=\"1.0\"?><html xmlns=\"x\">", Form::Page),
            ("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>", Form::Other),
            ("Bad Request", Form::Other),
        ] {
            assert_eq!(Form::of(body.as_bytes()), form, "{body}");
        }
    }

    #[test]
    fn what_may_be_a_token_is_no_text() {
        for body in [
            "gho_16C7e42F292c6912E7710c8",
            "access_token=gho_sentinel&scope=repo",
            r#"{"data":{"token":"Bearer sentinel"}}"#,
            r#"{"tokens":["sentinel"]}"#,
            r#"{"result":{"access_token":"a sentinel"}}"#,
            r#""sentinel""#,
        ] {
            assert_eq!(Report::read(body.as_bytes()).text, None, "{body}");
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
