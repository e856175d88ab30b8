//! The only holder of what must not be printed.
//!
//! [`Secret`] masks its Debug, has no Display and no Serialize, and zeroes its bytes when it is dropped.
//! [`SecretSource`] says where a secret comes from; it is read again at each use, so that a rotated file
//! counts at once. It is not for tokens' lifetimes (see `token`) nor for file permissions of stores.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use zeroize::{Zeroize, Zeroizing};

use crate::machine::{self, Lack, Unreadable};

/// A value that is never printed: Debug shows `Secret(***)`, and dropping it zeroes its bytes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes custody of `value`.
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. A caller sends it to the one party that it is meant for.
    pub(crate) const fn expose(&self) -> &T {
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
pub(crate) enum SecretSource {
    /// Written into the configuration itself: works, and is warned about.
    Inline(Secret<String>),
    /// The name of an environment variable, read at each use.
    Env(String),
    /// A file, read at each use.
    File(PathBuf),
}

/// Why a secret could not be read. It names the place, never the content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretError {
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
    /// Something is there and cannot be read.
    #[error("the secret file {} {why}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: Unreadable,
    },
    /// This machine lacks what it takes to open it, which passes.
    #[error("the file {} cannot be opened: {}", .0.display(), .1)]
    Lacking(PathBuf, #[source] Lack),
    /// The environment variable is not set, or is empty.
    #[error("the environment variable {0}, which is to hold a secret, is not set")]
    Unset(String),
    /// The environment variable is not text.
    #[error("the environment variable {0}, which is to hold a secret, is not UTF-8 text")]
    EnvNotUtf8(String),
    /// What stands in the configuration is empty.
    #[error("the secret in the configuration is empty")]
    Blank,
    /// There is a NUL or its like in it: another file than was meant, or one in UTF-16.
    #[error("{0} holds a control character, such as NUL; write it as plain UTF-8 text")]
    Control(String),
    /// A secret of one line has more.
    #[error("{0} holds more than one line; write the secret alone")]
    Lines(String),
}

impl SecretError {
    /// Whether it may be there at another time: a file that is not written yet.
    #[must_use]
    pub(crate) const fn may_pass(&self) -> bool {
        match self {
            Self::Missing(_) | Self::Empty(_) | Self::Lacking(..) => true,
            Self::Unreadable { why, .. } => why.may_pass(),
            _ => false,
        }
    }
}

impl SecretSource {
    /// Reads the secret now. Blocks for one read of a small file ([`machine::read`]). Wherever it comes from, a byte order mark before it and
    /// line ends after it are not part of it, and control characters but tab and line end are refused.
    ///
    /// # Errors
    /// [`SecretError`], which names the file or the variable.
    pub(crate) fn read(&self) -> Result<Secret<String>, SecretError> {
        Ok(self.read_dated()?.0)
    }

    /// Whether `secret`, which was read here, is one line.
    ///
    /// # Errors
    /// [`SecretError::Lines`]
    pub(crate) fn one_line(&self, secret: &Secret<String>) -> Result<(), SecretError> {
        if secret.expose().contains(['\n', '\r']) {
            return Err(SecretError::Lines(self.place()));
        }
        Ok(())
    }

    /// The same as [`SecretSource::read`], and when its file was written last; `None` where no file is behind it.
    ///
    /// # Errors
    /// [`SecretError`], which names the file or the variable.
    pub(crate) fn read_dated(&self) -> Result<(Secret<String>, Option<SystemTime>), SecretError> {
        match self {
            Self::Inline(secret) => Ok((self.clean(secret.expose().as_bytes())?, None)),
            Self::Env(name) => match std::env::var_os(name) {
                Some(value) => Ok((self.clean(value.as_encoded_bytes())?, None)),
                None => Err(SecretError::Unset(name.clone())),
            },
            Self::File(path) => {
                let (bytes, written) = read_file(path)?;
                Ok((self.clean(&bytes)?, written))
            }
        }
    }

