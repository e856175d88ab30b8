//! Why a login has ended.

use crate::oauth::error::kind::Code;
use crate::oauth::error::mention::{Mention, Mentions};

/// Why a login has ended, as far as the server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoginEnd {
    /// A refresh token that was used before came a second time.
    Reused,
    /// The user is disabled, locked or gone.
    User,
    /// Consent was withdrawn.
    Consent,
    /// Its time is over.
    Expired,
    /// The server wants to ask the person something.
    Interaction,
    /// Nothing says why.
    Unknown,
}

impl LoginEnd {
    pub(in crate::oauth) fn of(code: Option<Code>, mentions: Mentions) -> Self {
        match code {
            Some(Code::ConsentRequired) => return Self::Consent,
            Some(Code::InteractionRequired | Code::AccountSelectionRequired | Code::LoginRequired) => {
                return Self::Interaction;
            }
            _ => {}
        }
        let reasons = [
            (Mention::Reuse, Self::Reused),
            (Mention::User, Self::User),
            (Mention::Consent, Self::Consent),
            (Mention::Expired, Self::Expired),
        ];
        reasons.into_iter().find(|(mention, _)| mentions.has(*mention)).map_or(Self::Unknown, |(_, end)| end)
    }

    /// After "the login has ended".
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Reused => {
                "the refresh token had been used before, by a copy of this configuration, by a refresh that was cut off, or by a thief"
            }
            Self::User => "the user is disabled, locked or deleted at the authorization server",
            Self::Consent => "the consent to this client was withdrawn",
            Self::Expired => "its time is over, or it was idle for too long",
            Self::Interaction => {
                "the authorization server wants to ask the person something (a password, a second factor)"
            }
            Self::Unknown => "the authorization server no longer accepts the refresh token",
        }
    }

    /// What to do about it.
    pub(crate) const fn help(self) -> &'static str {
        match self {
            Self::Reused => {
                "see that nothing else uses this login, then log in again, or put a new refresh token in its place"
            }
            Self::User => {
                "have the user enabled there first, or log in as another one: until then no login succeeds"
            }
            _ => "log in again, or put a new refresh token in its place",
        }
    }

    /// The same for an application: a closed set, without advice.
    pub(in crate::oauth) const fn public_reason(self) -> &'static str {
        match self {
            Self::Reused => {
                "the authorization server no longer accepts the refresh token, which had been used before"
            }
            Self::User => "the authorization server has disabled, locked or deleted the user of this login",
            Self::Consent => "the authorization server says that the consent to this client was withdrawn",
            Self::Expired => "the authorization server says that the time of this login is over",
            Self::Interaction => "the authorization server wants to ask the user of this login something",
            Self::Unknown => "the authorization server no longer accepts the refresh token of this login",
        }
    }
}
