//! Why a request gets no token, in a sentence for applications, and when it is worth while to come again.

use std::fmt;
use std::time::Duration;

use crate::clock::{self, BootInstant};
use crate::token::error::Error;

use super::schedule::retry_at;
use super::settings::Backoff;
use super::state::{Status, TokenState};

/// Why a request gets no token. For the proxy's 503; [`fmt::Display`] is its sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unavailable {
    /// The token's state.
    pub status: Status,
    /// Why the last attempt failed; `None`: the time to wait ran out before one came to an end.
    pub cause: Option<Box<Error>>,
    /// When the newest token expired; `None`: none was ever held, as far as this process and the store know.
    pub expired: Option<BootInstant>,
    /// Who had logged in, where a new login is needed and the server said so.
    pub user: Option<Box<str>>,
    /// When it is worth while to come again; at least a second.
    pub retry_after: Duration,
    /// Whether a person can log in for it.
    pub can_log_in: bool,
}

impl Unavailable {
    pub(super) fn new(state: &TokenState, now: BootInstant) -> Self {
        let left = match (&state.last_error, state.next_attempt) {
            (Some(_), Some(at)) => at.saturating_duration_since(now),
            (Some(_), None) => NO_ATTEMPT_PLANNED,
            (None, _) => Duration::ZERO,
        };
        let status = state.status(now);
        let user =
            state.user.as_ref().filter(|user| status == Status::LoginRequired && !user.as_str().is_empty());
        Self {
            status,
            cause: state.last_error.as_ref().map(|failure| Box::new(failure.error.clone())),
            expired: state.expiry(),
            user: user.map(|user| user.as_str().into()),
            retry_after: left.max(Duration::from_secs(1)),
            can_log_in: false,
        }
    }

    /// The same for a request that waits: it hastens the next attempt.
    pub(super) fn waited_for(state: &TokenState, now: BootInstant, backoff: &Backoff) -> Self {
        let planned = Self::new(state, now);
        let soonest = state.next_attempt.and_then(|_| retry_at(&state.facts().waited_for(), backoff, 1.0));
        let left = soonest.map(|at| at - now);
        let sooner = left.map_or(planned.retry_after, |left| left.max(Duration::from_secs(1)));
        Self { retry_after: planned.retry_after.min(sooner), ..planned }
    }

    /// Whose login it was, and until when; empty where neither is known.
    fn last_login(&self) -> String {
        let until = self.expired.map(clock::time_of);
        match (&self.user, until) {
            (Some(user), Some(until)) => format!("{user} was logged in until {until}"),
            (Some(user), None) => format!("{user} was logged in"),
            (None, Some(until)) => format!("the last login was good until {until}"),
            (None, None) => String::new(),
        }
    }
}

/// Neither a place nor a name of the authorization server's: those are for the log.
impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wants_login = self.status == Status::LoginRequired;
        match (self.status, self.expired) {
            (Status::LoginRequired, _) => f.write_str("a new login is needed")?,
            (Status::Misconfigured, Some(at)) => {
                write!(f, "the access token expired at {} and cannot be renewed", clock::time_of(at))?;
            }
            (_, Some(at)) => {
                write!(f, "the access token expired at {} and could not be renewed", clock::time_of(at))?;
            }
            (Status::Expired, None) => {
                f.write_str("the access token has expired and could not be renewed")?;
            }
            _ => f.write_str("there is no access token yet")?,
        }
        if let Some(cause) = &self.cause {
            write!(f, ": {}", cause.public_reason())?;
        }
        let last_login = self.last_login();
        if wants_login && !last_login.is_empty() {
            write!(f, "; {last_login}")?;
        }
        if wants_login && self.can_log_in {
            f.write_str("; log in: cupbearer login")?;
        }
        Ok(())
    }
}

/// What an application is told where only a person can bring the token back.
pub(super) const NO_ATTEMPT_PLANNED: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::{RequestFault, TransportFault};
    use crate::token::error::LoginFault;
    use crate::token::{Failure, Policy};

    #[test]
    fn an_application_is_told_to_come_again_when_the_next_attempt_has_been_made() {
        let now = BootInstant::now();
        let failure = Failure::first(Error::from(TransportFault::Dns), now);
        for (last_error, next_attempt, want) in [
            (None, None, 1),
            (Some(failure.clone()), Some(now + Duration::from_secs(20)), 20),
            (Some(failure.clone()), Some(now), 1),
            (Some(failure), None, NO_ATTEMPT_PLANNED.as_secs()),
        ] {
            let state = TokenState { last_error, next_attempt, ..TokenState::default() };
            assert_eq!(Unavailable::new(&state, now).retry_after.as_secs(), want);
            let waited = Unavailable::waited_for(&state, now, &Policy::default().retry);
            assert_eq!(waited.retry_after.as_secs(), if want == 20 { 1 } else { want }, "{state:?}");
        }
    }

    #[test]
    fn the_sentence_tells_a_token_that_expired_from_one_that_never_was_in_each_state() {
        let at = BootInstant::now();
        let time = clock::time_of(at);
        let short = || Some(Error::from(RequestFault::ShortSecret));
        let why = "the client's secret is too short for client_secret_jwt, so no token request was sent";
        let login = || Some(Error::from(LoginFault::Required));
        let alice = Some("Alice <alice@example.com>");
        for (status, cause, expired, user, want) in [
            (Status::Pending, None, None, None, "there is no access token yet".to_owned()),
            (Status::Misconfigured, short(), None, None, format!("there is no access token yet: {why}")),
            (
                Status::Misconfigured,
                short(),
                Some(at),
                None,
                format!("the access token expired at {time} and cannot be renewed: {why}"),
            ),
            (
                Status::Expired,
                Some(TransportFault::Dns.into()),
                Some(at),
                None,
                format!(
                    "the access token expired at {time} and could not be renewed: the authorization server cannot be reached: its name does not resolve"
                ),
            ),
            // After a restart the store still knows it.
            (
                Status::Pending,
                short(),
                Some(at),
                None,
                format!("the access token expired at {time} and could not be renewed: {why}"),
            ),
            (
                Status::LoginRequired,
                login(),
                None,
                None,
                "a new login is needed: no user is logged in; log in: cupbearer login".to_owned(),
            ),
            (
                Status::LoginRequired,
                login(),
                Some(at),
                alice,
                format!(
                    "a new login is needed: no user is logged in; Alice <alice@example.com> was logged in until {time}; log in: cupbearer login"
                ),
            ),
            (
                Status::LoginRequired,
                login(),
                Some(at),
                None,
                format!(
                    "a new login is needed: no user is logged in; the last login was good until {time}; log in: cupbearer login"
                ),
            ),
        ] {
            let unavailable = Unavailable {
                status,
                cause: cause.map(Box::new),
                expired,
                user: user.map(Into::into),
                retry_after: Duration::from_secs(1),
                can_log_in: true,
            };
            assert_eq!(unavailable.to_string(), want);
        }
    }
}
