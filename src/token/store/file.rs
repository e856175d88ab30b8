//! Tokens in a folder, a file for each, encrypted where a key is configured.
//!
//! Two processes may share the folder: a lock file beside each token is its lease. A file that is not ours to read is
//! set aside, never overwritten.

use std::io;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};
use tracing::warn;
use zeroize::Zeroizing;

use crate::clock;
use crate::net::threads::{NotDone, STORE};
use crate::secret::SecretSource;
use crate::token::settings::FolderSettings;

use super::encryption::{SealingKey, UnsealError, is_newer, is_sealed};
use super::entry::{Entry, Flaw, decode};
use super::folder::{Folder, Found};
use super::key::Key;
use super::keyring::KeyringKey;
use super::lease::{LEASE_POLL, LEASE_WAIT, Lease};
use super::spent::{Spending, SpentMark};
use super::store_error::{STORE_WAIT, StoreError};
use super::token_store::TokenStore;

/// A folder of tokens.
#[derive(Clone, Debug)]
pub(crate) struct FileStore {
    folder: Folder,
    keys: Keys,
}

/// Where the key is that entries are encrypted with.
#[derive(Clone, Debug)]
enum Keys {
    /// Nowhere: they are not.
    None,
    /// Where the configuration says.
    Configured(SecretSource),
    /// In the platform's keyring.
    Keyring(KeyringKey),
}

impl FileStore {
    /// Makes the folder where it is not there. Blocks for that.
    ///
    /// # Errors
    /// [`StoreError`] where the folder or the key cannot be used.
    pub(crate) fn open(settings: &FolderSettings) -> Result<Self, StoreError> {
        let keys = settings.encryption_key.clone().map_or(Keys::None, Keys::Configured);
        let store = Self { folder: Folder::open(&settings.path)?, keys };
        store.key()?;
        Ok(store)
    }

    /// The same with a key that the platform's keyring keeps, as soon as it gives it. Blocks for that, within bounds.
    ///
    /// # Errors
    /// [`StoreError`] where the folder cannot be used.
    pub(crate) fn open_by_keyring(settings: &FolderSettings) -> Result<Self, StoreError> {
        let folder = Folder::open(&settings.path)?;
        let keys = Keys::Keyring(KeyringKey::open(&folder)?);
        Ok(Self { folder, keys })
    }

    fn key(&self) -> Result<Option<SealingKey>, StoreError> {
        let source = match &self.keys {
            Keys::None => None,
            Keys::Configured(source) => Some(source.clone()),
            Keys::Keyring(keyring) => keyring.get()?,
        };
        source.as_ref().map(SealingKey::read).transpose()
    }

    fn read(&self, key: &Key, setting_aside: SettingAside) -> Result<Option<Entry>, StoreError> {
        let path = self.folder.file(&key.name);
        let flaw = match Folder::read(&path)? {
            Found::Nothing => return Ok(None),
            Found::Flawed(flaw) => flaw,
            Found::Bytes(bytes) => match self.understand(key, &path, &bytes)? {
                Ok(entry) => return Ok(Some(entry)),
                Err(flaw) => flaw,
            },
        };
        if setting_aside == SettingAside::Allowed {
            let aside = self.folder.set_aside(&path, flaw)?;
            warn!(
                token = key.name,
                file = %path.display(),
                now = %aside.display(),
                cause = %flaw,
                "what the token store held is set aside; the token starts anew"
            );
        }
        Ok(None)
    }

    fn understand(&self, key: &Key, path: &Path, bytes: &[u8]) -> Result<Result<Entry, Flaw>, StoreError> {
        if is_newer(bytes) {
            return Ok(Err(Flaw::Newer));
        }
        let opened: Zeroizing<Vec<u8>>;
        let plain = if is_sealed(bytes) {
            let sealing = self.key()?.ok_or_else(|| StoreError::NoKey(path.to_owned()))?;
            match sealing.open(&key.name, bytes) {
                Ok(plain) => opened = plain,
                Err(UnsealError::OtherKey) => {
                    return Err(match self.keys {
                        Keys::Keyring(_) => StoreError::OtherKeyring(path.to_owned()),
                        Keys::None | Keys::Configured(_) => StoreError::WrongKey(path.to_owned()),
                    });
                }
                Err(UnsealError::Flaw(flaw)) => return Ok(Err(flaw)),
            }
            opened.as_slice()
        } else {
            // From before a key was configured: the next write encrypts it.
            bytes
        };
        Ok(decode(plain)
            .and_then(|entry| if entry.client == key.client { Ok(entry) } else { Err(Flaw::Foreign) }))
    }

