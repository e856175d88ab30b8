//! `nss_wrapper`: a program's own table of host names, which a test changes while it runs.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use tempfile::TempDir;

use super::proxy::Config;

/// What names a program finds, and where. It asks no DNS for them.
#[derive(Debug)]
pub struct Hosts {
    dir: TempDir,
}

/// A program of this configuration finds `name` at `address`.
pub fn hosts(config: Config, name: &str, address: IpAddr) -> (Config, Hosts) {
    let hosts = Hosts { dir: tempfile::tempdir().unwrap() };
    hosts.set(name, address);
    let config = config
        .environment("LD_PRELOAD", &library().display().to_string())
        .environment("NSS_WRAPPER_HOSTS", &hosts.file().display().to_string());
    (config, hosts)
}

impl Hosts {
    /// From now on `name` is at `address`, and nothing else is anywhere.
    pub fn set(&self, name: &str, address: IpAddr) {
        let new = self.dir.path().join("new");
        fs::write(&new, format!("{address} {name}\n")).unwrap();
        fs::rename(new, self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("hosts")
    }
}

/// Where Debian keeps it: a folder for each architecture.
fn library() -> PathBuf {
    fs::read_dir("/usr/lib")
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path().join("libnss_wrapper.so")))
        .find(|library| library.is_file())
        .unwrap_or_else(|| {
            panic!("nss_wrapper is not installed, and this test needs it: apt-get install libnss-wrapper")
        })
}
