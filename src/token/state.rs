//! What is known of a token at one instant: the best credentials, the last error, the next attempt.
//!
//! Three facts in three fields, so that a failure never overwrites a valid token. The renewer writes whole states;
//! everything else reads them.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::clock::{self, BootInstant};
use http::{HeaderName, HeaderValue};

use crate::oauth::{Class, Identity};
use crate::secret::Secret;
use crate::token::error::Error;

use super::binding::Binding;
use super::facts::{Advice, Api, Credential, Facts, Failing, Worked};
use super::store::Fingerprint;

/// One token at one instant.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenState {
    /// The newest that was ever had, expired or not.
    pub credentials: Option<Arc<Credentials>>,
    /// Why the last attempt failed; `None`: it succeeded, or there was none.
    pub last_error: Option<Failure>,
    /// When the next attempt is planned; `None`: not before someone asks, or one is under way for the first time.
    pub next_attempt: Option<BootInstant>,
    /// When the last attempt that succeeded did so.
    pub last_success: Option<BootInstant>,
    /// When the token held was requested, by whichever process.
    pub requested: Option<BootInstant>,
    /// How many attempts have brought a token that was requested for them.
    pub renewals: u64,
    /// How many tokens were taken out of the store, where another process, an earlier run or a login had put them.
    pub adoptions: u64,
    /// How many requests have failed. An attempt that sent none is no failed request: it waits for a person, say.
    pub failures: u64,
    /// How many attempts have ended, with a request or without.
    pub attempts: u64,
    /// Until when which inputs worked: secrets and keys by their hash, never by themselves.
    pub(super) worked: Option<(BootInstant, Fingerprint)>,
    /// When the login ends unless it is renewed before, as far as its server says.
    pub login_ends: Option<BootInstant>,
    /// What the API refused.
    pub(super) rejected: Rejected,
    /// The scope granted, where the server says so.
    pub scope: Option<Vec<String>>,
    /// Who logged in for it, where the server said so.
    pub user: Option<Identity>,
    /// Whether there is a token for each caller, and none here.
    pub per_caller: bool,
    /// When the token in the store expires, where this process has held none.
    pub(super) stored_until: Option<BootInstant>,
}

/// What the store says of a token of before, which is of no use any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Past {
    /// Who had logged in for it.
    pub user: Option<Identity>,
    /// When its request was sent.
    pub asked: Option<SystemTime>,
    /// When it expires, as far as its server said.
    pub until: Option<SystemTime>,
}

/// A failed attempt.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// Why.
    pub error: Error,
    /// When.
    pub at: BootInstant,
    /// How many requests have failed in a row, this one's included.
    pub in_a_row: u32,
    /// How many attempts have failed in a row, with a request or without.
    pub(super) attempts: u32,
    /// How many of the last attempts may have found the end of the login.
    pub(super) doubtful: u32,
    /// When the first of them failed.
    pub(super) since: BootInstant,
    /// Until when the server asks to be left alone (`Retry-After`); it is not called before.
    pub hold_until: Option<BootInstant>,
    /// Whether its inputs worked before.
    pub(super) worked: Worked,
    /// Whose credential it spent.
    pub(super) credential: Credential,
}

impl Failure {
    /// The first one, at `at`.
    pub(super) fn first(error: Error, at: BootInstant) -> Self {
        Self {
            in_a_row: u32::from(error.is_counted()),
            doubtful: u32::from(error.class() == Class::Doubtful),
            error,
            at,
            attempts: 1,
            since: at,
            hold_until: None,
            worked: Worked::Never,
            credential: Credential::Client,
        }
    }

    fn facts(&self) -> Failing {
        Failing {
            class: self.error.class(),
            at: self.at,
            since: self.since,
            attempts: self.attempts,
            doubtful: self.doubtful,
            hold: self.hold_until.map(|until| until - self.at),
            worked: self.worked,
            credential: self.credential,
            waited_for: false,
        }
    }
}

/// For people: the error, and what its history adds.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.error, self.facts().history())
    }
}

/// The newest token that an API refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rejected {
    /// Which one; 0: none was.
    pub(super) generation: u64,
    /// How many in a row were refused although each was new.
    pub(super) new: u32,
}

/// What goes on a request: the finished header, and how long it is good.
pub(crate) struct Credentials {
    /// The header field.
    pub header: HeaderName,
    /// Scheme and token, marked sensitive.
    pub value: HeaderValue,
    /// What proves possession of the key that the token is bound to; `None`: it is bound to none.
    pub binding: Option<Arc<Binding>>,
    /// When the token expires, as far as its server says.
    pub expires_at: BootInstant,
    /// When it stops being sent: its expiry less the margin.
    pub usable_until: BootInstant,
    /// 1 for the first of a token; each renewal has the next.
    pub generation: u64,
}