    fn write(&self, name: &str, entry: &Entry) -> Result<(), StoreError> {
        let plain = entry.encode();
        let bytes = match self.key()? {
            Some(key) => key.seal(name, &plain),
            None => plain,
        };
        self.folder.write(&self.folder.file(name), &bytes)
    }
}

/// Whether what is flawed may be moved: only by who holds the lease, for another may just be replacing it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SettingAside {
    Allowed,
    Not,
}

impl TokenStore for FileStore {
    fn load<'a>(
        &'a self,
        key: &'a Key,
        lease: Option<&'a Lease>,
    ) -> BoxFuture<'a, Result<Option<Entry>, StoreError>> {
        let (store, lease, owned) = (self.clone(), lease.cloned(), key.clone());
        Box::pin(blocking(self.folder.path(), move || {
            let aside = if lease.is_some() { SettingAside::Allowed } else { SettingAside::Not };
            store.read(&owned, aside)
        }))
    }

    fn lease<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Lease, StoreError>> {
        Box::pin(lease(&self.folder, &key.name))
    }

    fn replace<'a>(
        &'a self,
        key: &'a Key,
        entry: &'a Entry,
        lease: &'a Lease,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let (store, lease, name, entry) = (self.clone(), lease.clone(), key.name.clone(), entry.clone());
        Box::pin(blocking(self.folder.path(), move || {
            // A write that hangs and is given up keeps the lease until it is over: it must not undo a later one.
            let _lease = lease;
            store.write(&name, &entry)
        }))
    }

    fn spending<'a>(
        &'a self,
        key: &'a Key,
        now: Spending,
        lease: &'a Lease,
    ) -> BoxFuture<'a, Result<Option<SpentMark>, StoreError>> {
        let (folder, lease, name) = (self.folder.clone(), lease.clone(), key.name.clone());
        Box::pin(blocking(self.folder.path(), move || {
            let _lease = lease;
            folder.spending(&name, now)
        }))
    }

    fn delete<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<(), StoreError>> {
        let (store, name) = (self.clone(), key.name.clone());
        Box::pin(blocking(self.folder.path(), move || store.folder.remove(&store.folder.file(&name))))
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.file(name))
    }

    fn describe(&self) -> String {
        let sealed = match &self.keys {
            Keys::None => "",
            Keys::Configured(_) => ", encrypted",
            Keys::Keyring(keyring) if keyring.is_there() => ", encrypted with a key in the keyring",
            Keys::Keyring(_) => "; the keyring gives no key yet",
        };
        format!("files in {}{sealed}", self.folder.path().display())
    }
}

/// Waits for a lock as long as [`LEASE_WAIT`]. It asks again and again: a wait inside the system could not be
/// abandoned.
pub(super) async fn lease(folder: &Folder, name: &str) -> Result<Lease, StoreError> {
    let deadline: Instant = clock::now() + LEASE_WAIT;
    loop {
        let (place, owned) = (folder.clone(), name.to_owned());
        if let Some(lease) = blocking(folder.path(), move || place.try_lock(&owned)).await? {
            return Ok(lease);
        }
        if clock::now() >= deadline {
            return Err(StoreError::Busy(folder.lock_file(name)));
        }
        sleep(LEASE_POLL).await;
    }
}

