//! Why a token could not be had: whose fault it is, whether to try again, and what an operator is told.
//!
//! An [`Error`] holds no body, no header value, no query and no secret. Of what the server said it holds the status,
//! `Retry-After`, the error code, as a short word where it is not registered, and the description: cleaned, bounded, and
//! dropped where it repeats what was sent. The description is in no [`fmt::Display`] and no [`fmt::Debug`]: who shows it
//! to a person takes it by [`Error::description`]. Of an error, applications and metrics get closed sets alone. It decides
//! nothing about time; `token` does.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::StatusCode;

use crate::net::retry_after::RetryAfter;
use crate::secret::SecretError;

use crate::oauth::error::class::Class;
use crate::oauth::error::details::Details;
use crate::oauth::error::interruption::Interruption;
use crate::oauth::error::kind::{
    AuthorizationFault, Code, ErrorKind, RequestFault, ResponseFault, TransportFault, TransportPhase,
};
use crate::oauth::error::login_end::LoginEnd;
use crate::oauth::error::place::Place;
use crate::oauth::error::refusal::{Meaning, Sentence};

pub(in crate::oauth) mod class;
pub(in crate::oauth) mod details;
pub(in crate::oauth) mod interruption;
pub(in crate::oauth) mod kind;
pub(in crate::oauth) mod login_end;
pub(in crate::oauth) mod mention;
mod person;
pub(in crate::oauth) mod place;
mod reach;
pub(in crate::oauth) mod refusal;
pub(in crate::oauth) mod refused_refresh;
#[cfg(test)]
pub(crate) mod sentences;
pub(in crate::oauth) mod situation;

/// A token request that failed, or that was never sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Error {
    kind: ErrorKind,
    place: Option<Place>,
    retry_after: Option<RetryAfter>,
    /// What is known of the response and of what was asked, where there was one.
    details: Option<Box<Details>>,
}

impl Error {
    /// An error that has no place: it happened on this machine.
    pub(crate) fn here(kind: impl Into<ErrorKind>) -> Self {
        Self { kind: kind.into(), place: None, retry_after: None, details: None }
    }

    /// An error on the way to `place` or in its answer.
    pub(crate) fn at(place: Place, kind: impl Into<ErrorKind>) -> Self {
        Self { kind: kind.into(), place: Some(place), retry_after: None, details: None }
    }

    /// The same, where what was refused is the code of a login.
    pub(super) fn of_the_code(mut self) -> Self {
        self.kind = AuthorizationFault::CodeRefused.into();
        self
    }

    /// The same, with the time that the server asks to be left alone for.
    pub(crate) fn after(mut self, hold: Option<impl Into<RetryAfter>>) -> Self {
        self.retry_after = hold.map(Into::into);
        self
    }

    /// The same, with what the response and its circumstances say.
    pub(super) fn with(mut self, details: Details) -> Self {
        self.details = Some(Box::new(details));
        self
    }

    /// The same, where `other` came of another address that was tried.
    pub(super) fn beside(mut self, other: &Self) -> Self {
        if let (Some(details), Some(place)) = (&mut self.details, &other.place) {
            details.tried.push((place.clone(), other.fact()));
        }
        self
    }

    /// The same, where the refresh token's successor was lost before: without a grace period, a server ends the login then.
    pub(crate) fn interrupted(mut self, interrupted: Option<Interruption>) -> Self {
        if let Some(details) = &mut self.details {
            details.interrupted = interrupted;
        }
        self
    }

    fn interruption(&self) -> Option<Interruption> {
        self.details.as_ref()?.interrupted
    }

    /// What the server says of it in its own words, for people at a terminal, in `status` and in the log alone: plain
    /// text on one line, of at most some hundred characters, without anything that was sent to it.
    #[must_use]
    pub(crate) fn description(&self) -> Option<&str> {
        Some(self.details.as_ref()?.remark.as_ref()?.as_str())
    }

    /// The error with what the server says of it: for a person at a terminal.
    #[must_use]
    pub(crate) fn in_full(&self) -> String {
        match self.description() {
            Some(description) => format!("{self} (the server says: \"{description}\")"),
            None => self.to_string(),
        }
    }

