//! Who else may read a file that holds a secret.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path};

/// What others may do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exposed {
    Readable,
    Writable,
}

/// Whether every user of the machine may read or write `file`; `None`: no, or it does not matter.
///
/// A group is left alone: it is how a secret is handed to a service's user. So is what a container runtime lays
/// out: Kubernetes' projected files are 0644 behind a link `..data`, and no other user is in the container.
pub(super) fn exposed(file: &Path) -> Option<Exposed> {
    if is_projected(file) || is_read_only(file) {
        return None;
    }
    let facts = std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file)?;
    // The superuser may hand a file on by its mode alone; its folder can keep others out all the same.
    if !is_reachable(file) {
        return None;
    }
    match facts.permissions().mode() {
        mode if mode & 0o002 != 0 => Some(Exposed::Writable),
        mode if mode & 0o004 != 0 => Some(Exposed::Readable),
        _ => None,
    }
}

/// Whether a link on the way leads through the folder that Kubernetes swaps.
fn is_projected(file: &Path) -> bool {
    let names_it = |path: &Path| path.components().any(|part| part == Component::Normal("..data".as_ref()));
    names_it(file) || std::fs::read_link(file).is_ok_and(|target| names_it(&target))
}

fn is_read_only(file: &Path) -> bool {
    rustix::fs::statvfs(file).is_ok_and(|facts| facts.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Whether others may pass every folder on the way.
fn is_reachable(file: &Path) -> bool {
    let Ok(whole) = std::fs::canonicalize(file) else { return false };
    whole
        .ancestors()
        .skip(1)
        .all(|folder| std::fs::metadata(folder).is_ok_and(|facts| facts.mode() & 0o001 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that others may pass, below one that they may pass.
    fn open_folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        dir
    }

    fn file_in(folder: &Path, name: &str, mode: u32) -> std::path::PathBuf {
        let file = folder.join(name);
        std::fs::write(&file, "x").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    #[test]
    fn a_file_that_every_user_may_read_or_write_is_found() {
        let dir = open_folder();
        for (mode, want) in [
            (0o600, None),
            (0o640, None),
            (0o660, None),
            (0o644, Some(Exposed::Readable)),
            (0o666, Some(Exposed::Writable)),
        ] {
            assert_eq!(exposed(&file_in(dir.path(), "secret", mode)), want, "{mode:o}");
        }
        assert_eq!(exposed(&dir.path().join("gone")), None);
        assert_eq!(exposed(dir.path()), None);
    }

    #[test]
    fn what_kubernetes_projects_is_as_it_should_be() {
        let dir = open_folder();
        std::fs::create_dir(dir.path().join("..2026")).unwrap();
        file_in(&dir.path().join("..2026"), "token", 0o644);
        std::os::unix::fs::symlink("..2026", dir.path().join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/token", dir.path().join("token")).unwrap();
        assert_eq!(exposed(&dir.path().join("token")), None);
        assert_eq!(exposed(&dir.path().join("..data/token")), None);
    }

    #[test]
    fn a_folder_that_keeps_others_out_keeps_the_file_too() {
        let dir = open_folder();
        let file = file_in(dir.path(), "secret", 0o644);
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(exposed(&file), None);
    }
}
