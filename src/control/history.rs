//! What became of each token lately: its renewals and failures, as the dashboard draws them.
//!
//! It is gathered by looking once a second, so that tokens pay nothing for it: of several renewals within one second it
//! knows the last.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::clock::{self, Moment};
use crate::token::{Roster, TokenHandle};

/// Something that became of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Event {
    /// When, in seconds since 1970.
    pub at: u64,
    /// `renewed`, `failed` or `logged_out`.
    pub kind: String,
    /// Why it failed: one word of a closed set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Why it failed: a sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The events of the first [`MOST_TOKENS`] tokens. Shared by clone.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    tokens: Arc<Mutex<BTreeMap<String, Lately>>>,
}

#[derive(Debug, Default)]
struct Lately {
    renewals: u64,
    failed_at: Option<Moment>,
    events: VecDeque<Event>,
}

impl History {
    /// Looks once a second, until it is dropped.
    pub(super) async fn observe(&self, roster: &Roster) {
        let mut looks = tokio::time::interval(BETWEEN_LOOKS);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.look(roster);
        }
    }

    fn look(&self, roster: &Roster) {
        let handles = roster.load();
        let mut tokens = self.lock();
        tokens.retain(|name, _| handles.contains_key(name));
        for handle in handles.values().take(MOST_TOKENS) {
            tokens.entry(handle.name().to_owned()).or_default().look(handle);
        }
    }

    /// What became of this token, the oldest first.
    pub(super) fn of(&self, token: &str) -> Vec<Event> {
        self.lock().get(token).map(|lately| lately.events.iter().cloned().collect()).unwrap_or_default()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Lately>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lately {
    fn look(&mut self, handle: &TokenHandle) {
        let state = handle.load();
        // Fewer than before: a reload made another token of this name.
        if state.renewals < self.renewals {
            (self.renewals, self.failed_at) = (0, None);
        }
        let failed_at = state.last_error.as_ref().map(|failure| failure.at);
        if let Some(failure) = state.last_error.as_ref().filter(|_| failed_at != self.failed_at) {
            let kind = if failure.error.is_logged_out() { "logged_out" } else { "failed" };
            self.push(Event {
                at: unix(failure.at),
                kind: kind.to_owned(),
                cause: Some(failure.error.cause().to_owned()),
                message: Some(failure.to_string()),
            });
        }
        if let Some(at) = state.last_success.filter(|_| state.renewals > self.renewals) {
            self.push(Event { at: unix(at), kind: "renewed".to_owned(), cause: None, message: None });
        }
        (self.renewals, self.failed_at) = (state.renewals, failed_at);
    }

    fn push(&mut self, event: Event) {
        if self.events.len() == MOST_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

fn unix(at: Moment) -> u64 {
    clock::wall_at(at).duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// Of more tokens nobody looks at timelines.
pub(super) const MOST_TOKENS: usize = 100;
const MOST_EVENTS: usize = 50;
