//! What is known of a token at one instant: the value that the schedule, the state and the sentences are functions of.
//!
//! No single response decides. How long renewals have failed, whether the very same inputs worked before, whether
//! requests wait, what the API says and when the login ends count together. [`TokenState`](super::TokenState) gives the
//! facts; `schedule` decides the next attempt, and this file the state and the advice. Nothing here reads a clock.

use std::fmt;
use std::time::Duration;

use crate::clock::{self, BootInstant};
use crate::oauth::Class;

use super::state::Status;

/// The facts of one token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// When the token that is held stops being sent; `None`: none is held.
    pub usable_until: Option<BootInstant>,
    /// When the login ends unless it is renewed before, as far as its server says; `None`: never, or there is none.
    pub login_ends: Option<BootInstant>,
    /// What the API says of the token that is held.
    pub api: Api,
    /// The failure of the last attempt; `None`: it succeeded, or there was none.
    pub failing: Option<Failing>,
    /// Whether readiness, and with it the start of an application, waits for a token that there never was.
    pub starting: bool,
    /// Whether there is a token for each caller, and none here.
    pub per_caller: bool,
}

/// What an API says of the token that is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Api {
    /// It refused this very token.
    pub refuses: bool,
    /// How many tokens in a row it refused although each was new.
    pub new_refused: u32,
}

/// A row of failed attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failing {
    /// Whose fault the last one was.
    pub class: Class,
    /// When the last one failed.
    pub at: BootInstant,
    /// When the first one failed.
    pub since: BootInstant,
    /// How many failed in a row, the last one included.
    pub attempts: u32,
    /// How many of the last ones in a row may have found the end of the login.
    pub doubtful: u32,
    /// For how long, from `at`, the server asks to be left alone.
    pub hold: Option<Duration>,
    /// Whether the inputs of the last one worked before.
    pub worked: Worked,
    /// What was refused is a person's own credential.
    pub credential: Credential,
    /// A request was refused, or waits, for lack of a token.
    pub waited_for: bool,
}

/// Whether what an attempt sends (secret, key, configuration) worked before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Worked {
    /// Not that this process knows.
    #[default]
    Never,
    /// The very same inputs, until then.
    Same(BootInstant),
    /// Others, until then: a secret or a key was replaced since.
    Other(BootInstant),
    /// The same request did, then: the store has its token. With which secret is not stored.
    Stored(BootInstant),
}

/// Whose credential an attempt spends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Credential {
    /// The client's, or the failure says nothing about it.
    #[default]
    Client,
    /// A person's password, which was refused: a server that counts failures may lock the account.
    Person,
    /// The same, and it is no longer sent.
    Withheld,
}

/// What an operator is advised to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// The refresh token is refused for good; the access token is still good until then.
    LogInBefore(BootInstant),
    /// The API refuses one new token after the other.
    CheckAudience(u32),
}

impl Facts {
    /// The state at `now` in one word.
    #[must_use]
    pub(crate) fn status(&self, now: BootInstant) -> Status {
        let usable = self.usable_until.is_some_and(|end| now < end);
        let Some(failing) = &self.failing else {
            return if usable || self.per_caller { Status::Valid } else { self.without_token() };
        };
        // Two witnesses: the API refuses the token and the authorization server its renewal. Its lifetime counts no more.
        let dead = self.api.refuses && failing.class != Class::Transient;
        match failing.class {
            _ if usable && !dead => Status::Degraded,
            Class::Refused => Status::LoginRequired,
            Class::Doubtful if dead || failing.ends_the_login() => Status::LoginRequired,
            Class::Misconfigured if dead || !failing.is_hiccup(now) => Status::Misconfigured,
            _ if self.per_caller => Status::Valid,
            Class::Misconfigured | Class::Doubtful | Class::Transient => self.without_token(),
        }
    }

    const fn without_token(&self) -> Status {
        if self.usable_until.is_some() { Status::Expired } else { Status::Pending }
    }

    /// What to do about it; `None`: nothing beyond what the last error says.
    #[must_use]
    pub(crate) fn advice(&self, now: BootInstant) -> Option<Advice> {
        if let Some(failing) = &self.failing {
            let end = self.usable_until.filter(|end| now < *end && *end < BootInstant::NEVER)?;
            return (failing.ends_the_login() && !self.api.refuses).then_some(Advice::LogInBefore(end));
        }
        (self.api.refuses && self.api.new_refused >= NEW_REFUSED)
            .then_some(Advice::CheckAudience(self.api.new_refused))
    }

