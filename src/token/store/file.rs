//! Tokens in a folder, a file for each, encrypted where a key is configured.
//!
//! Two processes may share the folder: a lock file beside each token is its lease. A file that is not ours to read is
//! set aside, never overwritten.

use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};
use tracing::warn;
use zeroize::Zeroizing;

use crate::clock;
use crate::secret::SecretSource;
use crate::token::settings::FolderSettings;

use super::entry::{Entry, Flaw, decode};
use super::folder::{Folder, Found};
use super::seal::{OpenError, SealingKey, is_newer, is_sealed};
use super::{Key, LEASE_POLL, LEASE_WAIT, Lease, StoreError, TokenStore, blocking};

/// A folder of tokens.
#[derive(Clone, Debug)]
pub struct FileStore {
    folder: Folder,
    encryption_key: Option<SecretSource>,
}

impl FileStore {
    /// Makes the folder where it is not there. Blocks for that.
    ///
    /// # Errors
    /// [`StoreError`] where the folder or the key cannot be used.
    pub fn open(settings: &FolderSettings) -> Result<Self, StoreError> {
        let store =
            Self { folder: Folder::open(&settings.path)?, encryption_key: settings.encryption_key.clone() };
        store.key()?;
        Ok(store)
    }

    fn key(&self) -> Result<Option<SealingKey>, StoreError> {
        self.encryption_key.as_ref().map(SealingKey::read).transpose()
    }

    fn read(&self, key: &Key, setting_aside: SettingAside) -> Result<Option<Entry>, StoreError> {
        let path = self.folder.file(&key.name);
        let flaw = match self.folder.read(&path)? {
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
                Err(OpenError::OtherKey) => return Err(StoreError::WrongKey(path.to_owned())),
                Err(OpenError::Flaw(flaw)) => return Ok(Err(flaw)),
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
        let sealed = if self.encryption_key.is_some() { ", encrypted" } else { "" };
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