    /// What status, code and circumstances mean; `None`: it is no refusal.
    fn meaning(&self) -> Option<Meaning> {
        let details = self.details.as_deref();
        match self.kind {
            ErrorKind::Status(status) => Some(Meaning::of(status, None, details)),
            ErrorKind::Denied(status, code) => Some(Meaning::of(status, Some(code), details)),
            ErrorKind::Authorization(AuthorizationFault::Denied(code)) => {
                details.map(|_| Meaning::of(StatusCode::BAD_REQUEST, Some(code), details))
            }
            ErrorKind::LoginDoubtful => details.map(|known| Meaning::of(known.status, known.code, details)),
            _ => None,
        }
    }

    /// Where it happened and what, without what to do about it where [`Self::help`] says that.
    #[must_use]
    pub(crate) fn happened(&self) -> String {
        let whole = self.to_string();
        match self.help() {
            Some(help) => whole.replace(&format!("; {help}"), ""),
            None => whole,
        }
    }

    /// What happened.
    fn fact(&self) -> String {
        match (self.sentence(), self.details.as_deref()) {
            (Some(sentence), _) => sentence.fact(),
            (None, Some(Details { token_type: Some(word), .. }))
                if self.kind == ErrorKind::Response(ResponseFault::TokenType) =>
            {
                format!("the token is of the type {word}, not Bearer")
            }
            (None, _) => self.kind.to_string(),
        }
    }

