//! The alarm of the token store: up while an entry that should be there is not.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{error, info};

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
    /// The tokens that it is up for.
    tokens: Mutex<BTreeSet<String>>,
}

impl StoreAlarm {
    /// Registers its metric: once for each registry.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self { inner: Arc::new(Inner { metrics: StoreMetrics::new(metrics), tokens: Mutex::default() }) }
    }

    /// Whether the store does not hold all that it should: then a restart may lose a login.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.tokens().is_empty()
    }

    /// Says once for each token, until it is cleared, that the store is not to be relied on.
    pub(crate) fn raise(&self, token: &str, cause: &StoreError) {
        let mut tokens = self.tokens();
        let new = tokens.insert(token.to_owned());
        self.inner.metrics.degraded(true);
        drop(tokens);
        if new {
            error!(token, cause = %cause, "the token store is not to be relied on for this token: what is held of it is in memory, and a restart may lose it");
        }
    }

    /// The store holds the token again, or there is nothing to hold.
    pub(crate) fn clear(&self, token: &str) {
        let mut tokens = self.tokens();
        if tokens.remove(token) {
            self.inner.metrics.degraded(!tokens.is_empty());
            drop(tokens);
            info!(token, "the token store holds this token again");
        }
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.inner.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for StoreAlarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreAlarm").field("tokens", &*self.tokens()).finish_non_exhaustive()
    }
}
