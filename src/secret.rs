//! The only holder of what must not be printed.
//!
//! [`Secret`] masks its Debug, has no Display and no Serialize, and zeroes its bytes when it is dropped.
//! [`SecretSource`] says where a secret comes from; it is read again at each use, so that a rotated file
//! counts at once. It is not for tokens' lifetimes (see `token`) nor for file permissions of stores.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::io::Errno;
use zeroize::{Zeroize, Zeroizing};

/// A value that is never printed: Debug shows `Secret(***)`, and dropping it zeroes its bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes custody of `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Whoever calls this sends it to the one party that it is meant for.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl From<String> for Secret<String> {
    fn from(value: String) -> Self {
        Self::new(value)
    }
}

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// Written into the configuration itself: works, and is warned about.
    Inline(Secret<String>),
    /// The name of an environment variable, read at each use.
    Env(String),
    /// A file, read at each use; one trailing line end is trimmed.
    File(PathBuf),
}

/// Why a secret could not be read. It names the place, never the content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The file does not exist (yet).
    #[error("the secret file {} does not exist", .0.display())]
    Missing(PathBuf),
    /// The file holds nothing, or only a line end.
    #[error("the secret file {} is empty", .0.display())]
    Empty(PathBuf),
    /// The file is not text.
    #[error("the secret file {} is not UTF-8 text", .0.display())]
    NotUtf8(PathBuf),
    /// The file is larger than any secret is.
    #[error("the secret file {} is larger than {MAX_SECRET_BYTES} bytes", .0.display())]
    TooLarge(PathBuf),
    /// The file is there and cannot be read.
    #[error("the secret file {} cannot be read: {kind}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        kind: std::io::ErrorKind,
    },
    /// This machine has no descriptor left for it, which passes.
    #[error("the secret file {} cannot be opened: this machine has no descriptor left", .0.display())]
    Lacking(PathBuf),
    /// The environment variable is not set, or is empty.
    #[error("the environment variable {0}, which is to hold a secret, is not set")]
    Unset(String),
    /// The environment variable is not text.
    #[error("the environment variable {0}, which is to hold a secret, is not UTF-8 text")]
    EnvNotUtf8(String),
}

impl SecretSource {
    /// Reads the secret now. Blocks for one read of a small local file.
    ///
    /// # Errors
    /// [`SecretError`], which names the file or the variable.
    pub fn read(&self) -> Result<Secret<String>, SecretError> {
        match self {
            Self::Inline(secret) => Ok(secret.clone()),
            Self::Env(name) => match std::env::var(name) {
                Ok(value) if value.is_empty() => Err(SecretError::Unset(name.clone())),
                Ok(value) => Ok(Secret::new(value)),
                Err(std::env::VarError::NotPresent) => Err(SecretError::Unset(name.clone())),
                Err(std::env::VarError::NotUnicode(_)) => Err(SecretError::EnvNotUtf8(name.clone())),
            },
            Self::File(path) => Ok(read_file(path)?.0),
        }
    }

    /// The same, and when its file was written last; `None` where no file is behind it.
    ///
    /// # Errors
    /// [`SecretError`], which names the file or the variable.
    pub fn read_dated(&self) -> Result<(Secret<String>, Option<SystemTime>), SecretError> {
        match self {
            Self::File(path) => read_file(path),
            Self::Inline(_) | Self::Env(_) => Ok((self.read()?, None)),
        }
    }

    /// The file behind it, where there is one: what a watcher looks at.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Inline(_) | Self::Env(_) => None,
        }
    }
}

fn read_file(path: &Path) -> Result<(Secret<String>, Option<SystemTime>), SecretError> {
    let unreadable = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => SecretError::Missing(path.to_owned()),
        _ if matches!(Errno::from_io_error(&e), Some(Errno::MFILE | Errno::NFILE)) => {
            SecretError::Lacking(path.to_owned())
        }
        kind => SecretError::Unreadable { path: path.to_owned(), kind },
    };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    // Of the file that is read, not of one that has taken its place meanwhile.
    let written = file.metadata().and_then(|facts| facts.modified()).ok();
    // One allocation of the full size: a growing buffer would leave copies that nobody zeroes.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES + 1));
    file.take(MAX_SECRET_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_SECRET_BYTES {
        return Err(SecretError::TooLarge(path.to_owned()));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| SecretError::NotUtf8(path.to_owned()))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(SecretError::Empty(path.to_owned()));
    }
    Ok((Secret::new(text.to_owned()), written))
}

/// More than any client secret, key or token that is in use; a mistaken path to a large file stops here.
const MAX_SECRET_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(bytes: &[u8]) -> (tempfile::TempDir, SecretSource) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, bytes).unwrap();
        (dir, SecretSource::File(path))
    }

    #[test]
    fn a_secret_never_prints_itself() {
        let secret = Secret::new("sentinel".to_owned());
        assert_eq!(format!("{secret:?}"), "Secret(***)");
        let source = SecretSource::Inline(secret);
        assert!(!format!("{source:?}").contains("sentinel"));
    }

    #[test]
    fn a_trailing_line_end_is_trimmed_and_inner_space_kept() {
        for (given, want) in [("s3 cret\n", "s3 cret"), ("s3cret\r\n", "s3cret"), (" lead", " lead")] {
            let (_dir, source) = file_with(given.as_bytes());
            assert_eq!(source.read().unwrap().expose(), want);
        }
    }

    #[test]
    fn a_rotated_file_counts_at_the_next_read() {
        let (_dir, source) = file_with(b"old");
        assert_eq!(source.read().unwrap().expose(), "old");
        std::fs::write(source.file().unwrap(), "new").unwrap();
        assert_eq!(source.read().unwrap().expose(), "new");
    }

    #[test]
    fn what_is_no_secret_is_refused_by_name() {
        let (dir, source) = file_with(b"\n");
        assert!(matches!(source.read(), Err(SecretError::Empty(_))));
        let (_dir, source) = file_with(&[0xff, 0xfe]);
        assert!(matches!(source.read(), Err(SecretError::NotUtf8(_))));
        let (_dir, source) = file_with(&vec![b'x'; MAX_SECRET_BYTES + 1]);
        assert!(matches!(source.read(), Err(SecretError::TooLarge(_))));
        let gone = SecretSource::File(dir.path().join("gone"));
        assert!(matches!(gone.read(), Err(SecretError::Missing(_))));
        let unset = SecretSource::Env("CUPBEARER_TEST_NEVER_SET".into());
        assert!(matches!(unset.read(), Err(SecretError::Unset(_))));
    }
}
