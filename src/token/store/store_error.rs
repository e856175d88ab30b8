//! Why a token store did not do what it was asked.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::net::threads::NotDone;
use crate::secret::SecretError;

use super::lease::LEASE_WAIT;

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

    pub(super) fn io(what: &'static str, path: &Path, error: &io::Error) -> Self {
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

/// How long a read or a write may take before the store counts as gone.
pub(crate) const STORE_WAIT: Duration = Duration::from_secs(5);
