//! The store as the token path uses it: a place for tokens, and what that place would not take yet.
//!
//! An entry that cannot be written is kept in memory and wins over the one that it follows, and so does the deletion of one.
//! A task tries again and again until all is done, or the store ends.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use crate::metrics::Metrics;
use crate::token::settings::StoreSettings;

use super::degraded::{Pending, StoreAlarm};
use super::entry::{Entry, Fingerprint};
use super::file::FileStore;
use super::key::Key;
use super::lease::Lease;
use super::memory::MemoryStore;
use super::spent::{Spending, SpentMark};
use super::store_error::StoreError;
use super::token_store::TokenStore;

/// A place for tokens, and what it would not take yet. Shared by clone; a reload that leaves `[store]` alone keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    place: Arc<dyn TokenStore>,
    alarm: StoreAlarm,
    outbox: Mutex<Outbox>,
    /// Read-locked by each who is between spending and writing; to lock it for writing is to wait for all of them.
    under_way: Arc<RwLock<()>>,
}

#[derive(Debug, Default)]
struct Outbox {
    entries: BTreeMap<Key, Unsaved>,
    /// The task that writes them.
    writer: Option<AbortHandle>,
}

#[derive(Clone, Debug)]
struct Unsaved {
    /// `None`: a deletion.
    entry: Option<Entry>,
    /// What stood in the place when it was made: where something else stands there by now, that is newer.
    base: Base,
}

/// What stood in the place.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Base {
    /// Nothing, or this.
    Entry(Option<Mark>),
    /// What could not be read.
    Unread,
}

/// What tells two entries of a token apart.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark(u64, Option<Fingerprint>);

/// Opens the configured store, and says in one line of the log which one it is. Blocks for a folder or a keyring,
/// within bounds.
///
/// # Errors
/// [`StoreError`] where it cannot be used at all. A place that cannot be written now is none: the alarm tells.
pub(crate) fn open_store(settings: &StoreSettings, alarm: &StoreAlarm) -> Result<Store, StoreError> {
    let place: Arc<dyn TokenStore> = match settings {
        StoreSettings::Memory => Arc::new(MemoryStore::default()),
        StoreSettings::File(folder) => Arc::new(FileStore::open(folder)?),
        StoreSettings::Keyring(folder) => Arc::new(FileStore::open_by_keyring(folder)?),
    };
    info!(store = place.describe(), "tokens are kept here");
    Ok(Store::new(place, alarm.clone()))
}

impl Store {
    /// A store in `place`.
    #[must_use]
    pub(crate) fn new(place: Arc<dyn TokenStore>, alarm: StoreAlarm) -> Self {
        Self {
            shared: Arc::new(Shared { place, alarm, outbox: Mutex::default(), under_way: Arc::default() }),
        }
    }

    /// A store that ends with this process, its alarm unheard: for trials and tests.
    #[must_use]
    pub(crate) fn memory() -> Self {
        Self::new(Arc::new(MemoryStore::default()), StoreAlarm::new(&Metrics::new()))
    }

    /// Whether entries outlive this process.
    #[must_use]
    pub(crate) fn is_durable(&self) -> bool {
        self.shared.place.is_durable()
    }

    /// What it is and where, for `status`.
    #[must_use]
    pub(crate) fn describe(&self) -> String {
        self.shared.place.describe()
    }

    /// Whether all that should be there is there.
    #[must_use]
    pub(crate) fn alarm(&self) -> &StoreAlarm {
        &self.shared.alarm
    }

    /// The file to watch for a token: another process that writes it (a login) may have what a failed token waits for.
    #[must_use]
    pub(crate) fn file(&self, name: &str) -> Option<PathBuf> {
        self.shared.place.file(name)
    }

    /// The lease of an entry; see [`TokenStore::lease`].
    ///
    /// # Errors
    /// [`StoreError`]
    pub(crate) async fn lease(&self, key: &Key) -> Result<Lease, StoreError> {
        self.shared.place.lease(key).await
    }

    /// The newest entry: of the place, or one that it would not take yet.
    ///
    /// # Errors
    /// [`StoreError`] where the place cannot be read and nothing waits to be written there.
    pub(crate) async fn load(&self, key: &Key, lease: Option<&Lease>) -> Result<Option<Entry>, StoreError> {
        let found = self.shared.place.load(key, lease).await;
        let mut outbox = self.shared.outbox();
        let Some(unsaved) = outbox.entries.get(key) else { return found };
        if found.as_ref().is_ok_and(|found| unsaved.is_settled(found.as_ref())) {
            outbox.entries.remove(key);
            drop(outbox);
            self.shared.alarm.clear(&key.name);
            return found;
        }
        Ok(unsaved.entry.clone())
    }

    /// Writes the entry that follows `base`. Where the place does not take it, the alarm is up and it is tried again
    /// until it does.
    pub(crate) async fn keep(&self, key: &Key, entry: Entry, base: Option<&Entry>, lease: &Lease) {
        let outcome = self.shared.place.replace(key, &entry, lease).await;
        let unsaved = Unsaved { entry: Some(entry), base: Base::Entry(base.map(Mark::of)) };
        self.settle(key, outcome.as_ref().err(), Pending::Write, unsaved);
    }

