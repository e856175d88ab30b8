//! What can go wrong with a token that comes from this machine: out of a helper program, a file, the configuration.

use std::fmt;
use std::io;

use crate::oauth::{Class, is_token_letter};
use crate::secret::SecretError;

/// Why a program, a file or the configuration has no usable token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SourceFault {
    /// The helper program printed none.
    #[error(transparent)]
    Command(CommandFault),
    /// The token file cannot be read.
    #[error("{0}; the token is to be there")]
    File(SecretError),
    /// What is there is no token.
    #[error("{0} {1}")]
    Text(TokenHolder, TextFlaw),
    /// The token that is there has expired.
    #[error("{0} has expired; {help}", help = .0.renewal())]
    Spent(TokenHolder),
    /// What is there is unchanged since the API refused it.
    #[error("{} still {} the token that the API refuses; {}", .0.name(), .0.verb(), .0.replacement())]
    StillRefused(TokenHolder),
}

impl SourceFault {
    pub(super) const fn class(&self) -> Class {
        match self {
            Self::Command(fault) => fault.class(),
            Self::File(error) => class_of_file(error),
            Self::Text(TokenHolder::Configuration, _) | Self::Spent(TokenHolder::Configuration) => {
                Class::Misconfigured
            }
            Self::Text(..) | Self::Spent(_) | Self::StillRefused(_) => Class::Transient,
        }
    }

    pub(super) const fn cause(&self) -> &'static str {
        match self {
            Self::Command(_) => "command",
            Self::File(_) => "token_file",
            Self::Text(..) => "token_text",
            Self::Spent(_) => "expired",
            Self::StillRefused(_) => "still_refused",
        }
    }

    pub(super) const fn public_reason(&self) -> &'static str {
        match self {
            Self::Command(fault) => fault.public_reason(),
            Self::File(_) => "the token file cannot be read",
            Self::Text(holder, _) => holder.unusable(),
            Self::Spent(holder) => holder.spent(),
            Self::StillRefused(holder) => holder.still_refused(),
        }
    }

    /// Whether it counts as a failed attempt: a refused token that is still there has failed before.
    pub(super) const fn is_counted(&self) -> bool {
        !matches!(self, Self::StillRefused(_))
    }
}

/// What a helper program did instead of printing a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandFault {
    #[error("the helper program {0} does not exist; write its whole path, or see that PATH has its folder")]
    Missing(String),
    #[error("the helper program {0} may not be executed; make it executable for the user that runs this")]
    Forbidden(String),
    #[error(
        "this machine has no process left for the helper program {0}; raise the limit of processes (pids.max of the cgroup, ulimit -u)"
    )]
    NoProcess(String),
    #[error("the helper program {0} cannot be started: {1}")]
    Start(String, io::ErrorKind),
    #[error("the helper program did not end within `command_timeout` and was ended{0}")]
    TimedOut(Said),
    #[error("the helper program ended with the exit code {0}{1}")]
    Exit(i32, Said),
    #[error("the helper program was ended by the signal {0}{1}")]
    Signal(i32, Said),
    #[error("the helper program printed nothing; the token belongs on its standard output{0}")]
    Silent(Said),
    #[error("the helper program printed more than {} KiB; it is to print a token alone", .0 / 1024)]
    TooMuch(usize),
}

impl CommandFault {
    const fn class(&self) -> Class {
        match self {
            Self::Missing(_) | Self::Forbidden(_) => Class::Misconfigured,
            _ => Class::Transient,
        }
    }

    const fn public_reason(&self) -> &'static str {
        match self {
            Self::NoProcess(_) => "this machine has no process left for the helper program",
            Self::Missing(_) | Self::Forbidden(_) | Self::Start(..) => "the helper program cannot be started",
            Self::TimedOut(_) => "the helper program did not end within command_timeout",
            Self::Exit(..) | Self::Signal(..) => "the helper program failed",
            Self::Silent(_) | Self::TooMuch(_) => "the helper program printed no usable token",
        }
    }
}

/// Of a token in a file. What is still to be written comes by itself.
const fn class_of_file(error: &SecretError) -> Class {
    match error {
        SecretError::Missing(_)
        | SecretError::Empty(_)
        | SecretError::NotUtf8(_)
        | SecretError::Lacking(..) => Class::Transient,
        _ => Class::Misconfigured,
    }
}

/// The end of what a helper program said on its standard error: short, printable, without anything like a token.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Said(String);

impl Said {
    /// The last words of `stderr`. Whatever the program wrote to `stdout` is masked, and so is what looks like a token:
    /// programs that trace what they do write both.
    pub(crate) fn new(stderr: &[u8], stdout: &[u8]) -> Self {
        let text = String::from_utf8_lossy(stderr);
        let printed = String::from_utf8_lossy(stdout);
        let secrets: Vec<&str> =
            printed.split(|letter| !is_token_letter(letter)).filter(|word| word.len() >= SHORTEST).collect();
        let mut said = String::new();
        let mut word = String::new();
        // The end mark closes the last word.
        for letter in text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).chain([' ']) {
            if is_token_letter(letter) {
                word.push(letter);
                continue;
            }
            said.push_str(if is_secret(&word, &secrets) { "***" } else { &word });
            word.clear();
            if letter != ' ' || !said.ends_with(' ') {
                said.push(letter);
            }
        }
        let said = said.trim();
        let skip = said.chars().count().saturating_sub(LONGEST);
        Self(said.chars().skip(skip).collect())
    }
}

