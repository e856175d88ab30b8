//! Why there is no token, or why it was not given back: what the authorization server or the way to it brought on, and
//! what this room finds out by itself.
//!
//! Each error says whose fault it is ([`Error::class`]), whether a token request was sent, and what an application may
//! know of it ([`Error::public_reason`]). It decides nothing about time; `schedule` does.

use std::borrow::Cow;
use std::time::Duration;

use crate::oauth::{self, Class, ErrorCode, Interruption};
use crate::secret::SecretError;

mod attempt_fault;
mod frame_fault;
mod login_fault;
mod source_fault;
mod storage_fault;
mod subject_token_fault;
#[cfg(test)]
mod tests;

pub(crate) use attempt_fault::AttemptFault;
pub(crate) use frame_fault::FrameFault;
pub(crate) use login_fault::LoginFault;
pub(crate) use source_fault::{CommandFault, Said, SourceFault, TextFlaw, TokenHolder};
pub(crate) use storage_fault::StorageFault;
pub(crate) use subject_token_fault::SubjectTokenFault;

/// An attempt or a logout that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A request to the authorization server failed, or could not be made.
    #[error(transparent)]
    OAuth(#[from] oauth::Error),
    /// A program, a file or the configuration has no usable token.
    #[error(transparent)]
    Source(#[from] SourceFault),
    /// The token store stands in the way.
    #[error(transparent)]
    Store(#[from] StorageFault),
    /// A person is needed.
    #[error(transparent)]
    Login(#[from] LoginFault),
    /// There is nothing to exchange.
    #[error(transparent)]
    Subject(#[from] SubjectTokenFault),
    /// The attempt itself failed.
    #[error(transparent)]
    Attempt(#[from] AttemptFault),
}

impl Error {
    /// Whose fault it is.
    #[must_use]
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::OAuth(error) => error.class(),
            Self::Source(fault) => fault.class(),
            Self::Store(_) => Class::Transient,
            Self::Login(fault) => fault.class(),
            Self::Subject(fault) => fault.class(),
            Self::Attempt(fault) => fault.class(),
        }
    }

    /// One word out of a closed set, for logs and metrics.
    #[must_use]
    pub(crate) const fn cause(&self) -> &'static str {
        match self {
            Self::OAuth(error) => error.cause(),
            Self::Source(fault) => fault.cause(),
            Self::Store(fault) => fault.cause(),
            Self::Login(fault) => fault.cause(),
            Self::Subject(fault) => fault.cause(),
            Self::Attempt(fault) => fault.cause(),
        }
    }

    /// Why, as an application may know it: a sentence out of a closed set that names the party at fault. Printable ASCII
    /// without a percent sign, as `grpc-message` needs it.
    #[must_use]
    pub(crate) fn public_reason(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::OAuth(error) => return error.public_reason(),
            Self::Source(fault) => fault.public_reason(),
            Self::Store(fault) => fault.public_reason(),
            Self::Login(fault) => fault.public_reason(),
            Self::Subject(fault) => fault.public_reason(),
            Self::Attempt(fault) => fault.public_reason(),
        })
    }

    /// Whether it counts as a request for a token: see [`oauth::Error::is_counted`].
    pub(crate) const fn is_counted(&self) -> bool {
        match self {
            Self::OAuth(error) => error.is_counted(),
            Self::Source(fault) => fault.is_counted(),
            Self::Login(fault) => fault.is_counted(),
            Self::Store(_) | Self::Subject(_) => false,
            Self::Attempt(_) => true,
        }
    }

    /// How the response was lost, where the server may have spent what was sent.
    pub(crate) const fn may_have_spent(&self) -> Option<Interruption> {
        match self {
            Self::OAuth(error) => error.may_have_spent(),
            Self::Attempt(AttemptFault::Stalled | AttemptFault::Panicked) => Some(Interruption::Lost),
            _ => None,
        }
    }

    /// Whether what was to be spent never left this machine.
    pub(crate) const fn was_not_sent(&self) -> bool {
        match self {
            Self::OAuth(error) => error.was_not_sent(),
            _ => self.may_have_spent().is_none(),
        }
    }

    /// Whether the refresh token is worth nothing any more (RFC 6749 section 5.2), or there is none.
    pub(crate) fn is_invalid_grant(&self) -> bool {
        self.oauth().map_or(self.wants_login(), oauth::Error::is_invalid_grant)
    }

    /// Whether nothing is left to spend: the session of a browser may still have some.
    pub(crate) const fn wants_login(&self) -> bool {
        match self {
            Self::OAuth(error) => error.wants_login(),
            Self::Login(fault) => fault.wants_login(),
            _ => false,
        }
    }

    /// Whether it is what was exchanged that is not good: the next caller's may be (RFC 8693 section 2.2.2).
    #[must_use]
    pub(crate) fn refuses_subject(&self) -> bool {
        matches!(self, Self::Subject(SubjectTokenFault::Expired))
            || self.oauth().is_some_and(oauth::Error::refuses_subject)
    }

    /// Whether the token store keeps a source from requesting.
    pub(crate) const fn is_of_the_store(&self) -> bool {
        matches!(self, Self::Store(StorageFault::Unusable | StorageFault::Busy))
    }

    /// Whether a token that was to be forgotten is still in the store.
    #[must_use]
    pub(crate) const fn is_still_stored(&self) -> bool {
        matches!(self, Self::Store(StorageFault::StillStored(_)))
    }

    /// Whether it is no failure, but what someone asked for.
    #[must_use]
    pub(crate) const fn is_logged_out(&self) -> bool {
        matches!(self, Self::Login(LoginFault::LoggedOut))
    }

    /// Of a refusal by the server, where it is one: see the methods of [`oauth::Error`].
    pub(crate) const fn oauth(&self) -> Option<&oauth::Error> {
        match self {
            Self::OAuth(error) => Some(error),
            _ => None,
        }
    }

    /// The same, where the refresh token's successor was lost before.
    pub(super) fn interrupted(self, interrupted: Option<Interruption>) -> Self {
        match self {
            Self::OAuth(error) => Self::OAuth(error.interrupted(interrupted)),
            other => other,
        }
    }

    /// The error code that the server answered with, where it is a registered one.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        self.oauth()?.code()
    }

    /// Whether a person's password may be what is refused: see [`oauth::Error::refuses_person`].
    pub(super) fn refuses_person(&self) -> bool {
        self.oauth().is_some_and(oauth::Error::refuses_person)
    }

    /// Whether a person's password is no longer sent.
    pub(super) fn is_withheld(&self) -> bool {
        self.oauth().is_some_and(oauth::Error::is_withheld)
    }

    /// Whether it is a network that was missing.
    pub(super) fn lacks_network(&self) -> bool {
        self.oauth().is_some_and(oauth::Error::lacks_network)
    }

    /// Whether it is the scope that is refused.
    pub(super) fn refuses_scope(&self) -> bool {
        self.oauth().is_some_and(oauth::Error::refuses_scope)
    }

    /// Whether the server takes back no tokens of this kind (RFC 7009 section 2.2.1).
    pub(super) fn is_unsupported_token_type(&self) -> bool {
        self.oauth().is_some_and(oauth::Error::is_unsupported_token_type)
    }

    /// Whether a refusal says nothing that can be read: neither a code nor whose fault it is.
    pub(crate) fn is_unexplained(&self) -> bool {
        self.oauth().is_some_and(oauth::Error::is_unexplained)
    }

    /// How long the server asks to be left alone for: see [`oauth::Error::retry_after`].
    #[must_use]
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.oauth()?.retry_after()
    }

    /// The same; `unreadable` where it asks for a pause in words that cannot be read.
    #[must_use]
    pub(super) fn pause(&self, unreadable: Duration) -> Option<Duration> {
        self.oauth()?.pause(unreadable)
    }

    /// What the server says of it in its own words, for people at a terminal, in `status` and in the log alone.
    #[must_use]
    pub(crate) fn description(&self) -> Option<&str> {
        self.oauth()?.description()
    }

    /// The error with what the server says of it: for a person at a terminal.
    #[must_use]
    pub(crate) fn in_full(&self) -> String {
        self.oauth().map_or_else(|| self.to_string(), oauth::Error::in_full)
    }

    /// Where it happened and what, without what to do about it where [`Self::help`] says that.
    #[must_use]
    pub(crate) fn happened(&self) -> String {
        self.oauth().map_or_else(|| self.to_string(), oauth::Error::happened)
    }

    /// What to do about a refusal, or about the HTTP proxy on the way: see [`oauth::Error::help`].
    #[must_use]
    pub(crate) fn help(&self) -> Option<String> {
        self.oauth()?.help()
    }

    /// What to do about the HTTP proxy on the way, where it is at fault.
    #[must_use]
    pub(crate) fn proxy_help(&self) -> Option<&'static str> {
        self.oauth()?.proxy_help()
    }
}

impl From<SecretError> for Error {
    fn from(error: SecretError) -> Self {
        Self::OAuth(error.into())
    }
}

#[cfg(test)]
impl Error {
    /// The same, where the server asks to be left alone for that long.
    pub(crate) fn after(self, hold: Option<impl Into<crate::net::retry_after::RetryAfter>>) -> Self {
        match self {
            Self::OAuth(error) => Self::OAuth(error.after(hold)),
            other => other,
        }
    }
}

#[cfg(test)]
mod of_the_protocol {
    use super::Error;
    use crate::oauth::{self, ErrorKind, RequestFault, ResponseFault, TransportFault};

    macro_rules! here {
        ($($kind:ty)*) => {
            $(impl From<$kind> for Error {
                fn from(kind: $kind) -> Self {
                    oauth::Error::here(kind).into()
                }
            })*
        };
    }

    here!(ErrorKind RequestFault ResponseFault TransportFault);
}
