//! Words of a server's that people are to read: cleaned, bounded, and never with a secret in them.
//!
//! `report` finds them in a response, `callback` in what a browser brings back. They are for a terminal, `status` and the
//! log line of a failure, never for an application.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use http::header::AUTHORIZATION;
use serde_json::Value;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::telemetry::changes_others;

/// What a server says of a failure in its own words.
///
/// Two are always equal: a time or the number of a trace in them makes no other error.
#[derive(Clone, Eq)]
pub(crate) struct Remark(Box<str>);

impl Remark {
    /// `None` where nothing is left of it, or where it repeats what `carried` must not be shown of.
    pub(in crate::oauth) fn of(text: &str, carried: &Carried) -> Option<Self> {
        if carried.is_repeated_in(text) {
            return None;
        }
        let text = masked(&plain(text));
        Some(Self(shortened(&text).into_boxed_str())).filter(|remark| !remark.0.is_empty())
    }

    pub(crate) const fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Remark {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

/// A debug print of an error may end up anywhere.
impl fmt::Debug for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remark({} bytes)", self.0.len())
    }
}

/// Text without a character that a terminal or a page takes for more than text, its white space made single spaces.
pub(in crate::oauth) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }) {
        let is_second_space = character == ' ' && plain.ends_with(' ');
        if !is_second_space && !is_hidden(character) {
            plain.push(character);
        }
    }
    plain.trim().to_owned()
}

/// Text of a server's that people are to read: no control character, no character that turns the direction of what
/// follows, at most `limit` characters.
pub(in crate::oauth) fn excerpt(text: &str, limit: usize) -> String {
    let kept = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c });
    kept.filter(|c| !is_hidden(*c)).take(limit).collect::<String>().trim().to_owned()
}

/// Controls, what turns the direction of what follows, and what cannot be seen.
pub(in crate::oauth) const fn is_hidden(character: char) -> bool {
    changes_others(character)
        || matches!(
            character,
            '\t' | '\u{1b}'
                | '\u{ad}'
                | '\u{34f}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{17b4}'
                | '\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{ffa0}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// The text with each word that looks like a token masked: whose it is cannot be known.
fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    for piece in text.split_inclusive(|letter| !is_token_letter(letter)) {
        let word = piece.trim_end_matches(|letter| !is_token_letter(letter));
        masked.push_str(if looks_like_a_token(word) { "***" } else { word });
        masked.push_str(&piece[word.len()..]);
    }
    masked
}

/// RFC 6750 section 2.1, without the slash, which stands in paths.
pub(crate) fn is_token_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "-._~+=".contains(letter)
}

fn looks_like_a_token(word: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| word.bytes().any(|byte| kind(&byte));
    word.contains("eyJ")
        || word.len() >= RANDOM
            && has(u8::is_ascii_digit)
            && has(u8::is_ascii_alphabetic)
            && !is_uuid(word.trim_end_matches('.'))
}