/// Runs what blocks where it may, and gives up on it after [`STORE_WAIT`].
async fn blocking<T: Send + 'static>(
    place: &Path,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::time::timeout(STORE_WAIT, STORE.run(work)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(NotDone::NoThread)) => Err(StoreError::NoThread(place.to_owned())),
        Ok(Err(NotDone::Panicked)) => {
            Err(StoreError::Io { what: "used", path: place.to_owned(), kind: io::ErrorKind::Interrupted })
        }
        Ok(Err(NotDone::Full)) | Err(_) => Err(StoreError::Slow(place.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::oauth::Interruption;
    use crate::secret::Secret;
    use crate::token::store::entry::tests::{full, print};

    fn key() -> Key {
        Key { name: "api".to_owned(), client: print("client") }
    }

    fn store(path: &Path, encryption_key: Option<u8>) -> FileStore {
        let encryption_key =
            encryption_key.map(|byte| SecretSource::Inline(Secret::new(format!("{byte:02x}").repeat(32))));
        FileStore::open(&FolderSettings { path: path.to_owned(), encryption_key }).unwrap()
    }

    async fn put(store: &FileStore, entry: &Entry) -> Result<(), StoreError> {
        let lease = store.lease(&key()).await?;
        store.replace(&key(), entry, &lease).await
    }

    async fn get(store: &FileStore) -> Result<Option<Entry>, StoreError> {
        let lease = store.lease(&key()).await.unwrap();
        store.load(&key(), Some(&lease)).await
    }

    fn asides(path: &Path, word: &str) -> usize {
        let names = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with(&format!("api.token.{word}-"))).count()
    }

    #[tokio::test]
    async fn an_entry_outlives_the_store_that_wrote_it() {
        let top = tempfile::tempdir().unwrap();
        for encryption_key in [None, Some(7)] {
            let path = top.path().join(format!("{encryption_key:?}"));
            put(&store(&path, encryption_key), &full()).await.unwrap();
            assert_eq!(get(&store(&path, encryption_key)).await, Ok(Some(full())));
            let bytes = std::fs::read(path.join("api.token")).unwrap();
            let plain = bytes.windows(8).any(|window| window == b"sentinel");
            assert_eq!(plain, encryption_key.is_none());
            store(&path, encryption_key).delete(&key()).await.unwrap();
            assert_eq!(get(&store(&path, encryption_key)).await, Ok(None));
        }
    }

    #[tokio::test]
    async fn what_is_not_ours_is_set_aside_once_and_by_the_holder_of_the_lease_alone() {
        let newer = br#"{"version":99}"#.to_vec();
        let foreign = Entry { client: print("another"), ..full() }.encode().to_vec();
        let truncated = full().encode()[..60].to_vec();
        for (word, bytes) in
            [("newer", newer), ("foreign", foreign), ("corrupt", truncated), ("corrupt", b"\0\xff".to_vec())]
        {
            let top = tempfile::tempdir().unwrap();
            let store = store(top.path(), None);
            let file = store.file("api").unwrap();
            std::fs::write(&file, &bytes).unwrap();
            assert_eq!(store.load(&key(), None).await, Ok(None));
            assert_eq!((asides(top.path(), word), file.exists()), (0, true), "{word}");
            assert_eq!(get(&store).await, Ok(None));
            assert_eq!((asides(top.path(), word), file.exists()), (1, false), "{word}");
            assert_eq!(get(&store).await, Ok(None));
            put(&store, &full()).await.unwrap();
            assert_eq!(get(&store).await, Ok(Some(full())));
            assert_eq!(asides(top.path(), word), 1, "it is still there");
        }
    }

    #[tokio::test]
    async fn a_link_to_somebody_elses_file_is_set_aside_and_that_file_left_alone() {
        let top = tempfile::tempdir().unwrap();
        let store = store(&top.path().join("store"), None);
        let theirs = top.path().join("theirs");
        std::fs::write(&theirs, &*full().encode()).unwrap();
        symlink(&theirs, store.file("api").unwrap()).unwrap();
        assert_eq!(get(&store).await, Ok(None));
        assert_eq!(asides(&top.path().join("store"), "no-file"), 1);
        assert!(theirs.exists());
    }

    #[tokio::test]
    async fn an_entry_under_another_key_is_an_error_and_stays_where_it_is() {
        let top = tempfile::tempdir().unwrap();
        put(&store(top.path(), Some(1)), &full()).await.unwrap();
        let file = top.path().join("api.token");
        assert_eq!(get(&store(top.path(), Some(2))).await, Err(StoreError::WrongKey(file.clone())));
        assert_eq!(get(&store(top.path(), None)).await, Err(StoreError::NoKey(file)));
        assert_eq!(get(&store(top.path(), Some(1))).await, Ok(Some(full())));
    }

    #[tokio::test]
    async fn an_entry_from_before_there_was_a_key_is_read_and_encrypted_by_the_next_write() {
        let top = tempfile::tempdir().unwrap();
        put(&store(top.path(), None), &full()).await.unwrap();
        let sealed = store(top.path(), Some(1));
        let entry = get(&sealed).await.unwrap().unwrap();
        put(&sealed, &entry).await.unwrap();
        assert!(is_sealed(&std::fs::read(top.path().join("api.token")).unwrap()));
        // The entry of one token does not open in the place of another's.
        std::fs::rename(top.path().join("api.token"), top.path().join("other.token")).unwrap();
        let other = Key { name: "other".to_owned(), ..key() };
        let lease = sealed.lease(&other).await.unwrap();
        assert_eq!(sealed.load(&other, Some(&lease)).await, Ok(None));
    }

    #[test]
    fn what_is_no_key_is_refused_when_the_store_is_opened() {
        let top = tempfile::tempdir().unwrap();
        let open = |source| {
            FileStore::open(&FolderSettings { path: top.path().to_owned(), encryption_key: Some(source) })
        };
        let short = SecretSource::Inline(Secret::new("c2hvcnQ=".to_owned()));
        assert_eq!(open(short).unwrap_err(), StoreError::KeyMalformed);
        let missing = open(SecretSource::File(top.path().join("none"))).unwrap_err();
        assert!(matches!(missing, StoreError::KeyUnreadable(_)), "{missing}");
    }

    #[tokio::test]
    async fn a_failed_write_leaves_what_was_there_and_says_why() {
        let top = tempfile::tempdir().unwrap();
        let store = store(top.path(), None);
        put(&store, &full()).await.unwrap();
        // A folder that cannot be replaced stands where the new file is written first.
        std::fs::create_dir_all(top.path().join("api.tmp/full")).unwrap();
        let error = put(&store, &Entry { generation: 8, ..full() }).await.unwrap_err();
        assert!(error.to_string().contains("api.token cannot be written"), "{error}");
        assert_eq!(get(&store).await, Ok(Some(full())));
    }

    #[tokio::test]
    async fn what_a_holder_began_to_spend_is_known_to_the_next_one() {
        let top = tempfile::tempdir().unwrap();
        let one = store(top.path(), None);
        let lease = one.lease(&key()).await.unwrap();
        let first = SpentMark::begun(print("first"));
        let second = SpentMark { token: print("second"), how: Interruption::Unread };
        assert_eq!(one.spending(&key(), Spending::Of(first), &lease).await, Ok(None));
        // It is killed.
        drop(lease);
        let other = store(top.path(), None);
        let lease = other.lease(&key()).await.unwrap();
        assert_eq!(other.spending(&key(), Spending::Read, &lease).await, Ok(Some(first)));
        assert_eq!(other.spending(&key(), Spending::Of(second), &lease).await, Ok(Some(first)));
        assert!(one.folder.try_lock("api").unwrap().is_none(), "to note it lets go of no lease");
        assert_eq!(other.spending(&key(), Spending::Over, &lease).await, Ok(Some(second)));
        assert_eq!(other.spending(&key(), Spending::Read, &lease).await, Ok(None));
        // Something else stands there.
        std::fs::write(top.path().join("api.lock"), "nonsense").unwrap();
        assert_eq!(other.spending(&key(), Spending::Read, &lease).await, Ok(None));
    }

    #[tokio::test]
    async fn one_holds_the_lease_at_a_time_and_a_write_under_way_keeps_it() {
        let top = tempfile::tempdir().unwrap();
        let (one, other) = (store(top.path(), None), store(top.path(), None));
        let lease = one.lease(&key()).await.unwrap();
        let clone = lease.clone();
        drop(lease);
        assert!(other.folder.try_lock("api").unwrap().is_none());
        drop(clone);
        assert!(other.folder.try_lock("api").unwrap().is_some());
    }
}
