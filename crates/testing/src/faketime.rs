//! `faketime`: a wall clock that a test sets while the program runs. Its monotonic clock goes on as it is.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::proxy::Config;

/// The wall clock of a program.
#[derive(Debug)]
pub struct WallClock {
    dir: TempDir,
}

/// A program of this configuration lives by a wall clock that is `off` (`+1h`, `-90m`).
pub fn faketime(config: Config, off: &str) -> (Config, WallClock) {
    let clock = WallClock { dir: tempfile::tempdir().unwrap() };
    clock.set(off);
    let config = config
        .environment("LD_PRELOAD", &library().display().to_string())
        .environment("FAKETIME_TIMESTAMP_FILE", &clock.file().display().to_string())
        .environment("FAKETIME_NO_CACHE", "1")
        .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    (config, clock)
}

impl WallClock {
    /// Sets it this far from the true time.
    pub fn set(&self, off: &str) {
        let new = self.dir.path().join("new");
        fs::write(&new, format!("{off}\n")).unwrap();
        fs::rename(new, self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("offset")
    }
}

/// Where Debian keeps it: a folder for each architecture.
fn library() -> PathBuf {
    fs::read_dir("/usr/lib")
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path().join("faketime/libfaketimeMT.so.1")))
        .find(|library| library.is_file())
        .unwrap_or_else(|| {
            panic!("faketime is not installed, and this test needs it: apt-get install faketime")
        })
}
