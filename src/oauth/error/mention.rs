//! What a server's words of a failure speak of, as far as a program can tell: a closed set of subjects.
//!
//! The words themselves are for people. These decide which sentence and which advice fits, where status and code leave it
//! open.

use crate::oauth::error::kind::Code;

/// A subject that a description may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(in crate::oauth) enum Mention {
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
    /// Too many requests.
    Rate = 1 << 15,
    /// A login that a person has yet to finish.
    Pending = 1 << 16,
    /// A device code that is no longer good.
    DeviceCode = 1 << 17,
    /// A failure that passes by itself.
    Passing = 1 << 18,
    /// A person's password that was read and refused, or a person's account that is blocked.
    Person = 1 << 19,
}

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::oauth) struct Mentions(u32);

impl Mentions {
    pub(in crate::oauth) fn of(word: Option<&str>, text: Option<&str>) -> Self {
        let plain = |text: &str| text.to_ascii_lowercase().replace(['_', '-', '\''], " ");
        // RFC 6749 section 5.2 defines `invalid_grant` so, and servers repeat it whatever the reason.
        let text = plain(text.unwrap_or_default()).replace("invalid, expired, revoked", "invalid");
        // A registered code says what it says, and "invalid" in it is not of a token.
        let word = plain(word.filter(|word| Code::registered(word).is_none()).unwrap_or_default());
        let all = format!("{word} {text}");
        let has = |words: &[&str]| words.iter().any(|word| all.contains(word));
        let over = |text: &str| {
            OVER.iter().any(|word| text.contains(word)) && !NOT_ALLOWED.iter().any(|word| text.contains(word))
        };
        let is_reused = has(&[
            "stale token",
            "reuse",
            "already used",
            "already been used",
            "replay",
            "used before",
            "has been used",
        ]);
        let of_login = |text: &str| {
            ["refresh", "session"].iter().any(|word| text.contains(word)) && (over(text) || is_reused)
        };
        let mut set = Self::default();
        for (mention, holds) in [
            (Mention::Scope, has(&["scope"])),
            (Mention::Audience, has(&["audience"])),
            (Mention::Resource, has(&["resource"]) && !has(&["resource owner"])),
            (
                Mention::Client,
                word.contains("client")
                    || has(&["client id", "client secret", "client assertion", "client auth", "client cred"])
                    || has(&[
                        "app id",
                        "appid",
                        "app secret",
                        "appsecret",
                        "app key",
                        "appkey",
                        "client key",
                    ]),
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
            (Mention::Ended, of_login(&text) || of_login(&word) || of_token(&word) && over(&word)),
            (Mention::Token, of_token(&all) && (over(&all) || is_reused)),
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
            (Mention::Reuse, is_reused),
            (Mention::Consent, has(&["consent"])),
            (Mention::Expired, has(&["expired", "token is not active", "idle", "too old"])),
            (Mention::Rate, has(&RATE)),
            (Mention::Pending, has(&PENDING)),
            (Mention::DeviceCode, has(&["device code"]) && over(&all)),
            (Mention::Passing, has(&PASSING)),
            (Mention::Person, is_of_person(&all)),
        ] {
            if holds {
                set.0 |= mention as u32;
            }
        }
        set
    }

    /// Of several texts, each for itself: what stands in one is not said of what stands in another.
    pub(in crate::oauth) fn of_all(word: Option<&str>, texts: &[String]) -> Self {
        let each = texts.iter().map(|text| Self::of(word, Some(text)).0);
        Self(each.fold(Self::of(word, None).0, |all, one| all | one))
    }

    pub(in crate::oauth) const fn has(self, mention: Mention) -> bool {
        self.0 & mention as u32 != 0
    }
}

/// A person who was refused: of the client's own secrets, or of a server's database, no person is spoken of.
fn is_of_person(text: &str) -> bool {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let is_blocked = has(&["account", "user"]) && has(&BLOCKED);
    (is_blocked || has(&WRONG_PASSWORD)) && !has(&["client", "database", "user agent"])
}

/// A token or a grant that is not the client's own, nor a type or a place of one.
fn of_token(text: &str) -> bool {
    let other =
        ["client", "subject token", "token type", "token endpoint", "grant type", "missing", "parameter"];
    ["token", "grant"].iter().any(|word| text.contains(word)) && !other.iter().any(|word| text.contains(word))
}

/// What is said of something that was good once.
const OVER: [&str; 17] = [
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
    "incorrect",
    "not valid",
    "no longer",
    "ended",
    "malformed",
    "was bad",
    "unusable",
];

/// What is said of a person's account that takes no password.
const BLOCKED: [&str; 6] = ["blocked", "locked", "disabled", "suspended", "deactivated", "banned"];

/// What is said of a password that was read.
const WRONG_PASSWORD: [&str; 28] = [
    "bad credential",
    "invalid credential",
    "incorrect credential",
    "wrong credential",
    "invalid user credential",
    "credentials were incorrect",
    "credentials are incorrect",
    "credentials are invalid",
    "credentials are wrong",
    "credentials were invalid",
    "credentials do not match",
    "invalid password",
    "incorrect password",
    "wrong password",
    "bad password",
    "password is incorrect",
    "password is invalid",
    "password is wrong",
    "password is not correct",
    "password incorrect",
    "password invalid",
    "password does not match",
    "password mismatch",
    "invalid username",
    "invalid user name",
    "wrong username",
    "incorrect username",
    "invalid login",
];

/// What is said of too many requests.
const RATE: [&str; 15] = [
    "too many request",
    "too many attempt",
    "too many token",
    "rate limit",
    "ratelimit",
    "rate exceeded",
    "throttl",
    "quota",
    "limit exceeded",
    "request limit",
    "slow down",
    "frequen",
    "freq out",
    "out of limit",
    "频",
];

/// What is said of a login that a person has yet to finish.
const PENDING: [&str; 11] = [
    "authorization pending",
    "authorization is pending",
    "authorisation pending",
    "still pending",
    "not yet authorized",
    "not been authorized yet",
    "has not yet",
    "not yet approved",
    "not yet completed",
    "waiting for the user",
    "waiting for user",
];

/// What is said of a failure that passes by itself.
const PASSING: [&str; 23] = [
    "system error",
    "system busy",
    "system is busy",
    "server error",
    "server busy",
    "server is busy",
    "service busy",
    "service is busy",
    "internal error",
    "unknown error",
    "unexpected error",
    "fatal error",
    "unavailable",
    "temporar",
    "timeout",
    "timed out",
    "time out",
    "try again later",
    "retry later",
    "retry your request",
    "maintenance",
    "overload",
    "繁忙",
];

/// What is said of a client that may not use what it sends, and of a request that lacks it.
const NOT_ALLOWED: [&str; 12] = [
    "not allowed",
    "not permitted",
    "not supported",
    "unsupported",
    "not enabled",
    "not authorized to use",
    "may not",
    "invalid client",
    "unknown client",
    "is missing",
    "missing parameter",
    "is required",
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
            ("missing or invalid refresh token", Mention::Ended),
            ("The refresh token passed is incorrect or expired.", Mention::Ended),
            ("Value passed for the token was bad.", Mention::Token),
            ("The grant has been used before", Mention::Token),
            // Auth0, Spring, Laravel, Keycloak, Django.
            ("Your account has been blocked after multiple consecutive login attempts.", Mention::Person),
            ("Bad credentials", Mention::Person),
            ("The user credentials were incorrect.", Mention::Person),
            ("Invalid user credentials", Mention::Person),
            ("Invalid username or password", Mention::Person),
            ("User account is locked", Mention::Person),
            // Zoho, Auth0, AWS.
            ("You have made too many requests continuously.", Mention::Rate),
            ("Global limit has been reached: Rate Limit Exceeded", Mention::Rate),
            ("Authorization is pending. Keep polling.", Mention::Pending),
            ("invalid device code", Mention::DeviceCode),
            // WeChat, DingTalk, Feishu, Salesforce, Slack.
            ("invalid appsecret, rid: 6123", Mention::Client),
            ("app secret invalid", Mention::Client),
            ("invalid appid", Mention::Client),
            ("system error", Mention::Passing),
            ("系统繁忙", Mention::Passing),
            ("api freq out of limit", Mention::Rate),
            ("request trigger frequency limit", Mention::Rate),
            ("操作过于频繁", Mention::Rate),
            ("retry your request", Mention::Passing),
            ("Temporarily unavailable", Mention::Passing),
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
            ("The grant refresh_token may not be used by an invalid client", Mention::Ended),
            ("refresh_token is required", Mention::Ended),
            ("Client not allowed to use the refresh token grant", Mention::Token),
            ("unknown client for this refresh token", Mention::Ended),
            ("the device code has to be polled", Mention::DeviceCode),
            ("Invalid client or Invalid client credentials", Mention::Person),
            ("cannot load the user: database is locked", Mention::Person),
            ("Too many requests", Mention::Person),
            ("user service unavailable", Mention::Person),
        ] {
            assert!(!of(text).has(mention), "{text}: {mention:?}");
        }
        assert!(Mentions::of(Some("service_unavailable"), None).has(Mention::Passing));
        assert!(Mentions::of(Some("session_expired"), None).has(Mention::Ended));
        assert!(Mentions::of(Some("invalid_token"), None).has(Mention::Ended));
    }
}
