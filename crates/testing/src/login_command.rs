//! `cupbearer login`, which a test starts and leads to its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::program::eventually;
use super::proxy::cupbearer;

/// `cupbearer login` under way.
#[derive(Debug)]
pub struct LoginCommand {
    pub child: Child,
    log: PathBuf,
    _dir: TempDir,
}

impl LoginCommand {
    /// Starts the command; what it says goes to a file, as to a pipe.
    pub fn start(mut command: Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("login.log");
        let file = fs::File::create(&log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file).stdin(Stdio::piped());
        Self { child: command.spawn().unwrap(), log, _dir: dir }
    }

    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The address that it says to open.
    pub async fn address(&self, after: &str) -> String {
        let find = || {
            let said = self.said();
            let line =
                said.lines().map(str::trim).find(|line| line.starts_with("http") && line.contains(after));
            line.map(str::to_owned)
        };
        eventually("the command says where to log in", || async { find().is_some() || self.has_failed() })
            .await;
        find().unwrap_or_else(|| panic!("{}", self.said()))
    }

    fn has_failed(&self) -> bool {
        self.said().contains("cupbearer: ")
    }

    /// Its exit code, and all that it said.
    pub async fn ended(mut self) -> (i32, String) {
        let status = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("it still runs: {}", self.said())).unwrap();
        (status.code().unwrap_or(-1), self.said())
    }
}

/// The command itself, with more words.
pub fn login_command(config: &Path, words: &[&str]) -> Command {
    let mut command = cupbearer();
    command.arg("login").args(words).arg("--config").arg(config);
    command
}
