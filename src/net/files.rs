//! Which files have changed: the configuration, the secrets and the certificate authorities.
//!
//! It looks rather than listens. A projected volume in Kubernetes is swapped by a symbolic link two levels up, editors
//! replace files, network file systems do not tell: a look at each file's identity finds all of that alike.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The files that are looked at, and how they looked the last time.
#[derive(Debug)]
pub(crate) struct Watched(BTreeMap<PathBuf, Seen>);

/// How a file looks: as it was when it last counted, and as it was at the last look.
#[derive(Debug)]
struct Seen {
    known: Option<Identity>,
    last: Option<Identity>,
}

/// What changes when a file's content does: another file, another size, another time. `None` where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Watched {
    /// Takes note of how `files` look now.
    #[must_use]
    pub(crate) fn new(files: &[PathBuf]) -> Self {
        Self(files.iter().map(|file| (file.clone(), Seen::now(file))).collect())
    }

    /// Looks at `files` from now on. What is known of a file that is among them already stays: it may have changed since
    /// it was read.
    pub(crate) fn replace(&mut self, files: &[PathBuf]) {
        let mut old = std::mem::take(&mut self.0);
        let kept = |file: &PathBuf| (file.clone(), old.remove(file).unwrap_or_else(|| Seen::now(file)));
        self.0 = files.iter().map(kept).collect();
    }

    /// Looks again. A file has changed once it looks the same at two looks in a row and other than it did before: one
    /// that is being written is left until that is over.
    pub(crate) fn changed(&mut self) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for (file, seen) in &mut self.0 {
            let now = Identity::of(file);
            if now == seen.last && now != seen.known {
                seen.known = now;
                changed.push(file.clone());
            }
            seen.last = now;
        }
        changed
    }
}

impl Seen {
    fn now(file: &Path) -> Self {
        let identity = Identity::of(file);
        Self { known: identity, last: identity }
    }
}

impl Identity {
    fn of(file: &Path) -> Option<Self> {
        // A pipe changes by being read.
        let facts = std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file)?;
        Some(Self {
            device: facts.dev(),
            inode: facts.ino(),
            size: facts.size(),
            modified: (facts.mtime(), facts.mtime_nsec()),
        })
    }
}

/// Time between two looks. A change counts after two, so within a second.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_once_it_has_settled() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        std::fs::write(&file, "a").unwrap();
        let mut watched = Watched::new(std::slice::from_ref(&file));
        assert!(watched.changed().is_empty());
        std::fs::write(&file, "ab").unwrap();
        assert!(watched.changed().is_empty(), "it may still be written");
        std::fs::write(&file, "abc").unwrap();
        assert!(watched.changed().is_empty());
        assert_eq!(watched.changed(), [file]);
        assert!(watched.changed().is_empty(), "told once");
    }

    #[test]
    fn a_change_is_not_missed_where_other_files_are_looked_at_from_then_on() {
        let dir = tempfile::tempdir().unwrap();
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| dir.path().join(name));
        std::fs::write(&cert, "a").unwrap();
        let mut watched = Watched::new(std::slice::from_ref(&cert));
        std::fs::write(&cert, "ab").unwrap();
        watched.replace(&[cert.clone(), key.clone()]);
        watched.changed();
        assert_eq!(watched.changed(), std::slice::from_ref(&cert));
        watched.replace(std::slice::from_ref(&cert));
        std::fs::write(&key, "k").unwrap();
        watched.changed();
        assert!(watched.changed().is_empty(), "it is no longer looked at");
    }

    #[test]
    fn a_file_that_arrives_and_one_behind_a_swapped_link_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for version in ["v1", "v2"] {
            std::fs::create_dir(path(version)).unwrap();
            std::fs::write(path(version).join("secret"), version).unwrap();
        }
        std::os::unix::fs::symlink("v1", path("..data")).unwrap();
        std::os::unix::fs::symlink("..data/secret", path("secret")).unwrap();
        let mut watched = Watched::new(&[path("secret"), path("late")]);
        std::os::unix::fs::symlink("v2", path("..data_tmp")).unwrap();
        std::fs::rename(path("..data_tmp"), path("..data")).unwrap();
        std::fs::write(path("late"), "x").unwrap();
        watched.changed();
        assert_eq!(watched.changed(), [path("late"), path("secret")]);
    }
}
