//! Whether requests can be served now: every required token is usable, and the end has not come.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::clock::BootInstant;
use serde::{Deserialize, Serialize};

use crate::token::{Status, TokenRegistry};

/// The answer of `/readyz`, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Readiness {
    /// The whole in one word.
    pub ready: bool,
    /// Whether the program is on its way out.
    pub draining: bool,
    /// All tokens, by name.
    pub tokens: Vec<TokenReadiness>,
    /// The names of the required ones that are not usable.
    pub missing: Vec<String>,
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenReadiness {
    /// Its name in the configuration.
    pub name: String,
    /// One word; the same as in the metric `cupbearer_token_state`.
    pub status: String,
    /// Whether readiness waits for it.
    pub required: bool,
}

/// What readiness stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ReadyOnce {
    /// Every required token is usable, at each moment anew.
    #[default]
    TokensUsable,
    /// There has been a usable one for each: that stays until the end, whatever becomes of them.
    Started,
}

/// Whether the program has been told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It serves.
    Serving,
    /// It finishes what is under way.
    Draining,
}

impl Readiness {
    /// How things stand at `now`. `started`, where there is one, remembers that every required token has been there.
    pub(super) fn read(
        registry: &TokenRegistry,
        phase: Phase,
        started: Option<&AtomicBool>,
        now: BootInstant,
    ) -> Self {
        let tokens = registry.load();
        let mut readiness = Self::of(
            tokens.values().map(|token| (token.name(), token.load().status(now), token.required())),
            phase,
        );
        if let Some(started) = started {
            // Also where the first one came and expired between two looks.
            let came =
                |name: &String| tokens.get(name).is_some_and(|token| token.load().credentials.is_some());
            if readiness.missing.iter().all(came) {
                started.store(true, Ordering::Relaxed);
            }
            readiness.ready = started.load(Ordering::Relaxed) && !readiness.draining;
        }
        readiness
    }

    fn of<'a>(all: impl IntoIterator<Item = (&'a str, Status, bool)>, phase: Phase) -> Self {
        let (mut tokens, mut missing) = (Vec::new(), Vec::new());
        for (name, status, required) in all {
            if required && !usable(status) {
                missing.push(name.to_owned());
            }
            tokens.push(TokenReadiness {
                name: name.to_owned(),
                status: status.as_str().to_owned(),
                required,
            });
        }
        let draining = phase == Phase::Draining;
        Self { ready: missing.is_empty() && !draining, draining, tokens, missing }
    }
}

/// Whether requests go out with a token that stands so.
const fn usable(status: Status) -> bool {
    match status {
        Status::Valid | Status::Degraded => true,
        Status::Pending | Status::Expired | Status::Misconfigured | Status::LoginRequired => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_required_token_that_is_not_usable_is_missing() {
        for status in Status::ALL {
            let tokens = [("api", status, true), ("other", Status::Valid, true)];
            let readiness = Readiness::of(tokens, Phase::Serving);
            assert_eq!(readiness.ready, matches!(status, Status::Valid | Status::Degraded), "{status:?}");
            assert_eq!(readiness.missing.is_empty(), readiness.ready);
            assert_eq!(readiness.tokens[0].status, status.as_str());
        }
    }

    #[test]
    fn nothing_is_ready_on_its_way_out_and_all_is_where_nothing_is_required() {
        assert!(!Readiness::of([("api", Status::Valid, true)], Phase::Draining).ready);
        assert!(Readiness::of([], Phase::Serving).ready);
    }

    #[test]
    fn a_token_that_is_not_required_is_told_of_and_not_missing() {
        let readiness = Readiness::of([("extra", Status::Pending, false)], Phase::Serving);
        assert!(readiness.ready && readiness.missing.is_empty());
        assert!(!readiness.tokens[0].required && readiness.tokens[0].status == "pending");
    }
}
