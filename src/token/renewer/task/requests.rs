//! What requests tell the renewer: that they wait for a token, and what the API said to the one that they carried.

use super::Task;
use crate::clock::BootInstant;
use crate::token::attempt;
use crate::token::queue::Urgency;
use crate::token::schedule::retry_at;
use crate::token::state::TokenState;

impl Task {
    /// A request waits while renewals fail: the next attempt is a few seconds away at most.
    pub(super) fn waited_for(&mut self, id: u64, state: &TokenState, now: BootInstant) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let backoff = &entry.token.settings.policy.retry;
        let Some(at) = retry_at(&state.facts().waited_for(), backoff, fastrand::f64()) else { return };
        let at = entry.earliest(now).max(at);
        if entry.parked.is_some() || state.next_attempt.is_none_or(|planned| planned <= at) {
            return;
        }
        self.queue.hasten(id, at, Urgency::Planned);
        entry.token.revise(TokenState { next_attempt: Some(at), ..state.clone() });
    }

    pub(super) fn rejected(&mut self, id: u64, generation: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let (now, old) = (BootInstant::now(), entry.token.state());
        let Some(state) = attempt::rejected(&old, generation, now) else { return };
        attempt::log_rejected(&entry.token.name, &old, &state, now);
        entry.show(id, state.status(now), &self.owners, &self.metrics);
        entry.token.revise(state);
    }

    pub(super) fn accepted(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let state = attempt::accepted(&entry.token.state());
        entry.show(id, state.status(BootInstant::now()), &self.owners, &self.metrics);
        entry.token.revise(state);
    }
}
