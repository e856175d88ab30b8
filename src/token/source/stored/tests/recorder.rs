//! A store that notes what is asked of it, and fails where a test says.

use super::*;

/// A store that writes down what is asked of it, and fails where the test says.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) memory: MemoryStore,
    pub(super) journal: Journal,
    pub(super) unreadable: Mutex<Option<StoreError>>,
    pub(super) unwritable: Mutex<Option<StoreError>>,
    pub(super) unleasable: Mutex<Option<StoreError>>,
}

impl TokenStore for Recorder {
    fn load<'a>(
        &'a self,
        key: &'a Key,
        lease: Option<&'a Lease>,
    ) -> BoxFuture<'a, Result<Option<Entry>, StoreError>> {
        self.journal.lock().unwrap().push(if lease.is_some() { "load" } else { "look" }.to_owned());
        match self.unreadable.lock().unwrap().clone() {
            Some(error) => Box::pin(async { Err(error) }),
            None => self.memory.load(key, lease),
        }
    }

    fn lease<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Lease, StoreError>> {
        self.journal.lock().unwrap().push("lease".to_owned());
        match self.unleasable.lock().unwrap().clone() {
            Some(error) => Box::pin(async { Err(error) }),
            None => self.memory.lease(key),
        }
    }

    fn replace<'a>(
        &'a self,
        key: &'a Key,
        entry: &'a Entry,
        lease: &'a Lease,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.journal.lock().unwrap().push("write".to_owned());
        match self.unwritable.lock().unwrap().clone() {
            Some(error) => Box::pin(async { Err(error) }),
            None => self.memory.replace(key, entry, lease),
        }
    }

    fn delete<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<(), StoreError>> {
        self.journal.lock().unwrap().push("delete".to_owned());
        match self.unwritable.lock().unwrap().clone() {
            Some(error) => Box::pin(async { Err(error) }),
            None => self.memory.delete(key),
        }
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        "a recorder".to_owned()
    }
}
