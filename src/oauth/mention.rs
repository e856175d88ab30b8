//! What a server's words of a failure speak of, as far as a program can tell: a closed set of subjects.
//!
//! The words themselves are for people. These decide which sentence and which advice fits, where status and code leave it
//! open.

use super::kind::Code;

/// A subject that a description may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Mention {
    Scope = 1,
    Audience = 1 << 1,
    Resource = 1 << 2,
    /// The client, its secret or its assertion.
    Client = 1 << 3,
    /// The identifier of a key.
    KeyId = 1 << 4,
    Dpop = 1 << 5,
    /// A request that is pushed ahead.
    Pushed = 1 << 6,
    /// That https is demanded.
    Https = 1 << 7,
    /// A redirect URI.
    RedirectUri = 1 << 8,
    /// That a refresh token or a session is no longer good.
    Ended = 1 << 9,
    /// That a token of some kind is not good.
    Token = 1 << 14,
    /// A user who is disabled, locked or gone.
    User = 1 << 10,
    /// A refresh token that was used before.
    Reuse = 1 << 11,
    /// Consent that is missing or was withdrawn.
    Consent = 1 << 12,
    /// A time that is over.
    Expired = 1 << 13,
}

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mentions(u16);

impl Mentions {
    pub(super) fn of(word: Option<&str>, text: Option<&str>) -> Self {
        let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-', '\''], " ");
        // RFC 6749 section 5.2 defines `invalid_grant` so, and servers repeat it whatever the reason.
        let text = plain(text.unwrap_or_default()).replace("invalid, expired, revoked", "invalid");
        // A registered code says what it says, and "invalid" in it is not of a token.
        let word = plain(word.filter(|word| Code::registered(word).is_none()).unwrap_or_default());
        let all = format!("{word} {text}");
        let has = |words: &[&str]| words.iter().any(|word| all.contains(word));
        let over = |text: &str| OVER.iter().any(|word| text.contains(word));
        let of_login =
            |text: &str| ["refresh", "session"].iter().any(|word| text.contains(word)) && over(text);
        let mut set = Self::default();
        for (mention, holds) in [
            (Mention::Scope, has(&["scope"])),
            (Mention::Audience, has(&["audience"])),
            (Mention::Resource, has(&["resource"]) && !has(&["resource owner"])),
            (
                Mention::Client,
                has(&["client id", "client secret", "client assertion", "client auth", "client cred"]),
            ),
            (Mention::KeyId, has(&["kid", "key id", "public key", "jwk", "signature"])),
            (Mention::Dpop, has(&["dpop"])),
            (
                Mention::Pushed,
                has(&["pushed authorization", "pushed request", "request uri", "par required"]),
            ),
            (
                Mention::Https,
                has(&["https required", "https is required", "requires https", "must use https"]),
            ),
            (Mention::RedirectUri, has(&["redirect uri", "redirecturi", "redirect url"])),
            (Mention::Ended, of_login(&text) || of_login(&word) || (of_token(&word) && over(&word))),
            (Mention::Token, of_token(&all) && over(&all)),
            (
                Mention::User,
                has(&["user", "account", "owner"])
                    && has(&[
                        "disabled",
                        "locked",
                        "blocked",
                        "suspended",
                        "deleted",
                        "inactive",
                        "not found",
                        "unknown",
                    ])
                    && !has(&["resource owner credentials"]),
            ),
            (
                Mention::Reuse,
                has(&[
                    "stale token",
                    "reuse",
                    "already used",
                    "already been used",
                    "replay",
                    "used before",
                    "has been used",
                ]),
            ),
            (Mention::Consent, has(&["consent"])),
            (Mention::Expired, has(&["expired", "token is not active", "idle", "too old"])),
        ] {
            if holds {
                set.0 |= mention as u16;
            }
        }
        set
    }

    pub(super) const fn has(self, mention: Mention) -> bool {
        self.0 & mention as u16 != 0
    }
}

/// A token or a grant that is not the client's own, nor a type or a place of one.
fn of_token(text: &str) -> bool {
    let other =
        ["client", "subject token", "token type", "token endpoint", "grant type", "missing", "parameter"];
    ["token", "grant"].iter().any(|word| text.contains(word)) && !other.iter().any(|word| text.contains(word))
}

/// What is said of something that was good once.
const OVER: [&str; 18] = [
    "invalid",
    "expired",
    "revoked",
    "bad ",
    "not active",
    "inactive",
    "not found",
    "unknown",
    "does not exist",
    "stale",
    "used",
    "reuse",
    "not valid",
    "no longer",
    "ended",
    "malformed",
    "was bad",
    "unusable",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_real_servers_are_read_for_what_they_speak_of() {
        let of = |text: &str| Mentions::of(None, Some(text));
        for (text, mention) in [
            // Keycloak.
            ("Stale token", Mention::Reuse),
            ("Maximum allowed refresh token reuse exceeded", Mention::Reuse),
            ("Session not active", Mention::Ended),
            ("Token is not active", Mention::Expired),
            ("Invalid refresh token", Mention::Ended),
            ("User disabled", Mention::User),
            ("Client no longer has requested consent from user", Mention::Consent),
            ("DPoP proof is not active", Mention::Dpop),
            ("Pushed Authorization Request is only allowed.", Mention::Pushed),
            ("HTTPS required", Mention::Https),
            ("Requested audience not available: x", Mention::Audience),
            // Hydra.
            ("The refresh token was already used.", Mention::Reuse),
            ("The JSON Web Token uses signing key with kid 'x', which could not be found.", Mention::KeyId),
            // Salesforce.
            ("scope parameter not supported", Mention::Scope),
            ("expired access/refresh token", Mention::Ended),
            // Atlassian, Okta.
            ("refresh_token is invalid", Mention::Ended),
            ("The DPoP proof JWT header is missing.", Mention::Dpop),
        ] {
            assert!(of(text).has(mention), "{text}: {mention:?}");
        }
        for (text, mention) in [
            ("Invalid client or Invalid client credentials", Mention::Ended),
            ("Client authentication failed", Mention::Ended),
            ("Missing parameter: username", Mention::User),
            ("Missing form parameter: grant_type", Mention::Ended),
        ] {
            assert!(!of(text).has(mention), "{text}: {mention:?}");
        }
        assert!(Mentions::of(Some("session_expired"), None).has(Mention::Ended));
        assert!(Mentions::of(Some("invalid_token"), None).has(Mention::Ended));
    }
}