    /// How the server responded, where the rest of the sentence does not say that.
    fn opening(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.kind, &self.details) {
            (
                ErrorKind::Status(_)
                | ErrorKind::Denied(..)
                | ErrorKind::Authorization(AuthorizationFault::Denied(_))
                | ErrorKind::Response(ResponseFault::Redirect(_) | ResponseFault::RedirectTo(..))
                | ErrorKind::Withheld { .. },
                _,
            )
            | (_, None) => Ok(()),
            (ErrorKind::Response(ResponseFault::TokenType), Some(details))
                if details.token_type.is_some() =>
            {
                Ok(())
            }
            (_, Some(details)) => details.opening(f),
        }
    }

    /// What to do about a refusal, with the keys that this configuration has or lacks, or about the HTTP proxy on the way;
    /// `None`: what happened says so itself, or only waiting helps.
    #[must_use]
    pub(crate) fn help(&self) -> Option<String> {
        self.proxy_help().map(str::to_owned).or_else(|| self.refusal_help())
    }

    fn refusal_help(&self) -> Option<String> {
        let situation = self.details.as_ref().map(|details| &details.situation);
        if self.is_withheld() {
            return Some(situation?.withheld_help());
        }
        Some(self.meaning()?.help(situation)).filter(|help| !help.is_empty())
    }

    /// What to do about the HTTP proxy on the way, where it is at fault: the same as for an upstream.
    #[must_use]
    pub(crate) const fn proxy_help(&self) -> Option<&'static str> {
        match &self.kind {
            ErrorKind::Transport(TransportFault::Proxy(fault)) => Some(fault.help()),
            ErrorKind::Transport(TransportFault::Timeout(TransportPhase::Proxy(stage))) => Some(stage.help()),
            _ => None,
        }
    }

    fn sentence(&self) -> Option<Sentence<'_>> {
        let details = self.details.as_deref();
        match self.kind {
            ErrorKind::Status(status) => Some(Sentence { status, code: None, details }),
            ErrorKind::Denied(status, code) => Some(Sentence { status, code: Some(code), details }),
            _ => None,
        }
    }

    /// Where it happened; `None`: on this machine.
    pub(super) const fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    pub(super) const fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Whether the server has said that what was spent is worth nothing any more (RFC 6749 section 5.2). Of a refresh
    /// token that is [`ErrorKind::LoginEnded`] already.
    pub(crate) fn is_invalid_grant(&self) -> bool {
        matches!(self.kind, ErrorKind::LoginEnded(_))
            || matches!(self.kind, ErrorKind::Denied(_, Code::InvalidGrant))
                && self.class() != Class::Transient
    }

    /// Whose fault it is.
    #[must_use]
    pub(crate) fn class(&self) -> Class {
        match &self.kind {
            ErrorKind::Request(fault) => fault.class(),
            ErrorKind::Transport(_) => Class::Transient,
            ErrorKind::Response(fault) => fault.class(),
            ErrorKind::Authorization(fault) => fault.class(),
            ErrorKind::Withheld { .. } => Class::Misconfigured,
            ErrorKind::Status(status) => match self.meaning() {
                // A page may be a firewall's or a portal's, and a proxy's refusal its own: they go away.
                Some(
                    Meaning::Gate
                    | Meaning::Foreign
                    | Meaning::Unattributed
                    | Meaning::Busy
                    | Meaning::Failure,
                ) => Class::Transient,
                _ => by_status(*status, Class::Misconfigured),
            },
            ErrorKind::Denied(status, code) => match self.meaning() {
                Some(Meaning::Busy | Meaning::Failure) => Class::Transient,
                // The code may be one that passes, and the status or the configuration says whose fault it is.
                Some(Meaning::Client | Meaning::ProofDemanded) => by_status(*status, Class::Misconfigured),
                // A "success" that says neither what is wrong nor that it passes says nothing of the configuration.
                _ if *code == Code::Other && status.is_success() && !self.names_a_reason() => {
                    Class::Transient
                }
                _ => by_status(*status, code.class()),
            },
            ErrorKind::LoginDoubtful => Class::Doubtful,
            ErrorKind::LoginEnded(_) => Class::Refused,
        }
    }

    /// One word out of a closed set, for logs and metrics.
    #[must_use]
    pub(crate) const fn cause(&self) -> &'static str {
        match &self.kind {
            ErrorKind::Request(fault) => fault.cause(),
            ErrorKind::Transport(fault) => fault.cause(),
            ErrorKind::Response(fault) => fault.cause(),
            ErrorKind::Authorization(fault) => fault.cause(),
            ErrorKind::Status(_) => "status",
            ErrorKind::Denied(_, code) => code.as_str(),
            ErrorKind::Withheld { .. } => "withheld",
            ErrorKind::LoginEnded(_) => "login_required",
            ErrorKind::LoginDoubtful => "login_doubtful",
        }
    }

    /// Whether the response says why, in a code or in words.
    fn names_a_reason(&self) -> bool {
        self.details.as_ref().is_some_and(|known| known.word.is_some() || known.remark.is_some())
    }

    /// Whether there is nothing at the address.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self.kind, ErrorKind::Status(status) | ErrorKind::Denied(status, _) if matches!(status.as_u16(), 404 | 405 | 410))
    }

    /// Whether it is what was traded in that is not good: the next caller's may be (RFC 8693 section 2.2.2).
    #[must_use]
    pub(crate) fn refuses_subject(&self) -> bool {
        match &self.kind {
            // 401 is the client's own failure, whatever the code beside it.
            ErrorKind::Denied(_, Code::InvalidGrant | Code::InvalidRequest | Code::AccessDenied) => {
                self.class() != Class::Transient && self.meaning() != Some(Meaning::Client)
            }
            ErrorKind::Denied(_, Code::Other) => {
                self.class() != Class::Transient && self.meaning() == Some(Meaning::Exchange)
            }
            _ => false,
        }
    }

    /// Whether the server takes back no tokens of this kind (RFC 7009 section 2.2.1).
    #[must_use]
    pub(crate) const fn is_unsupported_token_type(&self) -> bool {
        matches!(self.kind, ErrorKind::Denied(_, Code::UnsupportedTokenType))
    }

    /// Whether nothing is left to spend: the session of a browser may still have some.
    pub(crate) const fn wants_login(&self) -> bool {
        matches!(self.kind, ErrorKind::LoginEnded(_))
    }

    /// The error code that the server answered with, where it is a registered one.
    pub(crate) const fn code(&self) -> Option<Code> {
        match self.kind {
            ErrorKind::Denied(_, code) | ErrorKind::Authorization(AuthorizationFault::Denied(code)) => {
                Some(code)
            }
            _ => None,
        }
    }

    /// Whether a refusal says nothing that can be read: neither a code nor whose fault it is.
    pub(crate) fn is_unexplained(&self) -> bool {
        let is_unnamed = match self.kind {
            ErrorKind::Status(status) => matches!(status.as_u16(), 400 | 403 | 409 | 412 | 422 | 428),
            ErrorKind::Denied(_, Code::Other) => {
                self.details.as_ref().is_some_and(|known| known.word.is_none())
            }
            _ => false,
        };
        is_unnamed && matches!(self.meaning(), None | Some(Meaning::Unexplained))
    }

    /// Whether it is the scope that is refused.
    pub(crate) fn refuses_scope(&self) -> bool {
        self.class() != Class::Transient && self.meaning() == Some(Meaning::Scope)
    }

    /// How long the server asks to be left alone for (RFC 9110 section 10.2.3), from when this error was made; never
    /// more than an hour.
    #[must_use]
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.retry_after.and_then(RetryAfter::known)
    }

    /// The same; `unreadable` where it asks for a pause in words that cannot be read.
    #[must_use]
    pub(crate) fn pause(&self, unreadable: Duration) -> Option<Duration> {
        self.retry_after.map(|hold| hold.known().unwrap_or(unreadable))
    }

    /// Why, as an application may know it: a sentence out of a closed set that names the party at fault.
    #[must_use]
    pub(crate) fn public_reason(&self) -> Cow<'static, str> {
        match (&self.kind, self.meaning()) {
            (ErrorKind::Denied(_, code), Some(meaning)) => {
                Cow::Owned(format!("{} ({})", meaning.public_reason(), code.as_str()))
            }
            (
                ErrorKind::Status(_),
                Some(
                    meaning @ (Meaning::Gate
                    | Meaning::Foreign
                    | Meaning::Unattributed
                    | Meaning::Client
                    | Meaning::Person
                    | Meaning::Busy),
                ),
            ) => Cow::Borrowed(meaning.public_reason()),
            (kind, _) => match (kind, self.interruption()) {
                (ErrorKind::LoginEnded(LoginEnd::Unknown), Some(how)) => Cow::Borrowed(how.public_reason()),
                _ => self.kind.public_reason(),
            },
        }
    }
}

