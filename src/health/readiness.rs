//! Whether requests can be served now: every required token is usable, and the end has not come.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::token::Roster;

/// The answer of `/readyz`, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// The whole in one word.
    pub ready: bool,
    /// Whether the program is on its way out.
    pub draining: bool,
    /// The required tokens, by name.
    pub tokens: Vec<TokenReadiness>,
    /// The names of those that are not usable.
    pub missing: Vec<String>,
}

/// One required token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenReadiness {
    /// Its name in the configuration.
    pub name: String,
    /// One word; the same as in the metric `cupbearer_token_state`.
    pub status: String,
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
    /// How things stand at `now`.
    pub(super) fn read(roster: &Roster, phase: Phase, now: Instant) -> Self {
        let (mut tokens, mut missing) = (Vec::new(), Vec::new());
        for handle in roster.load().values().filter(|handle| handle.required()) {
            let state = handle.load();
            if state.usable(now).is_none() {
                missing.push(handle.name().to_owned());
            }
            let status = state.status(now).as_str().to_owned();
            tokens.push(TokenReadiness { name: handle.name().to_owned(), status });
        }
        let draining = phase == Phase::Draining;
        Self { ready: missing.is_empty() && !draining, draining, tokens, missing }
    }
}
