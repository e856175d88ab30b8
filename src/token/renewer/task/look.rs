//! Looks into the store for a token that another process has got.

use std::sync::Arc;

use super::{Ended, Outcome, Task, bounded};
use crate::clock::BootInstant;
use crate::token::source::Fetched;

impl Task {
    /// Looks into the store, which asks the server nothing: no share of its slots is waited for.
    pub(super) fn start_looking(&mut self, id: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let (source, sent) = (Arc::clone(&entry.source), BootInstant::now());
        entry.looking = Some(entry.token.activity.look_begins());
        self.shares.begin(entry.server);
        entry.running = Some(self.attempts.spawn(async move {
            let found = bounded(source.patience(), async { Ok(source.find_newer().await) }).await;
            Ended { id, sent, outcome: Outcome::Looked(found.unwrap_or_default().map(Box::new)) }
        }));
    }

    /// Puts in force what a look has found; where that is nothing, what was due or asked for meanwhile takes its turn.
    pub(super) fn looked(&mut self, id: u64, sent: BootInstant, found: Option<Fetched>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.running = None;
        let (number, due, asked) = (entry.looking.take(), entry.due.take(), entry.asked.take());
        let token = Arc::clone(&entry.token);
        match found {
            Some(fetched) => self.fetched(id, sent, Ok(fetched), None),
            None => {
                if let Some(urgency) = due {
                    self.queue.hasten(id, BootInstant::now(), urgency);
                }
            }
        }
        if let Some(number) = number {
            token.has_looked(number);
        }
        if let Some((ask, seen)) = asked {
            self.hear(id, ask, seen);
        }
    }
}