    /// The same while a request waits for a token.
    #[must_use]
    pub(crate) fn waited_for(mut self) -> Self {
        if let Some(failing) = &mut self.failing {
            failing.waited_for = true;
        }
        self
    }
}

impl Failing {
    /// For how long attempts have failed.
    #[must_use]
    pub(crate) fn lasts(&self, now: BootInstant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// Whether nothing but a login is left to hope for: the server refuses the refresh token, or has said so often what it
    /// says of one.
    #[must_use]
    pub(crate) fn ends_the_login(&self) -> bool {
        self.class == Class::Refused || self.class == Class::Doubtful && self.doubtful >= DOUBTFUL_ATTEMPTS
    }

    /// Whether it is the server's hiccup rather than the configuration's fault: the very same inputs worked before, and
    /// it has not lasted for long.
    #[must_use]
    pub(crate) fn is_hiccup(&self, now: BootInstant) -> bool {
        matches!(self.worked, Worked::Same(_))
            && self.credential == Credential::Client
            && self.lasts(now) < LONGEST_HICCUP
    }

    /// What the history of the inputs adds to the error.
    #[must_use]
    pub(crate) fn history(&self) -> History {
        match self.class {
            Class::Misconfigured | Class::Doubtful => History(self.worked),
            Class::Transient | Class::Refused => History(Worked::Never),
        }
    }
}

/// What may be the end of a login is tried so often before it is taken for that: with the pauses that are the default, a
/// server that refuses everything for half a minute loses no login, and one that counts refusals gets few.
pub(super) const DOUBTFUL_ATTEMPTS: u32 = 8;

/// Text to append to the sentence of an error; empty where the history adds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct History(Worked);

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Worked::Never => Ok(()),
            Worked::Same(until) => {
                write!(
                    f,
                    "; it worked until {} with the same secret and configuration",
                    clock::time_of(until)
                )
            }
            Worked::Other(until) => write!(
                f,
                "; it worked until {} with another secret, and the server may not know the new one yet",
                clock::time_of(until)
            ),
            Worked::Stored(at) => write!(
                f,
                "; the newest token in the token store was issued at {} for the same request",
                clock::time_of(at)
            ),
        }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LogInBefore(end) => write!(
                f,
                "log in before {}; the access token is good until then, and nothing renews it",
                clock::time_of(*end)
            ),
            Self::CheckAudience(refused) => write!(
                f,
                "the API refused {refused} new tokens in a row; check that `audience`, `issuer` and `scope` are those that it expects"
            ),
        }
    }
}

/// After that time a refusal of what worked before is no longer taken for a hiccup.
const LONGEST_HICCUP: Duration = Duration::from_mins(5);

/// So many new tokens in a row are refused before a warning: one may have met a server that had not heard of it yet.
pub(super) const NEW_REFUSED: u32 = 2;

/// A token that is refused so soon after it came is new: it never worked.
pub(super) const NEW: Duration = Duration::from_mins(1);

#[cfg(test)]
pub(in crate::token) mod tests {
    use super::*;

    pub(in crate::token) fn failing(class: Class, at: BootInstant) -> Failing {
        Failing {
            class,
            at,
            since: at,
            attempts: 1,
            doubtful: u32::from(class == Class::Doubtful),
            hold: None,
            worked: Worked::Never,
            credential: Credential::Client,
            waited_for: false,
        }
    }

