//! The alarm of the token store: up while an entry that should be there is not.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{error, info};

use crate::clock::Moment;
use crate::metrics::Metrics;
use crate::token::metrics::StoreMetrics;

use super::StoreError;

/// The alarm, made once per program and shared by clone.
#[derive(Clone)]
pub struct StoreAlarm {
    inner: Arc<Inner>,
}

struct Inner {
    metrics: StoreMetrics,
    /// The tokens that it is up for, and since when and why.
    tokens: Mutex<BTreeMap<String, (Moment, StoreError)>>,
}

/// A token that the store does not hold as it should: a restart may lose a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFault {
    /// The token's name.
    pub token: String,
    /// Since when.
    pub since: Moment,
    /// Why, at the last try.
    pub cause: StoreError,
}

impl StoreAlarm {
    /// Registers its metric: once for each registry.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self { inner: Arc::new(Inner { metrics: StoreMetrics::new(metrics), tokens: Mutex::default() }) }
    }

    /// The tokens that it is up for, by name; empty: the store holds all that it should.
    #[must_use]
    pub fn faults(&self) -> Vec<StoreFault> {
        let tokens = self.tokens();
        let fault = |(token, (since, cause)): (&String, &(Moment, StoreError))| StoreFault {
            token: token.clone(),
            since: *since,
            cause: cause.clone(),
        };
        tokens.iter().map(fault).collect()
    }

    /// Reports once for each token, until it is cleared, that the store is not to be relied on.
    pub(crate) fn raise(&self, token: &str, cause: &StoreError) {
        let mut tokens = self.tokens();
        let before = tokens.get(token).map(|(since, _)| *since);
        tokens.insert(token.to_owned(), (before.unwrap_or_else(Moment::now), cause.clone()));
        self.inner.metrics.degraded(true);
        drop(tokens);
        if before.is_none() {
            error!(token, cause = %cause, "the token store is not to be relied on for this token: what is held of it is in memory, and a restart may lose it");
        }
    }

    /// Keeps the newest cause, where it is up for this token still.
    pub(super) fn update(&self, token: &str, cause: &StoreError) {
        if let Some((_, known)) = self.tokens().get_mut(token) {
            known.clone_from(cause);
        }
    }

    /// The store holds the token again, or there is nothing to hold.
    pub(crate) fn clear(&self, token: &str) {
        let mut tokens = self.tokens();
        if tokens.remove(token).is_some() {
            self.inner.metrics.degraded(!tokens.is_empty());
            drop(tokens);
            info!(token, "the token store holds this token again");
        }
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (Moment, StoreError)>> {
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
        alarm.clear("api");
        assert_eq!(alarm.faults().len(), 1);
        alarm.clear("other");
        assert_eq!(alarm.faults(), []);
    }
}
