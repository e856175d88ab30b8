//! A person's password that was refused too often: what the store says of it, so that neither a restart nor a replica sends it
//! again.

use crate::net::threads::STORE;
use crate::token::store::{Entry, Lease, WithheldMark};

use super::{Exchange, Inner};

impl<E: Exchange> Inner<E> {
    /// Has the exchange withhold the password that the store has a mark of: once for each mark, so that a person can have
    /// it sent once more.
    pub(super) async fn withhold(&self, entry: Option<&Entry>) {
        let Some(mark) = entry.and_then(|entry| entry.withheld) else { return };
        if self.memory().withheld == Some(mark) {
            return;
        }
        let Some(password) = self.exchange.password().await else { return };
        let asked = password.clone();
        if STORE.run(move || mark.is_of(&asked)).await.unwrap_or_default() {
            self.exchange.withhold(&password);
        }
        self.memory().withheld = Some(mark);
    }

    /// Leaves a mark of the password in the store.
    pub(super) async fn mark_withheld(&self, base: Option<&Entry>, lease: &Lease) {
        let Some(password) = self.exchange.password().await.filter(|_| self.store.is_durable()) else {
            return;
        };
        let Some(mark) = STORE.run(move || WithheldMark::of(&password)).await.ok().flatten() else { return };
        self.memory().withheld = Some(mark);
        let entry = Entry { withheld: Some(mark), ..self.next(base) };
        self.store.keep(&self.key, entry, base, lease).await;
    }
}
