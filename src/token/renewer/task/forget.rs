//! The end of a login: given back and forgotten, after what is under way for its token.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Ended, Outcome, Task, bounded};
use crate::clock::BootInstant;
use crate::token::attempt;
use crate::token::error::Error;

impl Task {
    /// Forgets a token, after whatever is under way for it: an answer that is on its way would bring it back.
    pub(super) fn forget(&mut self, id: u64, done: oneshot::Sender<Result<(), Error>>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.leaving.push(done);
        entry.parked = None;
        self.queue.remove(id);
        if entry.running.is_none() {
            self.start_forgetting(id);
        }
    }

    pub(super) fn start_forgetting(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let source = Arc::clone(&entry.source);
        self.shares.begin(entry.server);
        let held = entry.token.state().credentials.as_ref().and_then(|held| held.access_token());
        let sent = BootInstant::now();
        entry.running = Some(self.attempts.spawn(async move {
            let outcome = bounded(source.patience(), async { source.forget(held).await }).await;
            Ended { id, sent, outcome: Outcome::Forgotten(outcome) }
        }));
    }

    pub(super) fn forgotten(&mut self, id: u64, outcome: &Result<(), Error>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let now = BootInstant::now();
        entry.running = None;
        entry.last_start = Some(now);
        if let Some(at) = entry.lapse.take() {
            self.lapses.remove(&(at, id));
        }
        let state = attempt::forgotten(&entry.token.state(), now);
        entry.woken = None;
        match outcome {
            Ok(()) => tracing::info!(token = entry.token.name, "the token was given back and forgotten"),
            Err(error) if error.is_still_stored() => {
                tracing::error!(token = entry.token.name, %error, "the token is no longer used, and its deletion is tried again");
            }
            Err(error) => {
                tracing::warn!(token = entry.token.name, %error, "the token was forgotten, and its server was not told");
            }
        }
        if let Some(metrics) = entry.show(id, state.status(now), &self.owners, &self.metrics) {
            metrics.forgotten(&entry.token.name);
        }
        entry.token.publish(state);
        for done in entry.leaving.drain(..) {
            // The caller may have stopped waiting.
            let _ = done.send(outcome.clone());
        }
    }
}