    /// What the secret is of the bytes that stand there: one rule for files, variables and the configuration.
    ///
    /// # Errors
    /// [`SecretError`], which names the file or the variable.
    pub(crate) fn clean(&self, bytes: &[u8]) -> Result<Secret<String>, SecretError> {
        let text = std::str::from_utf8(bytes).map_err(|_| match self {
            Self::File(path) => SecretError::NotUtf8(path.clone()),
            Self::Env(name) => SecretError::EnvNotUtf8(name.clone()),
            Self::Inline(_) => SecretError::Control(self.place()),
        })?;
        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text).trim_end_matches(['\n', '\r']);
        if text.is_empty() {
            return Err(match self {
                Self::File(path) => SecretError::Empty(path.clone()),
                Self::Env(name) => SecretError::Unset(name.clone()),
                Self::Inline(_) => SecretError::Blank,
            });
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
            return Err(SecretError::Control(self.place()));
        }
        Ok(Secret::new(text.to_owned()))
    }

    /// Where it is, in a sentence.
    fn place(&self) -> String {
        match self {
            Self::Inline(_) => "the secret in the configuration".to_owned(),
            Self::Env(name) => format!("the environment variable {name}"),
            Self::File(path) => format!("the secret file {}", path.display()),
        }
    }

    /// The file behind it, where there is one: what a watcher looks at.
    #[must_use]
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Inline(_) | Self::Env(_) => None,
        }
    }
}

/// The bytes of a file, and when it was written last.
fn read_file(path: &Path) -> Result<(Zeroizing<Vec<u8>>, Option<SystemTime>), SecretError> {
    let read = machine::read(path, MAX_SECRET_BYTES).map_err(|why| match why {
        Unreadable::Missing => SecretError::Missing(path.to_owned()),
        Unreadable::TooLarge(_) => SecretError::TooLarge(path.to_owned()),
        Unreadable::Lacking(lack) => SecretError::Lacking(path.to_owned(), lack),
        why => SecretError::Unreadable { path: path.to_owned(), why },
    })?;
    Ok((read.bytes, read.modified))
}

/// What Windows' editors put before a text in UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';
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
        for (given, want) in [
            ("s3 cret\n", "s3 cret"),
            ("s3cret\r\n", "s3cret"),
            ("s3cret\n\n", "s3cret"),
            (" lead", " lead"),
            ("\u{feff}s3cret\r\n", "s3cret"),
            ("-----BEGIN\n\tx\n-----END\n", "-----BEGIN\n\tx\n-----END"),
        ] {
            let (_dir, source) = file_with(given.as_bytes());
            assert_eq!(source.read().unwrap().expose(), want);
            // The same rule, wherever it comes from.
            for source in [SecretSource::Inline(Secret::new(given.to_owned())), SecretSource::Env("X".into())]
            {
                assert_eq!(source.clean(given.as_bytes()).unwrap().expose(), want);
            }
        }
    }

    #[test]
    fn control_characters_and_second_lines_are_refused_by_the_place_alone() {
        for given in ["sen\0tinel", "\u{1b}[Asentinel", "sentinel\u{7f}", "s\0e\0n\0"] {
            let (_dir, file) = file_with(given.as_bytes());
            for source in
                [file, SecretSource::Env("PLACE".into()), SecretSource::Inline(given.to_owned().into())]
            {
                let error = source.clean(given.as_bytes()).unwrap_err();
                assert!(matches!(error, SecretError::Control(_)), "{error:?}");
                assert!(!error.to_string().contains("sentinel"), "{error}");
            }
        }
        let (_dir, source) = file_with(b"one\ntwo\n");
        assert!(matches!(source.one_line(&source.read().unwrap()), Err(SecretError::Lines(_))));
        let (_dir, source) = file_with(b"one\r\n");
        let secret = source.read().unwrap();
        source.one_line(&secret).unwrap();
        assert_eq!(secret.expose(), "one");
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
