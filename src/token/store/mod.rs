//! Where tokens live: what outlives a restart, and what two processes share.
//!
//! A [`TokenStore`] is a place: this process' memory, a folder of files, the platform's keyring. A [`Store`] is what
//! the token path uses: a place, and the entries that the place would not take yet. Those win over what stands there
//! until they can be written, and an alarm is up for as long.
//!
//! A process that changes an entry holds its lease from the moment it reads it until it has written it. Nothing here asks for
//! a token: `source::stored` does, between the two.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::net::threads::{NotDone, STORE};
use crate::secret::SecretError;

mod alarm;
mod entry;
mod file;
mod folder;
mod key;
mod keyring;
mod memory;
mod outbox;
mod seal;
mod spent;
mod withheld;

pub(crate) use alarm::{Pending, StoreAlarm, StoreFault};
#[cfg(test)]
pub(crate) use entry::Flaw;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use entry::decode;
#[cfg(test)]
pub(in crate::token) use entry::tests;
pub(crate) use entry::{Earned, Entry, Fingerprint, StoredAccess};
#[cfg(test)]
pub(crate) use file::FileStore;
pub(in crate::token) use key::request;
#[cfg(test)]
pub(crate) use memory::MemoryStore;
pub(crate) use outbox::{Store, open_store};
pub(crate) use seal::is_encryption_key;
pub(crate) use spent::{Spending, SpentMark};
pub(crate) use withheld::WithheldMark;

/// A place for tokens. Each call ends within [`STORE_WAIT`], a lease's within [`LEASE_WAIT`].
pub(crate) trait TokenStore: Send + Sync + fmt::Debug {
    /// What stands there. With the lease, an entry that is not one of ours to read is set aside and reported, and then
    /// it is as if there were none; without it, nothing is touched.
    ///
    /// # Errors
    /// [`StoreError`]; what stands there is unknown.
    fn load<'a>(
        &'a self,
        key: &'a Key,
        lease: Option<&'a Lease>,
    ) -> BoxFuture<'a, Result<Option<Entry>, StoreError>>;

    /// The right to spend and to write, which one holds at a time, of all processes. It ends when it is dropped.
    ///
    /// # Errors
    /// [`StoreError::Busy`] where another holds it for all of [`LEASE_WAIT`], or why there can be none.
    fn lease<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Lease, StoreError>>;

    /// Writes an entry. Once this returns, it is there after a loss of power too, where the place can promise that.
    ///
    /// # Errors
    /// [`StoreError`]; what stood there stands there still.
    fn replace<'a>(
        &'a self,
        key: &'a Key,
        entry: &'a Entry,
        lease: &'a Lease,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Notes which refresh token is being spent, or that none is any more, and returns what was noted before: what its
    /// holder spent without storing its successor. It outlasts the process, and need not outlast a loss of
    /// power, so that it costs no wait for the disk.
    ///
    /// # Errors
    /// [`StoreError`]; nothing depends on it but what a person reads.
    fn spending<'a>(
        &'a self,
        _key: &'a Key,
        _now: Spending,
        _lease: &'a Lease,
    ) -> BoxFuture<'a, Result<Option<SpentMark>, StoreError>> {
        Box::pin(async { Ok(None) })
    }

    /// Forgets an entry; there may be none.
    ///
    /// # Errors
    /// [`StoreError`]; it may stand there still.
    fn delete<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Whether an entry outlives this process.
    fn is_durable(&self) -> bool;

    /// The file that changes when another process writes the entry, where there is one.
    fn file(&self, _name: &str) -> Option<PathBuf> {
        None
    }

    /// What it is and where, for the log and for `status`.
    fn describe(&self) -> String;
}

/// Whose entry it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    /// The token's name in the configuration.
    pub name: String,
    /// Of which client at which authorization server: an entry of another is not ours.
    pub client: Fingerprint,
}

/// The right to spend and to write an entry, until it is dropped.
#[derive(Clone)]
pub(crate) struct Lease(std::sync::Arc<dyn std::any::Any + Send + Sync>);

impl Lease {
    /// A lease that lasts as long as `guard`. A write that is under way keeps a clone: the lease outlasts it.
    pub(crate) fn new(guard: impl Send + Sync + 'static) -> Self {
        Self(std::sync::Arc::new(guard))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("holders", &std::sync::Arc::strong_count(&self.0)).finish()
    }
}