    #[test]
    fn the_state_follows_from_all_facts_together() {
        let now = BootInstant::now();
        let (live, dead) = (Some(now + Duration::from_secs(1)), Some(now));
        let long_ago = now - LONGEST_HICCUP;
        let worked = Worked::Same(now - Duration::from_hours(1));
        let accepted = Api::default();
        let refused = Api { refuses: true, new_refused: 0 };
        let none = None;
        let of = |class| Some(failing(class, now));
        let hiccup = Some(Failing { worked, ..failing(Class::Misconfigured, now) });
        let lasting = Some(Failing { since: long_ago, worked, ..failing(Class::Misconfigured, now) });
        let replaced = Some(Failing { worked: Worked::Other(now), ..failing(Class::Misconfigured, now) });
        let person =
            Some(Failing { worked, credential: Credential::Withheld, ..failing(Class::Misconfigured, now) });
        let ended = Some(Failing { doubtful: DOUBTFUL_ATTEMPTS, ..failing(Class::Doubtful, now) });
        for (usable_until, api, failing, want) in [
            (none, accepted, none.map(|_: BootInstant| unreachable!()), Status::Pending),
            (none, accepted, of(Class::Transient), Status::Pending),
            (none, accepted, of(Class::Misconfigured), Status::Misconfigured),
            (none, accepted, of(Class::Refused), Status::LoginRequired),
            (live, accepted, None, Status::Valid),
            (live, accepted, of(Class::Transient), Status::Degraded),
            (live, accepted, of(Class::Misconfigured), Status::Degraded),
            (live, accepted, of(Class::Refused), Status::Degraded),
            (dead, accepted, None, Status::Expired),
            (dead, accepted, of(Class::Transient), Status::Expired),
            (dead, accepted, of(Class::Misconfigured), Status::Misconfigured),
            (dead, accepted, of(Class::Refused), Status::LoginRequired),
            // What worked a minute ago with the same secret is the server's hiccup first.
            (dead, accepted, hiccup, Status::Expired),
            (live, accepted, hiccup, Status::Degraded),
            (dead, accepted, lasting, Status::Misconfigured),
            (dead, accepted, replaced, Status::Misconfigured),
            (dead, accepted, person, Status::Misconfigured),
            // One witness is not enough, two are.
            (live, refused, None, Status::Valid),
            (live, refused, of(Class::Transient), Status::Degraded),
            (live, refused, of(Class::Refused), Status::LoginRequired),
            (live, refused, of(Class::Misconfigured), Status::Misconfigured),
            (live, refused, hiccup, Status::Misconfigured),
            // What may be the end of a login is taken for it once it was said a few times, or the API says so too.
            (dead, accepted, of(Class::Doubtful), Status::Expired),
            (live, accepted, ended, Status::Degraded),
            (dead, accepted, ended, Status::LoginRequired),
            (live, refused, of(Class::Doubtful), Status::LoginRequired),
        ] {
            let facts = Facts { usable_until, api, failing, ..Facts::default() };
            assert_eq!(facts.status(now), want, "{facts:?}");
        }
    }

    #[test]
    fn the_advice_names_the_way_out_as_soon_as_it_is_known() {
        let now = BootInstant::now();
        let end = now + Duration::from_mins(35);
        let refused = Some(failing(Class::Refused, now));
        let api = |refuses, new_refused| Api { refuses, new_refused };
        for (usable_until, api, failing, want) in [
            (Some(end), api(false, 0), None, None),
            (Some(end), api(false, 0), refused, Some(Advice::LogInBefore(end))),
            (Some(end), api(true, 0), refused, None),
            (Some(now), api(false, 0), refused, None),
            (Some(end), api(false, 0), Some(failing(Class::Transient, now)), None),
            (Some(end), api(true, 1), None, None),
            (Some(end), api(true, 2), None, Some(Advice::CheckAudience(2))),
            (Some(end), api(false, 2), None, None),
        ] {
            let facts = Facts { usable_until, api, failing, ..Facts::default() };
            assert_eq!(facts.advice(now), want, "{facts:?}");
        }
        assert!(Advice::LogInBefore(end).to_string().starts_with("log in before "));
        assert!(Advice::CheckAudience(2).to_string().contains("`audience`"));
    }

    #[test]
    fn a_sentence_says_until_when_the_same_secret_worked() {
        let now = BootInstant::now();
        let time = clock::time_of(now);
        for (class, worked, want) in [
            (Class::Misconfigured, Worked::Never, String::new()),
            (
                Class::Misconfigured,
                Worked::Same(now),
                format!("; it worked until {time} with the same secret and configuration"),
            ),
            (
                Class::Misconfigured,
                Worked::Other(now),
                format!(
                    "; it worked until {time} with another secret, and the server may not know the new one yet"
                ),
            ),
            (
                Class::Misconfigured,
                Worked::Stored(now),
                format!("; the newest token in the token store was issued at {time} for the same request"),
            ),
            (Class::Transient, Worked::Same(now), String::new()),
            (Class::Refused, Worked::Same(now), String::new()),
        ] {
            let failing = Failing { worked, ..failing(class, now) };
            assert_eq!(failing.history().to_string(), want);
        }
    }
}