impl Credentials {
    /// The token alone, without its scheme: for giving it back.
    #[must_use]
    pub(crate) fn access_token(&self) -> Option<Secret<String>> {
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
pub(crate) enum Status {
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
    pub(crate) const ALL: [Self; 6] =
        [Self::Pending, Self::Valid, Self::Degraded, Self::Expired, Self::Misconfigured, Self::LoginRequired];

    /// The word for it in metrics, status and `problem+json`.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
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
    pub(crate) fn usable(&self, now: BootInstant) -> Option<&Arc<Credentials>> {
        self.credentials.as_ref().filter(|credentials| now < credentials.usable_until)
    }

    /// All that the schedule, the state and the advice follow from.
    #[must_use]
    pub(crate) fn facts(&self) -> Facts {
        let held = self.credentials.as_deref();
        Facts {
            usable_until: held.map(|held| held.usable_until),
            login_ends: self.login_ends,
            api: Api {
                refuses: held.is_some_and(|held| held.generation == self.rejected.generation),
                new_refused: self.rejected.new,
            },
            failing: self.last_error.as_ref().map(Failure::facts),
            starting: false,
            per_caller: self.per_caller,
        }
    }

    /// The state at `now` in one word.
    #[must_use]
    pub(crate) fn status(&self, now: BootInstant) -> Status {
        self.facts().status(now)
    }

    /// What an operator is advised to do; `None`: nothing beyond what the last error says.
    #[must_use]
    pub(crate) fn advice(&self, now: BootInstant) -> Option<Advice> {
        self.facts().advice(now)
    }

    /// Whether a first token may still come by `deadline` for a request that waits `patience` at most, although the last
    /// attempt failed: the failure passes by itself, has not lasted longer than a request waits, and the next attempt,
    /// which may be under way, is no later.
    #[must_use]
    pub(crate) fn may_come_by(&self, deadline: BootInstant, patience: Duration) -> bool {
        self.credentials.is_none()
            && self.last_error.as_ref().is_some_and(|failure| {
                failure.error.class() == Class::Transient && failure.at - failure.since < patience
            })
            && self.next_attempt.is_some_and(|at| at < deadline)
    }

    /// When the newest token expires, or did: the one that is held, or the one that the store had at the start. `None`:
    /// there was none, or it has no end.
    #[must_use]
    pub(crate) fn expiry(&self) -> Option<BootInstant> {
        let held = self.credentials.as_ref().map(|held| held.expires_at);
        held.or(self.stored_until).filter(|at| *at < BootInstant::NEVER)
    }

    /// Takes over what the store says of a token of before, where this process has held none.
    pub(super) fn recall(&mut self, past: Past) {
        if self.credentials.is_none() {
            self.user = past.user.or_else(|| self.user.take());
            self.stored_until = past.until.map(clock::moment_at).or(self.stored_until);
            if let (Some(failure), Some(asked)) = (&mut self.last_error, past.asked)
                && failure.worked == Worked::Never
            {
                failure.worked = Worked::Stored(clock::moment_at(asked));
            }
        }
    }

    /// How many attempts have come to an end.
    #[must_use]
    pub(crate) const fn attempts(&self) -> u64 {
        self.attempts
    }

    /// Until when no attempt may start because the server asked for it; `None`: it did not, or that is over.
    #[must_use]
    pub(crate) fn hold(&self, now: BootInstant) -> Option<BootInstant> {
        self.last_error.as_ref()?.hold_until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::{ResponseFault, TransportFault};
    use crate::token::error::LoginFault;

    fn credentials(usable_until: BootInstant) -> Arc<Credentials> {
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

    fn failure(error: impl Into<Error>) -> Failure {
        Failure::first(error.into(), BootInstant::now())
    }

    #[test]
    fn a_state_never_prints_its_token() {
        let state =
            TokenState { credentials: Some(credentials(BootInstant::now())), ..TokenState::default() };
        assert!(!format!("{state:?} {state:#?}").contains("sentinel"));
    }

    #[test]
    fn a_token_is_usable_up_to_its_margin_and_not_at_it() {
        let end = BootInstant::now() + Duration::from_secs(10);
        let state = TokenState { credentials: Some(credentials(end)), ..TokenState::default() };
        assert!(state.usable(end - Duration::from_nanos(1)).is_some());
        assert!(state.usable(end).is_none());
    }

    #[test]
    fn a_first_token_is_hoped_for_through_what_passes_by_itself_and_in_time() {
        let now = BootInstant::now();
        let deadline = now + Duration::from_secs(10);
        let soon = Some(now + Duration::from_secs(1));
        for (error, credentials, next_attempt, want) in [
            (Error::from(TransportFault::Dns), None, soon, true),
            (TransportFault::Dns.into(), None, Some(now), true),
            (TransportFault::Dns.into(), None, Some(deadline), false),
            (TransportFault::Dns.into(), None, None, false),
            (TransportFault::Dns.into(), Some(credentials(now)), soon, false),
            (ResponseFault::TokenType.into(), None, soon, false),
            (LoginFault::Required.into(), None, soon, false),
        ] {
            let state = TokenState {
                credentials,
                next_attempt,
                last_error: Some(failure(error)),
                ..TokenState::default()
            };
            assert_eq!(state.may_come_by(deadline, Duration::from_secs(10)), want, "{state:?}");
        }
        let lasting = Failure { since: now - Duration::from_secs(11), ..failure(TransportFault::Dns) };
        let state = TokenState { next_attempt: soon, last_error: Some(lasting), ..TokenState::default() };
        assert!(!state.may_come_by(deadline, Duration::from_secs(10)), "an outage is told at once");
    }

    #[test]
    fn the_api_refuses_what_is_held_and_not_what_was_held_before() {
        let held = Some(credentials(BootInstant::now() + Duration::from_secs(1)));
        for (generation, refuses) in [(0, false), (1, true), (2, false)] {
            let rejected = Rejected { generation, new: 0 };
            let state = TokenState { credentials: held.clone(), rejected, ..TokenState::default() };
            assert_eq!(state.facts().api.refuses, refuses, "{generation}");
        }
    }
}