/// Load and rate, whatever the body says, pass by themselves; the rest is as `otherwise` has it.
fn by_status(status: StatusCode, otherwise: Class) -> Class {
    match status.as_u16() {
        408 | 425 | 429 | 500.. => Class::Transient,
        _ => otherwise,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if let Some(refusal) = self.before_withheld() {
            refusal.opening(f)?;
            write!(f, "{}; ", refusal.fact())?;
        }
        match (self.sentence(), self.details.as_deref()) {
            (Some(sentence), _) => sentence.fmt(f)?,
            (None, None) => self.kind.fmt(f)?,
            (None, Some(Details { token_type: Some(word), .. }))
                if self.kind == ErrorKind::Response(ResponseFault::TokenType) =>
            {
                write!(f, "{}; {}", self.fact(), word.help())?;
            }
            (None, Some(details)) => {
                self.opening(f)?;
                self.kind.fmt(f)?;
                if details.unattributed
                    && matches!(self.kind, ErrorKind::Response(ResponseFault::Malformed(_)))
                {
                    f.write_str("; the HTTP proxy on the way may have made this response itself")?;
                }
                if let (ErrorKind::Authorization(AuthorizationFault::Denied(_)), Some(meaning)) =
                    (&self.kind, self.meaning())
                {
                    let fact = meaning.fact(Some(&details.situation));
                    let colon = if fact.is_empty() { "" } else { ": " };
                    write!(f, "{colon}{fact}")?;
                }
                if let Some(help) = self.refusal_help() {
                    write!(f, "; {help}")?;
                }
                if let Some(how) = details.interrupted {
                    write!(f, "; {how}, and a server without a grace period ends the login then")?;
                }
            }
        }
        match self.retry_after {
            Some(RetryAfter::In(hold)) => write!(f, "; it asks for no request within {} s", hold.as_secs())?,
            Some(RetryAfter::Unreadable) => {
                f.write_str("; its `Retry-After` cannot be read, so the next request waits for `retry.max`")?;
            }
            None => {}
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<SecretError> for Error {
    fn from(error: SecretError) -> Self {
        Self::here(RequestFault::Secret(error))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use url::Url;

    use super::*;
    use crate::machine::Lack;
    use crate::net::proxy_fault::ProxyFault;

    fn denied(status: u16, code: &str) -> Error {
        Error::here(ErrorKind::Denied(StatusCode::from_u16(status).unwrap(), Code::parse(code)))
    }

    #[test]
    fn load_and_rate_pass_by_themselves_whatever_the_body_says() {
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert_eq!(denied(status, "invalid_client").class(), Class::Transient, "{status}");
            let bare = Error::here(ErrorKind::Status(StatusCode::from_u16(status).unwrap()));
            assert_eq!(bare.class(), Class::Transient, "{status}");
        }
    }

    #[test]
    fn what_a_person_must_fix_is_misconfigured() {
        for code in ["invalid_client", "unauthorized_client", "invalid_scope", "unsupported_grant_type"] {
            assert_eq!(denied(400, code).class(), Class::Misconfigured, "{code}");
            assert_eq!(denied(400, code).cause(), code);
        }
        for status in [400, 401, 403, 404] {
            let bare = Error::here(ErrorKind::Status(StatusCode::from_u16(status).unwrap()));
            assert_eq!(bare.class(), Class::Misconfigured, "{status}");
        }
    }

    #[test]
    fn a_code_that_nobody_registered_is_never_repeated() {
        let error = denied(400, "s3cret\r\nset-cookie: x");
        assert_eq!(error.cause(), "other");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }

    #[test]
    fn a_lost_response_may_have_spent_the_grant_and_a_lost_connection_has_not() {
        let place = || Place::of(&Url::parse("https://as.example/token").unwrap());
        for (kind, unsent, unknown) in [
            (ErrorKind::Response(ResponseFault::TooLarge), false, Some(Interruption::Unread)),
            (ErrorKind::Transport(TransportFault::Dns), true, None),
            (
                ErrorKind::Transport(TransportFault::Connect(std::io::ErrorKind::ConnectionRefused)),
                true,
                None,
            ),
            (ErrorKind::Transport(TransportFault::Timeout(TransportPhase::Tls)), true, None),
            (
                ErrorKind::Transport(TransportFault::Timeout(TransportPhase::Answer)),
                false,
                Some(Interruption::Lost),
            ),
            (ErrorKind::Transport(TransportFault::Reset), false, Some(Interruption::Lost)),
            (ErrorKind::Transport(TransportFault::Proxy(ProxyFault::Refused(502))), true, None),
            (ErrorKind::Transport(TransportFault::Proxy(ProxyFault::Responded(403))), true, None),
            (
                ErrorKind::Transport(TransportFault::Proxy(ProxyFault::Responded(504))),
                false,
                Some(Interruption::Lost),
            ),
            (ErrorKind::Status(StatusCode::SERVICE_UNAVAILABLE), false, None),
            (ErrorKind::Status(StatusCode::TOO_MANY_REQUESTS), false, None),
            (ErrorKind::Status(StatusCode::BAD_GATEWAY), false, Some(Interruption::Failed)),
            (ErrorKind::Status(StatusCode::GATEWAY_TIMEOUT), false, Some(Interruption::Failed)),
            (
                ErrorKind::Denied(StatusCode::INTERNAL_SERVER_ERROR, Code::ServerError),
                false,
                Some(Interruption::Failed),
            ),
        ] {
            let error = Error::at(place(), kind);
            assert_eq!((error.was_not_sent(), error.may_have_spent()), (unsent, unknown), "{error}");
        }
        let unread = Error::here(RequestFault::Secret(SecretError::Missing(PathBuf::from("secret"))));
        assert_eq!((unread.was_not_sent(), unread.may_have_spent()), (true, None));
    }

    #[test]
    fn what_happened_at_a_proxy_is_told_apart_from_what_to_do_about_it() {
        for kind in [
            ErrorKind::Transport(TransportFault::Proxy(ProxyFault::Refused(407))),
            ErrorKind::Transport(TransportFault::Timeout(TransportPhase::Proxy(
                crate::net::proxy_fault::ProxyStage::Tcp,
            ))),
        ] {
            let error = Error::here(kind);
            let help = error.help().unwrap();
            assert!(error.to_string().ends_with(&help), "{error}");
            assert!(!error.happened().contains(&help), "{}", error.happened());
        }
    }

    #[test]
    fn a_place_shows_neither_query_nor_user() {
        let url = Url::parse("https://user:pass@as.example:8443/t/token?key=s3cret#f").unwrap();
        assert_eq!(Place::of(&url).to_string(), "https://as.example:8443/t/token");
    }

    #[test]
    fn a_secret_file_that_no_descriptor_is_left_for_is_tried_again_soon() {
        let lacking = Error::here(RequestFault::Secret(SecretError::Lacking(
            PathBuf::from("secret"),
            Lack::Descriptors,
        )));
        assert_eq!((lacking.class(), lacking.cause()), (Class::Transient, "machine"));
        let missing = Error::here(RequestFault::Secret(SecretError::Missing(PathBuf::from("secret"))));
        assert_eq!((missing.class(), missing.cause()), (Class::Misconfigured, "secret"));
    }
}