/// The number of a trace or a tenant (RFC 9562 section 4), which support asks for.
fn is_uuid(word: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = word.split('-').collect();
    parts.len() == lengths.len()
        && parts
            .iter()
            .zip(lengths)
            .all(|(part, length)| part.len() == length && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A long text without its middle: servers put boilerplate first and the reason last.
fn shortened(text: &str) -> String {
    let length = text.chars().count();
    if length <= LONGEST {
        return text.to_owned();
    }
    let head: String = text.chars().take(LONGEST / 2).collect();
    let tail: String = text.chars().skip(length - LONGEST / 2 + ELLIPSIS.len()).collect();
    format!("{}{ELLIPSIS}{}", head.trim_end(), tail.trim_start())
}

/// What a request carried that nothing may repeat: secrets, tokens, assertions, codes.
#[derive(Default)]
pub(in crate::oauth) struct Carried(Vec<Zeroizing<String>>);

impl Carried {
    /// Reads the parameters of a request, its client authentication and its other sensitive fields.
    pub(in crate::oauth) fn by(request: &Request<Vec<u8>>) -> Self {
        let mut words = Vec::new();
        let mut keep = |text: &str| {
            if text.len() >= SHORTEST {
                words.push(Zeroizing::new(text.to_ascii_lowercase()));
            }
        };
        let query = request.uri().query().unwrap_or_default();
        for pair in [request.body().as_slice(), query.as_bytes()].into_iter().flat_map(pairs) {
            let Some((name, value)) = form_urlencoded::parse(pair).next() else { continue };
            if is_harmless(&name, &value) {
                continue;
            }
            keep(&value);
            // As it was sent, too.
            if let Some((_, sent)) = std::str::from_utf8(pair).ok().and_then(|pair| pair.split_once('=')) {
                keep(sent);
            }
        }
        let members: BTreeMap<String, Value> = serde_json::from_slice(request.body()).unwrap_or_default();
        for (name, value) in members.iter().filter_map(|(name, value)| Some((name, value.as_str()?))) {
            if !is_harmless(name, value) {
                keep(value);
            }
        }
        let fields = request.headers().iter();
        let secret = fields.filter(|(name, value)| *name != AUTHORIZATION && value.is_sensitive());
        secret.filter_map(|(_, value)| value.to_str().ok()).for_each(&mut keep);
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        if let Some((_scheme, credentials)) = header.and_then(|value| value.split_once(' ')) {
            keep(credentials);
            let decoded = STANDARD.decode(credentials).map(Zeroizing::new).unwrap_or_default();
            if let Some((_id, secret)) =
                std::str::from_utf8(&decoded).ok().and_then(|text| text.split_once(':'))
            {
                keep(secret);
                // The secret is form-encoded within (RFC 6749 section 2.3.1).
                let pair = Zeroizing::new(format!("x={secret}"));
                form_urlencoded::parse(pair.as_bytes()).for_each(|(_, secret)| keep(&secret));
            }
        }
        Self(words)
    }

    /// Whether `text` has one of them in it, or a good part of one.
    pub(in crate::oauth) fn is_repeated_in(&self, text: &str) -> bool {
        let text = text.to_ascii_lowercase();
        let is_part = |word: &str, secret: &str| {
            word.len() >= PART
                && secret.contains(word)
                && (word.len() * 2 >= secret.len() || word.bytes().any(|byte| byte.is_ascii_digit()))
        };
        self.0.iter().any(|secret| {
            text.contains(secret.as_str())
                || text
                    .split(|letter| !is_token_letter(letter))
                    .any(|word| is_part(word.trim_matches('.'), secret))
        })
    }
}

/// Whether a description may repeat the value of a parameter: anybody may know it, or it is an ordinary word and nothing in
/// its name says that it is more (`box_subject_type=enterprise`).
fn is_harmless(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_word = || {
        value.len() <= LONGEST_WORD
            && value.bytes().all(|byte| byte.is_ascii_lowercase() || b"_-. ".contains(&byte))
    };
    HARMLESS.contains(&name.as_str()) || !SECRETIVE.iter().any(|part| name.contains(part)) && is_word()
}

fn pairs(form: &[u8]) -> impl Iterator<Item = &[u8]> {
    form.split(|byte| *byte == b'&')
}

/// Parameters whose values anybody may know.
const HARMLESS: [&str; 21] = [
    "grant_type",
    "scope",
    "audience",
    "resource",
    "client_id",
    "username",
    "redirect_uri",
    "requested_token_type",
    "subject_token_type",
    "actor_token_type",
    "token_type_hint",
    "client_assertion_type",
    "response_type",
    "response_mode",
    "code_challenge",
    "code_challenge_method",
    "prompt",
    "login_hint",
    "acr_values",
    "ui_locales",
    "dpop_jkt",
];

/// What the names of secrets have in them.
const SECRETIVE: [&str; 12] = [
    "secret",
    "pass",
    "pwd",
    "pin",
    "token",
    "key",
    "code",
    "assertion",
    "credential",
    "auth",
    "verifier",
    "sign",
];

/// A longer value is no ordinary word.
const LONGEST_WORD: usize = 20;

/// Characters that are shown. Descriptions of servers that are built on fosite have up to 240 before the reason.
const LONGEST: usize = 600;
const ELLIPSIS: &str = " ... ";
/// A shorter secret is in half of all sentences.
const SHORTEST: usize = 4;
/// A shorter part of a secret gives nothing away.
const PART: usize = 8;
/// A word this long of letters and digits is taken for a token.
const RANDOM: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn remark(text: &str) -> String {
        Remark::of(text, &Carried::default()).map_or_else(String::new, |remark| remark.as_str().to_owned())
    }

    fn carried(body: &str, authorization: Option<&str>) -> Carried {
        let mut request = Request::post("https://as.example/token");
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        Carried::by(&request.body(body.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn a_remark_is_plain_text_on_one_line() {
        for (text, want) in [
            ("Invalid client", "Invalid client"),
            ("  a\r\n\tb\u{2028}c ", "a b c"),
            ("\u{1b}[2Jgone\u{9b}31m", "[2Jgone31m"),
            ("abc\u{202e}fed\u{2066}x\u{200b}\u{feff}\u{ad}\u{e0041}", "abcfedx"),
            ("größe <script> ☺", "größe <script> ☺"),
            ("\u{200b}\u{7}", ""),
        ] {
            assert_eq!(remark(text), want, "{text:?}");
        }
    }

    #[test]
    fn the_reason_behind_fosites_boilerplate_is_shown() {
        let fosite = "The provided authorization grant (e.g., authorization code, resource owner credentials) or refresh token is \
                      invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was \
                      issued to another client. The refresh token was already used.";
        assert_eq!(remark(fosite), fosite);
        let long = format!("{}the reason", "boilerplate, ".repeat(100));
        let shown = remark(&long);
        assert!(shown.starts_with("boilerplate") && shown.ends_with("the reason"), "{shown}");
        assert!(shown.contains(ELLIPSIS) && shown.chars().count() <= LONGEST, "{shown}");
        assert!(remark(&"ü".repeat(5000)).chars().count() <= LONGEST);
    }

    #[test]
    fn what_looks_like_a_token_is_masked_and_the_number_of_a_trace_is_not() {
        let uuid = "5f1d2c3b-0a9e-4d7c-8b6a-112233445566";
        assert_eq!(remark(&format!("Trace ID: {uuid}.")), format!("Trace ID: {uuid}."));
        assert_eq!(remark("bad eyJhbGciOiJub25lIn0.e30.x here"), "bad *** here");
        assert_eq!(remark("token 0123456789abcdef0123456789abcdef, sorry"), "token ***, sorry");
        assert_eq!(remark("AADSTS7000215: no"), "AADSTS7000215: no");
    }

    #[test]
    fn a_remark_that_repeats_what_was_sent_is_not_shown_at_all() {
        let form =
            "grant_type=refresh_token&scope=orders%3Aread&refresh_token=sentinel%2B1234567&client_id=orders";
        let basic = format!("Basic {}", STANDARD.encode("orders:s3cr%2Bt"));
        for text in [
            "no such token: sentinel+1234567",
            "no such token: SENTINEL+1234567",
            "no such token: sentinel%2b1234567",
            "no such token: nel+1234567...",
            "the secret s3cr+t is wrong",
            "the secret s3cr%2Bt is wrong",
            &basic,
        ] {
            assert!(Remark::of(text, &carried(form, Some(&basic))).is_none(), "{text}");
        }
        let kept = "the client orders may not use refresh_token with orders:read";
        assert!(Remark::of(kept, &carried(form, Some(&basic))).is_some());
    }

    #[test]
    fn a_remark_may_repeat_an_ordinary_word_that_was_sent_and_no_secret_that_is_one() {
        let form =
            "grant_type=client_credentials&client_id=a&client_secret=enterprise&box_subject_type=enterprise";
        let text = "This app is not authorized by the enterprise admin";
        assert!(Remark::of(text, &carried(form, None)).is_none(), "the secret is this word");
        let form =
            "grant_type=client_credentials&client_id=a&client_secret=s3cr3t-1&box_subject_type=enterprise";
        assert!(Remark::of(text, &carried(form, None)).is_some());
        let json = r#"{"grant_type":"x","app_secret":"summer","tenant_kind":"enterprise"}"#;
        assert!(Remark::of(text, &carried(json, None)).is_some());
        assert!(Remark::of("no app has the secret summer", &carried(json, None)).is_none());
        for (name, value, shown) in [
            ("apikey", "enterprise", false),
            ("fb_exchange_token", "enterprise", false),
            ("passphrase", "enterprise", false),
            ("account_id", "12345678", false),
            ("subject", "Enterprise7", false),
            ("kind", "enterprise-of-many-words", false),
            ("f", "json", true),
            ("kind", "sub.account", true),
        ] {
            let form = format!("{name}={value}");
            let text = format!("{value} is not known");
            assert_eq!(Remark::of(&text, &carried(&form, None)).is_some(), shown, "{form}");
        }
    }

    #[test]
    fn a_remark_is_never_printed_by_debug() {
        let remark = Remark::of("sentinel", &Carried::default()).unwrap();
        assert!(!format!("{remark:?}").contains("sentinel"));
    }
}
