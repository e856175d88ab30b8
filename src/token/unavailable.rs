//! Why a request gets no token, and when it is worth while to come again.

use std::time::Duration;

use crate::clock::Moment;
use crate::oauth::Error;

use super::schedule::retry_at;
use super::settings::Backoff;
use super::state::{Status, TokenState};

/// Why a request gets no token. For the proxy's 503.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// The token's state.
    pub status: Status,
    /// Why the last attempt failed; `None`: the time to wait ran out before one came to an end.
    pub cause: Option<Error>,
    /// When it is worth while to come again; at least a second.
    pub retry_after: Duration,
    /// Whether a person can log in for it.
    pub can_log_in: bool,
}

impl Unavailable {
    pub(super) fn new(state: &TokenState, now: Moment) -> Self {
        let left = match (&state.last_error, state.next_attempt) {
            (Some(_), Some(at)) => at.saturating_duration_since(now),
            (Some(_), None) => NO_ATTEMPT_PLANNED,
            (None, _) => Duration::ZERO,
        };
        Self {
            status: state.status(now),
            cause: state.last_error.as_ref().map(|failure| failure.error.clone()),
            retry_after: left.max(Duration::from_secs(1)),
            can_log_in: false,
        }
    }

    /// The same for a request that waits: it hastens the next attempt.
    pub(super) fn waited_for(state: &TokenState, now: Moment, backoff: &Backoff) -> Self {
        let planned = Self::new(state, now);
        let soonest = state.next_attempt.and_then(|_| retry_at(&state.facts().waited_for(), backoff, 1.0));
        let left = soonest.map(|at| at - now);
        let sooner = left.map_or(planned.retry_after, |left| left.max(Duration::from_secs(1)));
        Self { retry_after: planned.retry_after.min(sooner), ..planned }
    }
}

/// What an application is told where only a person can bring the token back.
pub(super) const NO_ATTEMPT_PLANNED: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::ErrorKind;
    use crate::token::{Failure, Policy};

    #[test]
    fn an_application_is_told_to_come_again_when_the_next_attempt_has_been_made() {
        let now = Moment::now();
        let failure = Failure::first(Error::here(ErrorKind::Dns), now);
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
}
