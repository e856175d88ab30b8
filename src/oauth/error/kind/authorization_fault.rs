//! What can go wrong with a login between the authorization endpoint and the end of its code.

use std::borrow::Cow;

use crate::oauth::error::class::Class;

use super::code::Code;
use super::found::FoundIssuer;

/// Why a login did not come about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthorizationFault {
    #[error("the authorization server sent the browser back with the error `{}`", .0.as_str())]
    Denied(Code),
    #[error("{0}; the code was not redeemed, so begin again")]
    Callback(CallbackFault),
    #[error(
        "the code was refused: it counts once and for a minute or so, for one client and one redirect URI; begin again"
    )]
    CodeRefused,
    #[error("the ID token {0}; the login was not kept")]
    IdToken(IdTokenFault),
}

impl AuthorizationFault {
    pub(in crate::oauth) const fn class(&self) -> Class {
        match self {
            Self::Denied(code) => code.class(),
            Self::Callback(_) | Self::CodeRefused => Class::Refused,
            Self::IdToken(_) => Class::Misconfigured,
        }
    }

    pub(in crate::oauth) const fn cause(&self) -> &'static str {
        match self {
            Self::Denied(code) => code.as_str(),
            Self::Callback(_) => "callback",
            Self::CodeRefused => "code_refused",
            Self::IdToken(_) => "id_token",
        }
    }

    pub(super) fn public_reason(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Denied(code) => {
                return format!("the authorization server did not complete the login ({})", code.as_str())
                    .into();
            }
            Self::Callback(_) => "the browser did not bring a usable authorization response",
            Self::CodeRefused => "the authorization server refused the code of the login",
            Self::IdToken(_) => "the ID token of the login is not acceptable",
        })
    }
}

/// What is wrong with what a browser brought back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallbackFault {
    #[error(
        "the answer that the browser brought does not say who gave it (`iss`), and this server promised to"
    )]
    NoIssuer,
    #[error(
        "the answer that the browser brought is another authorization server's: its `iss` is {found}, and the configured issuer is \"{configured}\""
    )]
    OtherIssuer { found: FoundIssuer, configured: String },
    #[error("the answer that the browser brought has no code")]
    NoCode,
}

/// Why an ID token is not taken (OpenID Connect Core 1.0 section 3.1.3.7).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdTokenFault {
    #[error("is missing although the scope has `openid`")]
    Missing,
    #[error("is no JWT")]
    Malformed,
    #[error("is of another issuer, {0}")]
    Issuer(FoundIssuer),
    #[error("is for another client")]
    Audience,
    #[error("is of another login: its nonce is not ours")]
    Nonce,
    #[error("had expired {0} s ago when it came; set this machine's clock right")]
    Expired(u64),
    #[error("comes from {0} s in the future; set this machine's clock right")]
    Future(u64),
}
