//! What is missing or wrong where a token needs a person.

use crate::oauth::{Class, Interruption};

use super::frame_fault::FrameFault;

/// Why a person, or a person's browser, is needed before there is a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoginFault {
    /// A person ended the login.
    #[error(
        "it was logged out; a new login, or `cupbearer renew` where the grant needs none, brings it back"
    )]
    LoggedOut,
    /// There is no refresh token to spend.
    #[error("no user is logged in: there is no refresh token; log in, or put one in its place")]
    Required,
    /// Nothing can renew the access token of the login.
    #[error(
        "the login has ended: nothing renews its access token, since the authorization server gave no refresh token; log in again"
    )]
    Unrenewable,
    /// The successor of the refresh token was lost, and the server does not take the old one any more.
    #[error(
        "{0}, and the refresh token is not accepted any more: a server without a grace period ends the login then; \
         log in, or put a new refresh token in its place"
    )]
    Interrupted(Interruption),
    /// A renewal in the browser found another user.
    #[error(
        "the browser is logged in at the authorization server as another user, {0}; log in again as the one whose token it is to be"
    )]
    OtherUser(String),
    /// No dashboard is open that could renew it.
    #[error(
        "it waits for an open dashboard to renew it in; open the control address in the browser that logged in"
    )]
    BrowserAbsent,
    /// The dashboard's hidden frame brought none.
    #[error(transparent)]
    Frame(FrameFault),
}

impl LoginFault {
    pub(super) const fn class(&self) -> Class {
        match self {
            Self::BrowserAbsent => Class::Transient,
            Self::Frame(fault) => fault.class(),
            Self::LoggedOut
            | Self::Required
            | Self::Unrenewable
            | Self::Interrupted(_)
            | Self::OtherUser(_) => Class::Refused,
        }
    }

    pub(super) const fn cause(&self) -> &'static str {
        match self {
            Self::LoggedOut => "logged_out",
            Self::Required | Self::Unrenewable | Self::Interrupted(_) => "login_required",
            Self::OtherUser(_) => "other_user",
            Self::BrowserAbsent => "browser_absent",
            Self::Frame(fault) => fault.cause(),
        }
    }

    pub(super) const fn public_reason(&self) -> &'static str {
        match self {
            Self::LoggedOut => "it was logged out",
            Self::Required => "no user is logged in",
            Self::Unrenewable => "nothing renews the access token of this login",
            Self::Interrupted(how) => how.public_reason(),
            Self::OtherUser(_) => "another user is logged in at the authorization server in that browser",
            Self::BrowserAbsent => "no dashboard is open in the browser that renews it",
            Self::Frame(fault) => fault.public_reason(),
        }
    }

    /// Whether nothing is left to spend.
    pub(super) const fn wants_login(&self) -> bool {
        matches!(self, Self::Required | Self::Unrenewable | Self::Interrupted(_))
    }

    /// Whether a token request found it out.
    pub(super) const fn is_counted(&self) -> bool {
        matches!(self, Self::Frame(_) | Self::OtherUser(_))
    }
}
