//! What is odd about a secret that is right in form: quotation marks, blanks and invisible characters, which are sent along.
//!
//! They are warned about and sent all the same: a password may hold each of them. No finding shows any of the secret.
//! Caller: `secret_ref`.

use crate::telemetry::changes_others;

/// Something that seldom belongs to a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Oddity {
    Quotes,
    Blanks,
    Tab,
    Invisible,
}

impl Oddity {
    /// All that are in `text`, which is called `noun`.
    pub(super) fn of(noun: &str, text: &str) -> Vec<Self> {
        let sent_as_written = SENT_AS_WRITTEN.contains(&noun);
        // A key is parsed, and a header field has a rule of its own.
        if !sent_as_written && !TRIMMED.contains(&noun) {
            return Vec::new();
        }
        let inner = text.trim();
        let mut found = Vec::new();
        if sent_as_written && inner.len() < text.len() {
            found.push(Self::Blanks);
        }
        if sent_as_written && is_quoted(inner) {
            found.push(Self::Quotes);
        }
        if inner.contains('\t') {
            found.push(Self::Tab);
        }
        if inner.chars().any(is_invisible) {
            found.push(Self::Invisible);
        }
        found
    }

    /// What is wrong with the `noun`.
    pub(super) fn finding(self, noun: &str) -> String {
        match self {
            Self::Quotes => format!("the {noun} is between quotation marks, which are sent as part of it"),
            Self::Blanks => format!("the {noun} begins or ends with blanks, which are sent as part of it"),
            Self::Tab => format!("the {noun} holds a tab, which is sent as part of it"),
            Self::Invisible => format!(
                "the {noun} holds an invisible character or a blank other than a space, such as U+200B or U+00A0, which is \
                 sent as part of it"
            ),
        }
    }

    pub(super) fn help(self, noun: &str) -> String {
        match self {
            Self::Quotes => format!("take the quotation marks out, unless they belong to the {noun}"),
            Self::Blanks => format!("take the blanks out, unless they belong to the {noun}"),
            Self::Tab => format!("take the tab out, unless it belongs to the {noun}"),
            Self::Invisible => format!("type the {noun} anew, or copy it from its source as plain text"),
        }
    }
}

fn is_quoted(text: &str) -> bool {
    let mut inner = text.chars();
    let (first, last) = (inner.next(), inner.next_back());
    QUOTES.iter().any(|(open, close)| first == Some(*open) && last == Some(*close))
}

/// Whether an editor shows `character` as nothing, or as the space that it is not.
fn is_invisible(character: char) -> bool {
    let is_odd_blank = character.is_whitespace() && !character.is_ascii_whitespace();
    let is_mark = !character.is_ascii() && changes_others(character);
    is_odd_blank
        || is_mark
        || matches!(character, '\u{ad}' | '\u{34f}' | '\u{180e}' | '\u{fe00}'..='\u{fe0f}')
}

/// What is sent as it stands there.
const SENT_AS_WRITTEN: [&str; 3] = ["secret", "password", "refresh token"];
/// What is sent without the blanks and quotation marks around it.
const TRIMMED: [&str; 2] = ["token", "assertion"];
const QUOTES: [(char, char); 5] =
    [('"', '"'), ('\'', '\''), ('`', '`'), ('\u{201c}', '\u{201d}'), ('\u{2018}', '\u{2019}')];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_odd_about_a_secret_is_found_by_its_kind() {
        for (text, found) in [
            ("s3cret", &[][..]),
            ("s3 cr\"e't", &[]),
            ("\"", &[]),
            ("gr\u{f6}\u{df}er", &[]),
            ("\"abc\"", &[Oddity::Quotes]),
            ("'abc'", &[Oddity::Quotes]),
            ("\u{201c}abc\u{201d}", &[Oddity::Quotes]),
            ("abc ", &[Oddity::Blanks]),
            ("\tabc", &[Oddity::Blanks]),
            ("abc\u{a0}", &[Oddity::Blanks]),
            (" \"abc\"", &[Oddity::Blanks, Oddity::Quotes]),
            ("ab\tc", &[Oddity::Tab]),
            ("\u{200b}abc", &[Oddity::Invisible]),
            ("ab\u{feff}c", &[Oddity::Invisible]),
            ("ab\u{a0}c", &[Oddity::Invisible]),
            ("ab\u{ad}c", &[Oddity::Invisible]),
        ] {
            for noun in SENT_AS_WRITTEN {
                assert_eq!(Oddity::of(noun, text), found, "{text:?}");
            }
            assert!(Oddity::of("private key", text).is_empty());
        }
        assert!(Oddity::of("assertion", " \"abc\" ").is_empty(), "they are taken off");
        assert_eq!(Oddity::of("assertion", "ab\u{200b}c"), [Oddity::Invisible]);
    }
}
