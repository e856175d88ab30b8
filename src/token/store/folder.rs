//! A folder of small files that other users may not read: names, permissions, whole writes, locks. It blocks.
//!
//! It knows nothing of what is in the files. A file is replaced whole or not at all, and no link is followed where a
//! file should be.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rustix::fs::OFlags;
use tracing::warn;
use zeroize::Zeroizing;

use crate::clock;

use super::encryption::is_sealed;
use super::entry::{Fingerprint, Flaw};
use super::lease::Lease;
use super::spent::{LONGEST_MARK, Spending, SpentMark};
use super::store_error::StoreError;

/// A folder of ours.
#[derive(Clone, Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

/// What stands where a file should be.
#[derive(Debug)]
pub(super) enum Found {
    Nothing,
    Bytes(Zeroizing<Vec<u8>>),
    Flawed(Flaw),
}

impl Folder {
    /// Makes the folder where it is not there, for its owner alone. One that others may enter is warned about.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be made, is no folder, or is another user's.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        let metadata = match (std::fs::metadata(path), made) {
            (Ok(metadata), _) => metadata,
            (Err(_), Err(error)) => return Err(StoreError::io("made", path, &error)),
            (Err(error), Ok(())) => return Err(StoreError::io("read", path, &error)),
        };
        if !metadata.is_dir() {
            return Err(StoreError::NotAFolder(path.to_owned()));
        }
        // The system's administrator could read all of it anyhow; volumes in containers belong to them.
        if metadata.uid() != me() && metadata.uid() != 0 {
            return Err(StoreError::Owner { path: path.to_owned(), owner: metadata.uid() });
        }
        if metadata.mode() & 0o077 != 0 {
            warn!(
                folder = %path.display(),
                mode = format_args!("{:04o}", metadata.mode() & 0o7777),
                "other users may enter the folder of the token store; `chmod 700` closes it"
            );
        }
        Ok(Self { path: path.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file of the token `name`.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(file_name(name, "token"))
    }

    /// The file whose lock is the lease of the token `name`.
    pub(super) fn lock_file(&self, name: &str) -> PathBuf {
        self.path.join(file_name(name, "lock"))
    }

    /// Reads a file of ours.
    pub(super) fn read(path: &Path) -> Result<Found, StoreError> {
        // Not to block on a pipe that was put there.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => {
                return match std::fs::symlink_metadata(path) {
                    Ok(metadata) if !metadata.is_file() => Ok(Found::Flawed(Flaw::NotAFile)),
                    _ => Err(StoreError::io("read", path, &error)),
                };
            }
        };
        let metadata = file.metadata().map_err(|error| StoreError::io("read", path, &error))?;
        if !metadata.is_file() {
            return Ok(Found::Flawed(Flaw::NotAFile));
        }
        if metadata.uid() != me() && metadata.uid() != 0 {
            return Err(StoreError::Owner { path: path.to_owned(), owner: metadata.uid() });
        }
        // One allocation of the full size: a growing buffer would leave copies that are not zeroed.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES.min(metadata.len() as usize) + 1));
        file.take(MAX_FILE_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| StoreError::io("read", path, &error))?;
        if bytes.len() > MAX_FILE_BYTES {
            return Ok(Found::Flawed(Flaw::Corrupt));
        }
        Ok(Found::Bytes(bytes))
    }

    /// Replaces a file whole, and returns once it would outlast a loss of power.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        // One name for each token, so that what a crash leaves behind is gone with the next write. Only who holds the
        // lease writes.
        let temporary = path.with_extension("tmp");
        let outcome = std::fs::remove_file(&temporary)
            .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
            .and_then(|()| write_new(&temporary, bytes))
            .and_then(|()| std::fs::rename(&temporary, path))
            .map_err(|error| StoreError::io("written", path, &error));
        if outcome.is_err() {
            // What is left of it would be a copy of a secret that is never found.
            let _ = std::fs::remove_file(&temporary);
        } else {
            self.sync(path)?;
        }
        outcome
    }

    /// Removes a file; there may be none.
    pub(super) fn remove(&self, path: &Path) -> Result<(), StoreError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // A file system that is read-only refuses before it looks.
            Err(error) => match path.symlink_metadata() {
                Err(absent) if absent.kind() == io::ErrorKind::NotFound => Ok(()),
                _ => Err(StoreError::io("deleted", path, &error)),
            },
            Ok(()) => self.sync(path),
        }
    }

    /// Moves what stands at `path` out of the way, under a name that says when and why.
    pub(super) fn set_aside(&self, path: &Path, flaw: Flaw) -> Result<PathBuf, StoreError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        // The word keeps one that was set aside in the same second.
        name.push(format!(".{}-{}-{}", flaw.as_str(), clock::unix_seconds(), random_word()));
        let aside = path.with_file_name(name);
        std::fs::rename(path, &aside).map_err(|error| StoreError::io("set aside", path, &error))?;
        self.sync(path)?;
        Ok(aside)
    }

    /// Whether any file is encrypted.
    pub(super) fn has_sealed(&self) -> Result<bool, StoreError> {
        let list =
            std::fs::read_dir(&self.path).map_err(|error| StoreError::io("read", &self.path, &error))?;
        for file in list.flatten().map(|entry| entry.path()) {
            if file.extension().is_some_and(|extension| extension == "token")
                && let Found::Bytes(bytes) = Self::read(&file)?
                && is_sealed(&bytes)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Tries for the lock of a token, once. `None`: another has it.
    pub(super) fn try_lock(&self, name: &str) -> Result<Option<Lease>, StoreError> {
        let path = self.lock_file(name);
        let file = self.open_lock(&path).map_err(|error| StoreError::io("locked", &path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lease::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(StoreError::io("locked", &path, &error)),
        }
    }

    /// Reads the note of what is being spent, which stands in the lock's file, and changes it. Its holder alone does.
    pub(super) fn spending(&self, name: &str, now: Spending) -> Result<Option<SpentMark>, StoreError> {
        let path = self.lock_file(name);
        let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed();
        let work = || {
            let mut file =
                OpenOptions::new().read(true).write(now != Spending::Read).custom_flags(flags).open(&path)?;
            let mut before = String::new();
            // Something else may stand there: it is no note.
            let _ = (&mut file).take(LONGEST_MARK).read_to_string(&mut before);
            if now != Spending::Read {
                file.set_len(0)?;
                file.rewind()?;
            }
            if let Spending::Of(mark) = now {
                file.write_all(mark.encode().as_bytes())?;
            }
            Ok(SpentMark::decode(&before))
        };
        work().map_err(|error: io::Error| StoreError::io("written", &path, &error))
    }

    /// On a full or read-only disk a lock is still to be had: of the file that is there, else of the folder itself.
    fn open_lock(&self, path: &Path) -> io::Result<File> {
        let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed();
        let mut options = OpenOptions::new();
        options.custom_flags(flags).mode(0o600);
        let made = options.clone().write(true).create(true).truncate(false).open(path);
        made.or_else(|first| match first.kind() {
            io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::PermissionDenied => {
                options.read(true).open(path).or_else(|_| File::open(&self.path)).map_err(|_| first)
            }
            _ => Err(first),
        })
    }

    /// Makes the folder's own list of names durable.
    fn sync(&self, path: &Path) -> Result<(), StoreError> {
        File::open(&self.path)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| StoreError::io("written", path, &error))
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed())
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A file's name for a token's: readable, and another for each.
fn file_name(token: &str, extension: &str) -> String {
    let mut name = String::with_capacity(token.len() + extension.len() + 1);
    for byte in token.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            // Upper case as a number, too: some file systems do not tell it from lower case.
            _ => {
                name.push('%');
                HEXLOWER.encode_append(&[byte], &mut name);
            }
        }
    }
    if name.len() > LONGEST_NAME {
        name = format!("%{}", HEXLOWER.encode(Fingerprint::of([token.as_bytes()]).as_bytes()));
    }
    format!("{name}.{extension}")
}