/// Whether `word` is, holds or is a part of what must not be repeated, or looks like it.
fn is_secret(word: &str, secrets: &[&str]) -> bool {
    let known = |secret: &&str| word.contains(*secret) || (word.len() >= SHORTEST && secret.contains(word));
    let random = word.len() >= RANDOM
        && word.bytes().any(|b| b.is_ascii_digit())
        && word.bytes().any(|b| b.is_ascii_alphabetic());
    word.contains("eyJ") || random || secrets.iter().any(known)
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; it said: {}", self.0) }
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Where a token is, if not at an authorization server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenHolder {
    #[error("what the helper program printed")]
    Command,
    #[error("the token in the file")]
    File,
    #[error("the configured token")]
    Configuration,
}

impl TokenHolder {
    /// What holds the token, in a sentence.
    const fn name(self) -> &'static str {
        match self {
            Self::Command => "the helper program",
            Self::File => "the file",
            Self::Configuration => "the configuration",
        }
    }

    const fn verb(self) -> &'static str {
        match self {
            Self::Command => "prints",
            Self::File | Self::Configuration => "holds",
        }
    }

    /// What to do about a token that the API refuses.
    const fn replacement(self) -> &'static str {
        match self {
            Self::Command => {
                "see whether the program keeps an old token, and whether audience, issuer and scope are those that the API expects"
            }
            Self::File => {
                "see why nothing writes another one, and whether audience, issuer and scope are those that the API expects"
            }
            Self::Configuration => "put a token in its place that the API accepts",
        }
    }

    /// What brings another one.
    const fn renewal(self) -> &'static str {
        match self {
            Self::Command => "compare the clocks, and see whether the program keeps an old one",
            Self::File => "what writes it has not written another",
            Self::Configuration => "put a new one in its place",
        }
    }

    const fn unusable(self) -> &'static str {
        match self {
            Self::Command => "what the helper program printed is not a usable token",
            Self::File => "the token file holds no usable token",
            Self::Configuration => "the configured token is not usable",
        }
    }

    const fn spent(self) -> &'static str {
        match self {
            Self::Command => "the token that the helper program printed has expired",
            Self::File => "the token in the token file has expired",
            Self::Configuration => "the configured token has expired",
        }
    }

    const fn still_refused(self) -> &'static str {
        match self {
            Self::Command => "the helper program still prints the token that the API refuses",
            Self::File => "the token file still holds the token that the API refuses",
            Self::Configuration => "the configuration still holds the token that the API refuses",
        }
    }
}

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TextFlaw {
    #[error("is empty")]
    Empty,
    #[error("is no token: it is not one word of visible ASCII")]
    NotAWord,
    #[error("has a quotation mark at one end, or several; the token alone belongs there")]
    Quoted,
    #[error("begins like JSON and is none; it may be half-written")]
    NotJson,
    #[error("is JSON without an `access_token` that is a word of visible ASCII")]
    NoAccessToken,
    #[error("is an error of an authorization server, not a token")]
    Denied,
    #[error("is not of the type Bearer, the only one that can be attached")]
    TokenType,
    #[error("says when it expires in a way that is not understood")]
    Expiry,
}

/// Characters that are repeated of what a program said.
const LONGEST: usize = 300;

/// A shorter word on standard output is no secret: masking it would mask half a sentence.
const SHORTEST: usize = 6;

/// A word this long of letters and digits is taken for a token.
const RANDOM: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn said(stderr: &str, stdout: &str) -> String {
        Said::new(stderr.as_bytes(), stdout.as_bytes()).to_string()
    }

    #[test]
    fn what_a_program_said_is_short_and_printable() {
        assert_eq!(said("", "x"), "");
        assert_eq!(said("first\nnot  logged\tin\x1b[0m\r\n", ""), "; it said: first not logged in [0m");
        let long = said(&format!("{} end", "word ".repeat(200)), "");
        assert!(long.ends_with("word end") && long.len() <= LONGEST + 12, "{long}");
        let _ = Said::new(&[0xff, 0, 0xfe, b'a'], &[0xff]);
    }

    #[test]
    fn what_a_program_said_holds_nothing_that_it_printed_or_that_looks_like_a_token() {
        for (stderr, stdout) in [
            ("got sentinel-123 for you", "sentinel-123\n"),
            ("token=sentinel-123", "sentinel-123"),
            ("the end is nel-123", "sentinel-123"),
            ("body {\"access_token\":\"sentinel-123\"}", r#"{"access_token":"sentinel-123"}"#),
            ("Bearer eyJhbGciOiJub25lIn0.sentinel.x", ""),
            ("refresh 0123456789abcdefnel-sentinel0123456789abcdef", ""),
            ("sentinel-\n123", "sentinel-123"),
        ] {
            let said = said(stderr, stdout);
            assert!(!said.contains("nel"), "{said}");
        }
        let kept = said("cannot open /home/me/.config/helper/credentials.json: No such file", "");
        assert!(kept.contains("/home/me/.config/helper/credentials.json"), "{kept}");
    }
}
