//! What is known of a token at one instant: the best credentials, the last error, the next attempt.
//!
//! Three facts in three fields, so that a failure never overwrites a valid token. The renewer writes whole states;
//! everything else reads them.

use std::fmt;
use std::sync::Arc;

use crate::clock::Moment;
use http::{HeaderName, HeaderValue};

use crate::oauth::{Class, Error, Identity};
use crate::secret::Secret;

use super::binding::Binding;

/// One token at one instant.
#[derive(Clone, Debug, Default)]
pub struct TokenState {
    /// The newest that was ever had, expired or not.
    pub credentials: Option<Arc<Credentials>>,
    /// Why the last attempt failed; `None`: it succeeded, or there was none.
    pub last_error: Option<Failure>,
    /// When the next attempt is planned; `None`: not before someone asks, or one is under way for the first time.
    pub next_attempt: Option<Moment>,
    /// When the last attempt that succeeded did so.
    pub last_success: Option<Moment>,
    /// How many attempts have succeeded.
    pub renewals: u64,
    /// How many have failed.
    pub failures: u64,
    /// The scope granted, where the server says so.
    pub scope: Option<Vec<String>>,
    /// Who logged in for it, where the server said so.
    pub user: Option<Identity>,
    /// Whether there is a token for each caller, and none here.
    pub per_caller: bool,
}

/// A failed attempt.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Why.
    pub error: Error,
    /// When.
    pub at: Moment,
    /// How many have failed in a row, this one included.
    pub in_a_row: u32,
    /// Until when the server asks to be left alone (`Retry-After`); nobody and nothing calls it before.
    pub hold_until: Option<Moment>,
}

/// What goes on a request: the finished header, and how long it is good.
pub struct Credentials {
    /// The header field.
    pub header: HeaderName,
    /// Scheme and token, marked sensitive.
    pub value: HeaderValue,
    /// What proves possession of the key that the token is bound to; `None`: it is bound to none.
    pub binding: Option<Arc<Binding>>,
    /// When the token expires, as far as its server says.
    pub expires_at: Moment,
    /// When it stops being sent: its expiry less the margin.
    pub usable_until: Moment,
    /// 1 for the first of a token; each renewal has the next.
    pub generation: u64,
}

impl Credentials {
    /// The token alone, without its scheme: for whoever gives it back.
    #[must_use]
    pub fn access_token(&self) -> Option<Secret<String>> {
        let value = self.value.to_str().ok()?;
        let token = value.rsplit(' ').next()?;
        Some(Secret::new(token.to_owned()))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("header", &self.header)
            .field("binding", &self.binding)
            .field("expires_at", &self.expires_at)
            .field("usable_until", &self.usable_until)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// A token's state in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// None was had yet.
    Pending,
    /// Usable, and the last attempt went well; or had for each caller when they come.
    Valid,
    /// Usable, but the last renewal failed.
    Degraded,
    /// The one held has expired and no other could be had (yet).
    Expired,
    /// None is usable, and only a change of the configuration or a secret helps.
    Misconfigured,
    /// None is usable, and only a login helps.
    LoginRequired,
}

impl Status {
    /// All of them: the closed set of the metric's label.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Valid, Self::Degraded, Self::Expired, Self::Misconfigured, Self::LoginRequired];

    /// The word for it in metrics, status and `problem+json`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Valid => "valid",
            Self::Degraded => "degraded",
            Self::Expired => "expired",
            Self::Misconfigured => "misconfigured",
            Self::LoginRequired => "login_required",
        }
    }
}

impl TokenState {
    /// The credentials, where they may be sent at `now`.
    #[must_use]
    pub fn usable(&self, now: Moment) -> Option<&Arc<Credentials>> {
        self.credentials.as_ref().filter(|credentials| now < credentials.usable_until)
    }

    /// The state at `now` in one word.
    #[must_use]
    pub fn status(&self, now: Moment) -> Status {
        match (self.usable(now), &self.last_error) {
            (Some(_), None) => Status::Valid,
            (Some(_), Some(_)) => Status::Degraded,
            (None, Some(failure)) if failure.error.class() == Class::Refused => Status::LoginRequired,
            (None, Some(failure)) if failure.error.class() == Class::Misconfigured => Status::Misconfigured,
            (None, _) if self.per_caller => Status::Valid,
            (None, _) if self.credentials.is_some() => Status::Expired,
            (None, _) => Status::Pending,
        }
    }