fn random_word() -> String {
    HEXLOWER.encode(&fastrand::u32(..).to_be_bytes())
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// More than any entry: a mistaken path to a large file stops here.
const MAX_FILE_BYTES: usize = 512 * 1024;

/// File systems take 255 bytes; the extension and what is added to a file that is set aside need room.
const LONGEST_NAME: usize = 160;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let top = tempfile::tempdir().unwrap();
        let folder = Folder::open(&top.path().join("a/b")).unwrap();
        (top, folder)
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn bytes(found: Found) -> Vec<u8> {
        match found {
            Found::Bytes(bytes) => bytes.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn folder_and_files_are_for_their_owner_alone() {
        let (top, folder) = folder();
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(&top.path().join("a")), 0o700);
        let file = folder.file("api");
        folder.write(&file, b"one").unwrap();
        folder.write(&file, b"two").unwrap();
        assert_eq!(bytes(Folder::read(&file).unwrap()), b"two");
        let lease = folder.try_lock("api").unwrap().unwrap();
        assert_eq!((mode(&file), mode(&folder.lock_file("api"))), (0o600, 0o600));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
        assert!(folder.try_lock("api").unwrap().is_none());
        assert!(folder.try_lock("other").unwrap().is_some());
        drop(lease);
        assert!(folder.try_lock("api").unwrap().is_some());
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_not_followed() {
        let (top, folder) = folder();
        let elsewhere = top.path().join("elsewhere");
        std::fs::write(&elsewhere, "theirs").unwrap();
        let file = folder.file("api");
        symlink(&elsewhere, &file).unwrap();
        assert!(matches!(Folder::read(&file).unwrap(), Found::Flawed(Flaw::NotAFile)));
        folder.write(&file, b"ours").unwrap();
        assert_eq!(std::fs::read(&elsewhere).unwrap(), b"theirs");
        assert_eq!(bytes(Folder::read(&file).unwrap()), b"ours");
        symlink(&elsewhere, folder.lock_file("api")).unwrap();
        assert!(folder.try_lock("api").is_err());
    }

    #[test]
    fn neither_a_pipe_nor_a_folder_nor_a_huge_file_holds_it_up() {
        let (_top, folder) = folder();
        let file = folder.file("api");
        std::fs::create_dir(&file).unwrap();
        assert!(matches!(Folder::read(&file).unwrap(), Found::Flawed(Flaw::NotAFile)));
        let aside = folder.set_aside(&file, Flaw::NotAFile).unwrap();
        assert!(aside.is_dir() && !file.exists());
        File::create(&file).unwrap().set_len(1 << 40).unwrap();
        assert!(matches!(Folder::read(&file).unwrap(), Found::Flawed(Flaw::Corrupt)));
    }

    #[test]
    fn what_is_no_folder_is_refused_by_name() {
        let (top, _folder) = folder();
        let file = top.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(Folder::open(&file).unwrap_err(), StoreError::NotAFolder(file.clone()));
        assert!(matches!(Folder::open(&file.join("x")), Err(StoreError::Io { what: "made", .. })));
    }

    #[test]
    fn each_token_has_a_file_of_its_own_inside_the_folder() {
        let names = ["api", "API", "a/b", "a%2fb", "..", "../x", "", "ä", &"x".repeat(400), &"x".repeat(401)];
        let files: std::collections::BTreeSet<_> =
            names.iter().map(|name| file_name(name, "token")).collect();
        assert_eq!(files.len(), names.len());
        for file in &files {
            assert!(
                file.len() < 200 && !file.contains('/') && !file.starts_with('.') || file == ".token",
                "{file}"
            );
        }
        assert_eq!(file_name("orders_v2-eu", "token"), "orders_v2-eu.token");
    }
}