    /// Takes note of what came of an attempt, and tries again until it is done.
    fn settle(&self, key: &Key, error: Option<&StoreError>, pending: Pending, unsaved: Unsaved) {
        let Some(error) = error else {
            self.shared.outbox().entries.remove(key);
            self.shared.alarm.clear(&key.name);
            return;
        };
        self.shared.alarm.raise_for(&key.name, error, pending);
        let mut outbox = self.shared.outbox();
        // While one waits, nothing new has come to stand in the place.
        let base = outbox.entries.remove(key).map_or(unsaved.base, |before| before.base);
        outbox.entries.insert(key.clone(), Unsaved { base, ..unsaved });
        if outbox.writer.is_none() {
            let writer = tokio::spawn(write_again(Arc::downgrade(&self.shared)));
            outbox.writer = Some(writer.abort_handle());
        }
    }

    /// See [`TokenStore::spending`]; where that fails, nothing was noted.
    pub(crate) async fn spending(&self, key: &Key, now: Spending, lease: &Lease) -> Option<SpentMark> {
        match self.shared.place.spending(key, now, lease).await {
            Ok(before) => before,
            Err(error) => {
                debug!(token = key.name, %error, "what is being spent could not be noted in the token store");
                None
            }
        }
    }

    /// Forgets `base`, and what waits to be written; `None`: what stands there could not be read. `instead` is what stays, and
    /// holds no token. Where the place does not do it, the alarm is up and it is tried again until it does.
    ///
    /// # Errors
    /// [`StoreError`]; what was to be forgotten may still stand in its place.
    pub(crate) async fn forget(
        &self,
        key: &Key,
        base: Option<&Entry>,
        instead: Option<Entry>,
        lease: Result<&Lease, &StoreError>,
    ) -> Result<(), StoreError> {
        let deleted = self.shared.place.delete(key).await;
        let base = match (&deleted, base) {
            (Ok(()), _) => Base::Entry(None),
            (Err(_), None) => Base::Unread,
            (Err(_), Some(base)) => Base::Entry(Some(Mark::of(base))),
        };
        if deleted.is_ok() {
            self.shared.outbox().entries.remove(key);
        }
        let written = match (&instead, lease) {
            (None, _) => deleted.clone(),
            (Some(entry), Ok(lease)) => self.shared.place.replace(key, entry, lease).await,
            (Some(_), Err(error)) => Err(error.clone()),
        };
        let error = written.err().map(|error| deleted.clone().err().unwrap_or(error));
        self.settle(key, error.as_ref(), Pending::Deletion, Unsaved { entry: instead, base });
        match error {
            Some(error) if deleted.is_err() => Err(error),
            _ => Ok(()),
        }
    }

    /// Held while something is spent, until what came of it is written: [`Store::flush`] waits for it.
    pub(crate) async fn under_way(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.shared.under_way).read_owned().await
    }

    /// Waits for what is being spent to be written, and writes a last time what was not: for the end of the program,
    /// once no token is asked for any more. Takes `bound` at most.
    pub(crate) async fn flush(&self, bound: Duration) {
        let work = async {
            let _all = self.shared.under_way.write().await;
            self.shared.write_all().await;
        };
        // What is not done by then is known: the alarm is up.
        let _ = timeout(bound, work).await;
        let left: Vec<_> = self.shared.outbox().entries.keys().map(|key| key.name.clone()).collect();
        self.shared.alarm.end(&left);
    }
}

impl Shared {
    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries to write each entry that waits.
    async fn write_all(&self) {
        let waiting: Vec<_> = self.outbox().entries.keys().cloned().collect();
        for key in waiting {
            // An error says that the place is as it was: the alarm is up already.
            if let Err(error) = self.write_one(&key).await {
                self.alarm.update(&key.name, &error);
            }
        }
    }

    async fn write_one(&self, key: &Key) -> Result<(), StoreError> {
        let lease = self.place.lease(key).await?;
        let found = self.place.load(key, Some(&lease)).await;
        let Some(unsaved) = self.outbox().entries.get(key).cloned() else { return Ok(()) };
        let is_settled = match found {
            // It could not be read when it was to go, either.
            Err(_) if unsaved.base == Base::Unread => false,
            found => unsaved.is_settled(found?.as_ref()),
        };
        match &unsaved.entry {
            _ if is_settled => {}
            Some(entry) => self.place.replace(key, entry, &lease).await?,
            None => self.place.delete(key).await?,
        }
        self.outbox().entries.remove(key);
        self.alarm.clear(&key.name);
        Ok(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(writer) = self.outbox().writer.take() {
            writer.abort();
        }
    }
}

/// Ends when nothing waits to be written, or with the store.
async fn write_again(shared: Weak<Shared>) {
    let mut pause = FIRST_PAUSE;
    loop {
        sleep(pause).await;
        let Some(shared) = shared.upgrade() else { return };
        shared.write_all().await;
        let mut outbox = shared.outbox();
        if outbox.entries.is_empty() {
            outbox.writer = None;
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

impl Unsaved {
    /// Whether what stands in the place came there after this was made, or is gone as it should. For an entry, one that is
    /// gone is not newer: a good token is not thrown away for it.
    fn is_settled(&self, found: Option<&Entry>) -> bool {
        match (found, &self.base) {
            (None, _) => self.entry.is_none(),
            (Some(_), Base::Unread) => false,
            (Some(found), Base::Entry(base)) => Some(Mark::of(found)) != *base,
        }
    }
}

impl Mark {
    fn of(entry: &Entry) -> Self {
        Self(entry.generation, entry.refresh_token.as_ref().map(Fingerprint::of_secret))
    }
}

/// Between the first failure to write and the next attempt; it doubles from there.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between two attempts to write.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
