//! The alarm of the token store: up while an entry that should be there is not.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{error, info};

use crate::clock::BootInstant;
use crate::metrics::Metrics;
use crate::token::metrics::StoreMetrics;

use super::store_error::StoreError;

/// The alarm, made once per program and shared by clone.
#[derive(Clone)]
pub(crate) struct StoreAlarm {
    inner: Arc<Inner>,
}

struct Inner {
    metrics: StoreMetrics,
    /// The tokens that it is up for.
    tokens: Mutex<BTreeMap<String, StoreFault>>,
}

/// A token that the store does not hold as it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreFault {
    /// The token's name.
    pub token: String,
    /// Since when.
    pub since: BootInstant,
    /// Why, at the last try.
    pub cause: StoreError,
    /// What the store has not done yet.
    pub pending: Pending,
}

/// What a store has not done yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pending {
    /// To take what is held of a token: a restart may lose it.
    Write,
    /// To delete what was logged out: a restart brings it back.
    Deletion,
}

impl StoreAlarm {
    /// Registers its metric: once for each registry.
    #[must_use]
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self { inner: Arc::new(Inner { metrics: StoreMetrics::new(metrics), tokens: Mutex::default() }) }
    }

    /// The tokens that it is up for, by name; empty: the store holds all that it should.
    #[must_use]
    pub(crate) fn faults(&self) -> Vec<StoreFault> {
        self.tokens().values().cloned().collect()
    }

    /// Reports once for each token, until it is cleared, that the store is not to be relied on.
    pub(crate) fn raise(&self, token: &str, cause: &StoreError) {
        let pending = self.tokens().get(token).map_or(Pending::Write, |fault| fault.pending);
        self.raise_for(token, cause, pending);
    }

    /// The same, and what it is that the store has not done. A change of that is reported, too.
    pub(super) fn raise_for(&self, token: &str, cause: &StoreError, pending: Pending) {
        let mut tokens = self.tokens();
        let before = tokens.get(token).map(|fault| (fault.since, fault.pending));
        let since = before.map_or_else(BootInstant::now, |(since, _)| since);
        let fault = StoreFault { token: token.to_owned(), since, cause: cause.clone(), pending };
        tokens.insert(token.to_owned(), fault);
        self.inner.metrics.degraded(true);
        drop(tokens);
        if before.is_some_and(|(_, before)| before == pending) {
            return;
        }
        match pending {
            Pending::Write => {
                error!(token, cause = %cause, "the token store is not to be relied on for this token: what is held of it is in memory, and a restart may lose it");
            }
            Pending::Deletion => {
                error!(token, cause = %cause, "the token store still holds this token, which was logged out: until the deletion succeeds, a restart brings it back");
            }
        }
    }

    /// Reports at the end of the program which of `tokens` the store does not hold as it should.
    pub(super) fn end(&self, tokens: &[String]) {
        for StoreFault { token, cause, pending, .. } in self.faults() {
            match pending {
                _ if !tokens.contains(&token) => {}
                Pending::Write => {
                    error!(token, cause = %cause, "the program ends, and the token store has not taken what it holds of this token: that is lost");
                }
                Pending::Deletion => {
                    error!(token, cause = %cause, "the program ends, and the token store still holds this token, which was logged out: the next start brings it back");
                }
            }
        }
    }

    /// Keeps the newest cause, where it is up for this token still.
    pub(super) fn update(&self, token: &str, cause: &StoreError) {
        if let Some(known) = self.tokens().get_mut(token) {
            known.cause = cause.clone();
        }
    }

    /// The store holds the token again, or there is nothing to hold.
    pub(crate) fn clear(&self, token: &str) {
        let mut tokens = self.tokens();
        if let Some(fault) = tokens.remove(token) {
            self.inner.metrics.degraded(!tokens.is_empty());
            drop(tokens);
            match fault.pending {
                Pending::Write => info!(token, "the token store holds this token again"),
                Pending::Deletion => info!(token, "the token store no longer holds what was logged out"),
            }
        }
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, StoreFault>> {
        self.inner.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for StoreAlarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreAlarm").field("tokens", &*self.tokens()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn it_is_up_for_each_token_with_the_newest_cause_until_that_is_cleared() {
        let alarm = StoreAlarm::new(&Metrics::new());
        let slow = || StoreError::Slow(PathBuf::from("/store"));
        let lock = || StoreError::Busy(PathBuf::from("/store/api.lock"));
        alarm.update("api", &lock());
        assert_eq!(alarm.faults(), [], "nothing is up for it");
        alarm.raise("api", &slow());
        alarm.raise("other", &slow());
        let since = alarm.faults()[0].since;
        alarm.update("api", &lock());
        alarm.raise("other", &lock());
        let told: Vec<_> = alarm.faults().into_iter().map(|fault| (fault.token, fault.cause)).collect();
        assert_eq!(told, [("api".to_owned(), lock()), ("other".to_owned(), lock())]);
        assert_eq!(alarm.faults()[0].since, since);
        // A reason that comes by reading leaves it so.
        alarm.raise_for("api", &slow(), Pending::Deletion);
        alarm.raise("api", &lock());
        assert_eq!((alarm.faults()[0].pending, alarm.faults()[0].since), (Pending::Deletion, since));
        alarm.clear("api");
        assert_eq!(alarm.faults().len(), 1);
        alarm.clear("other");
        assert_eq!(alarm.faults(), []);
    }
}