/// Why a store did not do what it was asked. It names the file, and never holds what is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// The system refused to read or write.
    #[error("{} cannot be {what}: {kind}{}", .path.display(), help(*.kind))]
    Io {
        /// What was to be done: "read", "written" and their like.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        kind: io::ErrorKind,
    },
    /// Where a folder is to be, there is something else.
    #[error("{} is not a folder; set `path` in [store] to one", .0.display())]
    NotAFolder(PathBuf),
    /// Another user's folder or file: what stands there may be planted.
    #[error(
        "{} belongs to the user {owner}; tokens are kept in what belongs to the user who runs this program alone: \
         change its owner, or set `path` in [store] to another folder", .path.display()
    )]
    Owner {
        /// The file or folder.
        path: PathBuf,
        /// The user's number.
        owner: u32,
    },
    /// Another process holds the lease and does not let go.
    #[error("another process has held the lease of the token for {} s; see which one holds {} open", LEASE_WAIT.as_secs(), .0.display())]
    Busy(PathBuf),
    /// The disk or the keyring does not answer.
    #[error("{} did not answer within {} s; see whether it hangs", .0.display(), STORE_WAIT.as_secs())]
    Slow(PathBuf),
    /// This machine lacks a thread to use it in.
    #[error("{}: {NO_THREAD}", .0.display(), NO_THREAD = NotDone::NoThread)]
    NoThread(PathBuf),
    /// The entry is encrypted, and no key is configured.
    #[error("{} is encrypted; set `encryption_key_file` in [store] to its key, or move the file away", .0.display())]
    NoKey(PathBuf),
    /// The entry is encrypted with another key.
    #[error(
        "{} is encrypted with another key than the one in `encryption_key_file` of [store]; put that key back, or move the file away",
        .0.display()
    )]
    WrongKey(PathBuf),
    /// The entry is encrypted with another key than the keyring's.
    #[error("{} is encrypted with another key than the one in the keyring; unlock the keyring that has it", .0.display())]
    OtherKeyring(PathBuf),
    /// The key for the store cannot be read.
    #[error("the key of the token store: {0}")]
    KeyUnreadable(#[from] SecretError),
    /// The key for the store is no key.
    #[error(
        "the key of the token store is not 32 bytes in base64 or hexadecimal; `openssl rand -base64 32` makes one"
    )]
    KeyMalformed,
    /// The platform's keyring did not do it.
    #[error("the keyring: {0}")]
    Keyring(KeyringFault),
}

/// Why the platform's keyring could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyringFault {
    /// There is no `secret-tool`, no session bus or no secret service on it.
    #[error(
        "no secret service answers; install `secret-tool` (Debian: libsecret-tools) and start a service (GNOME Keyring, \
         KWallet, KeePassXC) on the session bus"
    )]
    Absent,
    /// It is locked, and was not unlocked.
    #[error("it is locked, or does not have the key of the stored tokens; unlock the keyring")]
    Locked,
    /// It does not give back what it was given.
    #[error("it does not give back the key that was put into it")]
    Unfaithful,
    /// It refused.
    #[error("it refused the request")]
    Refused,
}

impl StoreError {
    /// Whether the same settings may do at another time: a disk that is mounted, a key that is written, a keyring that is unlocked.
    #[must_use]
    pub(crate) const fn may_pass(&self) -> bool {
        match self {
            Self::Io { kind, .. } => !matches!(kind, io::ErrorKind::PermissionDenied),
            Self::Busy(_) | Self::Slow(_) | Self::NoThread(_) | Self::Keyring(_) => true,
            Self::KeyUnreadable(error) => error.may_pass(),
            Self::NotAFolder(_)
            | Self::Owner { .. }
            | Self::NoKey(_)
            | Self::WrongKey(_)
            | Self::OtherKeyring(_)
            | Self::KeyMalformed => false,
        }
    }

    fn io(what: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), kind: error.kind() }
    }
}

/// What to do about what the system said.
fn help(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::PermissionDenied => "; give the user who runs this program access",
        io::ErrorKind::ReadOnlyFilesystem => {
            "; mount it writable, or set `path` in [store] to a folder that is"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room",
        io::ErrorKind::NotFound => "; make the folder",
        _ => "",
    }
}

/// How long a lease is waited for: longer than a token request of another process usually takes.
pub(crate) const LEASE_WAIT: Duration = Duration::from_secs(10);

/// How long a read or a write may take before the store counts as gone.
pub(crate) const STORE_WAIT: Duration = Duration::from_secs(5);

/// How long between two looks at a lease that another holds.
const LEASE_POLL: Duration = Duration::from_millis(20);

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
