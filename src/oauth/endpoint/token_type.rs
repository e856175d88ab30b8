//! What a server says of a token's type (RFC 6749 section 7.1), and which words count as Bearer.

use std::fmt;

use serde_json::Value;

/// A token's type, as an error names it: a short plain text, or that it is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypeWord(Option<Box<str>>);

impl TypeWord {
    pub(crate) fn of(value: &Value) -> Self {
        let text = value.as_str().map(str::trim);
        let is_plain = |text: &&str| {
            text.len() <= MAX_WORD
                && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic() && byte != b'`')
        };
        Self(text.filter(is_plain).map(Box::from))
    }

    /// What to do about it.
    pub(crate) fn help(&self) -> String {
        match self.0.as_deref() {
            Some(word) if word.eq_ignore_ascii_case("dpop") => {
                "this server binds tokens to a key: set `dpop = true`".to_owned()
            }
            Some("N_A") => "it is no access token: check `requested_token_type`".to_owned(),
            Some(word) => format!("where the API takes it as a Bearer token, set `token_type = \"{word}\"`"),
            None => "where the API takes it as a Bearer token, tell the server to say so".to_owned(),
        }
    }
}

impl fmt::Display for TypeWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(word) => write!(f, "`{word}`"),
            None => f.write_str("that is no short word"),
        }
    }
}

/// Whether a server that says `word` means Bearer: in any case and spacing, as Apigee's name for it, or as `more`, which the
/// configuration names.
pub(in crate::oauth) fn is_bearer(word: &str, more: Option<&str>) -> bool {
    let word = word.trim();
    ["", "bearer", "bearertoken", "bearer token"].iter().any(|name| word.eq_ignore_ascii_case(name))
        || more.is_some_and(|more| word.eq_ignore_ascii_case(more.trim()))
}

const MAX_WORD: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_words_for_bearer_count_and_those_that_are_configured() {
        for word in ["Bearer", "bearer ", "BEARER", "", "  ", "BearerToken"] {
            assert!(is_bearer(word, None), "{word}");
        }
        for word in ["bot", "mac", "DPoP", "N_A", "Application Access Token"] {
            assert!(!is_bearer(word, None), "{word}");
        }
        assert!(is_bearer("Application Access Token", Some("application access token")));
        assert!(!is_bearer("DPoP", Some("bot")));
    }

    #[test]
    fn an_error_names_the_type_and_what_to_set() {
        let shown = |value: Value| format!("{}; {}", TypeWord::of(&value), TypeWord::of(&value).help());
        assert!(
            shown("bot".into()).contains("`bot`; ") && shown("bot".into()).contains("token_type = \"bot\"")
        );
        assert!(shown("DPoP".into()).contains("`dpop = true`"));
        for odd in [Value::from(7), "a\nb".into(), "é".into(), "x".repeat(41).into()] {
            assert!(!shown(odd.clone()).contains(odd.as_str().unwrap_or("7")), "{odd}");
        }
    }
}