    /// Whether a first token may still come by `deadline` although the last attempt failed: the failure passes by
    /// itself and the next attempt, which may be under way, is no later.
    #[must_use]
    pub fn may_come_by(&self, deadline: Moment) -> bool {
        self.credentials.is_none()
            && self.last_error.as_ref().is_some_and(|failure| failure.error.class() == Class::Transient)
            && self.next_attempt.is_some_and(|at| at < deadline)
    }

    /// How many attempts have come to an end.
    #[must_use]
    pub const fn attempts(&self) -> u64 {
        self.renewals + self.failures
    }

    /// Until when no attempt may start because the server asked for it; `None`: it did not, or that is over.
    #[must_use]
    pub fn hold(&self, now: Moment) -> Option<Moment> {
        self.last_error.as_ref()?.hold_until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::oauth::ErrorKind;

    fn credentials(usable_until: Moment) -> Arc<Credentials> {
        let mut value = HeaderValue::from_static("Bearer sentinel");
        value.set_sensitive(true);
        Arc::new(Credentials {
            header: http::header::AUTHORIZATION,
            value,
            binding: None,
            expires_at: usable_until,
            usable_until,
            generation: 1,
        })
    }

    fn failure(kind: ErrorKind) -> Failure {
        Failure { error: Error::here(kind), at: Moment::now(), in_a_row: 1, hold_until: None }
    }

    #[test]
    fn a_state_never_prints_its_token() {
        let state = TokenState { credentials: Some(credentials(Moment::now())), ..TokenState::default() };
        assert!(!format!("{state:?} {state:#?}").contains("sentinel"));
    }

    #[test]
    fn a_token_is_usable_up_to_its_margin_and_not_at_it() {
        let end = Moment::now() + Duration::from_secs(10);
        let state = TokenState { credentials: Some(credentials(end)), ..TokenState::default() };
        assert!(state.usable(end - Duration::from_nanos(1)).is_some());
        assert!(state.usable(end).is_none());
    }

    #[test]
    fn a_first_token_is_hoped_for_through_what_passes_by_itself_and_in_time() {
        let now = Moment::now();
        let deadline = now + Duration::from_secs(10);
        let soon = Some(now + Duration::from_secs(1));
        for (kind, credentials, next_attempt, want) in [
            (ErrorKind::Dns, None, soon, true),
            (ErrorKind::Dns, None, Some(now), true),
            (ErrorKind::Dns, None, Some(deadline), false),
            (ErrorKind::Dns, None, None, false),
            (ErrorKind::Dns, Some(credentials(now)), soon, false),
            (ErrorKind::TokenType, None, soon, false),
            (ErrorKind::LoginRequired, None, soon, false),
        ] {
            let state = TokenState {
                credentials,
                next_attempt,
                last_error: Some(failure(kind)),
                ..TokenState::default()
            };
            assert_eq!(state.may_come_by(deadline), want, "{state:?}");
        }
    }

    #[test]
    fn the_status_tells_what_a_person_must_know() {
        let now = Moment::now();
        let live = Some(credentials(now + Duration::from_secs(1)));
        let dead = Some(credentials(now));
        for (credentials, last_error, want) in [
            (None, None, Status::Pending),
            (None, Some(failure(ErrorKind::Dns)), Status::Pending),
            (None, Some(failure(ErrorKind::TokenType)), Status::Misconfigured),
            (live.clone(), None, Status::Valid),
            (live.clone(), Some(failure(ErrorKind::TokenType)), Status::Degraded),
            (live, Some(failure(ErrorKind::LoginRequired)), Status::Degraded),
            (dead.clone(), None, Status::Expired),
            (dead.clone(), Some(failure(ErrorKind::Dns)), Status::Expired),
            (dead.clone(), Some(failure(ErrorKind::TokenType)), Status::Misconfigured),
            (dead, Some(failure(ErrorKind::LoginRequired)), Status::LoginRequired),
        ] {
            let state = TokenState { credentials, last_error, ..TokenState::default() };
            assert_eq!(state.status(now), want, "{state:?}");
        }
    }
}
