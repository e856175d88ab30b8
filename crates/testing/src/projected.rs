//! A volume that Kubernetes projects: `file` -> `..data/file`, `..data` -> a folder of each version.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Has `file` of the volume `folder` be what `content` says from now on, as the kubelet does it: in a folder `version` that takes the
/// place of the one before at once.
pub fn project(folder: &Path, version: &str, file: &str, content: &str) {
    fs::create_dir_all(folder.join(version)).unwrap();
    fs::write(folder.join(version).join(file), content).unwrap();
    symlink(version, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    if !folder.join(file).is_symlink() {
        symlink(Path::new("..data").join(file), folder.join(file)).unwrap();
    }
}
