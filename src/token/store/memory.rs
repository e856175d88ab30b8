//! Tokens in this process' memory: what a login brought is lost with it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::Mutex as Turn;
use tokio::time::timeout;

use super::entry::Entry;
use super::key::Key;
use super::lease::{LEASE_WAIT, Lease};
use super::store_error::StoreError;
use super::token_store::TokenStore;

/// The store that needs nothing and keeps nothing.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    entries: Mutex<HashMap<Key, Slot>>,
}

#[derive(Debug, Default)]
struct Slot {
    entry: Option<Entry>,
    turn: Arc<Turn<()>>,
}

impl MemoryStore {
    fn slot<T>(&self, key: &Key, work: impl FnOnce(&mut Slot) -> T) -> T {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        work(entries.entry(key.clone()).or_default())
    }
}

impl TokenStore for MemoryStore {
    fn load<'a>(
        &'a self,
        key: &'a Key,
        _lease: Option<&'a Lease>,
    ) -> BoxFuture<'a, Result<Option<Entry>, StoreError>> {
        Box::pin(async { Ok(self.slot(key, |slot| slot.entry.clone())) })
    }

    fn lease<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Lease, StoreError>> {
        Box::pin(async {
            let turn = self.slot(key, |slot| Arc::clone(&slot.turn));
            match timeout(LEASE_WAIT, turn.lock_owned()).await {
                Ok(guard) => Ok(Lease::new(guard)),
                Err(_elapsed) => Err(StoreError::Busy(PathBuf::from("memory"))),
            }
        })
    }

    fn replace<'a>(
        &'a self,
        key: &'a Key,
        entry: &'a Entry,
        _lease: &'a Lease,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async {
            self.slot(key, |slot| slot.entry = Some(entry.clone()));
            Ok(())
        })
    }

    fn delete<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async {
            self.slot(key, |slot| slot.entry = None);
            Ok(())
        })
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}
