//! A person's password that was refused: what the store says of it, so that neither a restart nor a replica sends it more
//! often.
//!
//! The first refusal leaves a note without the password, which costs nothing: a process that finds it sends its password
//! once. The mark of the password is slow to make, so that it is made before the second request and stands in the store as
//! soon as that is refused.

use crate::net::threads::STORE;
use crate::secret::Secret;
use crate::token::source::exchange_failure::ExchangeFailure;
use crate::token::store::{Entry, Lease, WithheldMark};

use super::{Exchange, Inner};

impl<E: Exchange> Inner<E> {
    /// Has the exchange count the refusals that the store knows of: once each, so that a person can have the password sent
    /// once more. Makes the mark of a password that is sent for the last time.
    pub(super) async fn recall(&self, entry: Option<&Entry>) -> Option<WithheldMark> {
        let password = self.exchange.password().await?;
        let mark = entry.and_then(|entry| entry.withheld);
        let refused_once = entry.is_some_and(|entry| entry.refused_once);
        let (new_mark, newly_refused) = {
            let mut memory = self.memory();
            let was_known = std::mem::replace(&mut memory.refused_once, refused_once);
            (mark.filter(|mark| memory.withheld != Some(*mark)), refused_once && !was_known)
        };
        if newly_refused {
            self.exchange.doubt(&password);
        }
        if let Some(mark) = new_mark {
            let asked = password.clone();
            if STORE.run(move || mark.is_of(&asked)).await.unwrap_or_default() {
                self.exchange.withhold(&password);
            }
            self.memory().withheld = Some(mark);
        }
        if self.store.is_durable() && self.exchange.doubts(&password) {
            made_of(password).await
        } else {
            None
        }
    }

    /// Leaves in the store what `failure` says of the password; what is in the store then. `mark` is the password's, where
    /// it was made before.
    pub(super) async fn note_refusal(
        &self,
        base: Option<Entry>,
        failure: &ExchangeFailure,
        mark: Option<WithheldMark>,
        lease: &Lease,
    ) -> Option<Entry> {
        if !self.store.is_durable() {
            return base;
        }
        let entry = if failure.is_withheld() {
            let is_marked = base.as_ref().is_some_and(|entry| entry.withheld.is_some());
            if is_marked && !failure.is_counted() {
                return base;
            }
            let mark = match (mark, self.exchange.password().await) {
                (None, Some(password)) => made_of(password).await,
                (mark, _) => mark,
            };
            if mark.is_none() {
                return base;
            }
            Entry { withheld: mark, refused_once: false, ..self.next(base.as_ref()) }
        } else if failure.refuses_person() {
            Entry { refused_once: true, ..self.next(base.as_ref()) }
        } else {
            return base;
        };
        {
            let mut memory = self.memory();
            (memory.withheld, memory.refused_once) = (entry.withheld, entry.refused_once);
        }
        self.store.keep(&self.key, entry.clone(), base.as_ref(), lease).await;
        Some(entry)
    }
}

async fn made_of(password: Secret<String>) -> Option<WithheldMark> {
    STORE.run(move || WithheldMark::of(&password)).await.ok().flatten()
}
